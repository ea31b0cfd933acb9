//! Deliberate bugs: each turns one safeguard of the code off, so that the simulator can show that it catches the bug. They
//! exist only in a simulator built with `--cfg mutants`. Everywhere else [`active`] is constantly false, and the branches
//! behind it are not compiled in.

/// One deliberate bug.
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
    /// A ReadIndex request is repeated with the same context, also for readers that called later.
    ReadIndexReused,
    /// The log is cut up to the applied index without syncing the state.
    CutBeforeSync,
    /// The applied index is written in a batch of its own.
    AppliedIndexApart,
    /// The client repeats a write that may have been applied.
    ClientRepeatsWrites,
    /// The state of a snapshot is put in use without a sync.
    SnapshotNotSynced,
    /// What has arrived of one snapshot is taken for the beginning of another.
    StaleTransferResumed,
    /// A watcher that has read what it missed is taken for synced, whatever was written meanwhile.
    WatchSkipsOnSync,
    /// The events of one revision come in responses of their own.
    WatchSplitsRevision,
    /// Progress is reported to watchers that have not read everything yet.
    WatchReportsEarly,
    /// Messages of a deposed leader or candidate are taken as if they were of the current term.
    StaleTermAccepted,
    /// A member whose disk was replaced by a blank one is admitted under its old ID.
    BlankDiskAdmitted,
    /// Bit rot at the end of a journal is taken for a torn write and cut off.
    RotTakenForTorn,
    /// The marks in a batch that say how far the journal was synced are ignored.
    MarksIgnored,
    /// An intact batch behind a broken one is always taken for bit rot.
    OutOfOrderTakenForRot,
    /// Journals are synced only through the engine, whose own thread may have received the error.
    SyncedThroughEngine,
    /// A start that is refused leaves the journals cut.
    RefusedStartCuts,
    /// A leader keeps leases alive without confirming that it still leads.
    LeaseRenewedWithoutQuorum,
    /// A member that is asked for its digest after one entry answers with that after another.
    DigestsComparedApart,
    /// A member that is asked for its hash at one revision answers with that at another.
    HashesComparedApart,
    /// Differences between members are found and not reported.
    CorruptionNotReported,
    /// A member starts although its initial check finds that it differs from the others.
    InconsistentMemberStarts,
    /// Writes are refused according to the size of the state on the member's own disk.
    RefusedByOwnDisk,
    /// A snapshot omits the alarms.
    AlarmsLeftOut,
    /// A member does not disarm the alarm that it has raised.
    AlarmStays,
    /// A compaction does not reduce the live bytes.
    NothingFreed,
    /// A backup omits records that were replaced since the last compaction and written before it.
    BackupForgetsReplaced,
    /// A caller in a queue is taken for its first as soon as one key before its own is deleted.
    QueueAskedOnce,
    /// Leaders of elections proclaim without checking that they still lead.
    ProclaimUnfenced,
    /// Snapshots are received on raft's thread.
    SnapshotStoredByRaft,
    /// Transactions may be nested to any depth, and commands reach the log without being decoded first.
    DepthUnchecked,
    /// The lessor's proposals are subject to the limits for clients' writes.
    LeaseExpiryAdmitted,
    /// Observers of elections are told only the newest of several values that were proclaimed together.
    ObserveNewestOnly,
    /// A watcher that reads past changes is not told the previous record if a compaction had moved it.
    WatchPreviousForgotten,
    /// A limited range at an earlier revision counts only up to its limit.
    CountStopsAtLimit,
    /// A limited range at an earlier revision does not set `more`.
    MoreNotTold,
    /// A key that is put under another lease also stays attached to its previous lease.
    LeaseKeepsKey,
    /// A lock is granted to a caller whose lease was revoked while it waited.
    LockWithoutSession,
    /// Transactions are accepted under a NOSPACE alarm.
    TxnUnderNospace,
    /// A snapshot transfer resumes one record too late.
    TransferSkipsRecord,
    /// Watchers that wait for room in their stream's outbox are not told when there is room.
    ParkedForever,
    /// Raft is not told that a snapshot did not arrive.
    TransferFailureHidden,
    /// Members start elections without asking first whether they could win.
    PreVoteOff,
    /// A leader that hears from no quorum keeps leading.
    CheckQuorumOff,
    /// The expiry of leases is applied in any term in which it is committed.
    ExpiryOfAnyTerm,
    /// The answer to a ReadIndex request is ignored once another request has been sent.
    LateAnswerIgnored,
    /// A snapshot transfer resumes in any stream that the same member sends at the same index.
    ResumedAcrossPacking,
    /// A member takes part in elections before it has heard what other members remember of it.
    TakesPartAtOnce,
    /// A member is admitted with an older copy of its disk.
    OlderCopyAdmitted,
    /// Members check the disks of other members only against the log, not against what they noted themselves.
    ContactsForgotten,
    /// A start counts before the member has heard whether it may take part.
    StartCountsAtOnce,
    /// A connection that a newer one has replaced stays open, and its messages are ignored.
    ReplacedConnectionStays,
    /// Certificates are read on the thread of the handshake, which may be raft's.
    CertificatesReadInPlace,
    /// A member's memory counts even if the member answers with a disk other than its own.
    AnswersUnchecked,
    /// A leader reports that it has transferred leadership without waiting for it.
    TransferNotAwaited,
    /// A lost chunk of a snapshot is not noticed.
    ChunkGapsIgnored,
    /// Raft is not told of a membership change.
    ReconfigurationIgnored,
    /// A removed member keeps running.
    RemovedStays,
    /// A removed member is admitted again.
    RemovedAdmitted,
    /// A member that lags behind does not answer members that were added since.
    StrangersUnanswered,
    /// A member that is forced to go on alone discards what it does not know to be committed.
    ForcedStartDiscards,
    /// A member that starts counts the voters that it knew, whatever it hears of newer ones.
    HeardVotersIgnored,
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
        Self::HeardVotersIgnored,
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
            Self::HeardVotersIgnored => "heard-voters-ignored",
        }
    }
}

/// Whether this bug is active.
#[cfg(not(mutants))]
#[inline]
pub const fn active(_: Mutant) -> bool {
    false
}

#[cfg(mutants)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is active in the simulation on this thread.
#[cfg(mutants)]
pub fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Sets the active bug of the simulation on this thread.
#[cfg(mutants)]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
