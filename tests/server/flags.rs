//! The command line and the environment: versions, help, defaults, what is refused and with which code.

use std::net::TcpListener;
use std::process::ExitStatus;
use std::time::Duration;

use super::support::cluster::{Cluster, Member, StartError};
use super::support::process::{self, Finished, Process};
use super::support::{self, http, poll, ports};
use super::{EXIT_LIMIT, assert_refused, run_to_exit};

fn run(arguments: &[&str]) -> Finished {
    let mut command = process::command(&support::callboard_bin());
    command.args(arguments);
    process::run(command, b"", EXIT_LIMIT).unwrap_or_else(|complaint| panic!("{complaint}"))
}

#[test]
fn version_has_four_lines() {
    for flag in ["--version", "-version"] {
        let finished = run(&[flag]);
        let text = String::from_utf8(finished.stdout).expect("text");
        let names: Vec<&str> = text
            .lines()
            .map(|line| line.split_once(": ").expect("a name and a value").0)
            .collect();
        assert_eq!(names, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
        let version = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("etcd Version: "))
            .expect("a version");
        let numbers: Vec<Result<u32, _>> = version.split('.').map(str::parse).collect();
        assert!(
            numbers.len() == 3 && numbers.iter().all(Result::is_ok),
            "{version} is no release"
        );
        assert_eq!(finished.code, 0);
    }
}

#[test]
fn help_names_the_flags() {
    for flag in ["--help", "-h"] {
        let finished = run(&[flag]);
        assert_eq!(finished.code, 0);
        for name in [
            "--data-dir",
            "--listen-client-urls",
            "--initial-cluster",
            "--initial-cluster-state",
        ] {
            assert!(
                finished.text().contains(name),
                "{flag} does not mention {name}:\n{}",
                finished.text()
            );
        }
    }
}

#[test]
fn wrong_command_lines_are_refused() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let data_dir = format!("--data-dir={}", directory.path().join("data").display());
    for (arguments, code, word) in [
        (&["--no-such-flag"][..], 2, "no-such-flag"),
        (&["--no-such-flag=1"], 2, "no-such-flag"),
        (&["-no-such-flag", "1"], 2, "no-such-flag"),
        (&["--name"], 2, "name"),
        (&["--heartbeat-interval=soon"], 2, "heartbeat-interval"),
        (&["--initial-cluster-state=perhaps"], 2, "initial-cluster-state"),
        (
            &[
                "--listen-client-urls=nothing",
                "--advertise-client-urls=http://127.0.0.1:1",
            ],
            2,
            "nothing",
        ),
        (
            &["--heartbeat-interval=100", "--election-timeout=200"],
            1,
            "election",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            1,
            "advertise-client-urls",
        ),
        (&["--initial-cluster=other=http://127.0.0.1:1"], 1, "initial"),
    ] {
        let mut all = vec![data_dir.as_str()];
        all.extend(arguments);
        let finished = run(&all);
        assert_refused(&finished, &[word]);
        assert_eq!(finished.code, code, "{arguments:?}:\n{}", finished.text());
    }
}

#[test]
fn taken_ports_are_refused() {
    let free = ports::free(2);
    for taken in 0..2 {
        let _holder = TcpListener::bind(("127.0.0.1", free[taken])).expect("a free port");
        let cluster = Cluster::prepare(&support::callboard_bin(), &free, &[]);
        let finished = run_to_exit(&cluster.members[0]);
        assert_refused(&finished, &["in use"]);
        assert!(
            finished.text().contains(&free[taken].to_string()),
            "which port?\n{}",
            finished.text()
        );
    }
}

