//! Flags above a file of other values, and ECDSA certificates beside the flags for automatic ones: what is said more exactly counts,
//! and the log says what does not.

use super::certificates::{self, Algorithm};
use super::environment;
use super::scene::{READY_LIMIT, Scene, is_logged, member_id, wait_etcdctl};
use super::support::ports;

const OTHERS: &str = "\
ETCD_NAME=\"other\"
ETCD_DATA_DIR=/nowhere/etcd
ETCD_LISTEN_CLIENT_URLS=http://192.0.2.1:2379
ETCD_ADVERTISE_CLIENT_URLS=http://192.0.2.1:2379
ETCD_LISTEN_PEER_URLS=http://192.0.2.1:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://192.0.2.1:2380
ETCD_INITIAL_CLUSTER=\"other=http://192.0.2.1:2380,another=http://192.0.2.2:2380\"
ETCD_INITIAL_CLUSTER_STATE=existing
ETCD_INITIAL_CLUSTER_TOKEN='other'
ETCD_CERT_FILE=/nowhere/cert.pem
ETCD_KEY_FILE=/nowhere/key.pem
ETCD_TRUSTED_CA_FILE=/nowhere/ca.pem
ETCD_CLIENT_CERT_AUTH=false
ETCD_AUTO_TLS=false
ETCD_PEER_CERT_FILE=/nowhere/cert.pem
ETCD_PEER_KEY_FILE=/nowhere/key.pem
ETCD_PEER_TRUSTED_CA_FILE=/nowhere/ca.pem
ETCD_PEER_CLIENT_CERT_AUTH=false
ETCD_PEER_AUTO_TLS=false
ETCD_LOG_LEVEL=unheard-of
ETCD_SNAPSHOT_COUNT=5000
";

#[test]
fn flags_count_more_than_variables_and_certificates_more_than_automatic_ones() {
    let scene = Scene::new();
    certificates::make_authority(&scene, Algorithm::Ecdsa);
    certificates::sign(&scene, "server", "server", Algorithm::Ecdsa);
    certificates::sign(&scene, "peer", "peer", Algorithm::Ecdsa);
    certificates::sign(&scene, "client", "client", Algorithm::Ecdsa);
    let ports = ports::free(2);
    let (client, peer) = (
        format!("https://127.0.0.1:{}", ports[0]),
        format!("https://127.0.0.1:{}", ports[1]),
    );
    let kept = format!(
        "etcd --name=e1 --data-dir={} --listen-client-urls={client} --advertise-client-urls={client} \
         --listen-peer-urls={peer} --auto-tls --peer-auto-tls --log-level=info {} {}",
        scene.file("e1.etcd"),
        certificates::client_flags(&scene, "server"),
        certificates::peer_flags(&scene, "peer"),
    );
    let initial = format!(
        "--initial-advertise-peer-urls={peer} --initial-cluster=e1={peer} --initial-cluster-state=new \
         --initial-cluster-token=token"
    );
    let variables = environment::read(OTHERS);
    assert_eq!(variables.len(), OTHERS.lines().count());
    let flags = format!(
        "--endpoints {client} {}",
        certificates::etcdctl_flags(&scene, "client")
    );

    let mut member = scene.start("first", &format!("{kept} {initial}"), &variables);
    wait_etcdctl(&flags, &["put", "key", "value"], &mut member);
    let id = member_id(&flags);
    let log = member.log_text();
    for (variable, _) in &variables {
        let words = if variable == "ETCD_SNAPSHOT_COUNT" {
            "recognized and used environment variable"
        } else {
            "environment variable is shadowed by corresponding command-line flag"
        };
        let named = format!("\"{variable}\"");
        assert!(is_logged(&log, &[words, &named]), "{variable}:\n{log}");
    }
    for side in ["client", "peer"] {
        let words = format!("ignoring {side} auto TLS since certs given");
        assert!(is_logged(&log, &[&words, "\"level\":\"warn\""]), "{log}");
    }
    assert!(
        !scene.path("e1.etcd/fixtures").exists(),
        "no certificates are made"
    );

    member.terminate(READY_LIMIT);
    let of_cluster = |variable: &(String, String)| !variable.0.starts_with("ETCD_INITIAL_");
    let variables: Vec<_> = variables.into_iter().filter(of_cluster).collect();
    let mut member = scene.start("second", &kept, &variables);
    let got = wait_etcdctl(&flags, &["get", "key", "--print-value-only"], &mut member);
    assert_eq!((got.as_str(), member_id(&flags)), ("value\n", id));
}
