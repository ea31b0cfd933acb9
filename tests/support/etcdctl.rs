//! etcdctl, run to its end.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::process::{self, Finished};

/// etcdctl itself gives up after 5 seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

pub fn run(member: SocketAddr, words: &[&str], stdin: &[u8]) -> Finished {
    let mut command = process::command(&super::etcdctl_bin());
    command.env("ETCDCTL_API", "3");
    command.arg(format!("--endpoints={member}")).args(words);
    process::run(command, stdin, COMMAND_LIMIT).unwrap_or_else(|complaint| panic!("{complaint}"))
}

/// What it printed on success.
pub fn stdout(member: SocketAddr, words: &[&str]) -> String {
    let finished = run(member, words, b"");
    assert_eq!(finished.code, 0, "{words:?}: {}", finished.text());
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// What a member says of itself.
pub fn status(member: SocketAddr) -> Value {
    let text = stdout(member, &["endpoint", "status", "-w", "json"]);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all[0]["Status"].clone()
}

pub fn id(member: SocketAddr) -> u64 {
    status(member)["header"]["member_id"].as_u64().expect("a number")
}
