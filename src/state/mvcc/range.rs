//! Ranges: etcd's list with all its options, in slices.
//!
//! Mirrors etcd's server/etcdserver/txn/range.go. Keys are read in key order, and sorted if the order or the target asks for
//! it. With a target other than the key but neither an explicit order nor filters, the limit cuts first, in key order, and the
//! rest is sorted. `count` ignores limit and filters. `keys_only` leaves out the lease too, except when sorted by value. Ties
//! keep key order.
//!
//! A scan does not wait and does not block for long: call [`RangeScan::advance`] until it is done.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::mvccpb::KeyValue;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::counts::CountScan;
use crate::state::mvcc::records::{Found, RecordStep, RecordsAt, Source};
use crate::state::mvcc::reply::{EncodedKvs, RangeReply};
use crate::state::mvcc::view::KeyView;
use crate::storage::state::keys::KeyRange;
use crate::storage::state::record::Record;

/// Keys gathered beyond the limit before they are sorted and cut. Clients that wait in a queue ask for one key out of all;
/// without this, each such request would hold the whole queue in memory.
const SORT_PIECE_KEYS: usize = 128;

/// Whether a scan has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Filters {
    mod_min: i64,
    mod_max: i64,
    create_min: i64,
    create_max: i64,
}

impl Filters {
    fn new(request: &RangeRequest) -> Self {
        Self {
            mod_min: request.min_mod_revision,
            mod_max: request.max_mod_revision,
            create_min: request.min_create_revision,
            create_max: request.max_create_revision,
        }
    }

    fn any(self) -> bool {
        [self.mod_min, self.mod_max, self.create_min, self.create_max]
            .iter()
            .any(|bound| *bound != 0)
    }

    /// Bounds are inclusive, 0 means none.
    fn pass(self, record: &Record) -> bool {
        let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
        within(record.header.mod_revision, self.mod_min, self.mod_max)
            && within(record.header.create_revision, self.create_min, self.create_max)
    }
}

enum Gather {
    /// Results arrive in the order of the reply and are encoded right away.
    InOrder(EncodedKvs),
    /// Results have to be sorted once all are there.
    ToSort {
        kvs: VecDeque<KeyValue>,
        order: SortOrder,
        target: SortTarget,
    },
    /// Only the count is asked for, or enough is gathered.
    Nothing,
}

/// A running range.
pub struct RangeScan<'s> {
    records: RecordsAt<'s>,
    /// The view and the whole range, if the keys after the last gathered one can be counted without a walk.
    count_from: Option<(KeyView, KeyRange)>,
    counting: Option<CountScan>,
    gather: Gather,
    filters: Filters,
    keys_only: bool,
    /// Gathering stops at so many keys.
    gather_max: usize,
    /// The most keys in the reply.
    limit: usize,
    /// The reply ends with the key that reaches this size.
    bytes_max: usize,
    with_count: bool,
    tells_more: bool,
    gathered: EncodedKvs,
    sorted: Vec<KeyValue>,
    more: bool,
    count: i64,
    header_revision: i64,
}

/// The order and target that a request asks for.
pub fn sorting(request: &RangeRequest) -> Result<(SortOrder, SortTarget), MvccError> {
    let invalid = |_| MvccError::InvalidSortOption;
    let order = SortOrder::try_from(request.sort_order).map_err(invalid)?;
    let target = SortTarget::try_from(request.sort_target).map_err(invalid)?;
    Ok((order, target))
}

impl<'s> RangeScan<'s> {
    pub fn new(source: &dyn Source<'s>, request: &RangeRequest) -> Result<Self, MvccError> {
        let (order, target) = sorting(request)?;
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let records = RecordsAt::new(source, &range, request.revision)?;
        let filters = Filters::new(request);
        let limit = usize::try_from(request.limit)
            .ok()
            .filter(|limit| *limit > 0)
            .unwrap_or(usize::MAX);
        let key_order = target == SortTarget::Key && order != SortOrder::Descend;
        let cut_before_sort = (key_order || order == SortOrder::None) && !filters.any();
        let gather = if request.count_only {
            Gather::Nothing
        } else if key_order {
            Gather::InOrder(EncodedKvs::default())
        } else {
            let order = if order == SortOrder::None {
                SortOrder::Ascend
            } else {
                order
            };
            Gather::ToSort {
                kvs: VecDeque::new(),
                order,
                target,
            }
        };
        let gather_max = if key_order || !cut_before_sort {
            usize::MAX
        } else {
            limit.saturating_add(1)
        };
        let is_past = request.revision > 0;
        Ok(Self {
            records,
            count_from: None,
            counting: None,
            gather,
            filters,
            keys_only: request.keys_only,
            gather_max,
            limit,
            bytes_max: usize::MAX,
            with_count: !(is_past && mutants::active(Mutant::CountStopsAtLimit)),
            tells_more: !(is_past && mutants::active(Mutant::MoreNotTold)),
            gathered: EncodedKvs::default(),
            sorted: vec![],
            more: false,
            count: 0,
            header_revision: source.revision(),
        })
    }

    /// Counts keys that need not be gathered from the cached counts of `view`, which must be what the scan reads.
    pub(crate) fn counting(mut self, view: &KeyView, request: &RangeRequest) -> Result<Self, MvccError> {
        let is_newest = request.revision <= 0 || request.revision == view.revision();
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        if is_newest && !matches!(range, KeyRange::Single(_)) {
            if matches!(self.gather, Gather::Nothing) {
                self.counting = Some(CountScan::new(view.clone(), range)?);
            } else if self.limit < usize::MAX {
                self.count_from = Some((view.clone(), range));
            }
        }
        Ok(self)
    }

