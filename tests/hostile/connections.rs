//! More connections than a member may have files open: those that say nothing, those that are idle, those that keep a
//! request under way, on the client port and the peer port, plain and with TLS.

use crate::support::cluster::{Cluster, Member, READY_LIMIT};
use crate::support::kv_client::{self, Client};
use crate::support::{self, http, poll, ports, process};
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The member's limit of open files, soft and hard.
const OPEN_FILES_MAX: usize = 256;
/// Far more than that.
const CONNECTIONS: usize = 600;
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// No answer to another client takes longer, at the 99th percentile.
const LATENCY_MAX: Duration = Duration::from_millis(500);
/// A new connection is served or closed within this.
const VERDICT_MAX: Duration = Duration::from_secs(3);

/// Members that run with a low limit of open files, healthy.
fn start(size: usize) -> Cluster {
    callboard::env::raise_open_files_max();
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2 * size), &[]);
    for member in &mut cluster.members {
        limit_files(member);
        member.start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    cluster
}

/// Has a shell set the limit before it becomes the member.
fn limit_files(member: &mut Member) {
    let script = format!("ulimit -n {OPEN_FILES_MAX} && exec \"$0\" \"$@\"");
    let mut arguments: Vec<OsString> = vec!["-c".into(), script.into(), member.program.clone().into()];
    arguments.append(&mut member.arguments);
    member.arguments = arguments;
    member.program = "/bin/sh".into();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, VERDICT_MAX).expect("accepted");
    stream.set_read_timeout(Some(VERDICT_MAX)).expect("a limit");
    stream
}

fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

/// Sends a request and returns the connection once the head of the answer has come; none if it is closed instead.
fn ask(address: SocketAddr, request: &str) -> Option<TcpStream> {
    let mut stream = connect(address);
    let asked = stream.write_all(request.as_bytes()).and_then(|()| {
        let mut head = [0; 12];
        stream.read_exact(&mut head).map(|()| head)
    });
    match asked {
        Ok(head) => {
            assert_eq!(&head, b"HTTP/1.1 200");
            Some(stream)
        }
        Err(error) => {
            let hung = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!hung, "a connection is neither served nor closed: {error}");
            None
        }
    }
}

fn idle(address: SocketAddr) -> Option<TcpStream> {
    ask(address, "GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn watching(address: SocketAddr) -> Option<TcpStream> {
    let body = "{\"create_request\":{\"key\":\"YQ==\"}}";
    let length = body.len();
    ask(
        address,
        &format!("POST /v3/watch HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"),
    )
}

/// Puts and gets of a client that was there before, while others connect; all must come through in time.
fn assert_served(member: &mut Member, others: impl FnOnce() + Send) {
    let address = member.client;
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            kv_client::block_on(async {
                let client = Client::new(&[address], REQUEST_LIMIT);
                let mut latencies = Vec::new();
                let end = Instant::now() + Duration::from_secs(3);
                while Instant::now() < end {
                    let begin = Instant::now();
                    client.put(b"stage", b"left").await.acked().expect("a put");
                    let got = client.get(b"stage").await.acked().expect("a get");
                    assert_eq!(got.expect("the key").value, "left");
                    latencies.push(begin.elapsed());
                }
                latencies
            })
        });
        others();
        client.join().expect("another client is served")
    });
    latencies.sort();
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 < LATENCY_MAX, "{} pairs, p99 {p99:?}", latencies.len());
    assert_alive(member);
}

fn assert_alive(member: &mut Member) {
    assert!(member.is_running(), "{}", member.process().tail());
    let log = member.log_text();
    assert!(!log.contains("cannot go on"), "{log}");
    let about_connections = log.matches("a new connection").count()
        + log.matches("nothing was said").count()
        + log.matches("failed to accept").count();
    assert!(
        about_connections < 40,
        "{about_connections} lines about connections"
    );
    let files = std::fs::read_dir(format!("/proc/{}/fd", member.process().id()))
        .expect("the member's files")
        .count();
    assert!(files < OPEN_FILES_MAX - 16, "{files} files are open");
}

