//! From a data directory to a member's parts: the first start founds the member, every later one finds it again. The
//! initial-* flags count the first time only, as with etcd.

use crate::config;
use crate::env;
use crate::ids::{Incarnation, LogIndex, MemberId, Term};
use crate::limits::{CATCH_UP_BYTES, SMALL_DISK_BYTES, STAGGER_PERCENT_MAX, lowered};
use crate::mutants::{self, Mutant};
use crate::proto::log::Member;
use crate::proto::peer::{ConfState, HardState};
use crate::state::Views;
use crate::state::machine::{InitialState, MachineOptions};
use crate::state::{Machine, MachineError};
use crate::storage::contacts::{Contacts, Start};
use crate::storage::directory::{DataDirectory, DirectoryError, Identity};
use crate::storage::journal::{Engine, Found};
use crate::storage::log::{self, Cut, LogDatabase, LogError, Recovered};
use crate::storage::state::{StateDatabase, StateOptions};
use crate::storage::state_error::StateError;
use crate::tls::TlsError;
use std::sync::Arc;

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("joining a running cluster (--initial-cluster-state existing) is not supported yet")]
    JoinUnsupported,
    #[error(
        "the log in {log_path} ends at entry {last}, but the state has applied entry {applied}: log entries were lost. \
         Remove this member from the cluster, clear its data directory and add it again"
    )]
    LogBehindState {
        log_path: String,
        last: LogIndex,
        applied: LogIndex,
    },
    #[error(
        "the log in {log_path} begins behind entry {cut}, but the state has only applied entry {applied}. Remove this \
         member from the cluster, clear its data directory and add it again"
    )]
    StateBehindLog {
        log_path: String,
        cut: LogIndex,
        applied: LogIndex,
    },
    #[error(
        "the log in {log_path} and the state do not belong together: entry {applied} is of term {log_term} in the log, and \
         what the state has applied there is of term {state_term}. Remove this member from the cluster, clear its data \
         directory and add it again"
    )]
    LogNotOfState {
        log_path: String,
        applied: LogIndex,
        log_term: Term,
        state_term: Term,
    },
    #[error(
        "the data directory {path} belongs to member {owner}, but --initial-advertise-peer-urls are those of member \
         {configured}: were the directories of two members swapped? Give each member its own"
    )]
    AnothersDirectory {
        path: String,
        owner: MemberId,
        configured: MemberId,
    },
    #[error("TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme")]
    ClientUrlWithoutTls(String),
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    UrlWithoutTls(String),
    #[error("TLS towards {towards}: {source}")]
    Tls { towards: &'static str, source: TlsError },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("{0}")]
    Raft(String),
}

/// How the engine is run.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    pub state: StateOptions,
    pub machine: MachineOptions,
    /// None for the log's own default.
    pub log_memtable_bytes: Option<u64>,
    /// Entries kept for followers that are behind; None for the limit's own default.
    pub catch_up_entries: Option<u64>,
    /// The same in bytes.
    pub catch_up_bytes: Option<u64>,
    /// By how much sooner than configured the state is synced, 0 to 100.
    pub checkpoint_sooner_percent: u64,
}

impl EngineOptions {
    /// For a member on a real disk. Members apply the same entries: with equal bounds all of them would write tables and
    /// sync their state at the same moment, and no quorum could go on meanwhile. So each draws how far below its bounds it
    /// stays.
    pub fn production() -> Self {
        let sooner = env::random_below(STAGGER_PERCENT_MAX + 1);
        let state = StateOptions::production();
        Self {
            state: StateOptions {
                memtable_bytes: lowered(state.memtable_bytes, sooner),
                ..state
            },
            log_memtable_bytes: Some(lowered(log::MEMTABLE_BYTES, sooner)),
            checkpoint_sooner_percent: sooner,
            ..Self::default()
        }
    }

    /// The same on the disk where `data_dir` is, or will be. On a small one the engine's tables, and what it keeps beside
    /// what is live, must be small too: a merge needs room for what it writes.
    #[must_use]
    pub fn on_disk_of(self, data_dir: &std::path::Path) -> Self {
        let disk = data_dir.ancestors().find_map(|path| env::disk_space(path).ok());
        if disk.is_none_or(|disk| disk.total_bytes >= SMALL_DISK_BYTES) {
            return self;
        }
        let log_memtable_bytes = self.log_memtable_bytes.unwrap_or(log::MEMTABLE_BYTES);
        Self {
            state: StateOptions {
                memtable_bytes: self.state.memtable_bytes / 4,
                table_bytes: self.state.table_bytes / 4,
                merge_bytes_max: self.state.merge_bytes_max / 4,
                garbage_bytes_max: self.state.garbage_bytes_max / 4,
                ..self.state
            },
            log_memtable_bytes: Some(log_memtable_bytes / 2),
            catch_up_bytes: Some(CATCH_UP_BYTES / 4),
            checkpoint_sooner_percent: 75,
            ..self
        }
    }
}

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

