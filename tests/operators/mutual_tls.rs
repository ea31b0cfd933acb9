//! Three members under systemd that speak TLS with each other and with their clients, and show each other RSA certificates.

use super::certificates::{self, Algorithm};
use super::scene::{READY_LIMIT, Scene, etcdctl, etcdctl_stdout, member_id, wait_etcdctl};
use super::support::process::{self, Process};
use super::support::{self, ports};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// A member alone has nobody to elect a leader with, however long it waits.
const ALONE: Duration = Duration::from_secs(3);
/// After systemd's SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The socket at which systemd hears a service.
struct Manager {
    socket: UnixDatagram,
    variables: Vec<(String, String)>,
}

impl Manager {
    fn of(scene: &Scene, name: &str) -> Self {
        let path = scene.path(&format!("{name}.notify"));
        Self {
            socket: UnixDatagram::bind(&path).expect("a socket"),
            variables: vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())],
        }
    }

    /// What the service says next: assignments, one a line.
    fn next(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).expect("a time");
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
    }

    /// Waits until it says this.
    fn wait_for(&self, assignment: &str, member: &Process) {
        while let Some(said) = self.next(READY_LIMIT) {
            if said.lines().any(|line| line == assignment) {
                return;
            }
        }
        panic!("it does not say {assignment}\n{}", member.tail());
    }
}

#[test]
fn three_members_that_show_each_other_certificates_run_under_systemd() {
    let scene = Scene::new();
    let etcds_status = etcds_status(&scene);
    certificates::make_authority(&scene, Algorithm::Rsa);
    certificates::sign(&scene, "client", "client", Algorithm::Rsa);
    let names = ["s1", "s2", "s3"];
    let ports = ports::free(6);
    let urls: Vec<(String, String)> = ports
        .chunks_exact(2)
        .map(|pair| {
            let url = |port| format!("https://127.0.0.1:{port}");
            (url(pair[0]), url(pair[1]))
        })
        .collect();
    let cluster: Vec<String> = names
        .iter()
        .zip(&urls)
        .map(|(name, (_, peer))| format!("{name}={peer}"))
        .collect();
    let lines: Vec<(String, String)> = names
        .iter()
        .zip(&urls)
        .map(|(name, (client, peer))| {
            certificates::sign(&scene, name, "server", Algorithm::Rsa);
            let of_peer = format!("{name}-peer");
            certificates::sign(&scene, &of_peer, "peer", Algorithm::Rsa);
            let kept = format!(
                "etcd --name {name} --data-dir {} --listen-client-urls {client} --advertise-client-urls {client} \
                 --listen-peer-urls {peer} {} {}",
                scene.file(&format!("{name}.etcd")),
                certificates::client_flags(&scene, name),
                certificates::peer_flags(&scene, &of_peer),
            );
            let initial = format!(
                "--initial-advertise-peer-urls {peer} --initial-cluster {} --initial-cluster-token etcd-tls \
                 --initial-cluster-state new",
                cluster.join(",")
            );
            (kept, initial)
        })
        .collect();
    let managers: Vec<Manager> = names.iter().map(|name| Manager::of(&scene, name)).collect();
    let start = |number: usize, with_initial: bool| {
        let (kept, initial) = &lines[number];
        let line = if with_initial {
            format!("{kept} {initial}")
        } else {
            kept.clone()
        };
        scene.start(names[number], &line, &managers[number].variables)
    };

    let mut members = vec![start(0, true)];
    assert_eq!(managers[0].next(ALONE), None, "it waits for a second one");
    assert_eq!(members[0].ended(), None, "{}", members[0].tail());
    members.push(start(1, true));
    managers[0].wait_for("READY=1", &members[0]);
    managers[1].wait_for("READY=1", &members[1]);
    members.push(start(2, true));
    managers[2].wait_for("READY=1", &members[2]);

    let shown = certificates::etcdctl_flags(&scene, "client");
    let all: Vec<&str> = urls.iter().map(|(client, _)| client.as_str()).collect();
    let flags: Vec<String> = all
        .iter()
        .map(|url| format!("--endpoints {url} {shown}"))
        .collect();
    for (number, flags) in flags.iter().enumerate() {
        let value = format!("by {}", names[number]);
        assert_eq!(etcdctl_stdout(flags, &["put", names[number], &value]), "OK\n");
    }
    for flags in &flags {
        let got = etcdctl_stdout(flags, &["get", "s", "--prefix", "--print-value-only"]);
        assert_eq!(got, "by s1\nby s2\nby s3\n");
    }
    // Who shows none is not let in.
    let bare = format!(
        "--endpoints {} --cacert {} --command-timeout 2s",
        all[0],
        scene.file("ca.pem")
    );
    assert_ne!(etcdctl(&bare, &["get", "s1"]).code, 0);

    // Each comes back as the member that it was, by its directory, its name and its URLs.
    for number in 0..3 {
        let before = member_id(&flags[number]);
        let status = members[number].terminate(STOP_LIMIT);
        managers[number].wait_for("STOPPING=1", &members[number]);
        assert_eq!(status, etcds_status, "{}", members[number].tail());
        members[number] = start(number, false);
        managers[number].wait_for("READY=1", &members[number]);
        let got = wait_etcdctl(
            &flags[number],
            &["get", "s2", "--print-value-only"],
            &mut members[number],
        );
        assert_eq!(got, "by s2\n");
        assert_eq!(member_id(&flags[number]), before);
    }
}

/// How etcd ends that was asked to by SIGTERM.
fn etcds_status(scene: &Scene) -> std::process::ExitStatus {
    let ports = ports::free(2);
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports[0]),
        format!("http://127.0.0.1:{}", ports[1]),
    );
    let mut command = process::command(&support::etcd_bin());
    command.args(["--name", "e", "--data-dir", &scene.file("e.etcd")]);
    command.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    command.args(["--initial-cluster", &format!("e={peer}")]);
    let mut etcd = Process::start(command, &scene.path("e.log"));
    wait_etcdctl(&format!("--endpoints {client}"), &["get", "x"], &mut etcd);
    etcd.terminate(STOP_LIMIT)
}
