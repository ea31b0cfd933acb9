//! Which port answers which gRPC method and which plain path.

use super::*;
use crate::api::Backend;
use crate::api::ports::{PEER_METHODS, PLAIN_PATHS, Port, answers};
use crate::env::block_on;
use crate::proto::DESCRIPTORS;
use crate::proto::etcdserverpb::{MemberListRequest, MemberListResponse, PutRequest, PutResponse};
use prost_reflect::DescriptorPool;

/// Each of etcd's methods, and whether the peer port serves it too. A new method fails the test until it is decided here: the
/// peer port is not protected as the client port is.
const METHODS: &str = "
    etcdserverpb.Auth AuthDisable AuthEnable AuthStatus Authenticate RoleAdd RoleDelete RoleGet RoleGrantPermission RoleList
    etcdserverpb.Auth RoleRevokePermission UserAdd UserChangePassword UserDelete UserGet UserGrantRole UserList UserRevokeRole
    etcdserverpb.Cluster MemberAdd MemberList+peers MemberPromote MemberRemove MemberUpdate
    etcdserverpb.KV Compact DeleteRange Put Range RangeStream Txn
    etcdserverpb.Lease LeaseGrant LeaseKeepAlive LeaseLeases LeaseRevoke LeaseTimeToLive
    etcdserverpb.Maintenance Alarm Defragment Downgrade Hash HashKV MoveLeader Snapshot Status
    etcdserverpb.Watch Watch
    grpc.health.v1.Health Check List Watch
    v3electionpb.Election Campaign Leader Observe Proclaim Resign
    v3lockpb.Lock Lock Unlock
";

/// Paths of all methods, and whether the peer port answers them.
fn decided() -> Vec<(String, bool)> {
    let mut methods = Vec::new();
    for line in METHODS.trim().lines() {
        let mut words = line.split_whitespace();
        let service = words.next().expect("a service");
        methods.extend(words.map(|word| {
            let (method, peers) = word.split_once('+').unwrap_or((word, ""));
            (format!("/{service}/{method}"), peers == "peers")
        }));
    }
    methods.sort();
    methods
}

fn routes(port: Port, fake: &Fake) -> Routes<Fake> {
    match port {
        Port::Clients => Routes::new(fake.clone()).with_json(true),
        Port::Peers => Routes::peers(fake.clone(), axum::Router::new()),
        Port::Metrics => Routes::monitoring(fake.clone()),
    }
}

async fn ask(routes: &Routes<Fake>, method: &str, path: &str, body: &[u8]) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    routes.handle(request).await
}

async fn status_and_text(routes: &Routes<Fake>, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let response = ask(routes, method, path, body).await;
    (response.status().as_u16(), text(response).await)
}

#[test]
fn every_method_is_decided_for_every_port() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let services = pool
        .services()
        .filter(|service| !service.package_name().starts_with("callboard."));
    let mut known: Vec<String> = services
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            let methods: Vec<String> = service.methods().map(|method| method.name().to_owned()).collect();
            methods.into_iter().map(move |method| format!("/{name}/{method}"))
        })
        .collect();
    known.sort();
    let decided = decided();
    let names: Vec<String> = decided.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(known, names, "decide which ports answer what is new");
    let of_peers: Vec<&str> = decided
        .iter()
        .filter(|(_, peers)| *peers)
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(of_peers, PEER_METHODS);
}

#[test]
fn the_peer_port_answers_no_other_method_and_the_metrics_port_none() {
    block_on(async {
        let fake = Fake::new();
        let peers = routes(Port::Peers, &fake);
        let metrics = routes(Port::Metrics, &fake);
        for (path, is_answered) in decided() {
            let call = |routes: Routes<Fake>| {
                let request = Request::post(format!("http://x{path}"))
                    .header("content-type", "application/grpc")
                    .body(Full::new(Bytes::from_static(&[0; 5])))
                    .unwrap();
                async move { routes.handle(request).await }
            };
            let response = call(peers.clone()).await;
            let status = Status::from_header_map(response.headers()).map(|status| status.code());
            assert_eq!(status, (!is_answered).then_some(Code::Unimplemented), "{path}");
            assert_eq!(call(metrics.clone()).await.status(), 404, "{path}");
        }
        let list: MemberListResponse = call(&peers, "Cluster/MemberList", &MemberListRequest::default())
            .await
            .unwrap();
        assert!(list.header.is_some());
        let put = PutRequest {
            key: "k".into(),
            ..Default::default()
        };
        let refused = call::<_, PutResponse>(&peers, "KV/Put", &put).await.unwrap_err();
        assert_eq!(
            refused,
            (Code::Unimplemented, "unknown service etcdserverpb.KV".to_owned())
        );
    });
}

