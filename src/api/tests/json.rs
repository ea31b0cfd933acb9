//! The JSON form of the API. Statuses and texts were taken from etcd 3.7.1; the field `error` is 3.4's.

use super::*;
use crate::api::Cors;
use crate::env::block_on;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use std::convert::Infallible;

fn routes(fake: &Fake) -> Routes<Fake> {
    Routes::new(fake.clone())
        .with_cors(Cors::default())
        .with_json(true)
}

async fn ask(routes: &Routes<Fake>, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = routes.handle(request).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").cloned();
    if !(300..400).contains(&status) {
        assert_eq!(content_type.unwrap(), "application/json", "{path} {body}");
    }
    (status, text(response).await)
}

fn error(code: i32, message: &str) -> String {
    let message = Value::from(message);
    format!("{{\"error\":{message},\"message\":{message},\"code\":{code}}}")
}

const HEADER: &str = r#""header":{"cluster_id":"12","member_id":"10","revision":"#;

fn header(revision: i64) -> String {
    format!("{HEADER}\"{revision}\",\"raft_term\":\"2\"}}")
}

#[test]
fn calls_have_etcds_paths_fields_and_encodings() {
    block_on(async {
        let fake = Fake::new();
        let routes = routes(&fake);
        let kv = r#"{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}"#;
        let found = format!("{{{},\"kvs\":[{kv}],\"count\":\"1\"}}", header(2));
        let nothing = |revision| format!("{{{}}}", header(revision));
        let cases: Vec<(&str, &str, String)> = vec![
            ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#, nothing(2)),
            ("/v3/kv/range", r#"{"key":"Zm9v"}"#, found.clone()),
            ("/v3beta/kv/range", r#"{"key":"Zm9v"}"#, found.clone()),
            // Camel case, names and numbers of enums, numbers for strings and vice versa, nulls, unknown fields.
            (
                "/v3/kv/range",
                r#"{"key":"Zm8=","rangeEnd":"Zm9w","sortOrder":"DESCEND","sort_target":1,"limit":"5","revision":2}"#,
                found.clone(),
            ),
            (
                "/v3/kv/range",
                r#"{"key":"Zm9v","limit":1e0,"revision":null,"sort_order":"SIDEWAYS","nobody":{"knows":[1]}}"#,
                found.clone(),
            ),
            // Line ends in base64, the URL alphabet, no padding; text after the first value is ignored.
            ("/v3/kv/range", "{\"key\":\"Zm\\r\\n9v\\n\"}", found.clone()),
            ("/v3/kv/range", r#"{"key":"Zm9v"} {"key":"eA=="} x"#, found),
            ("/v3/kv/range", r#"{"key":"__8"}"#, nothing(2)),
            ("/v3/kv/txn", "", format!("{{{},\"succeeded\":true}}", header(2))),
            (
                "/v3/kv/txn",
                r#"{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmFy"}],
                    "success":[{"requestRange":{"key":"eA==","count_only":true}},
                               {"request_put":{"key":"eA==","value":"eQ==","prev_kv":true}},
                               {"request_txn":{"failure":[{"request_delete_range":{"key":"eg=="}}]}}]}"#,
                format!(
                    "{{{},\"succeeded\":true,\"responses\":[{{\"response_range\":{{\"header\":{{\"revision\":\"2\"}}}}}},\
                     {{\"response_put\":{{\"header\":{{\"revision\":\"3\"}}}}}},\
                     {{\"response_txn\":{{\"header\":{{}},\"succeeded\":true}}}}]}}",
                    header(3)
                ),
            ),
            (
                "/v3/kv/deleterange",
                r#"{"key":"Zm9v","prev_kv":true}"#,
                format!("{{{},\"deleted\":\"1\",\"prev_kvs\":[{kv}]}}", header(4)),
            ),
            ("/v3/kv/compaction", r#"{"revision":"3"}"#, nothing(4)),
            (
                "/v3/lease/grant",
                r#"{"TTL":"60","ID":9223372036854775807}"#,
                format!("{{{},\"ID\":\"9223372036854775807\",\"TTL\":\"60\"}}", header(4)),
            ),
            ("/v3/kv/lease/revoke", r#"{"ID":"9223372036854775807"}"#, nothing(4)),
            (
                "/v3/cluster/member/list",
                r#"{"linearizable":true}"#,
                r#"{"header":{"cluster_id":"12","member_id":"10","raft_term":"2"},"members":[{"ID":"10","name":"m1","peerURLs":["http://127.0.0.1:2380"],"clientURLs":["http://127.0.0.1:2379"]}]}"#.into(),
            ),
            ("/v3/maintenance/alarm", "{}", nothing(4)),
            ("/v3/maintenance/defragment", "{}", "{}".into()),
        ];
        for (path, body, answer) in cases {
            assert_eq!(
                ask(&routes, "POST", path, body).await,
                (200, answer),
                "{path} {body}"
            );
        }
    });
}

#[test]
fn errors_have_etcds_statuses_and_codes() {
    block_on(async {
        let fake = Fake::new();
        let routes = routes(&fake);
        let large = format!("{{\"key\":\"eA==\",\"value\":\"{}\"}}", "A".repeat(800_000));
        let refused = [
            (
                "POST",
                "/v3/kv/range",
                "",
                400,
                3,
                "etcdserver: key is not provided",
            ),
            (
                "POST",
                "/v3/kv/range",
                " \n",
                400,
                3,
                "etcdserver: key is not provided",
            ),
            ("POST", "/v3/kv/range", "{", 400, 3, "unexpected EOF"),
            (
                "POST",
                "/v3/kv/range",
                r#"{"key":"eA==","revision":"9"}"#,
                400,
                11,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                "POST",
                "/v3/kv/put",
                r#"{"key":"eA==","lease":"9"}"#,
                404,
                5,
                "etcdserver: requested lease not found",
            ),
            (
                "POST",
                "/v3/kv/put",
                &large,
                429,
                8,
                "grpc: received message larger than max (600007 vs. 589824)",
            ),
            ("POST", "/v3/kv/nothing", "{}", 404, 5, "Not Found"),
            ("GET", "/v3/kv/nothing", "", 404, 5, "Not Found"),
            ("POST", "/v3/kv/range/", "{}", 404, 5, "Not Found"),
            ("POST", "/v3/", "{}", 404, 5, "Not Found"),
            ("GET", "/v3/kv/range", "", 501, 12, "Method Not Allowed"),
            ("PUT", "/v3/kv/range", "{}", 501, 12, "Method Not Allowed"),
            (
                "POST",
                "/v3/election/resign",
                "{}",
                500,
                2,
                "\"leader\" field must be provided",
            ),
        ];
        for (method, path, body, status, code, message) in refused {
            let answer = ask(&routes, method, path, body).await;
            assert_eq!(answer, (status, error(code, message)), "{method} {path}");
        }
        for body in [
            "[]",
            "null",
            "\"x\"",
            "{'key':'eA=='}",
            r#"{"key":"eA==",}"#,
            r#"{"key":"***"}"#,
            r#"{"key":7}"#,
            r#"{"key":"eA==","limit":"x"}"#,
            r#"{"key":"eA==","limit":1.5}"#,
            r#"{"key":"eA==","limit":"9223372036854775808"}"#,
            r#"{"key":"eA==","serializable":"true"}"#,
        ] {
            let (status, text) = ask(&routes, "POST", "/v3/kv/range", body).await;
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!((status, &answer["code"]), (400, &json!(3)), "{body}: {text}");
        }
        for body in [
            r#"{"success":[null]}"#,
            r#"{"success":{}}"#,
            r#"{"success":[{"request_put":{},"request_range":{}}]}"#,
        ] {
            let (status, text) = ask(&routes, "POST", "/v3/kv/txn", body).await;
            assert_eq!(status, 400, "{body}: {text}");
            assert!(text.contains("\"code\":3"), "{body}: {text}");
        }
        fake.leader.store(0, Ordering::Relaxed);
        let answer = ask(&routes, "POST", "/v3/kv/put", r#"{"key":"eA=="}"#).await;
        assert_eq!(answer, (503, error(14, "etcdserver: request timed out")));
    });
}

#[test]
fn what_is_long_is_converted_apart() {
    block_on(async {
        let routes = routes(&Fake::new());
        let value = "A".repeat(64 * 1000);
        for key in ["YQ==", "Yg=="] {
            let put = format!("{{\"key\":\"{key}\",\"value\":\"{value}\",\"nobody\":\"{value}\"}}");
            assert_eq!(ask(&routes, "POST", "/v3/kv/put", &put).await.0, 200);
        }
        let (status, text) = ask(
            &routes,
            "POST",
            "/v3/kv/range",
            r#"{"key":"AA==","range_end":"AA=="}"#,
        )
        .await;
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, &answer["count"]), (200, &json!("2")));
        assert_eq!(answer["kvs"][1]["value"], value);
        let (status, text) = ask(
            &routes,
            "POST",
            "/v3/kv/range",
            &format!("{{\"key\":\"{value}{value}\","),
        )
        .await;
        assert_eq!((status, text), (400, error(3, "unexpected EOF")));
    });
}

#[test]
fn headers_become_metadata() {
    block_on(async {
        let fake = Fake::new();
        let routes = routes(&fake);
        fake.leader.store(0, Ordering::Relaxed);
        for (name, value, status, message) in [
            ("grpc-metadata-hasleader", "true", 503, "etcdserver: no leader"),
            ("hasleader", "true", 200, "\"revision\":\"1\""),
            ("grpc-timeout", "soon", 400, "invalid grpc-timeout: soon"),
            ("grpc-timeout", "5S", 200, "\"revision\":\"1\""),
        ] {
            let request = Request::post("/v3/kv/range")
                .header(name, value)
                .body(Full::new(Bytes::from_static(
                    b"{\"key\":\"eA==\",\"serializable\":true}",
                )))
                .unwrap();
            let response = routes.handle(request).await;
            let metadata = response.headers().get("grpc-metadata-content-type");
            assert_eq!(
                metadata.is_some_and(|value| value == "application/grpc"),
                status == 200
            );
            assert_eq!(response.status(), status, "{name}: {value}");
            let text = text(response).await;
            assert!(text.contains(message), "{name}: {text}");
        }
    });
}

#[test]
fn paths_are_put_right_and_only_where_json_is_answered() {
    block_on(async {
        let fake = Fake::new();
        let request = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            request.body(Full::new(Bytes::new())).unwrap()
        };
        let with = routes(&fake);
        for (path, target) in [
            ("/v3", "/v3/"),
            ("//v3/kv/range?a=b", "/v3/kv/range?a=b"),
            ("/v3/./kv/../kv//range/", "/v3/kv/range/"),
            ("/../health", "/health"),
        ] {
            let response = with.handle(request("POST", path)).await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["location"]),
                (307, &target.parse().unwrap())
            );
            assert_eq!(text(response).await, "");
        }
        let response = with.handle(request("OPTIONS", "/v3/kv/range")).await;
        assert_eq!(response.status(), 200);
        let origins = ["http://a:1".to_owned()];
        let without = Routes::new(fake).with_cors(Cors::new(&origins));
        for path in ["/v3/kv/range", "/v3", "/v3beta/kv/range"] {
            let mut request = request("POST", path);
            request
                .headers_mut()
                .insert("origin", "http://a:1".parse().unwrap());
            let response = without.handle(request).await;
            assert_eq!(response.status(), 404);
            assert_eq!(response.headers()["access-control-allow-origin"], "http://a:1");
            assert_eq!(text(response).await, "404 page not found\n");
        }
        let response = without.handle(request("GET", "/version")).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    });
}

/// Lines of a response as they arrive.
struct Lines(Body, BytesMut);

impl Lines {
    async fn of(routes: &Routes<Fake>, path: &str, pieces: &[&str]) -> (u16, Self) {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Bytes::from((*piece).to_owned()))
            .collect();
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece)));
        let request = Request::post(path)
            .body(StreamBody::new(futures_util::stream::iter(frames)))
            .unwrap();
        let response = env::timeout(Duration::from_secs(10), routes.handle(request))
            .await
            .expect("in time");
        if !http_body::Body::is_end_stream(response.body()) {
            assert_eq!(response.headers()["content-type"], "application/json");
        }
        (
            response.status().as_u16(),
            Self(response.into_body(), BytesMut::new()),
        )
    }

    /// None at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.1.iter().position(|byte| *byte == b'\n') {
                let line = self.1.split_to(end + 1);
                return Some(serde_json::from_slice(&line).expect("JSON"));
            }
            let frame = env::timeout(Duration::from_secs(10), self.0.frame())
                .await
                .expect("in time")?;
            self.1
                .extend_from_slice(&frame.expect("sound").into_data().expect("data"));
        }
    }
}

