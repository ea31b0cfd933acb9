//! The one table of errors: etcd's texts, on which clients match exactly, and their gRPC codes
//! (etcd: api/v3rpc/rpctypes/error.go and server/etcdserver/api/v3rpc/util.go).

use tonic::{Code, Status};

macro_rules! table {
    ($($name:ident $code:ident $text:literal;)*) => {
        /// An error that etcd's clients know by its text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum EtcdError {
            $(#[error($text)] $name,)*
        }

        impl EtcdError {
            /// What clients see.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The gRPC code that goes with it.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }
        }
    };
}

table! {
    EmptyKey InvalidArgument "etcdserver: key is not provided";
    KeyNotFound InvalidArgument "etcdserver: key not found";
    ValueProvided InvalidArgument "etcdserver: value is provided";
    LeaseProvided InvalidArgument "etcdserver: lease is provided";
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request";
    // Callboard's own: what nests more deeply would not be read back from the log. See limits::TXN_LEVELS_MAX.
    TooManyLevels InvalidArgument "etcdserver: txn request is nested too deeply, this server takes up to 32 levels";
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request";
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option";
    // Callboard's own: its storage engine takes shorter keys than etcd's. See limits::KEY_BYTES_MAX.
    KeyTooLong InvalidArgument "etcdserver: key is too large, this server takes keys of up to 61440 bytes";
    RequestTooLarge InvalidArgument "etcdserver: request is too large";
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FutureRevision OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded";
    // etcd maps this one to its client-side error, whose code is Unknown on the wire.
    TooManyRequests Unknown "etcdserver: too many requests";
    LeaseNotFound NotFound "etcdserver: requested lease not found";
    LeaseExists FailedPrecondition "etcdserver: lease already exists";
    LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL";
    MemberNotFound NotFound "etcdserver: member not found";
    // Between members, and in the log of the one that has gone (etcd: api/membership, rafthttp).
    MemberRemoved PermissionDenied "the member has been permanently removed from the cluster";
    PeerUrlExists FailedPrecondition "etcdserver: Peer URLs already exists";
    MemberExists FailedPrecondition "etcdserver: member ID already exist";
    MemberNotEnoughStarted FailedPrecondition "etcdserver: re-configuration failed due to not enough started members";
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    LearnerOnly FailedPrecondition "etcdserver: can only promote a learner member";
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster";
    NotForLearner FailedPrecondition "etcdserver: rpc not supported for learner";
    Unhealthy Unavailable "etcdserver: unhealthy cluster";
    BadMemberUrls InvalidArgument "etcdserver: given member URLs are invalid";
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee";
    // etcd maps this one to none of its clients' errors.
    LeaderTransferTimeout Unknown "etcdserver: request timed out, leader transfer took too long";
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTarget InvalidArgument "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job";
    UnknownMethod Unknown "etcdserver: unknown method";
    NoLeader Unavailable "etcdserver: no leader";
    LeaderChanged Unavailable "etcdserver: leader changed";
    NotLeader FailedPrecondition "etcdserver: not leader";
    Stopped Unavailable "etcdserver: server stopped";
    Timeout Unavailable "etcdserver: request timed out";
    TimeoutLeaderFailure Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    Corrupt DataLoss "etcdserver: corrupt cluster";
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled";
    RootUserNotFound FailedPrecondition "etcdserver: root user does not exist";
    UserNotFound FailedPrecondition "etcdserver: user name not found";
    RoleNotFound FailedPrecondition "etcdserver: role name not found";
    UserEmpty InvalidArgument "etcdserver: user name is empty";
    RoleEmpty InvalidArgument "etcdserver: role name is empty";
    PermissionNotGiven InvalidArgument "etcdserver: permission not given";
    // etcd answers FailedPrecondition when the cluster is too old for a call; here the call does not exist yet.
    NotCapable Unimplemented "etcdserver: not capable";
    StreamSort Unimplemented "RangeStream does not support custom sort orders";
    StreamFilters Unimplemented "RangeStream does not support revision filters";
    DeadlineExceeded DeadlineExceeded "context deadline exceeded";
    // Those of locks and elections (etcd: client/v3/concurrency, server/etcdserver/api/v3election).
    SessionExpired Unknown "mutex: session is expired";
    ElectionNoLeader Unknown "election: no leader";
    ElectionNotLeader Unknown "election: not leader";
    MissingLeaderKey Unknown "\"leader\" field must be provided";
    // Reasons for which a watcher is not created (etcd: server/storage/mvcc/watcher.go).
    WatchRangeEmpty Unknown "mvcc: watcher range is empty";
    WatchIdDuplicate Unknown "mvcc: duplicate watch ID provided on the WatchStream";
    // Of plain HTTP between members (etcd: server/etcdserver/api/membership/errors.go).
    MemberIdNotFound Unknown "membership: ID not found";
    MemberNotLearner Unknown "membership: can only promote a learner member";
}

impl From<EtcdError> for Status {
    fn from(error: EtcdError) -> Self {
        Status::new(error.code(), error.text())
    }
}