#[test]
fn plain_paths_are_answered_by_their_ports_alone() {
    block_on(async {
        let fake = Fake::new();
        for port in [Port::Clients, Port::Peers, Port::Metrics] {
            let routes = routes(port, &fake);
            for (path, ports) in PLAIN_PATHS {
                let path = match path {
                    "/livez/" => "/livez/serializable_read",
                    "/readyz/" => "/readyz/data_corruption",
                    "/members/promote/" => "/members/promote/1",
                    "/raft/" => "/raft/probing",
                    path => path,
                };
                let (status, _) = status_and_text(&routes, "GET", path, b"").await;
                assert_eq!(
                    status != 404,
                    ports.contains(&port),
                    "{path} on {port:?}: {status}"
                );
                assert_eq!(answers(port, path), ports.contains(&port));
            }
            for path in ["/", "/v2/keys", "/debug/pprof/", "/membersx", "/raft/x"] {
                assert_eq!(
                    status_and_text(&routes, "GET", path, b"").await.0,
                    404,
                    "{path} on {port:?}"
                );
            }
            let json = status_and_text(&routes, "POST", "/v3/cluster/member/list", b"{}")
                .await
                .0;
            assert_eq!(json, if port == Port::Clients { 200 } else { 404 });
        }
    });
}

/// The texts are etcd 3.7.1's.
#[test]
fn the_peer_port_answers_plain_paths_as_etcds() {
    block_on(async {
        let fake = Fake::new();
        let peers = routes(Port::Peers, &fake);
        let not_allowed = "Method Not Allowed\n";
        let incompatible = "incompatible version\n";
        for (method, path, status, text) in [
            ("POST", "/members", 405, not_allowed),
            ("GET", "/members/", 404, "404 page not found\n"),
            (
                "POST",
                "/members/promote/abc",
                404,
                "member abc not found in cluster\n",
            ),
            ("POST", "/members/promote/", 404, "member  not found in cluster\n"),
            ("POST", "/members/promote/77", 404, "membership: ID not found\n"),
            ("GET", "/members/promote/77", 405, not_allowed),
            ("GET", "/members/hashkv", 400, "error unmarshalling request\n"),
            ("POST", "/members/hashkv", 405, not_allowed),
            ("GET", "/raft", 405, not_allowed),
            ("POST", "/raft", 412, incompatible),
            ("GET", "/raft/", 404, "404 page not found\n"),
            ("GET", "/raft/snapshot", 405, not_allowed),
            ("POST", "/raft/snapshot", 412, incompatible),
            ("GET", "/raft/stream/message/1", 412, incompatible),
            ("POST", "/raft/stream/message/1", 405, not_allowed),
            (
                "GET",
                "/raft/stream",
                307,
                "<a href=\"/raft/stream/\">Temporary Redirect</a>.\n\n",
            ),
            ("GET", "/leases", 405, not_allowed),
            ("GET", "/leases/internal", 405, not_allowed),
            ("POST", "/leases/internal", 400, "error unmarshalling request\n"),
            ("GET", "/downgrade/enabled", 200, "false"),
            ("POST", "/downgrade/enabled", 405, not_allowed),
            ("POST", "/version", 405, not_allowed),
        ] {
            let answer = status_and_text(&peers, method, path, b"").await;
            assert_eq!(answer, (status, text.to_owned()), "{method} {path}");
        }
        let response = ask(&peers, "GET", "/members", b"").await;
        let cluster = fake.identity().cluster_id.to_string();
        assert_eq!(response.headers()["x-etcd-cluster-id"], cluster.as_str());
        let listed = text(response).await;
        let expected = "[{\"id\":10,\"peerURLs\":[\"http://127.0.0.1:2380\"],\"name\":\"m1\",\
            \"clientURLs\":[\"http://127.0.0.1:2379\"]}]\n";
        assert_eq!(listed, expected);
        let (status, probe) = status_and_text(&peers, "GET", "/raft/probing", b"").await;
        assert!(
            status == 200 && probe.starts_with("{\"OK\":true,\"Now\":\""),
            "{probe}"
        );
        let (status, hash) = status_and_text(&peers, "GET", "/members/hashkv", b"{\"revision\":0}").await;
        assert!(
            status == 200 && hash.starts_with("{\"header\":{\"revision\":1}"),
            "{hash}"
        );

        let (status, _) = status_and_text(&peers, "POST", "/leases", &vec![1; 70_000]).await;
        assert_eq!(status, 413);
    });
}
