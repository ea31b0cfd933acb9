//! The plain HTTP paths; texts were taken from etcd 3.7.1.

use super::*;
use crate::api::{Backend, Caller, Cors};
use crate::env::block_on;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, DeleteRangeResponse, HashRequest, HashResponse, LeaseGrantRequest,
    PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use crate::proto::log::command::Request as Proposed;
use crate::proto::log::{AlarmCommand, MemberAttributes};
use std::sync::atomic::Ordering;

async fn ask(routes: &Routes<Fake>, method: &str, path: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = routes.handle(request).await;
    (response.status().as_u16(), text(response).await)
}

#[test]
fn paths_answer_as_etcds() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone()).with_cors(Cors::default());
        let healthy = [
            (
                "GET",
                "/version",
                200,
                "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}",
            ),
            ("GET", "/health", 200, "{\"health\":\"true\",\"reason\":\"\"}"),
            (
                "GET",
                "/health?exclude=NOSPACE",
                200,
                "{\"health\":\"true\",\"reason\":\"\"}",
            ),
            ("GET", "/livez", 200, "ok\n"),
            ("GET", "/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
            ("GET", "/livez/serializable_read", 200, "ok\n"),
            ("GET", "/livez/linearizable_read", 404, "404 page not found\n"),
            ("GET", "/readyz", 200, "ok\n"),
            (
                "GET",
                "/readyz?verbose&exclude=linearizable_read&exclude=foo",
                200,
                "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\nok\n",
            ),
            (
                "GET",
                "/readyz/data_corruption?verbose",
                200,
                "[+]data_corruption ok\nok\n",
            ),
            ("GET", "/nothing", 404, "404 page not found\n"),
            ("POST", "/health", 405, "Method Not Allowed\n"),
            ("POST", "/version", 405, "Method Not Allowed\n"),
            ("POST", "/nothing", 404, "404 page not found\n"),
            ("OPTIONS", "/version", 200, ""),
        ];
        for (method, path, status, body) in healthy {
            assert_eq!(
                ask(&routes, method, path).await,
                (status, body.to_owned()),
                "{method} {path}"
            );
        }
        fake.leader.store(0, Ordering::Relaxed);
        let leaderless = [
            (
                "/health",
                503,
                "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n",
            ),
            (
                "/health?serializable=true",
                200,
                "{\"health\":\"true\",\"reason\":\"\"}",
            ),
            ("/livez", 200, "ok\n"),
            (
                "/readyz",
                503,
                "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n",
            ),
            ("/readyz?exclude=linearizable_read", 200, "ok\n"),
        ];
        for (path, status, body) in leaderless {
            assert_eq!(
                ask(&routes, "GET", path).await,
                (status, body.to_owned()),
                "{path}"
            );
        }
    });
}

async fn send(routes: &Routes<Fake>, method: &str, path: &str, body: &'static str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    let response = routes.handle(request).await;
    (response.status().as_u16(), text(response).await)
}

#[test]
fn what_was_done_shows_in_the_metrics() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let key = |key: &'static str| Bytes::from_static(key.as_bytes());
        for name in ["a", "b"] {
            let put = PutRequest {
                key: key(name),
                value: key("12345"),
                ..PutRequest::default()
            };
            let _: PutResponse = call(&routes, "KV/Put", &put).await.expect("written");
        }
        let empty: Result<PutResponse, _> = call(&routes, "KV/Put", &PutRequest::default()).await;
        assert!(empty.is_err());
        let range = RangeRequest {
            key: key("a"),
            ..RangeRequest::default()
        };
        let read: RangeResponse = call(&routes, "KV/Range", &range).await.expect("read");
        let delete = DeleteRangeRequest {
            key: key("a"),
            ..DeleteRangeRequest::default()
        };
        let _: DeleteRangeResponse = call(&routes, "KV/DeleteRange", &delete).await.expect("deleted");
        ask(&routes, "GET", "/health").await;
        ask(&routes, "GET", "/readyz").await;
        let (status, text) = ask(&routes, "GET", "/metrics").await;
        assert_eq!(status, 200);
        let labels = |code: &str, method: &str| {
            format!(
                "{{grpc_code=\"{code}\",grpc_method=\"{method}\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}}"
            )
        };
        for line in [
            "etcd_mvcc_put_total 2".to_owned(),
            "etcd_mvcc_delete_total 1".to_owned(),
            // /health and two checks of /readyz read one key each.
            "etcd_mvcc_range_total 4".to_owned(),
            "etcd_debugging_mvcc_keys_total 1".to_owned(),
            "etcd_debugging_mvcc_total_put_size_in_bytes 12".to_owned(),
            "etcd_debugging_mvcc_current_revision 4".to_owned(),
            "etcd_disk_backend_commit_duration_seconds_count 3".to_owned(),
            "etcd_server_has_leader 1".to_owned(),
            "etcd_server_is_leader 1".to_owned(),
            "etcd_server_health_success 1".to_owned(),
            "etcd_server_healthcheck{name=\"linearizable_read\",type=\"readyz\"} 1".to_owned(),
            "etcd_server_healthchecks_total{name=\"serializable_read\",status=\"success\",type=\"readyz\"} 1"
                .to_owned(),
            format!("grpc_server_handled_total{} 2", labels("OK", "Put")),
            format!("grpc_server_handled_total{} 1", labels("InvalidArgument", "Put")),
            format!("grpc_server_handled_total{} 1", labels("OK", "Range")),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        let sent = "grpc_server_msg_sent_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1";
        assert!(text.contains(sent) && read.encoded_len() > 0);
    });
}

