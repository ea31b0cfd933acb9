//! `etcdctl lock` and `etcdctl elect`, which make their keys on their own: several of them on one cluster, each started,
//! waited for and interrupted at the same point of the story with both servers. What each printed and how it ended is
//! compared.

use super::support::cluster::{Cluster, StartError};
use super::support::kv_client::ask;
use super::support::process::Finished;
use super::support::{self, poll, ports};
use super::watching::{Watching, etcdctl};
use super::{COMMAND_LIMIT, MEMBERS, SETTLE_LIMIT, normalise, show_difference};
use callboard::proto::etcdserverpb::RangeRequest;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// One thing after the other. Contenders are named by a number.
enum Step {
    /// It is started with these words.
    Start(usize, &'static [&'static str]),
    /// So many keys begin with this.
    Keys(&'static str, i64),
    /// It has printed so many lines by now.
    Lines(usize, usize),
    Signal(usize, libc::c_int),
    /// It ends on its own.
    Ends(usize),
}

use Step::{Ends, Keys, Lines, Signal, Start};

struct Story {
    name: &'static str,
    steps: &'static [Step],
}

/// One after the other on one cluster, so that revisions differ if anything did before.
const STORIES: &[Story] = &[
    Story {
        name: "a lock around a command",
        steps: &[
            Start(0, &["lock", "l", "echo", "ok"]),
            Ends(0),
            Keys("l/", 0),
            Start(1, &["lock", "l", "--", "sh", "-c", "echo failed >&2; exit 7"]),
            Ends(1),
            Keys("l/", 0),
            Start(
                2,
                &["lock", "l", "--", "sh", "-c", "env | grep ^ETCD_LOCK | sort"],
            ),
            Ends(2),
            Start(3, &["lock", "l", "no-such-command"]),
            Ends(3),
            Keys("l/", 0),
        ],
    },
    Story {
        name: "a lock handed on",
        steps: &[
            Start(0, &["lock", "l"]),
            Lines(0, 2),
            Start(1, &["lock", "l"]),
            Keys("l/", 2),
            Start(2, &["lock", "l", "echo", "ok"]),
            Keys("l/", 3),
            // One that waits gives up.
            Signal(1, libc::SIGINT),
            Ends(1),
            Keys("l/", 2),
            Signal(0, libc::SIGINT),
            Ends(0),
            Ends(2),
            Keys("l/", 0),
        ],
    },
    Story {
        name: "a holder that dies",
        steps: &[
            Start(0, &["lock", "--ttl", "2", "l"]),
            Lines(0, 2),
            Start(1, &["lock", "l", "--", "sh", "-c", "env | grep ^ETCD_LOCK_REV"]),
            Keys("l/", 2),
            Signal(0, libc::SIGKILL),
            Ends(0),
            Ends(1),
            Keys("l/", 0),
        ],
    },
    Story {
        name: "two candidates",
        steps: &[
            Start(0, &["elect", "e", "-l"]),
            Start(1, &["elect", "e", "one"]),
            Lines(1, 2),
            Lines(0, 2),
            Start(2, &["elect", "e", "two"]),
            Keys("e/", 2),
            Start(3, &["elect", "-l", "e"]),
            Lines(3, 2),
            Signal(1, libc::SIGINT),
            Ends(1),
            Lines(2, 2),
            Lines(0, 4),
            Lines(3, 4),
            Signal(2, libc::SIGTERM),
            Ends(2),
            Keys("e/", 0),
            Start(4, &["elect", "e", "three"]),
            Lines(4, 2),
            Lines(0, 6),
            Signal(0, libc::SIGINT),
            Ends(0),
            Signal(3, libc::SIGINT),
            Ends(3),
            Signal(4, libc::SIGINT),
            Ends(4),
            Keys("e/", 0),
        ],
    },
    Story {
        name: "a candidate that gives up",
        steps: &[
            Start(0, &["elect", "e", "one"]),
            Lines(0, 2),
            Start(1, &["elect", "e", "two"]),
            Keys("e/", 2),
            Signal(1, libc::SIGINT),
            Ends(1),
            Keys("e/", 1),
            Signal(0, libc::SIGINT),
            Ends(0),
            Keys("e/", 0),
        ],
    },
    Story {
        name: "wrong input",
        steps: &[
            Start(0, &["lock"]),
            Ends(0),
            Start(1, &["lock", "--ttl", "x", "l"]),
            Ends(1),
            Start(2, &["elect"]),
            Ends(2),
            Start(3, &["elect", "e"]),
            Ends(3),
            Start(4, &["elect", "-l", "e", "one"]),
            Ends(4),
            Start(5, &["elect", "e", "one", "two"]),
            Ends(5),
            Start(6, &["get", "--prefix", "", "--keys-only"]),
            Ends(6),
        ],
    },
];