/// Opens the member in the configured data directory, or founds it there. What is refused stays as it was found: all that
/// can be looked at is looked at before anything is changed, and what only an open engine tells is undone.
///
/// The work of engines cannot be undone: they remove older journals, and a torn end must not be put back in a journal that
/// they have begun another one behind. Where there is such work, all is opened with engines at rest first. That is rare: an
/// engine is done with an older journal soon after it has begun the next.
pub fn open(
    config: &config::Server,
    engine: &EngineOptions,
    origin: u64,
) -> Result<OpenedMember, StartError> {
    let mut founding = None;
    if !DataDirectory::is_claimed(&config.data_dir) {
        founding = Some(found(config)?);
    }
    let directory = DataDirectory::open(&config.data_dir)?;
    if founding.is_some() {
        directory.clear_unclaimed()?;
    } else {
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
    let tried = if founding.is_none() && start.files.have_work() {
        start.try_out()
    } else {
        Ok(())
    };
    let opened = tried.and_then(|()| start.open_files(founding, Engine::Works));
    match opened.and_then(reconcile) {
        Ok(opened) => {
            start.files.accept()?;
            opened.directory.remove_stale_states()?;
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

    fn open_files(
        &self,
        founding: Option<(Identity, InitialState)>,
        engine: Engine,
    ) -> Result<OpenedMember, StartError> {
        let (directory, files, options) = (&self.directory, &self.files, self.options);
        let state =
            StateDatabase::open_found(&directory.state_path()?, &options.state, &files.state, engine)?;
        let (mut machine, views) = Machine::open(state, self.origin, options.machine.clone())?;
        let memtable_bytes = options.log_memtable_bytes;
        let (log, mut recovered) =
            LogDatabase::open_found(&directory.log_path(), memtable_bytes, &files.log, engine)?;
        let is_new = founding.is_some();
        let identity = if let Some((identity, initial)) = founding {
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
            super::announce::founded(identity, &initial.members);
            machine.initialize(initial)?;
            directory.claim(identity)?;
            identity
        } else {
            let identity = directory
                .identity()?
                .ok_or_else(|| StartError::Raft("the identity has gone".into()))?;
            let members = &views.load().cluster.members;
            check_owner(self.config, directory, identity.member, members)?;
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

/// A new member of a new cluster. Like etcd's, its log begins behind one entry per member, in term 1.
fn found(config: &config::Server) -> Result<(Identity, InitialState), StartError> {
    let initial_cluster = config.initial_cluster()?;
    if config.initial_cluster_state == config::ClusterState::Existing {
        return Err(StartError::JoinUnsupported);
    }
    let (cluster, membership) = initial_cluster
        .found(&config.initial_cluster_token)
        .map_err(config::Error::from)?;
    let own_urls = config
        .initial_advertise_peer_urls
        .iter()
        .map(crate::cluster::MemberUrl::as_str);
    let listed = membership
        .iter()
        .find(|member| member.name == config.name)
        .map(|member| MemberId(member.id));
    let member = listed.unwrap_or_else(|| crate::cluster::member_id(own_urls, &config.initial_cluster_token));
    let initial = InitialState {
        applied_index: LogIndex(membership.len() as u64),
        applied_term: Term(1),
        members: membership.iter().cloned().collect(),
        conf_state: ConfState {
            voters: membership.ids().map(|id| id.0).collect(),
            ..ConfState::default()
        },
        cluster_version: String::new(),
    };
    // 0 stands for a member that has never started.
    let incarnation = Incarnation(env::random_u64().max(1));
    Ok((
        Identity {
            member,
            cluster,
            incarnation,
            start: Start::default(),
        },
        initial,
    ))
}

/// The same as far as the flags alone tell: an engine that has been opened may have made tables of its journals.
fn check_owner_by_flags(config: &config::Server, directory: &DataDirectory) -> Result<(), StartError> {
    match (directory.identity()?, found(config)) {
        (Some(identity), Ok((configured, initial))) if configured.cluster == identity.cluster => {
            check_owner(config, directory, identity.member, &initial.members)
        }
        _ => Ok(()),
    }
}

/// The flags of a first start count no more, but those that name another member of the same cluster are no oversight: the
/// wrong disk is in this machine. Under its owner's name the others would look for it elsewhere.
fn check_owner(
    config: &config::Server,
    directory: &DataDirectory,
    owner: MemberId,
    members: &[Member],
) -> Result<(), StartError> {
    let is_configured = |member: &&Member| {
        let mut urls = config.initial_advertise_peer_urls.iter();
        urls.any(|url| member.peer_urls.iter().any(|known| known == url.as_str()))
    };
    let configured: Vec<_> = members
        .iter()
        .filter(is_configured)
        .map(|member| MemberId(member.id))
        .collect();
    match configured.first() {
        Some(other) if !configured.contains(&owner) => Err(StartError::AnothersDirectory {
            path: directory.path().display().to_string(),
            owner,
            configured: *other,
        }),
        _ => Ok(()),
    }
}

/// Log and state are synced apart: after a crash the state may be behind the log, which replays the rest. A state that
/// came as a snapshot may be ahead of an old log, or in the middle of one that it conflicts with, which is then discarded.
/// Anything else is a loss. Changes nothing; says whether the log is to be discarded.
fn begins_again(opened: &OpenedMember) -> Result<bool, StartError> {
    let applied = opened.machine.applied_index();
    let cut = opened.recovered.cut.index;
    let last = LogIndex(cut.0 + opened.recovered.terms.len() as u64);
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
    let last = opened.recovered.cut.index.0 + opened.recovered.terms.len() as u64;
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

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
