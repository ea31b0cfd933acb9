//! A member's data directory, opened: as it begins, or as an earlier start has left it.

use super::forcing::force;
use super::owner::{check_owner, check_owner_by_flags};
use super::{Beginning, EngineOptions, StartError};
use crate::config;
use crate::ids::{LogIndex, Term};
use crate::mutants::{self, Mutant};
use crate::proto::log::Member;
use crate::proto::peer::HardState;
use crate::state::{Machine, Views};
use crate::storage::contacts::Contacts;
use crate::storage::directory::{DataDirectory, DirectoryError, Identity};
use crate::storage::journal::{Engine, Found};
use crate::storage::log::{Cut, LogDatabase, Recovered};
use crate::storage::state::StateDatabase;
use std::sync::Arc;

/// What a member consists of before its actors start.
pub struct OpenedMember {
    pub directory: Arc<DataDirectory>,
    pub identity: Identity,
    /// Under which this process proposes.
    pub origin: u64,
    pub machine: Machine,
    pub views: Views,
    pub log: LogDatabase,
    pub recovered: Recovered,
    /// The directory had no member before.
    pub is_new: bool,
}

/// Opens the member in the configured data directory, or has it begin there. What is refused stays as it was found: all that
/// can be looked at is looked at before anything is changed, and what only an open engine tells is undone.
///
/// The work of engines cannot be undone: they remove older journals, and a torn end must not be put back in a journal that
/// they have begun another one behind. Where there is such work, all is opened with engines at rest first. That is rare: an
/// engine is done with an older journal soon after it has begun the next.
pub fn open(
    config: &config::Server,
    engine: &EngineOptions,
    origin: u64,
    beginning: Option<Beginning>,
) -> Result<OpenedMember, StartError> {
    let directory = DataDirectory::open_with_log(&config.data_dir, config.wal_dir.as_deref())?;
    if beginning.is_some() {
        directory.clear_unclaimed()?;
    } else {
        directory.check_log()?;
        check_owner_by_flags(config, &directory)?;
    }
    Contacts::check(directory.path())?;
    let state = StateDatabase::look(&directory.state_path()?)?;
    let log = LogDatabase::look(&directory.log_path())?;
    let start = Opening {
        config,
        options: engine,
        origin,
        directory: Arc::new(directory),
        files: Files { state, log },
    };
    let tried = if beginning.is_none() && start.files.have_work() {
        start.try_out()
    } else {
        Ok(())
    };
    let opened = tried.and_then(|()| start.open_files(beginning, Engine::Works));
    match opened.and_then(reconcile) {
        Ok(opened) => {
            start.files.accept()?;
            opened.directory.remove_stale_states()?;
            if config.force_new_cluster && !opened.is_new {
                return force(opened);
            }
            Ok(opened)
        }
        Err(error) => {
            start.files.put_back()?;
            Err(error)
        }
    }
}

/// The files of a member as they were found.
struct Files {
    state: Found,
    log: Found,
}

impl Files {
    /// Whether engines that are opened have something to do.
    const fn have_work(&self) -> bool {
        self.state.has_older() || self.log.has_older()
    }

    /// The start goes on.
    fn accept(&self) -> Result<(), DirectoryError> {
        self.state.accept()?;
        self.log.accept()?;
        Ok(())
    }

    /// Undoes what opening them has done. They are closed.
    fn put_back(&self) -> Result<(), DirectoryError> {
        if !mutants::active(Mutant::RefusedStartCuts) {
            self.state.put_back()?;
            self.log.put_back()?;
        }
        Ok(())
    }
}

/// A data directory that was looked at and is to be opened.
struct Opening<'a> {
    config: &'a config::Server,
    options: &'a EngineOptions,
    origin: u64,
    directory: Arc<DataDirectory>,
    files: Files,
}

