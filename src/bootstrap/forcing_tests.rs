//! What is left of a cluster goes on alone, with all that it has.

use super::*;
use crate::bootstrap::founding::found;
use crate::bootstrap::{EngineOptions, open};
use crate::config;
use crate::proto::log::{Command, Member};
use crate::state::entry::{FORMAT, ReadableCommands};
use crate::state::testing::put;
use crate::storage::directory::DataDirectory;
use std::path::Path;

/// One of three members.
fn start(directory: &Path, forced: bool) -> Result<OpenedMember, StartError> {
    let flags = [
        "callboard".to_owned(),
        "--name=a".to_owned(),
        format!("--data-dir={}", directory.display()),
        "--initial-advertise-peer-urls=http://127.0.0.1:7001".to_owned(),
        "--initial-cluster=a=http://127.0.0.1:7001,b=http://127.0.0.1:7002,c=http://127.0.0.1:7003"
            .to_owned(),
        format!("--force-new-cluster={forced}"),
    ];
    let config = match config::parse(flags.map(std::ffi::OsString::from), [], |_| Err(String::new())) {
        Ok(config::Invocation::Server(config)) => *config,
        other => panic!("sound flags: {other:?}"),
    };
    // Nobody else is asked.
    let begin = || found(&config, &config.initial_cluster()?);
    let is_new = !DataDirectory::is_claimed(&config.data_dir);
    let beginning = is_new.then(begin).transpose()?;
    open(&config, &EngineOptions::default(), 1, beginning)
}

fn put_entry(index: LogIndex, term: u64) -> Entry {
    let command = Command {
        request: Some(Request::Put(put("key", "value"))),
        ..Command::default()
    };
    let commands = ReadableCommands::of(&command).expect("flat");
    Entry {
        index: index.0,
        term,
        data: commands.as_bytes().to_vec().into(),
        context: vec![FORMAT].into(),
        ..Entry::default()
    }
}

/// A member whose log has these entries behind those that it began with, and only `committed` of them known to be committed.
fn left_with(
    directory: &Path,
    committed: u64,
    entries: impl Fn(LogIndex, MemberId) -> Vec<Entry>,
) -> LogIndex {
    let opened = start(directory, false).expect("founded");
    let cut = opened.recovered.cut.index;
    let hard_state = HardState {
        term: 2,
        vote: 0,
        commit: cut.0 + committed,
    };
    let entries = entries(cut.next(), opened.identity.member);
    opened
        .log
        .append(&entries, false, Some(&hard_state))
        .expect("written");
    opened.log.sync().expect("synced");
    cut
}

fn assert_alone(opened: &OpenedMember) {
    let own = opened.identity.member.0;
    let view = opened.views.load();
    let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert_eq!(ids(&view.cluster.members), [own]);
    assert_eq!(view.cluster.conf_state.voters, [own]);
    assert_eq!(view.cluster.conf_state.learners, [0; 0]);
    let last = opened.recovered.last().0;
    assert_eq!(opened.machine.applied_index(), LogIndex(last));
    assert_eq!(opened.recovered.hard_state.commit, last);
    assert!(opened.recovered.hard_state.term >= 3, "no other log has the term");
}

#[test]
fn what_is_not_known_to_be_committed_counts_and_all_others_are_removed() {
    let scratch = tempfile::tempdir().expect("a directory");
    left_with(scratch.path(), 0, |first, _| {
        vec![put_entry(first, 2), put_entry(first.next(), 2)]
    });
    let opened = start(scratch.path(), true).expect("forced");
    assert_alone(&opened);
    let view = opened.views.load();
    assert_eq!(view.revision(), 3, "both puts");
    assert_eq!(view.cluster.removed.len(), 2);
    let (applied, term) = (opened.machine.applied_index(), opened.recovered.hard_state.term);
    drop((view, opened));
    for forced in [false, true] {
        let opened = start(scratch.path(), forced).expect("it is as any other");
        assert_alone(&opened);
        assert_eq!(
            (opened.machine.applied_index(), opened.recovered.hard_state.term),
            (applied, term)
        );
    }
}

#[test]
fn a_learner_votes_before_the_last_voter_is_removed() {
    let member = |id, is_learner| Member {
        id,
        is_learner,
        ..Member::default()
    };
    let cluster = Cluster {
        members: vec![member(1, false), member(2, true)],
        ..Cluster::default()
    };
    assert_eq!(
        changes(MemberId(2), &cluster),
        [Change::Promote(2), Change::Remove(1)]
    );
    assert_eq!(changes(MemberId(1), &cluster), [Change::Remove(2)]);
}

#[test]
fn its_own_removal_counts_only_if_it_is_committed() {
    let entries = |first: LogIndex, own: MemberId| {
        let removal = stored_entries::member_change(first.next(), Term(2), Change::Remove(own.0));
        vec![put_entry(first, 2), removal, put_entry(first.next().next(), 2)]
    };
    let scratch = tempfile::tempdir().expect("a directory");
    left_with(scratch.path(), 1, entries);
    let opened = start(scratch.path(), true).expect("forced");
    assert_alone(&opened);
    assert_eq!(
        opened.views.load().revision(),
        2,
        "what follows the removal is gone"
    );
    drop(opened);
    assert_alone(&start(scratch.path(), false).expect("and stays so"));

    let scratch = tempfile::tempdir().expect("a directory");
    left_with(scratch.path(), 2, entries);
    let refused = start(scratch.path(), true);
    assert!(matches!(refused, Err(StartError::Removed { .. })));
}

#[test]
fn a_forced_start_that_was_cut_short_is_completed() {
    let scratch = tempfile::tempdir().expect("a directory");
    let cut = left_with(scratch.path(), 0, |first, _| vec![put_entry(first, 2)]);
    let opened = start(scratch.path(), false).expect("it waits for the others");
    let others = changes(opened.identity.member, &opened.views.load().cluster);
    let removal = stored_entries::member_change(LogIndex(cut.0 + 2), Term(3), others[0].clone());
    let hard_state = HardState {
        term: 3,
        vote: opened.identity.member.0,
        commit: cut.0 + 2,
    };
    opened
        .log
        .append(&[removal], false, Some(&hard_state))
        .expect("written");
    opened.log.sync().expect("synced");
    drop(opened);
    assert_alone(&start(scratch.path(), true).expect("forced"));
}
