//! Plain HTTP on the client port: version, health and the probes that orchestrators use.

use std::time::Duration;

use super::support::cluster::Cluster;
use super::support::{self, http, poll};

#[test]
fn of_a_healthy_member() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let client = cluster.members[0].client;
    for (path, status, body) in [
        ("/health", 200, r#""health":"true""#),
        ("/health?serializable=true", 200, r#""health":"true""#),
        ("/health?exclude=NOSPACE", 200, r#""health":"true""#),
        ("/livez", 200, "ok"),
        ("/livez?verbose", 200, "[+]serializable_read ok"),
        ("/livez/serializable_read", 200, "ok"),
        ("/readyz", 200, "ok"),
        ("/readyz?verbose", 200, "[+]data_corruption ok"),
        ("/readyz?verbose", 200, "[+]serializable_read ok"),
        ("/readyz?verbose", 200, "[+]linearizable_read ok"),
        ("/no/such/path", 404, ""),
    ] {
        let response = http::get(client, path).expect("an answer");
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert!(response.body.contains(body), "{path}: {response:?}");
    }
    let response = http::request(client, "POST", "/health", "").expect("an answer");
    assert_eq!(response.status, 405, "POST /health: {response:?}");
}

#[test]
fn version_tells_server_and_cluster() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let client = cluster.members[0].client;
    // The cluster's version is agreed upon a moment after the first election.
    let decided = || {
        let response = http::get(client, "/version")?;
        let version: serde_json::Value =
            serde_json::from_str(&response.body).map_err(|error| error.to_string())?;
        let text = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
        let found = (text("etcdserver"), text("etcdcluster"));
        if found.1.starts_with("3.") {
            Ok(found)
        } else {
            Err(response.body)
        }
    };
    let (server, agreed) = poll::until(Duration::from_secs(10), decided).expect("a version");
    let (minor, _) = server.rsplit_once('.').expect("three numbers");
    assert_eq!(
        agreed,
        format!("{minor}.0"),
        "the cluster's version follows the server's {server}"
    );
}

#[test]
fn without_a_majority() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    cluster.members[1].kill();
    cluster.members[2].kill();
    let client = cluster.members[0].client;
    // It takes an election timeout to notice.
    let unhealthy = || match http::get(client, "/health")? {
        response if response.status == 503 && response.body.contains(r#""health":"false""#) => Ok(()),
        response => Err(format!("{response:?}")),
    };
    poll::until(Duration::from_secs(20), unhealthy).expect("an unhealthy member");
    let response = http::get(client, "/livez").expect("an answer");
    assert_eq!(
        (response.status, response.body.trim()),
        (200, "ok"),
        "it lives, it only cannot be used"
    );
}
