//! The same commands through Debian's etcdctl 3.4, against three members of etcd and three of Callboard: outputs,
//! errors and exit codes must be the same.
//!
//! Each script in `scripts/` is one test. The real etcd runs it first, then Callboard on the same ports, so that ids
//! and addresses agree; `normalise.rs` says what little is taken out before comparing. Every difference is collected
//! and shown, then the test fails.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod contending;
mod normalise;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod watching;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use callboard::proto::etcdserverpb::AlarmType;
use script::{Action, Step};
use support::cluster::{Cluster, StartError};
use support::kv_client::ask;
use support::process::{self, Finished};
use support::{poll, ports};

const MEMBERS: usize = 3;

/// etcdctl itself gives up after 5 seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// How long followers may take to have what the first member has.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            same_as_etcd(stringify!($name), include_str!(concat!("scripts/", stringify!($name), ".txt")));
        }
    )*};
}

scripts!(
    alarm,
    put,
    get,
    del,
    txn,
    compaction,
    endpoint,
    lease,
    wrong_input
);

fn same_as_etcd(name: &str, text: &str) {
    let steps = script::parse(text);
    let (expected, found) = on_the_same_ports(&steps);
    let mut report = String::new();
    let mut differences = 0;
    for ((step, expected), found) in steps.iter().zip(&expected).zip(&found) {
        if expected == found {
            continue;
        }
        differences += 1;
        writeln!(report, "\n{name}.txt:{}: {}", step.line, shown(step)).expect("write to a string");
        if expected.code != found.code {
            writeln!(
                report,
                "  exit code\n    - {}\n    + {}",
                expected.code, found.code
            )
            .expect("write to a string");
        }
        show_difference(&mut report, "stdout", &expected.stdout, &found.stdout);
        show_difference(&mut report, "stderr", &expected.stderr, &found.stderr);
    }
    assert!(
        differences == 0,
        "{differences} of {} commands differ (- etcd, + callboard):\n{report}",
        steps.len()
    );
    println!("{name}: {} commands alike", steps.len());
}

/// What both servers answered to every step, normalised.
fn on_the_same_ports(steps: &[Step]) -> (Vec<Finished>, Vec<Finished>) {
    for _ in 0..5 {
        let ports = ports::free(2 * MEMBERS);
        let run = |program: &Path| match Cluster::start_on(program, &ports, &[]) {
            Ok(cluster) => Some(steps.iter().map(|step| perform(&cluster, step)).collect()),
            Err(StartError::PortTaken(_)) => None,
            Err(StartError::Other(text)) => panic!("{text}"),
        };
        if let (Some(expected), Some(found)) = (run(&support::etcd_bin()), run(&support::callboard_bin())) {
            return (expected, found);
        }
    }
    panic!("found no ports that stayed free");
}

/// What a step without etcdctl prints.
const SILENT: Finished = Finished {
    code: 0,
    stdout: Vec::new(),
    stderr: Vec::new(),
};

fn perform(cluster: &Cluster, step: &Step) -> Finished {
    let (words, stdin) = match &step.action {
        Action::Grant { id, ttl_seconds } => {
            let grant = ask(cluster.members[0].client, COMMAND_LIMIT, async |client| {
                client.lease_grant(*id, *ttl_seconds).await
            });
            grant.acked().expect("grant a lease");
            return SILENT;
        }
        Action::Raise { member_id, alarm } => {
            let alarm = AlarmType::from_str_name(alarm).expect("NOSPACE or CORRUPT");
            let raise = ask(cluster.members[0].client, COMMAND_LIMIT, async |client| {
                client.raise_alarm(*member_id, alarm).await
            });
            raise.acked().expect("raise an alarm");
            return SILENT;
        }
        Action::Run { words, stdin } => (words, stdin),
    };
    // These look at members that may still be behind the one that was written to.
    if words
        .iter()
        .any(|word| word == b"endpoint" || word == b"--consistency=s")
    {
        settle(cluster);
    }
    let clients: Vec<String> = cluster
        .members
        .iter()
        .map(|member| member.client.to_string())
        .collect();
    let mut command = process::command(&support::etcdctl_bin());
    command.env("ETCDCTL_API", "3");
    if !words.iter().any(|word| word.starts_with(b"--endpoints")) {
        command.arg(format!("--endpoints={}", clients[0]));
    }
    command.args(words.iter().map(|word| script::fill_in(word, &clients)));
    let finished = process::run(command, stdin, COMMAND_LIMIT);
    let finished = finished.unwrap_or_else(|complaint| panic!("line {}: {complaint}", step.line));
    normalise::normalise(words, &finished)
}

/// Waits until all members have applied the same revision.
fn settle(cluster: &Cluster) {
    let look = || {
        let revisions: Vec<i64> = cluster
            .members
            .iter()
            .map(|member| {
                let status = ask(member.client, COMMAND_LIMIT, async |client| client.status().await);
                status
                    .acked()
                    .expect("ask for the status")
                    .header
                    .expect("a header")
                    .revision
            })
            .collect();
        let same = revisions.iter().all(|revision| *revision == revisions[0]);
        if same {
            Ok(())
        } else {
            Err(format!("revisions {revisions:?}"))
        }
    };
    poll::until(SETTLE_LIMIT, look)
        .unwrap_or_else(|complaint| panic!("members do not converge: {complaint}"));
}

fn shown(step: &Step) -> String {
    match &step.action {
        Action::Grant { id, .. } => format!("grant {id:x}"),
        Action::Raise { member_id, alarm } => format!("raise {alarm} of {member_id}"),
        Action::Run { words, stdin } => {
            let words: Vec<String> = words
                .iter()
                .map(|word| format!("'{}'", word.escape_ascii()))
                .collect();
            let input = match stdin.len() {
                0 => String::new(),
                1..=400 => format!(" <<< '{}'", stdin.escape_ascii()),
                length => format!(" <<< {length} bytes"),
            };
            format!(
                "etcdctl {}{input}",
                words.join(" ").replace('\'', "\u{2019}").replace('\u{2019}', "'")
            )
        }
    }
}

/// Lines that only one side has, between the lines that both begin and end with.
fn show_difference(report: &mut String, stream: &str, expected: &[u8], found: &[u8]) {
    if expected == found {
        return;
    }
    let lines = |bytes: &[u8]| -> Vec<String> {
        bytes
            .split(|byte| *byte == b'\n')
            .map(|line| line.escape_ascii().to_string().replace("\\\"", "\""))
            .collect()
    };
    let (expected, found) = (lines(expected), lines(found));
    let shorter = expected.len().min(found.len());
    let begin = expected
        .iter()
        .zip(&found)
        .take_while(|(one, other)| one == other)
        .count();
    let end = expected
        .iter()
        .rev()
        .zip(found.iter().rev())
        .take_while(|(one, other)| one == other)
        .count();
    let end = end.min(shorter - begin);
    writeln!(report, "  {stream}, line {}", begin + 1).expect("write to a string");
    for (sign, lines) in [('-', &expected), ('+', &found)] {
        for line in &lines[begin..lines.len() - end] {
            writeln!(report, "    {sign} {line}").expect("write to a string");
        }
    }
}