    /// Counts only the keys seen, and ends as soon as the reply is complete.
    #[must_use]
    pub fn without_count(mut self) -> Self {
        self.with_count = false;
        self
    }

    /// Ends a reply in key order once it has this size, with `more` set.
    #[must_use]
    pub fn within_bytes(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The current size of the reply, if it is known before all of it is there.
    pub fn reply_bytes(&self) -> usize {
        match &self.gather {
            Gather::InOrder(kvs) => kvs.encoded_bytes(),
            Gather::ToSort { .. } | Gather::Nothing => 0,
        }
    }

    /// The number of keys that [`Self::into_reply`] has to sort.
    pub fn unsorted(&self) -> usize {
        match &self.gather {
            Gather::ToSort { kvs, .. } => kvs.len(),
            Gather::InOrder(_) | Gather::Nothing => self.sorted.len(),
        }
    }

    /// Looks at up to `keys_max` records.
    pub fn advance(&mut self, keys_max: usize) -> Result<Progress, MvccError> {
        for _ in 0..keys_max {
            if let Some(counting) = &mut self.counting {
                if let Some(keys) = counting.step()? {
                    self.count += keys as i64;
                    continue;
                }
                return Ok(Progress::Done);
            }
            match self.records.step()? {
                RecordStep::Found(key, found) => {
                    self.count += 1;
                    self.take(key, found)?;
                    if !self.with_count && matches!(self.gather, Gather::Nothing) {
                        return Ok(Progress::Done);
                    }
                }
                RecordStep::Skipped => {}
                RecordStep::End => return Ok(Progress::Done),
            }
        }
        Ok(Progress::More)
    }

    fn take(&mut self, key: Bytes, found: Found) -> Result<(), MvccError> {
        match &mut self.gather {
            Gather::Nothing => return Ok(()),
            Gather::InOrder(kvs) => {
                let record = self.records.record(&key, found)?;
                if !self.filters.pass(&record) {
                    return Ok(());
                }
                if kvs.keys() < self.limit as u64 && kvs.encoded_bytes() < self.bytes_max {
                    if self.keys_only {
                        kvs.push_key_only(&key, &record);
                    } else {
                        kvs.push(&key, &record);
                    }
                    return Ok(());
                }
                self.more = true;
                self.gathered = std::mem::take(kvs);
                self.gather = Gather::Nothing;
                if self.with_count
                    && let Some((view, range)) = self.count_from.take()
                {
                    // The cached count includes this key.
                    self.count -= 1;
                    let rest = range.starting_at(Bytes::copy_from_slice(&key));
                    self.counting = Some(CountScan::new(view, rest)?);
                }
            }
            Gather::ToSort { kvs, order, target } => {
                let record = self.records.record(&key, found)?;
                if !self.filters.pass(&record) {
                    return Ok(());
                }
                let mut message = record.key_value(key);
                if self.keys_only && *target != SortTarget::Value {
                    message.value = Bytes::new();
                    message.lease = 0;
                }
                kvs.push_back(message);
                if *target == SortTarget::Key && *order == SortOrder::Descend && kvs.len() > self.limit {
                    // The last keys come first: a key before them cannot be in the reply.
                    kvs.pop_front();
                    self.more = true;
                }
                if kvs.len() >= self.gather_max {
                    self.sort();
                } else if kvs.len() >= self.limit.saturating_mul(2).max(SORT_PIECE_KEYS) {
                    self.more |= cut(kvs, *order, *target, self.limit);
                }
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        match std::mem::replace(&mut self.gather, Gather::Nothing) {
            Gather::Nothing => {}
            Gather::InOrder(kvs) => self.gathered = kvs,
            Gather::ToSort { kvs, order, target } => {
                let mut kvs = kvs;
                self.more |= cut(&mut kvs, order, target, self.limit);
                let mut kvs = Vec::from(kvs);
                if self.keys_only {
                    for message in &mut kvs {
                        message.value = Bytes::new();
                    }
                }
                self.sorted = kvs;
            }
        }
    }

    /// The reply, once [`Self::advance`] has returned `Done`.
    pub fn into_reply(mut self) -> RangeReply {
        self.sort();
        let mut kvs = self.gathered;
        for message in self.sorted.drain(..) {
            kvs.push_message(&message);
        }
        RangeReply {
            kvs,
            more: self.more && self.tells_more,
            count: self.count,
            header_revision: self.header_revision,
        }
    }

    /// Reads the whole range at once.
    pub fn run(mut self) -> Result<RangeReply, MvccError> {
        while self.advance(usize::MAX)? == Progress::More {}
        Ok(self.into_reply())
    }
}

/// Sorts what was gathered and keeps the first `limit`; returns true if that was not all. Keys that are added later are
/// higher, so that ties still keep key order.
fn cut(kvs: &mut VecDeque<KeyValue>, order: SortOrder, target: SortTarget, limit: usize) -> bool {
    let compare = |a: &KeyValue, b: &KeyValue| compare_by(target, a, b);
    match order {
        SortOrder::Descend => kvs.make_contiguous().sort_by(|a, b| compare(b, a)),
        _ => kvs.make_contiguous().sort_by(compare),
    }
    let is_more = kvs.len() > limit;
    kvs.truncate(limit);
    is_more
}

fn compare_by(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
