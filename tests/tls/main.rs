//! TLS as an operator meets it: automatic certificates, certificates from files, new ones without a restart, strangers
//! refused, and flags that do not fit.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod automatic;
mod discovery;
mod files;
mod flags;
mod foreign;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::time::Duration;

use support::cluster::{Cluster, READY_LIMIT};
use support::process::{self, Finished};
use support::{poll, ports};

const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Runs etcdctl to its end.
fn etcdctl(endpoints: &str, tls: &[&str], words: &[&str]) -> Finished {
    let mut command = process::command(&support::etcdctl_bin());
    command.env("ETCDCTL_API", "3");
    command.args([
        "--endpoints",
        endpoints,
        "--dial-timeout",
        "1s",
        "--command-timeout",
        "3s",
    ]);
    command.args(tls).args(words);
    process::run(command, b"", COMMAND_LIMIT).unwrap_or_else(|complaint| panic!("{complaint}"))
}

/// Waits until a put goes through at `endpoint`, and fails unless it can be read there then.
fn wait_put_get(endpoint: &str, tls: &[&str], cluster: &Cluster) {
    let put = || {
        let finished = etcdctl(endpoint, tls, &["put", "stage", endpoint]);
        if finished.code == 0 {
            Ok(())
        } else {
            Err(finished.text())
        }
    };
    poll::until(READY_LIMIT, put).unwrap_or_else(|complaint| panic!("{complaint}\n{}", logs(cluster)));
    let got = etcdctl(endpoint, tls, &["get", "stage", "--print-value-only"]);
    assert_eq!(got.text().trim(), endpoint);
}

/// Fails unless etcdctl does.
fn assert_fails(endpoint: &str, tls: &[&str]) {
    let finished = etcdctl(endpoint, tls, &["put", "stage", "stranger"]);
    assert_ne!(finished.code, 0, "{tls:?} is let in: {}", finished.text());
}

fn logs(cluster: &Cluster) -> String {
    let logs = cluster.members.iter().map(|member| {
        let text = member.log_text();
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        format!(
            "{}:\n{}\n",
            member.name,
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    });
    logs.collect()
}

/// Waits until a member's log has a line with all these words.
fn wait_logged(cluster: &Cluster, member: usize, words: &[&str]) {
    let look = || {
        let text = cluster.members[member].log_text();
        let is_found = text
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        is_found.then_some(()).ok_or("no such line in the log")
    };
    poll::until(READY_LIMIT, look)
        .unwrap_or_else(|complaint| panic!("{words:?}: {complaint}\n{}", logs(cluster)));
}

/// Which URLs of a member say https.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secure {
    Peers,
    Clients,
    Both,
}

/// Members that are not started yet. `flags` are for all of them.
fn prepare(size: usize, secure: Secure, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2 * size), flags);
    for member in &mut cluster.members {
        let mut is_peers = false;
        let mut is_clients = false;
        for argument in &mut member.arguments {
            let text = argument.to_string_lossy().into_owned();
            let is_wanted =
                (is_peers && secure != Secure::Clients) || (is_clients && secure != Secure::Peers);
            if is_wanted {
                *argument = OsString::from(text.replace("http://", "https://"));
            }
            is_peers = text.ends_with("peer-urls") || text == "--initial-cluster";
            is_clients = text.ends_with("client-urls");
        }
    }
    cluster
}

fn start(cluster: &mut Cluster) {
    for member in &mut cluster.members {
        member.start();
    }
}

fn https(cluster: &Cluster, member: usize) -> String {
    format!("https://{}", cluster.members[member].client)
}
