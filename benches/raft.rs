//! What consensus itself costs: from a proposal until all three members may apply it, without network, disk or actors.

use callboard::consensus::core::{Core, Timing};
use callboard::consensus::log_store::LogStore;
use callboard::consensus::start_check::Word;
use callboard::ids::{LogIndex, MemberId, Term};
use callboard::proto::peer::{ConfState, HardState, Message, Recollection};
use callboard::state::machine::{InitialState, Machine, MachineOptions};
use callboard::storage::log::{Cut, LogDatabase, Recovered};
use callboard::storage::state::{StateDatabase, StateOptions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const MEMBERS: u64 = 3;
const PAYLOAD_BYTES: usize = 256;

struct Member {
    core: Core,
    applied: u64,
    _directory: tempfile::TempDir,
}

impl Member {
    fn new(id: u64) -> Self {
        let directory = tempfile::tempdir_in(".").expect("a directory");
        let state = StateDatabase::open(&directory.path().join("state"), &StateOptions::simulator());
        let (mut machine, views) =
            Machine::open(state.expect("a state"), 0, MachineOptions::default()).expect("a machine");
        let cut = Cut {
            index: LogIndex(MEMBERS),
            term: Term(1),
        };
        let conf_state = ConfState {
            voters: (1..=MEMBERS).collect(),
            ..ConfState::default()
        };
        machine
            .initialize(InitialState {
                applied_index: cut.index,
                applied_term: cut.term,
                conf_state: conf_state.clone(),
                ..InitialState::default()
            })
            .expect("an empty state");
        let (log, _) = LogDatabase::open(&directory.path().join("log"), None).expect("a log");
        let recovered = Recovered {
            cut,
            hard_state: HardState {
                term: 1,
                vote: 0,
                commit: MEMBERS,
            },
            terms: Vec::new(),
        };
        let conf_state = callboard::consensus::conf_state(&conf_state);
        let store = LogStore::new(log, &recovered, conf_state, views);
        let timing = Timing {
            heartbeat_ms: 100,
            election_ms: 1000,
            pre_vote: true,
        };
        let mut core =
            Core::new(MemberId(id), timing, cut.index, store, Box::new(|_| 0)).expect("a sound start");
        for other in (1..=MEMBERS).filter(|other| *other != id) {
            let nothing = Word::Remembers(Recollection::default());
            core.hear(MemberId(other), nothing)
                .expect("a disk that has promised nothing");
        }
        core.start_counted();
        Self {
            core,
            applied: MEMBERS,
            _directory: directory,
        }
    }

    /// Its disk and its state are as fast as can be.
    fn carry_out(&mut self) -> Vec<Message> {
        let mut send = Vec::new();
        loop {
            let outputs = self.core.take_outputs();
            send.extend(outputs.send);
            if let Some(last) = outputs.committed.last() {
                self.applied = last.index.0;
                self.core.applied(last.index);
            }
            match outputs.write.last() {
                Some(write) => self.core.persisted(write.number),
                None => return send,
            }
        }
    }
}

struct Cluster(Vec<Member>);

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self((1..=MEMBERS).map(Member::new).collect());
        cluster.0[0].core.campaign();
        cluster.settle();
        assert!(cluster.0[0].core.leadership().is_leader);
        cluster
    }

    fn settle(&mut self) {
        loop {
            let sent: Vec<Message> = self.0.iter_mut().flat_map(Member::carry_out).collect();
            if sent.is_empty() {
                return;
            }
            for message in sent {
                self.0[message.to as usize - 1].core.step(message);
            }
        }
    }

    fn propose(&mut self, entries: u64) {
        for _ in 0..entries {
            assert!(self.0[0].core.propose(vec![7; PAYLOAD_BYTES]));
        }
        self.settle();
        let last = self.0[0].core.last_index().0;
        assert!(self.0.iter().all(|member| member.applied == last));
    }
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft, proposed to applied");
    for entries in [1, 10, 100] {
        let mut cluster = Cluster::new();
        group.throughput(Throughput::Elements(entries));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            bencher.iter(|| cluster.propose(entries));
        });
    }
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
