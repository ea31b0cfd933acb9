//! Calls of clients: `grpc_server_*`, as in go-grpc-prometheus for etcd, and the bytes of all messages.
//!
//! A method gets its counters, with all labels, when it is called for the first time or when all metrics are requested: most of
//! the eight hundred are never used. A request finds them by its path and then only adds to numbers. A call that is dropped
//! before it has a status was cancelled by its client.

use super::register::Register;
use crate::env;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, Registry};
use std::sync::{Arc, OnceLock};
use tonic::Code;

const UNARY: &str = "unary";
const SERVER_STREAM: &str = "server_stream";
const BIDI_STREAM: &str = "bidi_stream";

/// etcd's methods, the most frequent ones first.
const METHODS: &[(&str, &str)] = &[
    ("/etcdserverpb.KV/Put", UNARY),
    ("/etcdserverpb.KV/Range", UNARY),
    ("/etcdserverpb.KV/Txn", UNARY),
    ("/etcdserverpb.KV/DeleteRange", UNARY),
    ("/etcdserverpb.KV/Compact", UNARY),
    ("/etcdserverpb.KV/RangeStream", SERVER_STREAM),
    ("/etcdserverpb.Watch/Watch", BIDI_STREAM),
    ("/etcdserverpb.Lease/LeaseGrant", UNARY),
    ("/etcdserverpb.Lease/LeaseRevoke", UNARY),
    ("/etcdserverpb.Lease/LeaseKeepAlive", BIDI_STREAM),
    ("/etcdserverpb.Lease/LeaseTimeToLive", UNARY),
    ("/etcdserverpb.Lease/LeaseLeases", UNARY),
    ("/etcdserverpb.Cluster/MemberAdd", UNARY),
    ("/etcdserverpb.Cluster/MemberRemove", UNARY),
    ("/etcdserverpb.Cluster/MemberUpdate", UNARY),
    ("/etcdserverpb.Cluster/MemberList", UNARY),
    ("/etcdserverpb.Cluster/MemberPromote", UNARY),
    ("/etcdserverpb.Maintenance/Alarm", UNARY),
    ("/etcdserverpb.Maintenance/Status", UNARY),
    ("/etcdserverpb.Maintenance/Defragment", UNARY),
    ("/etcdserverpb.Maintenance/Hash", UNARY),
    ("/etcdserverpb.Maintenance/HashKV", UNARY),
    ("/etcdserverpb.Maintenance/Snapshot", SERVER_STREAM),
    ("/etcdserverpb.Maintenance/MoveLeader", UNARY),
    ("/etcdserverpb.Maintenance/Downgrade", UNARY),
    ("/etcdserverpb.Auth/AuthEnable", UNARY),
    ("/etcdserverpb.Auth/AuthDisable", UNARY),
    ("/etcdserverpb.Auth/AuthStatus", UNARY),
    ("/etcdserverpb.Auth/Authenticate", UNARY),
    ("/etcdserverpb.Auth/UserAdd", UNARY),
    ("/etcdserverpb.Auth/UserGet", UNARY),
    ("/etcdserverpb.Auth/UserList", UNARY),
    ("/etcdserverpb.Auth/UserDelete", UNARY),
    ("/etcdserverpb.Auth/UserChangePassword", UNARY),
    ("/etcdserverpb.Auth/UserGrantRole", UNARY),
    ("/etcdserverpb.Auth/UserRevokeRole", UNARY),
    ("/etcdserverpb.Auth/RoleAdd", UNARY),
    ("/etcdserverpb.Auth/RoleGet", UNARY),
    ("/etcdserverpb.Auth/RoleList", UNARY),
    ("/etcdserverpb.Auth/RoleDelete", UNARY),
    ("/etcdserverpb.Auth/RoleGrantPermission", UNARY),
    ("/etcdserverpb.Auth/RoleRevokePermission", UNARY),
    ("/v3lockpb.Lock/Lock", UNARY),
    ("/v3lockpb.Lock/Unlock", UNARY),
    ("/v3electionpb.Election/Campaign", UNARY),
    ("/v3electionpb.Election/Proclaim", UNARY),
    ("/v3electionpb.Election/Leader", UNARY),
    ("/v3electionpb.Election/Observe", SERVER_STREAM),
    ("/v3electionpb.Election/Resign", UNARY),
    ("/grpc.health.v1.Health/Check", UNARY),
    ("/grpc.health.v1.Health/List", UNARY),
    ("/grpc.health.v1.Health/Watch", SERVER_STREAM),
];

/// grpc-go's names of the codes, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The counters of all methods.
#[derive(Debug)]
pub struct GrpcMetrics {
    families: Families,
    /// In the order of [`METHODS`].
    methods: [OnceLock<Arc<Method>>; METHODS.len()],
    /// For calls of unknown methods: not shown.
    unknown: OnceLock<Arc<Method>>,
}

