//! Mistakes that operators make: each is refused within seconds, with etcd's exit code and words where it has some, and with what to
//! do about it.
//!
//! etcd 3.7.1 was run with the same lines. It starts, and waits or is ignored for ever, beside another cluster, with `new` where it was
//! added to a running cluster, with a directory that is in use, and with an expired certificate; the rest it refuses too.

use super::certificates::{self, Algorithm};
use super::scene::{READY_LIMIT, Scene, etcdctl_stdout, wait_etcdctl};
use super::support::process::{self, Process};
use super::support::{self, poll, ports};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// What cannot start says so within this time, on a busy machine too.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// The flags of a member, and the ports it is at.
struct Place {
    client: u16,
    peer: u16,
}

impl Place {
    fn new() -> Self {
        let ports = ports::free(2);
        Self {
            client: ports[0],
            peer: ports[1],
        }
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    fn endpoints(&self) -> String {
        format!("--endpoints 127.0.0.1:{}", self.client)
    }

    /// Without the flags that make a cluster.
    fn line(&self, scene: &Scene, name: &str) -> String {
        format!(
            "etcd --name {name} --data-dir {} --listen-client-urls http://127.0.0.1:{client} --advertise-client-urls \
             http://127.0.0.1:{client} --listen-peer-urls {peer} --initial-advertise-peer-urls {peer}",
            scene.file(name),
            client = self.client,
            peer = self.peer_url()
        )
    }

    /// With itself in a list of members.
    fn among(&self, scene: &Scene, name: &str, others: &str) -> String {
        let list = format!("{name}={}{others}", self.peer_url());
        format!("{} --initial-cluster {list}", self.line(scene, name))
    }

    fn wait_for_peer_port(&self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.peer));
        poll::until(READY_LIMIT, || TcpStream::connect(address)).expect("it listens");
    }
}

fn assert_refused(scene: &Scene, line: &str, code: i32, words: &[&str]) {
    let finished = scene.run(line, &[], EXIT_LIMIT);
    let text = finished.text().replace("\\\"", "\"");
    assert_eq!(finished.code, code, "{line}\n{text}");
    for word in words {
        assert!(text.contains(word), "{line}\nlacks {word:?}:\n{text}");
    }
    for mark in ["panicked at", "RUST_BACKTRACE"] {
        assert!(!text.contains(mark), "{line}\n{text}");
    }
}

/// A cluster of one, which answers.
fn start_alone(scene: &Scene, name: &str, place: &Place) -> Process {
    let mut member = scene.start(name, &place.among(scene, name, ""), &[]);
    wait_etcdctl(&place.endpoints(), &["put", "key", "value"], &mut member);
    member
}

#[test]
fn flags_that_do_not_fit_each_other() {
    let scene = Scene::new();
    let place = Place::new();
    let line = place.line(&scene, "a");
    let own = place.peer_url();
    let table: [(String, i32, &[&str]); 7] = [
        (
            format!("{line} --initial-cluster b={own}"),
            1,
            &[
                "couldn't find local name \"a\" in the initial cluster configuration",
                "--name",
            ],
        ),
        (
            format!("{line} --initial-cluster a=http://127.0.0.1:1"),
            1,
            &[
                "--initial-cluster has a=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=",
                &own,
            ],
        ),
        (
            format!("{line} --initial-cluster a={own},a=http://127.0.0.1:1"),
            1,
            &["--initial-cluster has a=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls="],
        ),
        (
            format!("{line} --initial-cluster a=127.0.0.1:2380"),
            1,
            &[
                "127.0.0.1:2380",
                "first path segment in URL cannot contain colon",
                "http://127.0.0.1:2380",
            ],
        ),
        (
            "etcd --listen-client-urls 127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379"
                .to_owned(),
            2,
            &[
                "invalid value \"127.0.0.1:2379\" for flag -listen-client-urls: parse \"127.0.0.1:2379\": first path \
                 segment in URL cannot contain colon",
                "http://127.0.0.1:2379",
            ],
        ),
        (
            "etcd --listen-client-urls localhost:2379 --advertise-client-urls http://localhost:2379"
                .to_owned(),
            2,
            &[
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
                "http://localhost:2379",
            ],
        ),
        (
            format!("{line} --initial-cluster a={own},z=http://127.0.0.1:1 --initial-cluster-state existing"),
            1,
            &[
                "could not retrieve cluster information from the given URLs",
                "up and in reach",
            ],
        ),
    ];
    for (line, code, words) in table {
        assert_refused(&scene, &line, code, words);
        assert!(!scene.path("a").exists(), "{line}: it has left a directory");
    }
}

#[test]
fn another_cluster_is_where_a_member_should_be() {
    let scene = Scene::new();
    let (theirs, ours) = (Place::new(), Place::new());
    let _theirs = start_alone(&scene, "theirs", &theirs);
    let listed = ours.among(&scene, "ours", &format!(",theirs={}", theirs.peer_url()));
    let url = theirs.peer_url();
    assert_refused(
        &scene,
        &listed,
        1,
        &[
            "cluster ID mismatch",
            &url,
            "--initial-cluster-token",
            "member add",
        ],
    );
    let joining = format!("{listed} --initial-cluster-state existing");
    assert_refused(
        &scene,
        &joining,
        1,
        &[
            "error validating peerURLs",
            "member count is unequal",
            "member add",
        ],
    );
    // Added to it, and started as one of a new cluster.
    let add = ["member", "add", "ours", "--peer-urls", &ours.peer_url()];
    etcdctl_stdout(&theirs.endpoints(), &add);
    assert_refused(&scene, &listed, 1, &[&url, "--initial-cluster-state existing"]);
    let unknown = ours.line(&scene, "unknown");
    let unknown = format!(
        "{unknown} --initial-cluster ours={},theirs={url} --initial-cluster-state existing",
        ours.peer_url()
    );
    assert_refused(
        &scene,
        &unknown,
        1,
        &["couldn't find local name \"unknown\"", "--name"],
    );
    // What was refused has left no directory: it joins.
    let mut joined = scene.start("ours", &joining, &[]);
    let got = wait_etcdctl(
        &ours.endpoints(),
        &["get", "key", "--print-value-only"],
        &mut joined,
    );
    assert_eq!(got, "value\n");
}

