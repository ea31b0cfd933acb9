//! What a member logs and where: outputs, rotation, requests that take too long, and the port for plain HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::support::cluster::{Cluster, Member};
use super::support::kv_client::{self, ask};
use super::support::process::{self, Process};
use super::support::{self, http, poll, ports};
use super::{REQUEST_LIMIT, assert_refused, get, put, run_to_exit};

const PATIENCE: Duration = Duration::from_secs(20);

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn prepared(flags: &[String]) -> Cluster {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Cluster::prepare(&support::callboard_bin(), &ports::free(2), &flags)
}

#[test]
fn all_outputs_get_all_lines() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let files = ["one.log", "two.log"].map(|name| scratch.path().join(name));
    std::fs::write(&files[0], "from before\n").expect("a file");
    let [one, two] = &files;
    let mut cluster = prepared(&[format!(
        "--log-outputs=stderr,{},{}",
        one.display(),
        two.display()
    )]);
    let member = &mut cluster.members[0];
    member.start_ready();
    // It is written on, wherever it has been moved.
    let moved = scratch.path().join("moved.log");
    std::fs::rename(two, &moved).expect("it moves");
    member.terminate();
    let last = "closed etcd server";
    for (name, text) in [
        ("stderr", member.log_text()),
        ("one", text(one)),
        ("two", text(&moved)),
    ] {
        assert!(text.contains("ready to serve client requests"), "{name}:\n{text}");
        assert!(
            text.lines().last().is_some_and(|line| line.contains(last)),
            "{name}:\n{text}"
        );
    }
    assert!(text(one).starts_with("from before\n"));
    assert_eq!(text(one).lines().count(), text(&moved).lines().count() + 1);
    assert!(!two.exists());
}

#[test]
fn an_output_that_nobody_reads_holds_up_no_member_and_no_other_output() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let log = scratch.path().join("etcd.log");
    let cluster = prepared(&[format!("--log-outputs=stderr,{}", log.display())]);
    let member = &cluster.members[0];
    let mut command = process::command(&member.program);
    command
        .args(&member.arguments)
        .stderr(std::process::Stdio::piped());
    // More than fits into a pipe, in lines that say that nobody knows these.
    for number in 0..5 {
        command.env(format!("ETCD_GONE_{number}"), "x".repeat(100_000));
    }
    let mut child = command.spawn().expect("it starts");
    let healthy = poll::until(PATIENCE, || match http::get(member.client, "/health")? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    put(member, "key", "value");
    let pid = libc::pid_t::try_from(child.id()).expect("a process id");
    // SAFETY: kill takes no pointers; the id is that of a child that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let ended = poll::until(PATIENCE, || {
        child.try_wait().expect("a child").ok_or("still running")
    });
    let _ = child.kill();
    healthy.expect("a healthy member");
    ended.expect("an end");
    assert!(text(&log).contains("closed etcd server"), "{}", text(&log));
}

#[test]
fn outputs_that_cannot_be_used_are_refused() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let gone = scratch.path().join("gone/etcd.log");
    for (flags, words) in [
        (
            format!("--log-outputs={}", gone.display()),
            ["open sink", "no such file"],
        ),
        (
            format!("--log-outputs={}", scratch.path().display()),
            ["open sink", "is a directory"],
        ),
        (
            "--log-outputs=default,stdout".to_owned(),
            ["multi logoutput for \"default\"", ""],
        ),
        (
            "--enable-log-rotation".to_owned(),
            ["requires a single file path", ""],
        ),
    ] {
        let finished = run_to_exit(&prepared(std::slice::from_ref(&flags)).members[0]);
        for word in words {
            assert_refused(&finished, &[word]);
        }
        assert_eq!(finished.code, 1, "{flags}");
    }
    if !Path::new("/run/systemd/journal/socket").exists() {
        let flags = ["--log-outputs=systemd/journal".to_owned()];
        assert_refused(
            &run_to_exit(&prepared(&flags).members[0]),
            &["can't find journal"],
        );
    }
}

