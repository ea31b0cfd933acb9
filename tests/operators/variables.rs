//! A member whose settings are variables in a file, as Debian's /etc/default/etcd has them, with its certificates as flags: clients
//! come by TLS, and on the machine itself without.

use super::certificates::{self, Algorithm};
use super::environment;
use super::scene::{READY_LIMIT, Scene, cells, etcdctl_stdout, member_id, wait_etcdctl};
use super::support::ports;

/// The file, with what a machine fills in.
fn file(data_dir: &str, clients: &str, advertised: &str, peer: &str) -> String {
    format!(
        "## etcd(1) daemon options\n\
         ## See \"/usr/share/doc/etcd-server/op-guide/configuration.md.gz\"\n\
         \n\
         ### Member flags\n\
         ETCD_NAME=\"hosts one\"\n\
         ETCD_DATA_DIR='{data_dir}'\n\
         ; comma-separated\n\
         ETCD_LISTEN_CLIENT_URLS=\"{clients}\"\n\
         ETCD_ADVERTISE_CLIENT_URLS={advertised}  \n\
         ETCD_LISTEN_PEER_URLS=\"{peer}\"\n\
         ETCD_HEARTBEAT_INTERVAL=100\n\
         ETCD_ELECTION_TIMEOUT=\"1000\"\n\
         #ETCD_SNAPSHOT_COUNT=\"10000\"\n\
         ETCD_AUTO_COMPACTION_RETENTION=\"1h\"\n\
         ETCD_ENABLE_V2=false\n\
         ETCD_CLIENT_CERT_AUTH=\n\
         DAEMON_ARGS=\"\"\n"
    )
}

const INITIAL: &str = "\n### Clustering flags\n\
    ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{peer}\"\n\
    ETCD_INITIAL_CLUSTER=\"hosts one=\\\n{peer}\"\n\
    ETCD_INITIAL_CLUSTER_STATE=new\n\
    ETCD_INITIAL_CLUSTER_TOKEN='etcd cluster $1'\n";

#[test]
fn a_member_takes_its_settings_from_a_file_of_variables() {
    let scene = Scene::new();
    certificates::make_authority(&scene, Algorithm::Rsa);
    certificates::sign(&scene, "server", "server", Algorithm::Rsa);
    certificates::sign(&scene, "client", "client", Algorithm::Rsa);
    let ports = ports::free(3);
    let (secure, plain, peer) = (
        format!("https://127.0.0.1:{}", ports[0]),
        format!("http://127.0.0.1:{}", ports[1]),
        format!("http://127.0.0.1:{}", ports[2]),
    );
    let data_dir = scene.file("default with a blank");
    let kept = file(&data_dir, &format!("{secure},{plain}"), &secure, &peer);
    let initial = INITIAL.replace("{peer}", &peer);
    let line = format!("etcd {}", certificates::client_flags(&scene, "server"));
    let shown = certificates::etcdctl_flags(&scene, "client");
    let both = format!("--endpoints {secure},{plain} {shown}");
    let (by_tls, without) = (
        format!("--endpoints {secure} {shown}"),
        format!("--endpoints {plain}"),
    );

    let variables = environment::read(&format!("{kept}{initial}"));
    let mut member = scene.start("first", &line, &variables);
    wait_etcdctl(&by_tls, &["put", "key", "value"], &mut member);
    let id = member_id(&without);
    for start in 0..2 {
        if start == 1 {
            member.terminate(READY_LIMIT);
            member = scene.start("second", &line, &environment::read(&kept));
            let got = wait_etcdctl(&without, &["get", "key", "--print-value-only"], &mut member);
            assert_eq!((got.as_str(), member_id(&by_tls)), ("value\n", id));
        }
        let table = etcdctl_stdout(&both, &["endpoint", "health", "-w", "table"]);
        let rows = cells(&table);
        assert_eq!(rows[0], ["ENDPOINT", "HEALTH", "TOOK", "ERROR"], "{table}");
        for endpoint in [&secure, &plain] {
            let row = rows.iter().find(|row| row[0] == endpoint);
            let row = row.unwrap_or_else(|| panic!("{endpoint} is missing:\n{table}"));
            assert_eq!((row[1], row[3]), ("true", ""), "{table}");
        }
        assert_eq!(rows.len(), 3, "{table}");

        let table = etcdctl_stdout(&both, &["endpoint", "status", "-w", "table"]);
        let rows = cells(&table);
        assert_eq!(
            rows[0][..5],
            ["ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER"],
            "{table}"
        );
        for (row, endpoint) in rows[1..].iter().zip([&secure, &plain]) {
            let id = format!("{id:x}");
            let expected = [endpoint, id.as_str(), "3.7.1"];
            assert_eq!(row[..3], expected, "{table}");
            assert_eq!((row[4], row[row.len() - 1]), ("true", ""), "{table}");
        }
        assert_eq!(rows.len(), 3, "{table}");
    }
    let list = etcdctl_stdout(&by_tls, &["member", "list"]);
    assert_eq!(
        list.trim(),
        format!("{id:x}, started, hosts one, {peer}, {secure}, false")
    );
}
