//! What the services beside KV refuse, and what alarms have all of them refuse: a table of etcd's codes and texts, asked as
//! JSON, whose code is that of gRPC. `errors` has the rows of KV itself, `streams` those of streams.
//!
//! With etcd 3.7 as `CALLBOARD_BIN` all of it passes too.

use serde_json::Value;
use std::net::SocketAddr;

use super::support::cluster::Cluster;
use super::support::{self, http};

/// A request, and the code and text it is refused with; no code where it must be answered.
type Row = (&'static str, &'static str, i64, &'static str);

/// Keys: `a` = YQ==, `b` = Yg==. Lease 7 exists, the newest revision is 5, and 3 is compacted.
const HEALTHY: &[Row] = &[
    (
        "/v3/lease/grant",
        r#"{"TTL":60,"ID":7}"#,
        9,
        "etcdserver: lease already exists",
    ),
    (
        "/v3/lease/grant",
        r#"{"TTL":"9000000001"}"#,
        11,
        "etcdserver: too large lease TTL",
    ),
    (
        "/v3/lease/revoke",
        r#"{"ID":8}"#,
        5,
        "etcdserver: requested lease not found",
    ),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","lease":8}"#,
        5,
        "etcdserver: requested lease not found",
    ),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","value":"YQ==","ignore_value":true}"#,
        3,
        "etcdserver: value is provided",
    ),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","lease":7,"ignore_lease":true}"#,
        3,
        "etcdserver: lease is provided",
    ),
    (
        "/v3/kv/put",
        r#"{"key":"bm8=","ignore_value":true}"#,
        3,
        "etcdserver: key not found",
    ),
    ("/v3/kv/put", "{}", 3, "etcdserver: key is not provided"),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","sort_order":77}"#,
        3,
        "etcdserver: invalid sort option",
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","revision":2}"#,
        11,
        "etcdserver: mvcc: required revision has been compacted",
    ),
    (
        "/v3/kv/compaction",
        r#"{"revision":3}"#,
        11,
        "etcdserver: mvcc: required revision has been compacted",
    ),
    (
        "/v3/kv/compaction",
        r#"{"revision":99}"#,
        11,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    (
        "/v3/maintenance/hashkv",
        r#"{"revision":2}"#,
        11,
        "etcdserver: mvcc: required revision has been compacted",
    ),
    (
        "/v3/maintenance/hashkv",
        r#"{"revision":99}"#,
        11,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    // These two services hand on errors without their code.
    (
        "/v3/lock/lock",
        r#"{"name":"bA==","lease":8}"#,
        2,
        "etcdserver: requested lease not found",
    ),
    (
        "/v3/election/campaign",
        r#"{"name":"ZQ==","lease":8}"#,
        2,
        "etcdserver: requested lease not found",
    ),
    (
        "/v3/election/leader",
        r#"{"name":"bm8="}"#,
        2,
        "election: no leader",
    ),
    (
        "/v3/election/proclaim",
        "{}",
        2,
        r#""leader" field must be provided"#,
    ),
    (
        "/v3/election/resign",
        "{}",
        2,
        r#""leader" field must be provided"#,
    ),
    (
        "/v3/election/proclaim",
        r#"{"leader":{"name":"ZQ==","key":"ZS83","rev":2,"lease":7}}"#,
        2,
        "election: not leader",
    ),
];

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const UNDER_NOSPACE: &[Row] = &[
    ("/v3/kv/put", r#"{"key":"YQ=="}"#, 8, NO_SPACE),
    (
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#,
        8,
        NO_SPACE,
    ),
    ("/v3/lease/grant", r#"{"TTL":60}"#, 8, NO_SPACE),
    ("/v3/kv/range", r#"{"key":"YQ=="}"#, 0, ""),
    ("/v3/kv/deleterange", r#"{"key":"Yg=="}"#, 0, ""),
    ("/v3/kv/compaction", r#"{"revision":4}"#, 0, ""),
];

const CORRUPT: &str = "etcdserver: corrupt cluster";
const UNDER_CORRUPT: &[Row] = &[
    ("/v3/kv/put", r#"{"key":"YQ=="}"#, 15, CORRUPT),
    ("/v3/kv/deleterange", r#"{"key":"YQ=="}"#, 15, CORRUPT),
    (
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#,
        15,
        CORRUPT,
    ),
    ("/v3/kv/compaction", r#"{"revision":5}"#, 15, CORRUPT),
    ("/v3/lease/grant", r#"{"TTL":60}"#, 15, CORRUPT),
    ("/v3/lease/revoke", r#"{"ID":7}"#, 15, CORRUPT),
    ("/v3/kv/range", r#"{"key":"YQ=="}"#, 0, ""),
];

/// Watches that are refused on their stream: what its second response says beside its header.
const WATCHES: &[(&str, &str)] = &[
    (
        r#"{"create_request":{"key":"YQ==","start_revision":2}}"#,
        r#"{"canceled":true,"compact_revision":"3"}"#,
    ),
    (
        r#"{"create_request":{"key":"YQ==","watch_id":4}}{"create_request":{"key":"YQ==","watch_id":4}}"#,
        r#"{"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"mvcc: duplicate watch ID provided on the WatchStream"}"#,
    ),
    (
        r#"{"create_request":{"key":"YQ=="}}{"create_request":{"key":"Yg==","range_end":"YQ=="}}"#,
        r#"{"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"mvcc: watcher range is empty"}"#,
    ),
    (
        r#"{"create_request":{"key":"YQ=="}}{"create_request":{"key":"Yg==","start_revision":-1}}"#,
        r#"{"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"etcdserver: mvcc: required revision has been compacted"}"#,
    ),
];

fn post(member: SocketAddr, path: &str, body: &str) -> Value {
    let response = http::request(member, "POST", path, body).expect("an answer");
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", response.body))
}

/// What does not come out as the table says.
fn wrong(member: SocketAddr, state: &str, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, body, code, text) in rows {
        let answer = post(member, path, body);
        let found = (
            answer["code"].as_i64().unwrap_or(0),
            answer["message"].as_str().unwrap_or(""),
        );
        if found != (*code, text) {
            wrong.push(format!("{state}: {path} {body}\n  - {code} {text}\n  + {answer}"));
        }
    }
    wrong
}

#[test]
fn have_etcds_codes_and_texts() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = cluster.members[0].client;
    for (path, body) in [
        ("/v3/lease/grant", r#"{"TTL":600,"ID":7}"#),
        ("/v3/kv/put", r#"{"key":"YQ=="}"#),
        ("/v3/kv/put", r#"{"key":"YQ=="}"#),
        ("/v3/kv/put", r#"{"key":"YQ=="}"#),
        ("/v3/kv/put", r#"{"key":"Yg=="}"#),
        ("/v3/kv/compaction", r#"{"revision":3,"physical":true}"#),
    ] {
        let answer = post(member, path, body);
        assert!(answer["code"].is_null(), "{path}: {answer}");
    }
    let mut differences = wrong(member, "healthy", HEALTHY);
    for (body, expected) in WATCHES {
        let lines = http::lines(member, "/v3/watch", body, 2)
            .expect("two responses")
            .body;
        let mut second: Value =
            serde_json::from_str(lines.lines().nth(1).expect("a second line")).expect("JSON");
        let result = second["result"].as_object_mut().expect("a result");
        result.remove("header");
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        if second["result"] != expected {
            differences.push(format!("watch {body}\n  - {expected}\n  + {}", second["result"]));
        }
    }
    let id = post(member, "/v3/cluster/member/list", "{}")["members"][0]["ID"].clone();
    let alarm = |action: &str, alarm: &str| {
        let body = format!(r#"{{"action":"{action}","memberID":{id},"alarm":"{alarm}"}}"#);
        let answer = post(member, "/v3/maintenance/alarm", &body);
        assert_eq!(answer["alarms"][0]["alarm"], alarm, "{answer}");
    };
    for (kind, rows) in [("NOSPACE", UNDER_NOSPACE), ("CORRUPT", UNDER_CORRUPT)] {
        alarm("ACTIVATE", kind);
        differences.append(&mut wrong(member, kind, rows));
        alarm("DEACTIVATE", kind);
    }
    differences.append(&mut wrong(
        member,
        "healthy again",
        &[("/v3/kv/put", r#"{"key":"YQ=="}"#, 0, "")],
    ));
    assert!(
        differences.is_empty(),
        "{} differ (- etcd, + found)\n{}",
        differences.len(),
        differences.join("\n")
    );
}