#[test]
fn a_log_file_is_rotated_by_its_size() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let directory = scratch.path().join("made");
    let log = directory.join("etcd.log");
    let cluster = prepared(&[
        format!("--log-outputs={}", log.display()),
        "--enable-log-rotation".to_owned(),
        r#"--log-rotation-config-json={"maxsize": 1, "maxbackups": 2, "compress": true}"#.to_owned(),
    ]);
    let member = &cluster.members[0];
    let backups = || {
        let names = std::fs::read_dir(&directory).map_err(|error| error.to_string())?;
        let names = names.map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        });
        let mut names: Vec<String> = names.filter(|name| name != "etcd.log").collect();
        names.sort();
        Ok::<_, String>(names)
    };
    let mut before: Vec<String> = Vec::new();
    for run in 0..4 {
        let mut command = process::command(&member.program);
        command.args(&member.arguments);
        // Each is a line of the log that says that nobody knows it.
        for number in 0..10 {
            command.env(format!("ETCD_GONE_{number}"), "x".repeat(120_000));
        }
        let mut process = Process::start(command, &member.log);
        // Each run fills a file, and the rest is in the newest one.
        let due = (run + 1).min(2);
        let rotated = poll::until(PATIENCE, || {
            let names = backups()?;
            let is_done = names.len() == due && names.iter().all(|name| name.ends_with(".log.gz"));
            let healthy = http::get(member.client, "/health")?.status == 200;
            if is_done && healthy {
                Ok(names)
            } else {
                Err(format!("{names:?}"))
            }
        });
        let names = rotated.unwrap_or_else(|complaint| panic!("run {run}: {complaint}\n{}", process.tail()));
        if run >= 2 {
            assert_eq!(names[0], before[1], "the oldest goes");
        }
        before = names;
        process.terminate(PATIENCE);
    }
    assert!(std::fs::metadata(&log).expect("it is there").len() <= 1024 * 1024);
    assert!(text(&log).contains("closed etcd server"));
}

/// The lines of a log with this message.
fn lines(member: &Member, message: &str) -> Vec<serde_json::Value> {
    let log = member.log_text();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &serde_json::Value| line["msg"] == message)
        .collect()
}

#[test]
fn requests_that_take_too_long_are_logged_without_their_values() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    put(&cluster.members[0], "key", "before");
    let client = cluster.members[0].client;
    for member in &mut cluster.members[1..] {
        member.process().signal(libc::SIGSTOP);
    }
    let requests = std::thread::spawn(move || {
        kv_client::block_on(async {
            let client = kv_client::Client::new(&[client], REQUEST_LIMIT);
            let (read, written) = tokio::join!(client.get(b"key"), client.put(b"key", b"secret"));
            (read.acked(), written.acked())
        })
    });
    // Less than an election timeout, more than 300 ms.
    std::thread::sleep(Duration::from_millis(600));
    for member in &mut cluster.members[1..] {
        member.process().signal(libc::SIGCONT);
    }
    let (read, written) = requests.join().expect("no panic");
    read.expect("an answered get");
    written.expect("an acknowledged put");
    let member = &cluster.members[0];
    let found = poll::until(PATIENCE, || {
        let found = lines(member, "request stats");
        if found.len() >= 2 {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    });
    let found = found.unwrap_or_else(|complaint| panic!("{complaint}\n{}", member.log_text()));
    for (path, content, request_count, response_count) in [
        ("/etcdserverpb.KV/Range", "key:\"key\"", 0, 1),
        ("/etcdserverpb.KV/Put", "key:\"key\" value_size:6", 1, 0),
    ] {
        let line = found.iter().find(|line| line["response type"] == path);
        let line = line.unwrap_or_else(|| panic!("{path}: {found:?}"));
        assert_eq!(line["level"], "warn");
        assert_eq!(line["request content"], content);
        assert_eq!(line["request count"], request_count);
        assert_eq!(line["response count"], response_count);
        assert!(
            line["response size"].as_i64().is_some_and(|bytes| bytes > 0),
            "{line}"
        );
        assert!(
            line["remote"]
                .as_str()
                .is_some_and(|remote| remote.starts_with("127.0.0.1:")),
            "{line}"
        );
        assert!(
            line["time spent"]
                .as_str()
                .is_some_and(|spent| spent.ends_with('s')),
            "{line}"
        );
        assert!(
            line["start time"]
                .as_str()
                .is_some_and(|start| start.ends_with('Z')),
            "{line}"
        );
    }
    assert!(!member.log_text().contains("secret"));
}

