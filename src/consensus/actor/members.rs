//! The consensus actor's part in membership changes and in the handshakes of links.

use super::Consensus;
use crate::consensus::core::Leadership;
use crate::consensus::member_changes::{Circumstances, Next};
use crate::consensus::proposals::is_wanted;
use crate::consensus::start_check::Word;
use crate::env;
use crate::ids::MemberId;
use crate::mutants::{self, Mutant};
use crate::proto::log::Command;
use crate::proto::log::command::Request;
use crate::proto::peer::Recollection;
use crate::requests::Successor;
use crate::state::entry::ReadableCommands;
use crate::state::membership::{Reconfiguration, Step, removes};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a removed member stays up, so that the others learn that its removal is committed (etcd: `stopWithDelay`).
const LEAVE_DELAY: Duration = Duration::from_secs(1);

impl Consensus {
    pub(super) fn take_in_members(
        &mut self,
        reconfigured: Vec<Reconfiguration>,
        heard_urls: BTreeMap<MemberId, Vec<String>>,
        have_changed: bool,
    ) {
        let mut is_removed = false;
        for change in reconfigured {
            is_removed |= change.step == Step::Remove(self.member);
            if let Err(error) = self.core.reconfigure(&change) {
                return self.neighbours.stop.fail(&error);
            }
        }
        for (member, urls) in heard_urls {
            self.links.hear_urls(member, &urls);
        }
        if have_changed {
            self.links.refresh();
        }
        if is_removed {
            self.leave();
        }
    }

    /// Waits first: the others may need its acknowledgements to commit the removal.
    fn leave(&self) {
        if mutants::active(Mutant::RemovedStays) {
            return;
        }
        let stop = self.neighbours.stop.clone();
        env::spawn_local(async move {
            env::sleep(LEAVE_DELAY).await;
            stop.leave();
        });
    }

    /// Tells members that have dialled this one what it remembers of them, and takes in what other members remember of this
    /// one.
    pub(super) fn greet(
        &mut self,
        greetings: BTreeMap<MemberId, oneshot::Sender<Recollection>>,
        words: BTreeMap<MemberId, Word>,
    ) {
        for (from, answer) in greetings {
            // The connection may have been closed.
            let _ = answer.send(self.core.recollection(from));
            self.core.come_into_reach();
        }
        for (member, word) in words {
            self.note_connection(member, &word);
            if let Err(error) = self.core.hear(member, word) {
                self.neighbours.stop.fail(&error);
            }
        }
    }

    fn note_connection(&mut self, member: MemberId, word: &Word) {
        if matches!(word, Word::Remembers(_)) {
            self.connected_since.entry(member).or_insert_with(env::now);
        } else {
            self.connected_since.remove(&member);
        }
    }

    /// Proposes membership changes, or forwards them to the leader.
    pub(super) fn pass_on_member_changes(&mut self) {
        loop {
            let leadership = self.core.leadership();
            let is_free = !self.core.is_changing_members();
            match self.next_member_change(leadership, is_free) {
                None => return,
                Some(Next::Forward(leader, change)) => {
                    let change = Bytes::copy_from_slice(change.commands.as_bytes());
                    self.links.forward_member_change(leader, change);
                }
                Some(Next::Propose(change)) => {
                    if !self.propose_member_change(&change.commands) {
                        return self.member_changes.put_back(change);
                    }
                }
            }
        }
    }

    fn next_member_change(&mut self, leadership: Leadership, is_free: bool) -> Option<Next> {
        let origin = self.origin;
        let is_wanted = is_wanted(origin, &self.neighbours.waiters);
        // Whether callers on other members still wait is not known here.
        let is_wanted = |command: &Command| command.origin != origin || is_wanted(command);
        self.member_changes
            .next(leadership, is_free, env::now(), is_wanted)
    }

    /// Proposes a change together with this leader's judgement of it. If raft refuses the proposal, it is lost and its caller
    /// times out. Returns false if another leader has to propose it: a leader that is to be removed first hands over
    /// leadership.
    fn propose_member_change(&mut self, commands: &ReadableCommands) -> bool {
        let Some(mut command) = commands.single() else {
            return true;
        };
        let Some(Request::MemberChange(change)) = &mut command.request else {
            return true;
        };
        let (cluster, details) = (self.core.store().cluster(), self.core.details());
        let circumstances = Circumstances {
            own: self.member,
            members: &cluster.members,
            progress: &details.progress,
            connected_since: &self.connected_since,
            now: env::now(),
        };
        change.set_refusal(circumstances.judge(change));
        if removes(change, self.member) && cluster.conf_state.voters.len() > 1 {
            self.core.hand_over_leadership(Successor::Furthest);
            return false;
        }
        let change = change.clone();
        if let Ok(commands) = ReadableCommands::of(&command)
            && !self.core.propose_member_change(&change, &commands)
        {
            tracing::warn!("raft did not take a change of the members");
        }
        true
    }
}
