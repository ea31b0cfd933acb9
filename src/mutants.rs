//! Deliberate bugs: each turns one safeguard of the code off, so that the simulator can show that it catches the bug. They
//! exist only in a simulator built with `--cfg mutants`. Everywhere else [`active`] is constantly false, and the branches
//! behind it are not compiled in.

macro_rules! table {
    ($($(#[$meta:meta])* $name:ident $text:literal;)*) => {
        /// One deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$meta])* $name,)*
        }

        impl Mutant {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

table! {
    /// The log's writer reports writes as durable before it syncs them.
    AcknowledgeBeforeSync "acknowledge-before-sync";
    /// Linearizable reads do not ask for a read index.
    ReadWithoutIndex "read-without-index";
    /// The hard state is written without the vote.
    VoteNotPersisted "vote-not-persisted";
    /// Entries are applied as soon as they are in the log.
    ApplyUncommitted "apply-uncommitted";
    /// Commands are forwarded to the leader twice.
    ForwardTwice "forward-twice";
    /// A ReadIndex request is repeated with the same context, also for readers that called later.
    ReadIndexReused "read-index-reused";
    /// The log is cut up to the applied index without syncing the state.
    CutBeforeSync "cut-before-sync";
    /// The applied index is written in a batch of its own.
    AppliedIndexApart "applied-index-apart";
    /// The client repeats a write that may have been applied.
    ClientRepeatsWrites "client-repeats-writes";
    /// The state of a snapshot is put in use without a sync.
    SnapshotNotSynced "snapshot-not-synced";
    /// What has arrived of one snapshot is taken for the beginning of another.
    StaleTransferResumed "stale-transfer-resumed";
    /// A watcher that has read what it missed is taken for synced, whatever was written meanwhile.
    WatchSkipsOnSync "watch-skips-on-sync";
    /// The events of one revision come in responses of their own.
    WatchSplitsRevision "watch-splits-revision";
    /// Progress is reported to watchers that have not read everything yet.
    WatchReportsEarly "watch-reports-early";
    /// Messages of a deposed leader or candidate are taken as if they were of the current term.
    StaleTermAccepted "stale-term-accepted";
    /// A member whose disk was replaced by a blank one is admitted under its old ID.
    BlankDiskAdmitted "blank-disk-admitted";
    /// Bit rot at the end of a journal is taken for a torn write and cut off.
    RotTakenForTorn "rot-taken-for-torn";
    /// The marks in a batch that say how far the journal was synced are ignored.
    MarksIgnored "marks-ignored";
    /// An intact batch behind a broken one is always taken for bit rot.
    OutOfOrderTakenForRot "out-of-order-taken-for-rot";
    /// Journals are synced only through the engine, whose own thread may have received the error.
    SyncedThroughEngine "synced-through-engine";
    /// A start that is refused leaves the journals cut.
    RefusedStartCuts "refused-start-cuts";
    /// A leader keeps leases alive without confirming that it still leads.
    LeaseRenewedWithoutQuorum "lease-renewed-without-quorum";
    /// A member that is asked for its digest after one entry answers with that after another.
    DigestsComparedApart "digests-compared-apart";
    /// A member that is asked for its hash at one revision answers with that at another.
    HashesComparedApart "hashes-compared-apart";
    /// Differences between members are found and not reported.
    CorruptionNotReported "corruption-not-reported";
    /// A member starts although its initial check finds that it differs from the others.
    InconsistentMemberStarts "inconsistent-member-starts";
    /// Writes are refused according to the size of the state on the member's own disk.
    RefusedByOwnDisk "refused-by-own-disk";
    /// A snapshot omits the alarms.
    AlarmsLeftOut "alarms-left-out";
    /// A member does not disarm the alarm that it has raised.
    AlarmStays "alarm-stays";
    /// A compaction does not reduce the live bytes.
    NothingFreed "nothing-freed";
    /// A backup omits records that were replaced since the last compaction and written before it.
    BackupForgetsReplaced "backup-forgets-replaced";
    /// A caller in a queue is taken for its first as soon as one key before its own is deleted.
    QueueAskedOnce "queue-asked-once";
    /// Leaders of elections proclaim without checking that they still lead.
    ProclaimUnfenced "proclaim-unfenced";
    /// Transactions may be nested to any depth, and commands reach the log without being decoded first.
    DepthUnchecked "depth-unchecked";
    /// The lessor's proposals are subject to the limits for clients' writes.
    LeaseExpiryAdmitted "lease-expiry-admitted";
    /// Observers of elections are told only the newest of several values that were proclaimed together.
    ObserveNewestOnly "observe-newest-only";
    /// Snapshots are received on raft's thread.
    SnapshotStoredByRaft "snapshot-stored-by-raft";
    /// A watcher that reads past changes is not told the previous record if a compaction had moved it.
    WatchPreviousForgotten "watch-previous-forgotten";
    /// A limited range at an earlier revision counts only up to its limit.
    CountStopsAtLimit "count-stops-at-limit";
    /// A limited range at an earlier revision does not set `more`.
    MoreNotTold "more-not-told";
    /// A key that is put under another lease also stays attached to its previous lease.
    LeaseKeepsKey "lease-keeps-key";
    /// A lock is granted to a caller whose lease was revoked while it waited.
    LockWithoutSession "lock-without-session";
    /// Transactions are accepted under a NOSPACE alarm.
    TxnUnderNospace "txn-under-nospace";
    /// A snapshot transfer resumes one record too late.
    TransferSkipsRecord "transfer-skips-record";
    /// Watchers that wait for room in their stream's outbox are not told when there is room.
    ParkedForever "parked-forever";
    /// Raft is not told that a snapshot did not arrive.
    TransferFailureHidden "transfer-failure-hidden";
    /// Members start elections without asking first whether they could win.
    PreVoteOff "pre-vote-off";
    /// A leader that hears from no quorum keeps leading.
    CheckQuorumOff "check-quorum-off";
    /// The expiry of leases is applied in any term in which it is committed.
    ExpiryOfAnyTerm "expiry-of-any-term";
    /// The answer to a ReadIndex request is ignored once another request has been sent.
    LateAnswerIgnored "late-answer-ignored";
    /// A snapshot transfer resumes in any stream that the same member sends at the same index.
    ResumedAcrossPacking "resumed-across-packing";
    /// A member takes part in elections before it has heard what other members remember of it.
    TakesPartAtOnce "takes-part-at-once";
    /// A member is admitted with an older copy of its disk.
    OlderCopyAdmitted "older-copy-admitted";
    /// Members check the disks of other members only against the log, not against what they noted themselves.
    ContactsForgotten "contacts-forgotten";
    /// A start counts before the member has heard whether it may take part.
    StartCountsAtOnce "start-counts-at-once";
    /// A connection that a newer one has replaced stays open, and its messages are ignored.
    ReplacedConnectionStays "replaced-connection-stays";
    /// Certificates are read on the thread of the handshake, which may be raft's.
    CertificatesReadInPlace "certificates-read-in-place";
    /// Certificates are read once.
    CertificatesKept "certificates-kept";
    /// A connection with a revoked certificate is admitted.
    RevokedAdmitted "revoked-admitted";
    /// A member's memory counts even if the member answers with a disk other than its own.
    AnswersUnchecked "answers-unchecked";
    /// A leader reports that it has transferred leadership without waiting for it.
    TransferNotAwaited "transfer-not-awaited";
    /// A lost chunk of a snapshot is not noticed.
    ChunkGapsIgnored "chunk-gaps-ignored";
    /// Raft is not told of a membership change.
    ReconfigurationIgnored "reconfiguration-ignored";
    /// A leader may be heard before its term is on its disk.
    TermToldFirst "term-told-first";
    /// A member may be the only one to know that it is removed.
    RemovalToldFirst "removal-told-first";
    /// A removed member keeps running.
    RemovedStays "removed-stays";
    /// A removed member is admitted again.
    RemovedAdmitted "removed-admitted";
    /// A downgrade is not recorded.
    DowngradeForgotten "downgrade-forgotten";
    /// A member that lags behind does not answer members that were added since.
    StrangersUnanswered "strangers-unanswered";
    /// A member that lags behind does not answer members that have moved since.
    MovedUnanswered "moved-unanswered";
    /// A member that is forced to go on alone discards what it does not know to be committed.
    ForcedStartDiscards "forced-start-discards";
    /// A member that starts counts the voters that it knew, whatever it hears of newer ones.
    HeardVotersIgnored "heard-voters-ignored";
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