#[test]
fn variables_stand_for_flags() {
    let cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &[]);
    let member = &cluster.members[0];
    let mut command = process::command(&member.program);
    for pair in member.arguments.chunks_exact(2) {
        let name = pair[0]
            .to_str()
            .expect("a flag")
            .trim_start_matches('-')
            .replace('-', "_")
            .to_uppercase();
        command.env(format!("ETCD_{name}"), &pair[1]);
    }
    let mut process = Process::start(command, &member.log);
    wait_healthy(&mut process, member);
    assert!(member.data_dir.is_dir(), "the data directory of ETCD_DATA_DIR");

    process.kill();

    // A flag goes before its variable, which is said.
    let mut command = process::command(&member.program);
    command.args(&member.arguments).env("ETCD_NAME", "other");
    let mut process = Process::start(command, &member.log);
    wait_healthy(&mut process, member);
    assert!(process.log_text().contains("ETCD_NAME"), "{}", process.log_text());
}

#[test]
fn a_configuration_file_stands_alone() {
    let cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &[]);
    let member = &cluster.members[0];
    let file = member.data_dir.with_extension("yaml");
    let settings = member.arguments.chunks_exact(2).map(|pair| {
        let name = pair[0].to_str().expect("a flag").trim_start_matches('-');
        format!("{name}: '{}'\n", pair[1].to_str().expect("a value"))
    });
    std::fs::write(&file, settings.collect::<String>()).expect("a scratch file");
    let mut command = process::command(&member.program);
    command.arg("--config-file").arg(&file);
    command
        .args(["--listen-client-urls", "http://127.0.0.1:1"])
        .env("ETCD_LOG_LEVEL", "none");
    let mut process = Process::start(command, &member.log);
    wait_healthy(&mut process, member);

    std::fs::write(&file, "nmae: x\n").expect("a scratch file");
    let mut command = process::command(&member.program);
    command.arg("--config-file").arg(&file);
    let finished = process::run(command, b"", EXIT_LIMIT).expect("a refusal");
    assert_refused(&finished, &["nmae"]);
}

#[test]
fn sigterm_ends_a_member_without_an_error() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    let status = cluster.members[0].terminate();
    assert!(
        ended_as_asked(status),
        "it ended with {status}:\n{}",
        cluster.members[0].log_text()
    );
    // And at once, even when it has no majority.
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    cluster.members[1].kill();
    cluster.members[2].kill();
    let status = cluster.members[0].terminate();
    assert!(
        ended_as_asked(status),
        "without a majority it ended with {status}"
    );
}

fn ended_as_asked(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.success() || status.signal() == Some(libc::SIGTERM)
}

#[test]
fn defaults_without_arguments() {
    let ports_are_free = || {
        [2379, 2380]
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    if !ports_are_free() {
        println!("skipped: something else on this machine uses port 2379 or 2380");
        return;
    }
    let directory = tempfile::tempdir().expect("a scratch directory");
    let mut command = process::command(&support::callboard_bin());
    command.current_dir(directory.path());
    let mut process = Process::start(command, &directory.path().join("log"));
    let healthy = || match process.ended() {
        Some(status) => Ok(Err(status)),
        None => http::get(([127, 0, 0, 1], 2379).into(), "/health").map(Ok),
    };
    match poll::until(Duration::from_secs(30), healthy) {
        Ok(Ok(response)) => assert!(response.body.contains("\"health\":"), "{response:?}"),
        Ok(Err(_)) if process.log_text().contains("in use") => {
            println!("skipped: something else on this machine took port 2379 or 2380");
            return;
        }
        other => panic!("{other:?}\n{}", process.tail()),
    }
    assert!(
        directory.path().join("default.etcd").is_dir(),
        "no default.etcd:\n{}",
        process.tail()
    );
}

fn wait_healthy(process: &mut Process, member: &Member) {
    let look = || match process.ended() {
        Some(status) => Ok(Err(StartError::Other(status.to_string()))),
        None => http::get(member.client, "/health").map(Ok),
    };
    let answer = poll::until(Duration::from_secs(30), look).expect("an answer or an end");
    answer.unwrap_or_else(|error| panic!("{error}\n{}", process.tail()));
}
