//! Mistakes to make on purpose: each turns one safeguard of the code off, so that the simulator can show that it would
//! notice. They exist only in a simulator built with `--cfg mutants`; everywhere else [`active`] is constantly false and
//! the branches behind it are not compiled in.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log's writer reports writes as durable before it syncs them.
    AcknowledgeBeforeSync,
    /// Linearizable reads do not ask for a read index.
    ReadWithoutIndex,
    /// The hard state is written without the vote.
    VoteNotPersisted,
    /// Entries are applied as soon as they are in the log.
    ApplyUncommitted,
    /// Commands are forwarded to the leader twice.
    ForwardTwice,
    /// A question for a read index is asked again in the same words, also for those who came later.
    ReadIndexReused,
    /// The log is cut behind what is applied, without syncing the state.
    CutBeforeSync,
    /// The applied index is written in a batch of its own.
    AppliedIndexApart,
    /// The client repeats a write that may have been applied.
    ClientRepeatsWrites,
    /// The state of a snapshot is put in use without a sync.
    SnapshotNotSynced,
    /// What has arrived of one snapshot is taken for the beginning of another.
    StaleTransferResumed,
    /// A watcher that has read what it missed is taken for up to date, whatever came meanwhile.
    WatchSkipsOnSync,
    /// The events of one revision come in responses of their own.
    WatchSplitsRevision,
    /// Progress is reported to watchers that have not read everything yet.
    WatchReportsEarly,
    /// Messages of a deposed leader, or candidate, are taken as if they were of the current term.
    StaleTermAccepted,
    /// A member whose disk was replaced by a blank one is let back in under its old id.
    BlankDiskAdmitted,
    /// The rotten end of a journal is taken for a torn one, and cut off.
    RotTakenForTorn,
    /// What was known to be synced when a batch was written does not count.
    MarksIgnored,
    /// A sound batch behind a broken one is always taken for rot.
    OutOfOrderTakenForRot,
    /// Journals are synced by the engine only, whose own thread may have met the error.
    SyncedThroughEngine,
    /// A start that is refused leaves journals cut.
    RefusedStartCuts,
    /// A leader keeps leases alive without asking whether it still leads.
    LeaseRenewedWithoutQuorum,
    /// A member that is asked for its digest after one entry tells that after another.
    DigestsComparedApart,
    /// A member that is asked for its hash at one revision tells that at another.
    HashesComparedApart,
    /// Members that differ are found and not reported.
    CorruptionNotReported,
    /// A member that finds at its start that it differs from the others starts all the same.
    InconsistentMemberStarts,
    /// Writes are refused by what the state takes on the member's own disk.
    RefusedByOwnDisk,
    /// A snapshot leaves the alarms out.
    AlarmsLeftOut,
    /// A member does not lower the alarm that it has raised.
    AlarmStays,
    /// A compaction is not seen to free anything.
    NothingFreed,
    /// A backup leaves out what has been replaced since the last compaction, if it was written before that.
    BackupForgetsReplaced,
    /// Who waits in a queue is at its front as soon as one key before its own has gone.
    QueueAskedOnce,
    /// Leaders of elections proclaim without a look at whether they still lead.
    ProclaimUnfenced,
    /// Snapshots are received on the thread that carries raft.
    SnapshotStoredByRaft,
    /// Transactions may be nested as deeply as a client likes, and commands reach the log without being read back.
    DepthUnchecked,
    /// What the lessor proposes goes through the admission of clients' writes.
    LeaseExpiryAdmitted,
    /// Observers of elections are told only the newest of what was proclaimed together.
    ObserveNewestOnly,
    /// A watcher that reads from the past is not told what a change has replaced, if a compaction had moved that.
    WatchPreviousForgotten,
    /// A limited range at an earlier revision counts no further than its limit.
    CountStopsAtLimit,
    /// A limited range at an earlier revision does not say that there is more.
    MoreNotTold,
    /// A key that is put under another lease stays with the lease before as well.
    LeaseKeepsKey,
    /// A lock is granted to a caller whose lease was revoked while it waited.
    LockWithoutSession,
    /// Transactions are accepted under a NOSPACE alarm.
    TxnUnderNospace,
    /// A snapshot's transfer is resumed one record too late.
    TransferSkipsRecord,
    /// Watchers that wait for room in their stream's outbox are not told when there is some.
    ParkedForever,
    /// Raft is not told that a snapshot did not arrive.
    TransferFailureHidden,
    /// Members stand for election without asking first whether they could win.
    PreVoteOff,
    /// A leader that hears from no quorum goes on leading.
    CheckQuorumOff,
    /// The expiry of leases is applied in whatever term it is committed.
    ExpiryOfAnyTerm,
    /// An answer to a question for a read index counts for nothing once another question has been asked.
    LateAnswerIgnored,
    /// A snapshot's transfer goes on in whatever the same member sends at the same index.
    ResumedAcrossPacking,
    /// A member takes part in elections before it has heard what others know of it.
    TakesPartAtOnce,
    /// A member is let back in with an older copy of its disk.
    OlderCopyAdmitted,
    /// Members remember of others only what the log says.
    ContactsForgotten,
    /// A start counts before the member has heard whether it may take part.
    StartCountsAtOnce,
    /// A connection whose place a newer one has taken stays open, and nobody listens.
    ReplacedConnectionStays,
    /// Certificates are read on the thread that shakes hands, which may be the one that carries raft.
    CertificatesReadInPlace,
    /// What a member remembers counts also if it answers with another disk than its own.
    AnswersUnchecked,
    /// A leader that is to hand over says that it has at once.
    TransferNotAwaited,
    /// A chunk of a snapshot that vanished on its way is not missed.
    ChunkGapsIgnored,
    /// Raft is not told of a change of the members.
    ReconfigurationIgnored,
    /// A member that was removed goes on.
    RemovedStays,
    /// A member that was removed is let back in.
    RemovedAdmitted,
    /// A member that lags behind does not answer members that have come since.
    StrangersUnanswered,
    /// A member that is forced to go on alone discards what it does not know to be committed.
    ForcedStartDiscards,
}

