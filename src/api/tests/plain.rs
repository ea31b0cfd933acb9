//! The plain HTTP paths; texts were taken from etcd 3.7.1.

use super::*;
use crate::api::Cors;
use crate::env::block_on;
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