#[derive(Debug)]
struct Method {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    handled: Vec<IntCounter>,
    /// None unless `--metrics=extensive`.
    handling_seconds: Option<Histogram>,
    /// Shared by all methods.
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

impl GrpcMetrics {
    pub fn new(register: Register<'_>, extensive: bool) -> Self {
        Self {
            families: Families::new(register, extensive),
            methods: [const { OnceLock::new() }; METHODS.len()],
            unknown: OnceLock::new(),
        }
    }

    /// Counts the start of a call.
    pub fn begin(&self, path: &str) -> CountedCall {
        let number = METHODS.iter().position(|(known, _)| *known == path);
        let method = number.map_or_else(|| self.unknown(), |number| self.method(number));
        method.started.inc();
        CountedCall {
            begun: method.handling_seconds.is_some().then(env::now),
            method: Arc::clone(method),
            ended: false,
        }
    }

    /// Shows all series from now on, those at 0 too, so that a rate over them knows their start.
    pub fn show_all(&self) {
        for number in 0..METHODS.len() {
            self.method(number);
        }
    }

    fn method(&self, number: usize) -> &Arc<Method> {
        let (path, kind) = METHODS[number];
        self.methods[number].get_or_init(|| Arc::new(self.families.method(path, kind)))
    }

    fn unknown(&self) -> &Arc<Method> {
        self.unknown.get_or_init(|| {
            let families = Families::new(Register(&Registry::new()), false);
            Arc::new(families.method("/unknown/unknown", UNARY))
        })
    }
}

/// A call under way.
#[derive(Debug)]
pub struct CountedCall {
    method: Arc<Method>,
    begun: Option<env::Instant>,
    ended: bool,
}

impl CountedCall {
    /// Counts a message from the client.
    pub fn received(&self, bytes: usize) {
        self.method.received.inc();
        self.method.received_bytes.inc_by(bytes as u64);
    }

    /// Counts messages to the client.
    pub fn sent(&self, messages: usize, bytes: usize) {
        self.method.sent.inc_by(messages as u64);
        self.method.sent_bytes.inc_by(bytes as u64);
    }

    /// Counts the status of the call. Only the first one counts.
    pub fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.method.handled[code as usize].inc();
        if let (Some(begun), Some(handling)) = (self.begun, &self.method.handling_seconds) {
            handling.observe((env::now() - begun).as_secs_f64());
        }
    }

    /// Counts the further messages of the client.
    pub fn receipts(&self) -> Receipts {
        Receipts(Arc::clone(&self.method))
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The receiving half of a streaming call.
#[derive(Clone, Debug)]
pub struct Receipts(Arc<Method>);

impl Receipts {
    pub fn received(&self, bytes: usize) {
        self.0.received.inc();
        self.0.received_bytes.inc_by(bytes as u64);
    }
}

#[derive(Debug)]
struct Families {
    started: prometheus::IntCounterVec,
    received: prometheus::IntCounterVec,
    sent: prometheus::IntCounterVec,
    handled: prometheus::IntCounterVec,
    handling_seconds: Option<HistogramVec>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

impl Families {
    fn new(register: Register<'_>, extensive: bool) -> Self {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        let handled = ["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        let handling_seconds = extensive.then(|| {
            // The library's default buckets equal those of Go's library.
            let options = HistogramOpts::new(
                "grpc_server_handling_seconds",
                "Time from the start of a call to its status.",
            );
            register.add(HistogramVec::new(options, &labels))
        });
        Self {
            started: register.counters("grpc_server_started_total", "Calls that were started.", &labels),
            received: register.counters(
                "grpc_server_msg_received_total",
                "Messages received from clients.",
                &labels,
            ),
            sent: register.counters("grpc_server_msg_sent_total", "Messages sent to clients.", &labels),
            handled: register.counters(
                "grpc_server_handled_total",
                "Calls that came to a status, whatever it was.",
                &handled,
            ),
            handling_seconds,
            received_bytes: register.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of messages received from clients.",
            ),
            sent_bytes: register.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of messages sent to clients.",
            ),
        }
    }

    fn method(&self, path: &str, kind: &str) -> Method {
        let (service, method) = path[1..].split_once('/').expect("a path has two parts");
        let labels = [method, service, kind];
        let handled = CODES.map(|code| self.handled.with_label_values(&[code, method, service, kind]));
        let handling = self.handling_seconds.as_ref();
        Method {
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: handled.into(),
            handling_seconds: handling.map(|handling| handling.with_label_values(&labels)),
            received_bytes: self.received_bytes.clone(),
            sent_bytes: self.sent_bytes.clone(),
        }
    }
}