#[test]
fn lock_and_elect() {
    let (expected, found) = on_the_same_ports();
    let mut differences = 0;
    let mut report = String::new();
    for (story, (expected, found)) in STORIES.iter().zip(expected.iter().zip(&found)) {
        for (contender, expected) in expected {
            let found = &found[contender];
            if expected == found {
                continue;
            }
            differences += 1;
            writeln!(
                report,
                "\n{}, {contender}: exit codes {} and {}",
                story.name, expected.code, found.code
            )
            .expect("write to a string");
            show_difference(&mut report, "stdout", &expected.stdout, &found.stdout);
            show_difference(&mut report, "stderr", &expected.stderr, &found.stderr);
        }
        let text: Vec<String> = expected
            .values()
            .map(|finished| format!("{} {:?}", finished.code, finished.text()))
            .collect();
        println!("{}: {}", story.name, text.join(", "));
    }
    assert!(
        differences == 0,
        "{differences} differences (- etcd, + callboard):\n{report}"
    );
}

type Ended = BTreeMap<usize, Finished>;

fn on_the_same_ports() -> (Vec<Ended>, Vec<Ended>) {
    for _ in 0..5 {
        let ports = ports::free(2 * MEMBERS);
        let run = |program: &Path| match Cluster::start_on(program, &ports, &[]) {
            Ok(cluster) => Some(STORIES.iter().map(|story| perform(&cluster, story)).collect()),
            Err(StartError::PortTaken(_)) => None,
            Err(StartError::Other(text)) => panic!("{text}"),
        };
        if let (Some(expected), Some(found)) = (run(&support::etcd_bin()), run(&support::callboard_bin())) {
            return (expected, found);
        }
    }
    panic!("found no ports that stayed free");
}

fn perform(cluster: &Cluster, story: &Story) -> Ended {
    let mut running = BTreeMap::new();
    let mut ended = Ended::new();
    for step in story.steps {
        match step {
            Start(contender, words) => {
                let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
                running.insert(*contender, Watching::start(etcdctl(cluster, &words)));
            }
            Keys(prefix, count) => wait_for_keys(cluster, prefix, *count),
            Lines(contender, lines) => running[contender].wait_for_lines(*lines),
            Signal(contender, signal) => running[contender].signal(*signal),
            Ends(contender) => {
                let mut watching = running.remove(contender).expect("it was started");
                let code = watching.wait();
                ended.insert(*contender, without_leases(watching.finish(code, &[])));
            }
        }
    }
    assert!(running.is_empty(), "{}: everybody ends", story.name);
    ended
}

fn wait_for_keys(cluster: &Cluster, prefix: &str, expected: i64) {
    let member = cluster.members[0].client;
    let look = || {
        let request = RangeRequest {
            key: prefix.to_owned().into(),
            range_end: format!("{prefix}\u{7f}").into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let found = ask(member, COMMAND_LIMIT, async |client| client.range(request).await);
        match found.acked()?.count {
            count if count == expected => Ok(()),
            count => Err(format!("{count} keys begin with {prefix}, not {expected}")),
        }
    };
    poll::until(SETTLE_LIMIT, look).unwrap_or_else(|complaint| panic!("{complaint}"));
}

/// Ids of leases are drawn by the servers, and it is chance whether the client has a call under way, and says so in its
/// log, at the moment it is interrupted.
fn without_leases(mut finished: Finished) -> Finished {
    let lines = finished.stderr.split_inclusive(|byte| *byte == b'\n');
    finished.stderr = lines
        .filter(|line| !line.starts_with(b"{\"level\":\"warn\""))
        .collect::<Vec<_>>()
        .concat();
    let text = String::from_utf8(finished.stdout).expect("text");
    let text = normalise::replace_between(&text, "l/", &['\n'], "<lease>");
    finished.stdout = normalise::replace_between(&text, "e/", &['\n'], "<lease>").into_bytes();
    finished
}