#[test]
fn variables_are_those_of_expvar() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let (status, text) = ask(&routes, "GET", "/debug/vars").await;
        assert_eq!(status, 200);
        let variables: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(variables["cmdline"].is_array() && variables["memstats"].is_object());
        assert_eq!(variables["raft.status"]["id"], "a");
        assert_eq!(variables["raft.status"]["raftState"], "StateLeader");
        assert_eq!(
            ask(&routes, "PUT", "/debug/vars").await,
            (405, "Method Not Allowed\n".to_owned())
        );
    });
}

#[test]
fn the_level_of_the_log_is_set() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let path = "/config/local/log";
        for (method, body, expected) in [
            ("GET", "", (405, "Method Not Allowed\n")),
            ("PUT", "{\"Level\":\"INFO\"}", (204, "")),
            ("PUT", "{\"level\":\"info\"}", (204, "")),
            (
                "PUT",
                "{\"Level\":\"bla\"}",
                (400, "{\"message\":\"Invalid log level bla\"}"),
            ),
            ("PUT", "{}", (400, "{\"message\":\"Invalid log level \"}")),
            ("PUT", "bla", (400, "{\"message\":\"Invalid json body\"}")),
        ] {
            let (status, text) = send(&routes, method, path, body).await;
            assert_eq!((status, text.as_str()), expected, "{method} {body}");
        }
    });
}

#[test]
fn a_port_for_monitoring_answers_nothing_else() {
    block_on(async {
        let routes = Routes::monitoring(Fake::new());
        for (path, status) in [
            ("/metrics", 200),
            ("/health", 200),
            ("/livez", 200),
            ("/readyz/data_corruption", 200),
            ("/version", 404),
            ("/debug/vars", 404),
            ("/config/local/log", 404),
            ("/etcdserverpb.KV/Range", 404),
        ] {
            assert_eq!(ask(&routes, "GET", path).await.0, status, "{path}");
        }
    });
}

#[test]
fn alarms_are_seen() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let alarm = |action: AlarmAction, alarm| {
            let request = AlarmRequest {
                action: action as i32,
                member_id: 5,
                alarm,
            };
            let command = AlarmCommand {
                request: Some(request),
                by_member: false,
            };
            let fake = fake.clone();
            async move {
                fake.propose(&Caller::default(), Proposed::Alarm(command))
                    .await
                    .unwrap()
            }
        };
        let unhealthy = |reason| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
        let healthy = || (200, "{\"health\":\"true\",\"reason\":\"\"}".to_owned());
        let _ = alarm(AlarmAction::Activate, 1).await;
        let _ = alarm(AlarmAction::Activate, 9).await;
        assert_eq!(ask(&routes, "GET", "/health").await, unhealthy("ALARM NOSPACE"));
        assert_eq!(
            ask(&routes, "GET", "/health?exclude=NOSPACE").await,
            unhealthy("ALARM UNKNOWN")
        );
        assert_eq!(
            ask(&routes, "GET", "/health?exclude=NOSPACE&exclude=9").await,
            healthy()
        );
        assert_eq!(ask(&routes, "GET", "/readyz").await, (200, "ok\n".to_owned()));
        let _ = alarm(AlarmAction::Activate, 2).await;
        assert_eq!(
            ask(&routes, "GET", "/health?exclude=NOSPACE").await,
            unhealthy("ALARM CORRUPT")
        );
        let (code, report) = ask(&routes, "GET", "/readyz").await;
        assert_eq!(code, 503);
        assert!(
            report.contains("[-]data_corruption failed: alarm activated: CORRUPT\n"),
            "{report}"
        );
        assert_eq!(
            ask(&routes, "GET", "/readyz?exclude=data_corruption").await,
            (200, "ok\n".to_owned())
        );
        assert_eq!(ask(&routes, "GET", "/livez").await, (200, "ok\n".to_owned()));
        for kind in [1, 2, 9] {
            let _ = alarm(AlarmAction::Deactivate, kind).await;
        }
        assert_eq!(ask(&routes, "GET", "/health").await, healthy());
    });
}

#[test]
fn the_hash_covers_all_that_is_replicated_and_is_the_same_on_members_that_hold_the_same() {
    block_on(async {
        let (one, other) = (Fake::new(), Fake::new());
        let (routes_one, routes_other) = (Routes::new(one.clone()), Routes::new(other.clone()));
        let hash = async |routes| {
            let reply: HashResponse = call(routes, "Maintenance/Hash", &HashRequest {})
                .await
                .expect("a hash");
            reply.hash
        };
        let mut seen = vec![hash(&routes_one).await];
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: 7,
            alarm: 9,
        };
        let changes = [
            Proposed::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 }),
            Proposed::Put(PutRequest {
                key: "key".into(),
                lease: 5,
                ..PutRequest::default()
            }),
            Proposed::Alarm(AlarmCommand {
                request: Some(alarm),
                by_member: false,
            }),
            Proposed::MemberAttributes(MemberAttributes {
                member_id: 0xa,
                name: "renamed".into(),
                ..MemberAttributes::default()
            }),
        ];
        for change in changes {
            one.propose(&Caller::default(), change.clone())
                .await
                .expect("applied");
            let changed = hash(&routes_one).await;
            assert!(!seen.contains(&changed), "{change:?} is not covered");
            seen.push(changed);
            other.propose(&Caller::default(), change).await.expect("applied");
            assert_eq!(hash(&routes_other).await, changed);
        }
    });
}
