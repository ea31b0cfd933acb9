//! Member replacement: in some rehearsals an operator removes one member after the other from the cluster, and adds it again with
//! an empty disk and another id, as a learner or as a voter. A removed member must exit without being killed, even if it learns
//! of its removal only after a restart. An added member must join, catch up, and vote. Now and then a member moves to another
//! peer URL instead.

use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::{Cluster, Trouble};
use crate::options::Options;
use crate::random::RandomStream;
use crate::world::elapsed;
use callboard::client::Client;
use callboard::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};
use madsim::task::JoinHandle;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The percentage of rehearsals.
const SHARE: u64 = 25;
/// The percentage of an operator's tasks that are moves.
const MOVES: u64 = 40;
/// Without other faults, a replacement finishes within this time. Members must have been reachable for five seconds.
const FINISH_MAX: Duration = Duration::from_secs(120);

/// The operator.
pub struct Replacer {
    shared: Rc<Shared>,
    task: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// No other member is to be replaced.
    is_over: Cell<bool>,
    /// The member that is being replaced, and what the operator waits for.
    current: Cell<Option<(usize, &'static str)>>,
}

impl Replacer {
    /// Starts the operator, in rehearsals that have one. Scenarios do not.
    pub fn start(options: &Options, cluster: &Rc<Cluster>) -> Self {
        let shared = Rc::new(Shared::default());
        let mut random = RandomStream::of(options.seed, "replacer wanted");
        let is_wanted = options.operations > 0 && options.members > 1 && random.chance(SHARE);
        let task = is_wanted.then(|| {
            let random = RandomStream::of(options.seed, "replacer");
            madsim::task::spawn_local(Operator::new(options, cluster, random, &shared).live())
        });
        Self { shared, task }
    }

    /// Finishes the current replacement. There must be no other faults by then.
    pub async fn finish(self, cluster: &Cluster) -> Result<(), Violation> {
        self.shared.is_over.set(true);
        if let Some((replaced, _)) = self.shared.current.get() {
            let everybody = 0..cluster.members.len();
            let others: Vec<usize> = everybody.filter(|number| *number != replaced).collect();
            cluster.heal(&others).await;
        }
        let deadline = elapsed() + FINISH_MAX;
        while let Some((number, waits_for)) = self.shared.current.get() {
            if elapsed() > deadline {
                let name = &cluster.members[number].name;
                return violation(format!(
                    "{name} is to be replaced or moved, and not within {FINISH_MAX:?}: {waits_for}"
                ));
            }
            cluster.resume(number);
            madsim::time::sleep(Duration::from_millis(100)).await;
        }
        if let Some(task) = self.task {
            task.abort();
        }
        Ok(())
    }
}

/// Adds a member, whose disk is empty, to the cluster that the others are.
pub async fn add(cluster: &Rc<Cluster>, options: &Options, number: usize) {
    operator_for(cluster, options, number).add(number).await;
}

/// The same, as a learner that is to be promoted. Gives its id.
pub async fn add_learner(cluster: &Rc<Cluster>, options: &Options, number: usize) -> u64 {
    operator_for(cluster, options, number).join(number, true).await
}

/// Removes a member from the cluster.
pub async fn remove(cluster: &Rc<Cluster>, options: &Options, number: usize, id: u64) {
    operator_for(cluster, options, number).remove(number, id).await;
}

/// Adds a member to the cluster that is not started yet. Gives its id.
pub async fn list(cluster: &Rc<Cluster>, options: &Options, number: usize) -> u64 {
    operator_for(cluster, options, number).list(number, false).await
}

/// Starts a member, whose disk is empty, until it runs under the id that it was added with.
pub async fn start(cluster: &Rc<Cluster>, options: &Options, number: usize, id: u64) {
    operator_for(cluster, options, number).start(number, id).await;
}

fn operator_for(cluster: &Rc<Cluster>, options: &Options, number: usize) -> Operator {
    let random = RandomStream::of(options.seed, &format!("operator for {number}"));
    Operator::new(options, cluster, random, &Rc::default())
}

struct Operator {
    shared: Rc<Shared>,
    client: Client,
    cluster: Rc<Cluster>,
    random: RandomStream,
}

impl Operator {
    fn new(options: &Options, cluster: &Rc<Cluster>, random: RandomStream, shared: &Rc<Shared>) -> Self {
        Self {
            shared: Rc::clone(shared),
            client: clients::connect(0..options.members, Duration::from_secs(5)),
            cluster: Rc::clone(cluster),
            random,
        }
    }

    async fn live(mut self) {
        while !self.shared.is_over.get() {
            self.wait(1_000, 15_000).await;
            let number = self.random.below(self.cluster.members.len() as u64) as usize;
            let Some(id) = self.cluster.member_id(number) else {
                continue;
            };
            if self.shared.is_over.get() || !self.cluster.trouble(number, Trouble::Replaced) {
                continue;
            }
            if self.random.chance(MOVES) {
                self.relocate(number, id).await;
            } else {
                self.replace(number, id).await;
            }
            self.cluster.end_trouble(number);
            self.shared.current.set(None);
        }
    }

    async fn replace(&mut self, number: usize, id: u64) {
        self.cluster.event(number, "! replaced", "");
        self.remove(number, id).await;
        self.see_it_end(number).await;
        self.cluster.wipe(number);
        self.wait(0, 3_000).await;
        self.add(number).await;
        self.cluster.event(number, "member again", "");
        self.cluster.world.count("members replaced", 1);
    }

