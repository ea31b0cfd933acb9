//! A member is removed, refused with its old directory, and added again under another id.

use super::scene::{READY_LIMIT, Scene, etcdctl, etcdctl_stdout, is_logged, member_id, wait_etcdctl};
use super::support::process::Process;
use super::support::{poll, ports};
use std::time::Duration;

const REMOVED: &str = "the member has been permanently removed from the cluster";
/// Members must have been in reach for five seconds before the cluster changes.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// What cannot start says so within this time.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
const KEYS: usize = 50;

/// Three members, each with the flags that it keeps.
struct Trio {
    scene: Scene,
    kept: Vec<String>,
    endpoints: Vec<String>,
    peers: Vec<String>,
}

impl Trio {
    fn new() -> Self {
        let scene = Scene::new();
        let ports = ports::free(6);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members = ports.chunks_exact(2).enumerate();
        let kept = members.map(|(number, pair)| {
            format!(
                "etcd --name infra{number} --data-dir {} --listen-client-urls {client} --advertise-client-urls {client} \
                 --listen-peer-urls {}",
                scene.file(&format!("infra{number}.etcd")),
                url(pair[1]),
                client = url(pair[0]),
            )
        });
        Self {
            kept: kept.collect(),
            endpoints: ports
                .chunks_exact(2)
                .map(|pair| format!("--endpoints {}", url(pair[0])))
                .collect(),
            peers: ports.chunks_exact(2).map(|pair| url(pair[1])).collect(),
            scene,
        }
    }

    fn line(&self, number: usize, state: &str) -> String {
        let cluster: Vec<String> = self
            .peers
            .iter()
            .enumerate()
            .map(|(number, peer)| format!("infra{number}={peer}"))
            .collect();
        format!(
            "{} --initial-advertise-peer-urls {} --initial-cluster {} --initial-cluster-token etcd-cluster-1 \
             --initial-cluster-state {state}",
            self.kept[number],
            self.peers[number],
            cluster.join(",")
        )
    }

    fn start(&self, number: usize, line: &str) -> Process {
        self.scene.start(&format!("infra{number}"), line, &[])
    }

    fn refused(&self, line: &str, words: &[&str]) {
        let finished = self.scene.run(line, &[], EXIT_LIMIT);
        let text = finished.text();
        assert_eq!(finished.code, 1, "{line}\n{text}");
        assert!(is_logged(&text, words), "no line with {words:?}:\n{text}");
    }
}

/// Repeats a change until the cluster is well enough for it.
fn change(flags: &str, words: &[&str]) -> String {
    let look = || {
        let finished = etcdctl(flags, words);
        match finished.code {
            0 => Ok(finished.text()),
            _ => Err(finished.text()),
        }
    };
    poll::until(CHANGE_LIMIT, look).expect("the change is made")
}

#[test]
fn a_member_is_removed_and_comes_back_with_all_data_under_another_id() {
    let trio = Trio::new();
    let mut members: Vec<Process> = (0..3)
        .map(|number| trio.start(number, &trio.line(number, "new")))
        .collect();
    for (endpoint, member) in trio.endpoints.iter().zip(&mut members) {
        wait_etcdctl(endpoint, &["get", "key"], member);
    }
    let first = &trio.endpoints[0];
    for number in 0..KEYS {
        etcdctl_stdout(
            first,
            &["put", &format!("key{number:03}"), &format!("value {number}")],
        );
    }
    let everything = etcdctl_stdout(first, &["get", "", "--from-key"]);
    assert_eq!(everything.lines().count(), 2 * KEYS);

    // One that is away when it is removed hears of it from the others when it starts.
    let old = format!("{:x}", member_id(&trio.endpoints[2]));
    members[2].terminate(READY_LIMIT);
    change(first, &["member", "remove", &old]);
    for state in ["new", "existing"] {
        trio.refused(&trio.line(2, state), &["cannot start", REMOVED, "member add"]);
    }
    trio.refused(&trio.kept[2], &["cannot start", REMOVED]);

    // Nor does an empty directory make a member.
    std::fs::remove_dir_all(trio.scene.path("infra2.etcd")).expect("cleared");
    trio.refused(
        &trio.line(2, "existing"),
        &["member count is unequal", "member add"],
    );
    trio.refused(&trio.line(2, "new"), &[REMOVED, "member add"]);

    let add = ["member", "add", "infra2", "--peer-urls", &trio.peers[2]];
    let added = change(first, &add);
    assert!(
        added.contains(r#"ETCD_INITIAL_CLUSTER_STATE="existing""#),
        "{added}"
    );
    trio.refused(&trio.line(2, "new"), &["--initial-cluster-state existing"]);
    assert!(
        !trio.scene.path("infra2.etcd").exists(),
        "what is refused leaves nothing"
    );
    members[2] = trio.start(2, &trio.line(2, "existing"));
    let get = ["get", "", "--from-key"];
    assert_eq!(
        wait_etcdctl(&trio.endpoints[2], &get, &mut members[2]),
        everything
    );
    let new = member_id(&trio.endpoints[2]);
    assert_ne!(format!("{new:x}"), old);

    for (number, member) in members.iter_mut().enumerate() {
        let endpoint = &trio.endpoints[number];
        let before = member_id(endpoint);
        member.terminate(READY_LIMIT);
        *member = trio.start(number, &trio.kept[number]);
        assert_eq!(wait_etcdctl(endpoint, &get, member), everything);
        assert_eq!(member_id(endpoint), before);
    }
}
