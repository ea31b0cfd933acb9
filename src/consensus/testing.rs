//! For tests: a cluster of cores in memory. The test decides when time passes, disks write and messages arrive.

use super::core::{Core, LogWrite, Outputs, ReadContext, Restore, Timing};
use super::log_store::{LogStore, read_entries};
use crate::ids::{LogIndex, MemberId, Term};
use crate::proto::etcdserverpb::PutRequest;
use crate::proto::log::{Command, CommandBatch, Member, command::Request};
use crate::proto::peer;
use crate::state::Views;
use crate::state::machine::{CommittedEntry, InitialState, Machine, MachineOptions};
use crate::storage::log::{Cut, LogDatabase, Recovered};
use crate::storage::state::snapshot::StateImport;
use crate::storage::state::{StateDatabase, StateOptions};
use prost::Message;
use raft::eraftpb::MessageType;
use std::collections::{BTreeMap, BTreeSet};

/// An election timeout is at least 25 ticks of raft.
pub(crate) const TIMING: Timing = Timing {
    heartbeat_ms: 100,
    election_ms: 500,
    pre_vote: true,
};
pub(crate) const ELECTION_TICKS: u64 = 25;

/// One member without its actors. Its core's outputs wait here until the test carries them out.
pub(crate) struct TestMember {
    pub(crate) core: Core,
    pub(crate) machine: Machine,
    pub(crate) log: LogDatabase,
    /// How many writes replaced earlier entries.
    pub(crate) suffixes_replaced: usize,
    /// Not on disk yet.
    pub(crate) writes: Vec<LogWrite>,
    pub(crate) restore: Option<Restore>,
    /// Not applied yet.
    pub(crate) committed: Vec<CommittedEntry>,
    /// Payloads in the order in which they were committed.
    pub(crate) history: Vec<(u64, Vec<u8>)>,
    pub(crate) reads: Vec<(ReadContext, LogIndex)>,
    views: Views,
    // Last, so that the databases are closed before it is removed.
    directory: tempfile::TempDir,
}

impl TestMember {
    /// A member of a new cluster of `voters`. Its log starts after one entry for each of them.
    pub(crate) fn new(member: u64, voters: &[u64], draw: Box<dyn FnMut(u64) -> u64>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDatabase::open(&directory.path().join("state"), &StateOptions::simulator());
        let (mut machine, views) =
            Machine::open(state.expect("a state"), 0, MachineOptions::default()).expect("a machine");
        let conf_state = peer::ConfState {
            voters: voters.to_vec(),
            ..peer::ConfState::default()
        };
        let cut = Cut {
            index: LogIndex(voters.len() as u64),
            term: Term(1),
        };
        let initial = InitialState {
            applied_index: cut.index,
            applied_term: cut.term,
            members: voters.iter().map(|id| member_of(*id)).collect(),
            conf_state: conf_state.clone(),
            ..InitialState::default()
        };
        machine.initialize(initial).expect("an empty state");
        let (log, _) = LogDatabase::open(&directory.path().join("log"), None).expect("a log");
        let hard_state = peer::HardState {
            term: cut.term.0,
            vote: 0,
            commit: cut.index.0,
        };
        log.reset(cut, &hard_state).expect("written");
        let recovered = Recovered {
            cut,
            hard_state,
            terms: Vec::new(),
        };
        let conf_state = super::conf_state(&conf_state);
        let store = LogStore::new(log.clone(), &recovered, conf_state, views.clone());
        let mut core = Core::new(MemberId(member), TIMING, cut.index, store, draw).expect("a sound start");
        core.take_part();
        Self {
            core,
            machine,
            log,
            suffixes_replaced: 0,
            writes: Vec::new(),
            restore: None,
            committed: Vec::new(),
            history: Vec::new(),
            reads: Vec::new(),
            views,
            directory,
        }
    }

    /// Takes the core's outputs and returns the messages to send.
    pub(crate) fn collect(&mut self) -> Vec<peer::Message> {
        let Outputs {
            mut send,
            write,
            restore,
            committed,
            reads,
            fetch,
            count_start: _,
        } = self.core.take_outputs();
        self.writes.extend(write);
        self.restore = restore.or(self.restore.take());
        for entry in &committed {
            self.history.push((entry.index.0, entry.payload.data().to_vec()));
        }
        self.committed.extend(committed);
        self.reads.extend(reads);
        for stretch in fetch {
            let entries = read_entries(&self.log, stretch.low, stretch.high, stretch.bytes_max);
            self.core.fetched(stretch, entries);
            send.extend(self.collect());
        }
        send
    }

    /// Writes the waiting entries to the log's disk.
    pub(crate) fn persist(&mut self) {
        for write in std::mem::take(&mut self.writes) {
            self.suffixes_replaced += usize::from(write.replaces_suffix);
            self.log
                .append(&write.entries, write.replaces_suffix, write.hard_state.as_ref())
                .expect("written");
            self.core.persisted(write.number);
        }
    }

    /// Applies the committed entries.
    pub(crate) fn apply(&mut self) {
        let entries = std::mem::take(&mut self.committed);
        if let Some(last) = entries.last() {
            self.machine.apply(&entries).expect("sound entries");
            for change in self.machine.take_reconfigurations() {
                self.core.reconfigure(&change).expect("state and raft agree");
            }
            self.core.applied(last.index);
        }
    }