impl Mutant {
    pub const ALL: &'static [Self] = &[
        Self::AcknowledgeBeforeSync,
        Self::ReadWithoutIndex,
        Self::VoteNotPersisted,
        Self::ApplyUncommitted,
        Self::ForwardTwice,
        Self::ReadIndexReused,
        Self::CutBeforeSync,
        Self::AppliedIndexApart,
        Self::ClientRepeatsWrites,
        Self::SnapshotNotSynced,
        Self::StaleTransferResumed,
        Self::WatchSkipsOnSync,
        Self::WatchSplitsRevision,
        Self::WatchReportsEarly,
        Self::StaleTermAccepted,
        Self::BlankDiskAdmitted,
        Self::RotTakenForTorn,
        Self::MarksIgnored,
        Self::OutOfOrderTakenForRot,
        Self::SyncedThroughEngine,
        Self::RefusedStartCuts,
        Self::LeaseRenewedWithoutQuorum,
        Self::DigestsComparedApart,
        Self::HashesComparedApart,
        Self::CorruptionNotReported,
        Self::InconsistentMemberStarts,
        Self::RefusedByOwnDisk,
        Self::AlarmsLeftOut,
        Self::AlarmStays,
        Self::NothingFreed,
        Self::BackupForgetsReplaced,
        Self::QueueAskedOnce,
        Self::ProclaimUnfenced,
        Self::DepthUnchecked,
        Self::LeaseExpiryAdmitted,
        Self::ObserveNewestOnly,
        Self::SnapshotStoredByRaft,
        Self::WatchPreviousForgotten,
        Self::CountStopsAtLimit,
        Self::MoreNotTold,
        Self::LeaseKeepsKey,
        Self::LockWithoutSession,
        Self::TxnUnderNospace,
        Self::TransferSkipsRecord,
        Self::ParkedForever,
        Self::TransferFailureHidden,
        Self::PreVoteOff,
        Self::CheckQuorumOff,
        Self::ExpiryOfAnyTerm,
        Self::LateAnswerIgnored,
        Self::ResumedAcrossPacking,
        Self::TakesPartAtOnce,
        Self::OlderCopyAdmitted,
        Self::ContactsForgotten,
        Self::StartCountsAtOnce,
        Self::ReplacedConnectionStays,
        Self::CertificatesReadInPlace,
        Self::AnswersUnchecked,
        Self::TransferNotAwaited,
        Self::ChunkGapsIgnored,
        Self::ReconfigurationIgnored,
        Self::RemovedStays,
        Self::RemovedAdmitted,
        Self::StrangersUnanswered,
        Self::ForcedStartDiscards,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::ReadWithoutIndex => "read-without-index",
            Self::VoteNotPersisted => "vote-not-persisted",
            Self::ApplyUncommitted => "apply-uncommitted",
            Self::ForwardTwice => "forward-twice",
            Self::ReadIndexReused => "read-index-reused",
            Self::CutBeforeSync => "cut-before-sync",
            Self::AppliedIndexApart => "applied-index-apart",
            Self::ClientRepeatsWrites => "client-repeats-writes",
            Self::SnapshotNotSynced => "snapshot-not-synced",
            Self::StaleTransferResumed => "stale-transfer-resumed",
            Self::WatchSkipsOnSync => "watch-skips-on-sync",
            Self::WatchSplitsRevision => "watch-splits-revision",
            Self::WatchReportsEarly => "watch-reports-early",
            Self::StaleTermAccepted => "stale-term-accepted",
            Self::BlankDiskAdmitted => "blank-disk-admitted",
            Self::RotTakenForTorn => "rot-taken-for-torn",
            Self::MarksIgnored => "marks-ignored",
            Self::OutOfOrderTakenForRot => "out-of-order-taken-for-rot",
            Self::SyncedThroughEngine => "synced-through-engine",
            Self::RefusedStartCuts => "refused-start-cuts",
            Self::LeaseRenewedWithoutQuorum => "lease-renewed-without-quorum",
            Self::DigestsComparedApart => "digests-compared-apart",
            Self::HashesComparedApart => "hashes-compared-apart",
            Self::CorruptionNotReported => "corruption-not-reported",
            Self::InconsistentMemberStarts => "inconsistent-member-starts",
            Self::RefusedByOwnDisk => "refused-by-own-disk",
            Self::AlarmsLeftOut => "alarms-left-out",
            Self::AlarmStays => "alarm-stays",
            Self::NothingFreed => "nothing-freed",
            Self::BackupForgetsReplaced => "backup-forgets-replaced",
            Self::QueueAskedOnce => "queue-asked-once",
            Self::ProclaimUnfenced => "proclaim-unfenced",
            Self::DepthUnchecked => "depth-unchecked",
            Self::LeaseExpiryAdmitted => "lease-expiry-admitted",
            Self::ObserveNewestOnly => "observe-newest-only",
            Self::SnapshotStoredByRaft => "snapshot-stored-by-raft",
            Self::WatchPreviousForgotten => "watch-previous-forgotten",
            Self::CountStopsAtLimit => "count-stops-at-limit",
            Self::MoreNotTold => "more-not-told",
            Self::LeaseKeepsKey => "lease-keeps-key",
            Self::LockWithoutSession => "lock-without-session",
            Self::TxnUnderNospace => "txn-under-nospace",
            Self::TransferSkipsRecord => "transfer-skips-record",
            Self::ParkedForever => "parked-forever",
            Self::TransferFailureHidden => "transfer-failure-hidden",
            Self::PreVoteOff => "pre-vote-off",
            Self::CheckQuorumOff => "check-quorum-off",
            Self::ExpiryOfAnyTerm => "expiry-of-any-term",
            Self::LateAnswerIgnored => "late-answer-ignored",
            Self::ResumedAcrossPacking => "resumed-across-packing",
            Self::TakesPartAtOnce => "takes-part-at-once",
            Self::OlderCopyAdmitted => "older-copy-admitted",
            Self::ContactsForgotten => "contacts-forgotten",
            Self::StartCountsAtOnce => "start-counts-at-once",
            Self::ReplacedConnectionStays => "replaced-connection-stays",
            Self::CertificatesReadInPlace => "certificates-read-in-place",
            Self::AnswersUnchecked => "answers-unchecked",
            Self::TransferNotAwaited => "transfer-not-awaited",
            Self::ChunkGapsIgnored => "chunk-gaps-ignored",
            Self::ReconfigurationIgnored => "reconfiguration-ignored",
            Self::RemovedStays => "removed-stays",
            Self::RemovedAdmitted => "removed-admitted",
            Self::StrangersUnanswered => "strangers-unanswered",
            Self::ForcedStartDiscards => "forced-start-discards",
        }
    }
}

/// Whether this mistake is to be made.
#[cfg(not(mutants))]
#[inline]
pub const fn active(_: Mutant) -> bool {
    false
}

#[cfg(mutants)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is to be made, in the simulation on this thread.
#[cfg(mutants)]
pub fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Which mistake the simulation on this thread makes.
#[cfg(mutants)]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