#[test]
fn streams_take_objects_and_answer_in_lines() {
    block_on(async {
        let fake = Fake::new();
        start_hub(&fake, HubOptions::default());
        let routes = routes(&fake);
        let create = r#"{"create_request":{"key":"Zm9v","start_revision":"1","watch_id":7}}"#;
        // In pieces, followed by text that is not JSON, which only ends the requests.
        let pieces = [
            &create[..20],
            &create[20..],
            "\n{\"unknown\":{}} {\"createRequest\":{\"key\":\"eA==\"}}x",
        ];
        let (status, mut lines) = Lines::of(&routes, "/v3/watch", &pieces).await;
        assert_eq!(status, 200);
        let header = |revision: &str| json!({"cluster_id": "12", "member_id": "10", "revision": revision, "raft_term": "2"});
        assert_eq!(
            lines.next().await.unwrap(),
            json!({"result": {"header": header("1"), "watch_id": "7", "created": true}})
        );
        assert_eq!(
            lines.next().await.unwrap(),
            json!({"result": {"header": header("1"), "created": true}})
        );
        ask(&routes, "POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
        let kv = json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "YmFy"});
        assert_eq!(
            lines.next().await.unwrap(),
            json!({"result": {"header": header("2"), "watch_id": "7", "events": [{"kv": kv}]}})
        );
        ask(&routes, "POST", "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#).await;
        let gone = lines.next().await.unwrap();
        assert_eq!(
            gone["result"]["events"][0],
            json!({"type": "DELETE", "kv": {"key": "Zm9v", "mod_revision": "3"}})
        );
        // An error within a stream is its last line; an error before the first line sets the status.
        fake.watches.stop();
        let error = json!({"code": 14, "message": "etcdserver: server stopped",
            "grpc_code": 14, "http_code": 503, "http_status": "Service Unavailable"});
        assert_eq!(lines.next().await, Some(json!({"error": error})));
        assert_eq!(lines.next().await, None);
    });
}

#[test]
fn a_stream_can_end_before_its_first_line() {
    block_on(async {
        let fake = Fake::new();
        let routes = routes(&fake);
        for pieces in [&[][..], &["{"], &["[]"], &[r#"{"ID":"x"}"#]] {
            let (status, mut lines) = Lines::of(&routes, "/v3/lease/keepalive", pieces).await;
            assert_eq!((status, lines.next().await), (200, None), "{pieces:?}");
        }
        fake.leader.store(0, Ordering::Relaxed);
        let request = Request::post("/v3/lease/keepalive")
            .header("grpc-metadata-hasleader", "true")
            .body(Full::new(Bytes::from_static(b"{\"ID\":\"1\"}")))
            .unwrap();
        let response = routes.handle(request).await;
        assert_eq!(response.status(), 503);
        assert!(
            text(response)
                .await
                .starts_with("{\"error\":{\"code\":14,\"message\":\"etcdserver: no leader\",")
        );
        let (status, text) = ask(&routes, "POST", "/v3/election/observe", "{").await;
        assert_eq!((status, text), (400, error(3, "unexpected EOF")));
    });
}