#[test]
fn silent_connections_beyond_the_limit_of_open_files_keep_nobody_out() {
    let mut cluster = start(1);
    let member = &mut cluster.members[0];
    let (client, peer) = (member.client, member.peer);
    let mut crowd = Vec::new();
    assert_served(member, || {
        crowd.extend(silent(client, CONNECTIONS));
        crowd.extend(silent(peer, CONNECTIONS));
    });
    // Newcomers that speak are served beside those that do not.
    for _ in 0..20 {
        let version = http::get(client, "/version").expect("a newcomer is served");
        assert_eq!(version.status, 200);
        crowd.extend(silent(client, 20));
    }
    // And the engine has room for its files.
    kv_client::block_on(async {
        let client = Client::new(&[client], REQUEST_LIMIT);
        for number in 0..300 {
            let value = vec![b'v'; 100_000];
            client
                .put(format!("k{number}").as_bytes(), &value)
                .await
                .acked()
                .expect("a put");
        }
    });
    assert_alive(member);
    drop(crowd);
    let gone = || {
        let files =
            std::fs::read_dir(format!("/proc/{}/fd", member.process().id())).map_err(|e| e.to_string())?;
        let files = files.count();
        if files < 120 {
            Ok(())
        } else {
            Err(format!("{files} files are open"))
        }
    };
    poll::until(READY_LIMIT, gone).expect("the connections' descriptors come back");
}

#[test]
fn idle_connections_leave_for_new_ones() {
    let mut cluster = start(1);
    let member = &mut cluster.members[0];
    let client = member.client;
    assert_served(member, || {
        let crowd: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|number| idle(client).unwrap_or_else(|| panic!("connection {number} is refused")))
            .collect();
        drop(crowd);
    });
}

#[test]
fn when_every_connection_has_a_request_under_way_new_ones_are_refused_in_time() {
    let mut cluster = start(1);
    let member = &mut cluster.members[0];
    let client = member.client;
    assert_served(member, || {
        let crowd: Vec<TcpStream> = (0..CONNECTIONS / 2).filter_map(|_| watching(client)).collect();
        assert!(crowd.len() > 30, "{} are served", crowd.len());
        assert!(crowd.len() < OPEN_FILES_MAX, "{} are served", crowd.len());
        assert!(idle(client).is_none(), "a place is left");
        drop(crowd);
        poll::until(READY_LIMIT, || idle(client).ok_or("refused")).expect("places come back");
    });
}

#[test]
fn a_member_comes_back_through_crowded_peer_ports() {
    let mut cluster = start(3);
    let mut crowd: Vec<TcpStream> = Vec::new();
    for member in &cluster.members {
        crowd.extend(silent(member.peer, CONNECTIONS / 2));
    }
    cluster.members[0].terminate();
    for member in &cluster.members[1..] {
        crowd.extend(silent(member.peer, CONNECTIONS / 2));
    }
    cluster.members[0].start_ready();
    for member in &mut cluster.members {
        assert_served(member, || {});
    }
    drop(crowd);
}

#[test]
fn silent_connections_to_a_port_with_tls_keep_nobody_out() {
    callboard::env::raise_open_files_max();
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &["--auto-tls"]);
    let member = &mut cluster.members[0];
    for argument in &mut member.arguments {
        if *argument == *format!("http://{}", member.client) {
            *argument = format!("https://{}", member.client).into();
        }
    }
    limit_files(member);
    member.start();
    let endpoint = format!("https://{}", member.client);
    let put = || {
        let mut command = process::command(&support::etcdctl_bin());
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]);
        command.args(["--insecure-transport=false", "--insecure-skip-tls-verify"]);
        command.args([
            "--dial-timeout=2s",
            "--command-timeout=3s",
            "put",
            "stage",
            "left",
        ]);
        let finished = process::run(command, b"", REQUEST_LIMIT)?;
        if finished.code == 0 {
            Ok(())
        } else {
            Err(finished.text())
        }
    };
    poll::until(READY_LIMIT, put).expect("served at all");
    let mut crowd = silent(member.client, CONNECTIONS);
    for _ in 0..5 {
        put().expect("a client is served beside silent ones");
        crowd.extend(silent(member.client, 100));
    }
    assert_alive(member);
    drop(crowd);
}