    /// The state of an accepted snapshot is in use; its log is not on disk yet.
    pub(crate) fn replace_state(&mut self, source: &Views) {
        let restore = self.restore.as_ref().expect("a snapshot was accepted");
        let view = source.load();
        assert_eq!(view.applied_index(), restore.cut.index);
        let path = self.directory.path().join(format!("state-{}", restore.number));
        let mut import = StateImport::begin(&path, &StateOptions::simulator()).expect("an empty state");
        let mut records = view.records(None).expect("records");
        loop {
            let chunk = records.next_chunk(1024).expect("records");
            if chunk.is_empty() {
                break;
            }
            import.write(chunk).expect("written");
        }
        self.machine
            .replace(import.finish().expect("complete"))
            .expect("a sound state");
        self.core.applied(restore.cut.index);
    }

    /// Starts the log again after the snapshot.
    pub(crate) fn reset_log(&mut self) {
        let restore = self.restore.take().expect("a snapshot was accepted");
        self.log.reset(restore.cut, &restore.hard_state).expect("written");
        self.core.persisted(restore.number);
    }

    pub(crate) fn views(&self) -> Views {
        self.views.clone()
    }

    pub(crate) fn term(&self) -> u64 {
        self.core.leadership().term.0
    }

    pub(crate) fn leads(&self) -> bool {
        self.core.leadership().is_leader
    }

    /// The payloads of the entries committed here, without raft's own empty ones.
    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        let all = self.history.iter().map(|(_, data)| data.clone());
        all.filter(|data| !data.is_empty()).collect()
    }
}

/// Members 1 to n and the messages between them.
pub(crate) struct Cluster {
    members: BTreeMap<u64, TestMember>,
    pub(crate) network: Vec<peer::Message>,
    /// Announcements of snapshots: they travel with their state, which a test carries by hand.
    pub(crate) snapshots: Vec<peer::Message>,
    /// Members whose messages are lost, in both directions.
    pub(crate) cut_off: BTreeSet<u64>,
    /// Members whose disks hang.
    pub(crate) stuck: BTreeSet<u64>,
}

impl Cluster {
    /// Member n always draws an election timeout that is 3n ticks above the minimum.
    pub(crate) fn new(size: u64) -> Self {
        Self::drawing(size, |member| Box::new(move |_| member * 3))
    }

    pub(crate) fn drawing(size: u64, draw: impl Fn(u64) -> Box<dyn FnMut(u64) -> u64>) -> Self {
        let voters: Vec<u64> = (1..=size).collect();
        let member = |id: &u64| (*id, TestMember::new(*id, &voters, draw(*id)));
        Self {
            members: voters.iter().map(member).collect(),
            network: Vec::new(),
            snapshots: Vec::new(),
            cut_off: BTreeSet::new(),
            stuck: BTreeSet::new(),
        }
    }

    pub(crate) fn member(&mut self, id: u64) -> &mut TestMember {
        self.members.get_mut(&id).expect("a member of the cluster")
    }

    /// Does something to a member and puts the messages that it sends on the network.
    pub(crate) fn with<T>(&mut self, id: u64, act: impl FnOnce(&mut TestMember) -> T) -> T {
        let member = self.members.get_mut(&id).expect("a member of the cluster");
        let result = act(member);
        let sent = member.collect();
        self.network.extend(sent);
        result
    }

    pub(crate) fn tick(&mut self, id: u64) {
        self.with(id, |member| member.core.tick());
    }

    /// Time passes for all members, and they do all that follows from it.
    pub(crate) fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            for id in self.ids() {
                self.tick(id);
            }
            self.settle();
        }
    }

    /// Delivers the messages that are on the network now.
    pub(crate) fn deliver(&mut self) {
        for message in std::mem::take(&mut self.network) {
            let lost = self.cut_off.contains(&message.from) || self.cut_off.contains(&message.to);
            if lost || !self.members.contains_key(&message.to) {
                continue;
            }
            if message.r#type == MessageType::MsgSnapshot as i32 {
                self.snapshots.push(message);
            } else {
                self.with(message.to, |member| member.core.step(message));
            }
        }
    }

    /// Delivers, writes and applies until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            for id in self.ids() {
                if !self.stuck.contains(&id) {
                    self.with(id, TestMember::persist);
                }
                self.with(id, TestMember::apply);
            }
            let is_idle = |(id, member): (&u64, &TestMember)| {
                member.committed.is_empty() && (member.writes.is_empty() || self.stuck.contains(id))
            };
            if self.network.is_empty() && self.members.iter().all(is_idle) {
                return;
            }
            self.deliver();
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets time pass for one member until it leads.
    pub(crate) fn elect(&mut self, id: u64) {
        for _ in 0..4 * ELECTION_TICKS {
            self.tick(id);
            self.settle();
            if self.member(id).leads() {
                return;
            }
        }
        panic!("member {id} does not win the election");
    }

    pub(crate) fn propose(&mut self, id: u64, key: &str) -> bool {
        let commands = put(key);
        self.with(id, |member| member.core.propose(commands))
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leaders = self.members.iter().filter(|(_, member)| member.leads());
        leaders.map(|(id, _)| *id).collect()
    }
}

fn member_of(id: u64) -> Member {
    Member {
        id,
        ..Member::default()
    }
}

/// An encoded batch of one put.
pub(crate) fn put(key: &str) -> Vec<u8> {
    let request = PutRequest {
        key: key.as_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    let command = Command {
        origin: 7,
        request: Some(Request::Put(request)),
        ..Command::default()
    };
    let commands = vec![command];
    CommandBatch { commands }.encode_to_vec()
}
