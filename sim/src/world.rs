//! State shared by the parts of one rehearsal: the trace, the clients' history, the counters and the violations. Also the
//! recorder, which receives the log records of the code under rehearsal.

use crate::checkers::leaders::Leaders;
use crate::checkers::space::Reasons;
use crate::checkers::{Judged, Violation};
use crate::coverage::Counters;
use crate::history::{History, Input, Outcome};
use crate::record::{Happening, Record};
use crate::trace::{Standing, Trace};
use madsim::task::NodeId;
use madsim::time::TimeHandle;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// The client number in the history of a leader's automatic compactions.
const LEADER: usize = 98;

/// Shared by everything in a rehearsal, all of which runs on one thread.
#[derive(Clone, Debug)]
pub struct World(Arc<Mutex<WorldState>>);

#[derive(Debug)]
struct WorldState {
    trace: Trace,
    record: Record,
    leaders: Leaders,
    counters: BTreeMap<&'static str, u64>,
    judged: BTreeMap<String, u64>,
    violations: Vec<Violation>,
    struck: Vec<u32>,
    no_space: Reasons,
    names: BTreeMap<NodeId, String>,
}

/// Simulated time since the rehearsal began.
pub fn elapsed() -> Duration {
    TimeHandle::try_current().map_or(Duration::ZERO, |time| time.elapsed())
}

impl WorldState {
    fn event(&mut self, who: &str, event: &str, standing: Standing, note: &str) {
        let at = elapsed();
        self.trace.event(at, who, event, standing, note);
        self.record.happenings.push(Happening {
            at,
            who: who.to_owned(),
            event: event.to_owned(),
            term: standing.term,
            note: note.to_owned(),
        });
    }
}

impl World {
    pub fn new(trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(WorldState {
            trace,
            record: Record::default(),
            leaders: Leaders::default(),
            counters: BTreeMap::new(),
            judged: BTreeMap::new(),
            violations: Vec::new(),
            struck: Vec::new(),
            no_space: Reasons::default(),
            names: BTreeMap::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, WorldState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a simulated machine.
    pub fn name(&self, node: NodeId, name: &str) {
        self.inner().names.insert(node, name.to_owned());
    }

    /// A line of the trace.
    pub fn event(&self, who: &str, event: &str, standing: Standing, note: &str) {
        self.inner().event(who, event, standing, note);
    }

    /// A line of the trace about the rehearsal as a whole.
    pub fn note(&self, event: &str, note: &str) {
        self.event("--", event, Standing::default(), note);
    }

    /// How often members have logged this message.
    pub fn messages(&self, message: &str) -> u64 {
        self.inner().record.messages.get(message).copied().unwrap_or(0)
    }

    /// Counts something for the report.
    pub fn count(&self, what: &'static str, more: u64) {
        *self.inner().counters.entry(what).or_default() += more;
    }

    /// Adds the number of replies that a checker could judge.
    pub fn judged(&self, what: &str, Judged { judged, not_judged }: Judged) {
        let counted = &mut self.inner().judged;
        *counted.entry(format!("judged: {what}")).or_default() += judged;
        *counted.entry(format!("not judged: {what}")).or_default() += not_judged;
    }

    /// Records that a strike of the schedule begins.
    pub fn struck(&self, number: u32) {
        self.inner().struck.push(number);
    }

    /// The strikes that began.
    pub fn strikes(&self) -> Vec<u32> {
        self.inner().struck.clone()
    }

    /// The times at which writes could be refused for lack of space.
    pub fn no_space<T>(&self, change: impl FnOnce(&mut Reasons) -> T) -> T {
        change(&mut self.inner().no_space)
    }

    /// Records a violation.
    pub fn violated(&self, violation: Violation) {
        let mut inner = self.inner();
        let text = violation.to_string();
        inner.event("--", "! violation", Standing::default(), &text);
        inner.violations.push(violation);
    }

    /// Adds a record, which is shown only in verbose runs.
    pub fn line(&self, what: &str) {
        self.inner().trace.record(elapsed(), what);
    }

    /// Records a client's call; returns the operation's number.
    pub fn call(&self, client: usize, input: Input) -> u64 {
        let mut inner = self.inner();
        let what = format!("c{client} calls {input:?}");
        inner.trace.record(elapsed(), &what);
        inner.record.history.call(client, elapsed(), input)
    }

    /// Records the outcome of a client's operation.
    pub fn returned(&self, id: u64, outcome: Outcome) {
        let mut inner = self.inner();
        inner
            .trace
            .record(elapsed(), &format!("operation {id}: {outcome:?}"));
        let counter = match &outcome {
            Outcome::Answered(_) => "answered",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
        };
        *inner.counters.entry(counter).or_default() += 1;
        inner.record.history.returned(id, elapsed(), outcome);
    }

    pub fn history(&self) -> History {
        self.inner().record.history.clone()
    }

    pub fn record(&self) -> Record {
        self.inner().record.clone()
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.inner().violations.clone()
    }

    pub fn counters(&self) -> Counters {
        let inner = self.inner();
        let mut counters: Counters = inner.judged.clone();
        counters.extend(
            inner
                .counters
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count)),
        );
        counters.insert("terms led".to_owned(), inner.leaders.terms() as u64);
        counters
    }

    pub fn fingerprint(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.trace.fingerprint(), inner.trace.records())
    }

    /// Takes a log record of the code under rehearsal.
    fn log(&self, record: &LogRecord) {
        let now = elapsed();
        let node = TimeHandle::try_current().map(|_| madsim::plugin::node());
        let mut inner = self.inner();
        let who = node
            .and_then(|node| inner.names.get(&node).cloned())
            .unwrap_or_default();
        inner
            .trace
            .record(now, &format!("{who} {}{}", record.message, record.fields));
        *inner.record.messages.entry(record.message.clone()).or_default() += 1;
        if record.message == "starting auto compaction" {
            // The outcome of an automatic compaction is not reported.
            let input = Input::Compact {
                revision: record.revision,
            };
            inner.record.history.call(LEADER, now, input);
            *inner.counters.entry("auto compactions").or_default() += 1;
        }
        if record.message == "raft leadership" && record.leads() {
            let standing = Standing {
                term: record.term,
                ..Standing::default()
            };
            inner.event(&who, "leader", standing, "");
            if let Err(violation) = inner.leaders.claim(record.term, &who) {
                inner.event(&who, "! violation", standing, &violation.0);
                inner.violations.push(violation);
            }
        }
    }
}

/// The subscriber that passes log records to the world.
pub struct Recorder(pub World);

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("callboard") || metadata.target() == "raft";
        metadata.is_event() && *metadata.level() <= Level::INFO && ours
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut record = LogRecord::default();
        event.record(&mut record);
        self.0.log(&record);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A log record's message and fields.
#[derive(Debug, Default)]
struct LogRecord {
    message: String,
    fields: String,
    term: u64,
    revision: i64,
    member: String,
    leader: String,
}

impl LogRecord {
    fn leads(&self) -> bool {
        !self.leader.is_empty() && self.member == self.leader
    }
}

impl Visit for LogRecord {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "term" {
            self.term = value;
        }
        self.record_debug(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "revision" {
            self.revision = value;
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "member" => self.member = format!("{value:?}"),
            "leader" => self.leader = format!("{value:?}"),
            _ => {}
        }
        if field.name() != "message" {
            write!(self.fields, " {}={value:?}", field.name()).expect("a string takes everything");
        }
    }
}