#[test]
fn another_token_makes_another_cluster() {
    let scene = Scene::new();
    let (one, two) = (Place::new(), Place::new());
    let list = format!("one={},two={}", one.peer_url(), two.peer_url());
    let line = |place: &Place, name: &str, token: &str| {
        let line = place.line(&scene, name);
        format!("{line} --initial-cluster {list} --initial-cluster-token {token}")
    };
    let _first = scene.start("one", &line(&one, "one", "red"), &[]);
    one.wait_for_peer_port();
    assert_refused(
        &scene,
        &line(&two, "two", "blue"),
        1,
        &["cluster ID mismatch", &one.peer_url(), "--initial-cluster-token"],
    );
    let mut second = scene.start("two", &line(&two, "two", "red"), &[]);
    wait_etcdctl(&two.endpoints(), &["put", "key", "value"], &mut second);
    // Its disk is lost, and it is started as it was the first time.
    second.kill();
    std::fs::remove_dir_all(scene.path("two")).expect("cleared");
    assert_refused(
        &scene,
        &line(&two, "two", "red"),
        1,
        &[
            "has already been bootstrapped",
            "remove it from the cluster and add it again",
        ],
    );
}

#[test]
fn a_directory_or_a_port_is_anothers() {
    let scene = Scene::new();
    let (place, elsewhere) = (Place::new(), Place::new());
    let _member = start_alone(&scene, "a", &place);
    assert_refused(
        &scene,
        &elsewhere.among(&scene, "a", ""),
        1,
        &[&scene.file("a"), "another process"],
    );

    for port in [elsewhere.client, elsewhere.peer] {
        let _holder = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let words = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
        assert_refused(
            &scene,
            &elsewhere.among(&scene, "b", ""),
            1,
            &[&words, "another port"],
        );
        assert!(!scene.path("b").exists());
    }

    let mut command = process::command(&support::etcd_bin());
    let line = elsewhere.among(&scene, "etcds", "");
    command.args(line.split_whitespace().skip(1));
    let mut etcd = Process::start(command, &scene.path("etcds.log"));
    wait_etcdctl(&elsewhere.endpoints(), &["put", "key", "value"], &mut etcd);
    etcd.terminate(READY_LIMIT);
    assert_refused(&scene, &line, 1, &[&scene.file("etcds"), "etcd"]);
}

#[test]
fn certificates_that_cannot_be_shown() {
    let scene = Scene::new();
    certificates::make_authority(&scene, Algorithm::Ecdsa);
    certificates::sign(&scene, "one", "server", Algorithm::Ecdsa);
    certificates::sign(&scene, "two", "server", Algorithm::Ecdsa);
    expired(&scene);
    let place = Place::new();
    let cluster = place.among(&scene, "a", "");
    let secure = |side: &str, certificate: &str, key: &str| {
        let line = match side {
            "peer-" => cluster.replace(&place.peer_url(), &place.peer_url().replace("http", "https")),
            _ => cluster.replace(
                &format!("http://127.0.0.1:{}", place.client),
                &format!("https://127.0.0.1:{}", place.client),
            ),
        };
        format!(
            "{line} --{side}cert-file {} --{side}key-file {}",
            scene.file(certificate),
            scene.file(key)
        )
    };
    for side in ["", "peer-"] {
        let files = [scene.file("one.pem"), scene.file("two-key.pem")];
        assert_refused(
            &scene,
            &secure(side, "one.pem", "two-key.pem"),
            1,
            &["tls: private key does not match public key", &files[0], &files[1]],
        );
        assert_refused(
            &scene,
            &secure(side, "old.pem", "old-key.pem"),
            1,
            &["certificate has expired", &scene.file("old.pem"), "renew it"],
        );
        let missing = format!("open {}: no such file or directory", scene.file("gone.pem"));
        assert_refused(&scene, &secure(side, "gone.pem", "one-key.pem"), 1, &[&missing]);
        assert_refused(
            &scene,
            &secure(side, "one-key.pem", "one.pem"),
            1,
            &[&scene.file("one-key.pem"), "no certificate"],
        );
        assert!(!scene.path("a").exists(), "nothing is begun");
    }
}

/// `old.pem`, whose time was over long ago.
fn expired(scene: &Scene) {
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
        [p]\ncommonName=supplied\n";
    for (name, content) in [("old.cnf", config), ("index", ""), ("serial", "01\n")] {
        scene.write(name, content);
    }
    for line in [
        "req -new -newkey rsa:2048 -nodes -subj /CN=old -keyout old-key.pem -out old.csr",
        "ca -batch -config old.cnf -cert ca.pem -keyfile ca-key.pem -in old.csr -out old.pem -notext \
         -startdate 20200101000000Z -enddate 20210101000000Z",
    ] {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(scene.path(""))
            .output()
            .expect("openssl is installed");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {line}: {text}");
    }
}