#[test]
fn applying_that_takes_too_long_names_the_request() {
    let cluster = Cluster::start_with(&support::callboard_bin(), 1, &["--warning-apply-duration=0s"]);
    let member = &cluster.members[0];
    put(member, "slow", "secret");
    let found = poll::until(PATIENCE, || {
        let found = lines(member, "apply request took too long");
        let is_named = |line: &&serde_json::Value| {
            line["request"]
                .to_string()
                .contains("put:{key:\\\"slow\\\" value_size:6}")
        };
        found
            .iter()
            .find(is_named)
            .map(|line| line["requests"].clone())
            .ok_or(format!("{found:?}"))
    });
    // Others may have been applied together with it.
    assert!(found.expect("a line about it").as_u64() >= Some(1));
    assert!(!member.log_text().contains("secret"));
}

#[test]
fn plain_http_has_a_port_of_its_own_if_the_operator_wants_one() {
    let free = ports::free(3);
    let http_url = format!("--listen-client-http-urls=http://127.0.0.1:{}", free[2]);
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &free[..2], &[&http_url]);
    let member = &mut cluster.members[0];
    member.start();
    let plain = ([127, 0, 0, 1], free[2]).into();
    let healthy = poll::until(PATIENCE, || match http::get(plain, "/health")? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    healthy.unwrap_or_else(|complaint| panic!("{complaint}\n{}", member.log_text()));
    put(member, "key", "value");
    assert_eq!(get(member, "key").as_deref(), Some("value"));
    let range = http::request(plain, "POST", "/v3/kv/range", r#"{"key": "a2V5"}"#).expect("an answer");
    assert!(range.body.contains("dmFsdWU="), "{range:?}");
    assert_eq!(http::get(plain, "/metrics").expect("an answer").status, 200);
    for path in ["/health", "/version", "/metrics"] {
        assert_eq!(
            http::get(member.client, path).expect("an answer").status,
            404,
            "{path}"
        );
    }
    let refused = ask(plain, REQUEST_LIMIT, async |client| client.get(b"key").await);
    refused.acked().expect_err("gRPC on the port for plain HTTP");
    for (traffic, port) in [("grpc", member.client.port()), ("http", free[2])] {
        let serving = lines(
            member,
            "serving client traffic insecurely; this is strongly discouraged!",
        );
        let is_named = |line: &&serde_json::Value| {
            line["traffic"] == traffic && line["address"] == format!("127.0.0.1:{port}")
        };
        assert!(
            serving.iter().any(|line| is_named(&line)),
            "{traffic}: {serving:?}"
        );
    }
    let same = format!("--listen-client-http-urls=http://{}", member.client);
    let refused = run_to_exit(&prepared_on(&free[..2], &same).members[0]);
    assert_refused(&refused, &["cannot bind both"]);
}

fn prepared_on(ports: &[u16], flag: &str) -> Cluster {
    Cluster::prepare(&support::callboard_bin(), ports, &[flag])
}

#[test]
fn plain_http_is_answered_under_listed_names_only() {
    let cluster = Cluster::start_with(
        &support::callboard_bin(),
        1,
        &["--host-whitelist=127.0.0.1,m1.example"],
    );
    let status = |host: &str| {
        let mut stream = TcpStream::connect(cluster.members[0].client).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        write!(
            stream,
            "GET /version HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )
        .expect("room");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(status("m1.example:2379").starts_with("HTTP/1.1 200 "));
    let refused = status("rebound.example");
    assert!(refused.starts_with("HTTP/1.1 421 "), "{refused}");
    assert!(
        refused.contains("--host-whitelist \"rebound.example\""),
        "{refused}"
    );
    put(&cluster.members[0], "key", "gRPC has no such names");
}

#[test]
fn a_port_can_be_shared_if_all_ask_for_it() {
    let free = ports::free(3);
    let start = |peer: u16| {
        Cluster::start_on(
            &support::callboard_bin(),
            &[free[0], peer],
            &["--socket-reuse-port"],
        )
    };
    let _first = start(free[1]).expect("a member");
    let _second = start(free[2]).expect("another member on the same port");
}
