//! `--force-new-cluster`: what is left of a cluster that has lost its majority goes on as a cluster of one.
//!
//! The member commits its log without asking anybody, removes all other members by entries of that log, and applies all of it
//! before anything else starts: from then on it is a member like any other, alone, and new ones are added as usual. Whatever
//! its disk has counts, also what it does not know to be committed: the others may have acknowledged that. Not in etcd, which
//! discards it (server/etcdserver/bootstrap.go, `bootstrapWALFromSnapshot`).
//!
//! A start that is cut short on the way is completed by the next one with the flag.

use super::{OpenedMember, StartError};
use crate::consensus::stored_entries::{self, UnknownType};
use crate::ids::{LogIndex, MemberId, Term};
use crate::mutants::{self, Mutant};
use crate::proto::log::member_change::Change;
use crate::proto::log::{MemberChangeRefusal, command::Request};
use crate::proto::peer::{Entry, HardState};
use crate::state::entry::{EntryCommand, commands};
use crate::state::{CommittedEntry, Payload};
use crate::storage::log::{LogDatabase, LogError};
use crate::storage::state::meta::Cluster;

/// Entries are read in pieces of so many bytes.
const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Makes the member the only one of its cluster. Durable on return.
pub(super) fn force(mut opened: OpenedMember) -> Result<OpenedMember, StartError> {
    let own = opened.identity.member;
    let kept = last_that_keeps(own, &opened)?;
    apply_up_to(kept, &mut opened)?;
    let view = opened.views.load();
    if view.is_removed(own) {
        return Err(StartError::removed(own, opened.directory.path()));
    }
    // No other log has an entry of this term: nobody else can have asked for a vote in it and got this member's.
    let HardState { term, commit, .. } = opened.recovered.hard_state;
    let term = Term(term + 1);
    let entries: Vec<Entry> = (kept.0 + 1..)
        .zip(changes(own, &view.cluster))
        .map(|(index, change)| stored_entries::member_change(LogIndex(index), term, change))
        .collect();
    if entries.is_empty() && kept.0 == commit {
        tracing::warn!(local_member_id = %own, "--force-new-cluster: this member is the only one already; start it without the flag");
        return Ok(opened);
    }
    let last = LogIndex(kept.0 + entries.len() as u64);
    let hard_state = HardState {
        term: term.0,
        vote: own.0,
        commit: last.0,
    };
    opened.log.append(&entries, true, Some(&hard_state))?;
    opened.log.sync()?;
    let terms = &mut opened.recovered.terms;
    terms.truncate((kept.0 - opened.recovered.cut.index.0) as usize);
    terms.extend(entries.iter().map(|_| term));
    opened.recovered.hard_state = hard_state;
    apply_up_to(last, &mut opened)?;
    opened.machine.state().sync()?;
    tracing::warn!(
        cluster_id = %opened.identity.cluster, local_member_id = %own, wal_commit_index = commit, commit_index = last.0,
        "forcing restart member"
    );
    Ok(opened)
}

/// Makes this member the only one, and one that votes. The last voter cannot be removed, so it votes first.
fn changes(own: MemberId, cluster: &Cluster) -> Vec<Change> {
    let is_learner = |id: u64| {
        cluster
            .members
            .iter()
            .any(|member| member.id == id && member.is_learner)
    };
    let promotion = is_learner(own.0).then_some(Change::Promote(own.0));
    let others = cluster.members.iter().filter(|member| member.id != own.0);
    promotion
        .into_iter()
        .chain(others.map(|member| Change::Remove(member.id)))
        .collect()
}

/// The last entry that is kept: the newest, unless this member is removed by one that is not known to be committed.
fn last_that_keeps(own: MemberId, opened: &OpenedMember) -> Result<LogIndex, StartError> {
    let commit = LogIndex(opened.recovered.hard_state.commit);
    if mutants::active(Mutant::ForcedStartDiscards) {
        return Ok(commit);
    }
    let end = opened.recovered.last();
    let mut next = commit.next();
    while next <= end {
        for entry in read(&opened.log, next, end)? {
            next = entry.index.next();
            if removes(own, entry) {
                return Ok(LogIndex(next.0 - 2));
            }
        }
    }
    Ok(end)
}

fn removes(own: MemberId, entry: CommittedEntry) -> bool {
    let Payload::Configuration(data) = entry.payload else {
        return false;
    };
    let mut read = commands(data).into_iter().flatten();
    read.any(|command| match command {
        EntryCommand::Read(command) => matches!(
            command.request,
            Some(Request::MemberChange(change))
                if change.refusal() == MemberChangeRefusal::None && change.change == Some(Change::Remove(own.0))
        ),
        EntryCommand::Unreadable(..) => false,
    })
}

fn apply_up_to(last: LogIndex, opened: &mut OpenedMember) -> Result<(), StartError> {
    loop {
        let next = opened.machine.applied_index().next();
        if next > last {
            return Ok(());
        }
        let entries = read(&opened.log, next, last)?;
        opened.machine.apply(&entries)?;
        // Raft begins with the members as they are afterwards.
        drop(opened.machine.take_reconfigurations());
    }
}

/// At least one entry, at most up to `last`.
fn read(log: &LogDatabase, first: LogIndex, last: LogIndex) -> Result<Vec<CommittedEntry>, StartError> {
    let entries = log.read(first, last.next(), READ_BYTES)?.into_iter();
    let read: Result<Vec<_>, UnknownType> = entries.map(stored_entries::committed).collect();
    Ok(read.map_err(|error| LogError::unreadable(log, &error))?)
}

#[cfg(test)]
#[path = "forcing_tests.rs"]
mod tests;