    /// Moves a member to another peer URL: first in the membership, then with its next process.
    async fn relocate(&mut self, number: usize, id: u64) {
        let url = self.cluster.next_peer_url(number);
        self.cluster.event(number, "! moves", &url);
        self.waits_for(number, "its new peer URL");
        let update = async |client: &Client| {
            let request = MemberUpdateRequest {
                id,
                peer_ur_ls: vec![url.clone()],
            };
            client.member_update(request).await.is_ok()
        };
        let is_made = |members: &[Member]| members.iter().any(|member| member.peer_ur_ls.contains(&url));
        self.change(number, update, is_made).await;
        self.wait(0, 5_000).await;
        self.cluster.relocate(number);
        self.waits_for(number, "its start at its new peer URL");
        let life = self.cluster.life(number);
        while life.is_some() && self.cluster.life(number) == life {
            if self.random.chance(50) {
                self.cluster.kill(number).await;
            } else {
                self.cluster.ask_to_stop(number);
            }
            self.wait(50, 2_000).await;
        }
        while !self.has_joined(number, id) {
            self.cluster.restart(number);
            self.wait(100, 1_000).await;
        }
        self.cluster.event(number, "has moved", &url);
        self.cluster.world.count("members moved", 1);
    }

    async fn wait(&mut self, ms_min: u64, ms_max: u64) {
        madsim::time::sleep(Duration::from_millis(self.random.between(ms_min, ms_max))).await;
    }

    fn waits_for(&self, number: usize, what: &'static str) {
        self.shared.current.set(Some((number, what)));
    }

    async fn members(&self) -> Option<Vec<Member>> {
        let request = MemberListRequest { linearizable: true };
        self.client
            .member_list(request)
            .await
            .ok()
            .map(|list| list.members)
    }

    /// Requests a change of a member until it is made: it may take effect at any time after the request.
    async fn change(
        &mut self,
        number: usize,
        request: impl AsyncFn(&Client) -> bool,
        is_made: impl Fn(&[Member]) -> bool,
    ) {
        while !request(&self.client).await {
            if self.shared.is_over.get() {
                // No other code starts it any more, and the others may need it for a quorum.
                self.cluster.restart(number);
            }
            if self.members().await.is_some_and(|members| is_made(&members)) {
                break;
            }
            self.wait(100, 1_000).await;
        }
    }

    async fn remove(&mut self, number: usize, id: u64) {
        self.waits_for(number, "its removal");
        let remove = async |client: &Client| client.member_remove(MemberRemoveRequest { id }).await.is_ok();
        let is_made = |members: &[Member]| members.iter().all(|member| member.id != id);
        self.change(number, remove, is_made).await;
        self.cluster.world.count("members removed", 1);
    }

    /// Waits until it exits on its own: it learns of its removal from the log, or from members that it calls.
    async fn see_it_end(&mut self, number: usize) {
        self.waits_for(number, "the end of its process, which is no member's any more");
        if self.random.chance(30) {
            // Perhaps before it has learned of it.
            self.cluster.kill(number).await;
            self.wait(0, 1_000).await;
            self.cluster.restart(number);
        }
        while self.cluster.is_running(number) || !self.cluster.is_idle(number) {
            self.wait(50, 200).await;
        }
    }

    async fn add(&mut self, number: usize) {
        let is_learner = self.random.chance(50);
        let id = self.join(number, is_learner).await;
        if is_learner {
            self.promote(number, id).await;
        }
    }

    /// Adds it, and has it start.
    async fn join(&mut self, number: usize, is_learner: bool) -> u64 {
        let id = self.list(number, is_learner).await;
        self.start(number, id).await;
        id
    }

    async fn list(&mut self, number: usize, is_learner: bool) -> u64 {
        self.waits_for(number, "its addition");
        let url = self.cluster.peer_url(number);
        loop {
            let members = self.members().await.unwrap_or_default();
            let known = members.iter().find(|member| member.peer_ur_ls.contains(&url));
            if let Some(known) = known {
                return known.id;
            }
            let request = MemberAddRequest {
                peer_ur_ls: vec![url.clone()],
                is_learner,
            };
            if let Ok(added) = self.client.member_add(request).await
                && let Some(member) = added.member
            {
                return member.id;
            }
            self.wait(100, 1_000).await;
        }
    }

    async fn start(&mut self, number: usize, id: u64) {
        self.waits_for(number, "its start in the cluster");
        while !self.has_joined(number, id) {
            // It was started before it was added, so it may have joined a view of the cluster in which it still had its last id.
            if self.cluster.is_idle(number) && self.cluster.owner(number).is_some_and(|owner| owner != id) {
                self.cluster.wipe(number);
                self.cluster.world.count("joined under an id that was removed", 1);
            }
            self.cluster.restart(number);
            self.wait(100, 1_000).await;
        }
    }

    /// Whether it runs under this id and knows its own name, which comes from the log.
    fn has_joined(&self, number: usize, id: u64) -> bool {
        self.cluster.member_id(number) == Some(id)
            && self.cluster.views(number).is_some_and(|views| {
                let view = views.load();
                let mut members = view.cluster.members.iter();
                members.any(|member| member.id == id && !member.name.is_empty())
            })
    }

    async fn promote(&mut self, number: usize, id: u64) {
        self.waits_for(number, "its vote");
        loop {
            self.cluster.restart(number);
            if self
                .client
                .member_promote(MemberPromoteRequest { id })
                .await
                .is_ok()
            {
                break;
            }
            let members = self.members().await.unwrap_or_default();
            if members.iter().any(|member| member.id == id && !member.is_learner) {
                break;
            }
            self.wait(100, 1_000).await;
        }
        self.cluster.world.count("learners promoted", 1);
    }
}
