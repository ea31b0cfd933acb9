//! Maps paths to calls: etcd's `google.api.http` rules (api/etcdserverpb/rpc.proto and its neighbours).

use crate::proto::DESCRIPTORS;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The path below `/v3/`, and the gRPC call. All of them are POST.
pub const ROUTES: &[(&str, &str)] = &[
    ("kv/range", "/etcdserverpb.KV/Range"),
    ("kv/put", "/etcdserverpb.KV/Put"),
    ("kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("kv/txn", "/etcdserverpb.KV/Txn"),
    ("kv/compaction", "/etcdserverpb.KV/Compact"),
    ("watch", "/etcdserverpb.Watch/Watch"),
    ("lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    // Names of 3.3 that are still served.
    ("kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    (
        "maintenance/transfer-leadership",
        "/etcdserverpb.Maintenance/MoveLeader",
    ),
    ("maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("lock/lock", "/v3lockpb.Lock/Lock"),
    ("lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("election/campaign", "/v3electionpb.Election/Campaign"),
    ("election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("election/leader", "/v3electionpb.Election/Leader"),
    ("election/observe", "/v3electionpb.Election/Observe"),
    ("election/resign", "/v3electionpb.Election/Resign"),
];

/// A gRPC call and its messages.
#[derive(Debug)]
pub struct JsonCall {
    /// Service and method, as in gRPC's path.
    pub rpc: &'static str,
    pub request: MessageDescriptor,
    pub reply: MessageDescriptor,
    pub requests_stream: bool,
    pub replies_stream: bool,
}

static CALLS: LazyLock<HashMap<&'static str, JsonCall>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the build has written descriptors");
    let calls = ROUTES.iter().map(|(route, rpc)| (*route, described(&pool, rpc)));
    calls.collect()
});

fn described(pool: &DescriptorPool, rpc: &'static str) -> JsonCall {
    let method = rpc[1..].split_once('/').and_then(|(service, name)| {
        let service = pool.get_service_by_name(service)?;
        service.methods().find(|method| method.name() == name)
    });
    let method = method.unwrap_or_else(|| panic!("{rpc} is in no .proto file"));
    JsonCall {
        rpc,
        request: method.input(),
        reply: method.output(),
        requests_stream: method.is_client_streaming(),
        replies_stream: method.is_server_streaming(),
    }
}

/// The call for a path below `/v3/`.
pub fn call(route: &str) -> Option<&'static JsonCall> {
    CALLS.get(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_of_etcd_has_a_path_but_the_one_that_has_none_in_etcd() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let etcd = |package: &str| !package.starts_with("callboard.") && !package.starts_with("grpc.");
        let services = pool.services().filter(|service| etcd(service.package_name()));
        let methods = services.flat_map(|service| {
            let service = service.full_name().to_owned();
            let pool = pool.clone();
            let service = pool.get_service_by_name(&service).unwrap();
            let paths = service
                .methods()
                .map(|method| format!("/{}/{}", service.full_name(), method.name()));
            paths.collect::<Vec<_>>()
        });
        let described: BTreeSet<String> = methods.collect();
        let routed: BTreeSet<String> = CALLS.values().map(|call| call.rpc.to_owned()).collect();
        let missing: Vec<_> = described.difference(&routed).collect();
        assert_eq!(missing, ["/etcdserverpb.KV/RangeStream"]);
        assert_eq!(CALLS.len(), ROUTES.len(), "a path is there twice");
    }
}