impl Opening<'_> {
    /// Opens all of it with engines at rest, and closes it again.
    fn try_out(&self) -> Result<(), StartError> {
        let opened = self.open_files(None, Engine::Rests)?;
        begins_again(&opened)?;
        Ok(())
    }

    fn open_files(&self, beginning: Option<Beginning>, engine: Engine) -> Result<OpenedMember, StartError> {
        let (directory, files, options) = (&self.directory, &self.files, self.options);
        let state =
            StateDatabase::open_found(&directory.state_path()?, &options.state, &files.state, engine)?;
        let (mut machine, views) = Machine::open(state, self.origin, options.machine.clone())?;
        let memtable_bytes = options.log_memtable_bytes;
        let (log, mut recovered) =
            LogDatabase::open_found(&directory.log_path(), memtable_bytes, &files.log, engine)?;
        let is_new = beginning.is_some();
        let identity = if let Some(Beginning { identity, initial }) = beginning {
            let cut = Cut {
                index: initial.applied_index,
                term: initial.applied_term,
            };
            let hard_state = HardState {
                term: cut.term.0,
                vote: 0,
                commit: cut.index.0,
            };
            log.reset(cut, &hard_state)?;
            recovered = Recovered {
                cut,
                hard_state,
                terms: Vec::new(),
            };
            announce(identity, &initial.members);
            machine.initialize(initial)?;
            directory.claim(identity)?;
            identity
        } else {
            let identity = directory
                .identity()?
                .ok_or_else(|| StartError::Raft("the identity has gone".into()))?;
            let view = views.load();
            if view.is_removed(identity.member) {
                return Err(StartError::removed(identity.member, directory.path()));
            }
            check_owner(self.config, directory, identity.member, &view.cluster.members)?;
            identity
        };
        Ok(OpenedMember {
            directory: Arc::clone(directory),
            identity,
            origin: self.origin,
            machine,
            views,
            log,
            recovered,
            is_new,
        })
    }
}

/// Log and state are synced apart: after a crash the state may be behind the log, which replays the rest. A state that
/// came as a snapshot may be ahead of an old log, or in the middle of one that it conflicts with, which is then discarded.
/// Anything else is a loss. Changes nothing; says whether the log is to be discarded.
fn begins_again(opened: &OpenedMember) -> Result<bool, StartError> {
    let applied = opened.machine.applied_index();
    let cut = opened.recovered.cut.index;
    let last = opened.recovered.last();
    let log_path = opened.directory.log_path().display().to_string();
    if applied < cut {
        // The state held more when the log was cut.
        return Err(StartError::StateBehindLog {
            log_path,
            cut,
            applied,
        });
    }
    let applied_term = opened.views.load().applied_term();
    let log_term = term_at(&opened.recovered, applied);
    // An equal term at the same index means that the logs up to there are equal (section 5.3 of the Raft paper). A log that
    // merely reaches as far may be the tail that the snapshot was to replace.
    if log_term == Some(applied_term) {
        return Ok(false);
    }
    if opened.directory.state_came_as_snapshot(applied)? {
        return Ok(true);
    }
    Err(match log_term {
        None => StartError::LogBehindState {
            log_path,
            last,
            applied,
        },
        Some(log_term) => StartError::LogNotOfState {
            log_path,
            applied,
            log_term,
            state_term: applied_term,
        },
    })
}

/// Has log and state agree, or says why they cannot.
fn reconcile(mut opened: OpenedMember) -> Result<OpenedMember, StartError> {
    let applied = opened.machine.applied_index();
    if begins_again(&opened)? {
        let applied_term = opened.views.load().applied_term();
        tracing::info!(
            consistent_index = applied.get(),
            snapshot_index = applied.get(),
            "Recovering from snapshot backend"
        );
        let cut = Cut {
            index: applied,
            term: applied_term,
        };
        let saved = opened.recovered.hard_state;
        let vote = if saved.term >= cut.term.0 { saved.vote } else { 0 };
        let hard_state = HardState {
            term: saved.term.max(cut.term.0),
            vote,
            commit: saved.commit.max(applied.0),
        };
        opened.log.reset(cut, &hard_state)?;
        opened.recovered = Recovered {
            cut,
            hard_state,
            terms: Vec::new(),
        };
    }
    let last = opened.recovered.last().0;
    // A commit index that outran the disk when power failed: those entries were never acknowledged by this member.
    opened.recovered.hard_state.commit = opened.recovered.hard_state.commit.clamp(applied.0, last);
    Ok(opened)
}

/// The term of an entry as the log has it; none for one that it does not have, or has cut off.
fn term_at(log: &Recovered, index: LogIndex) -> Option<Term> {
    match index.0.checked_sub(log.cut.index.0)? {
        0 => Some(log.cut.term),
        place => log.terms.get(place as usize - 1).copied(),
    }
}

/// The members that a member begins with, in etcd's words (server/etcdserver/api/membership/cluster.go).
fn announce(identity: Identity, members: &[Member]) {
    for member in members {
        tracing::info!(
            cluster_id = %identity.cluster, local_member_id = %identity.member,
            added_peer_id = format!("{:x}", member.id), added_peer_peer_urls = ?member.peer_urls,
            added_peer_is_learner = member.is_learner, "added member"
        );
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
