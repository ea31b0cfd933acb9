//! Discovery services that speak TLS, one of them behind a proxy.

use crate::support::authority::Authority;
use crate::support::cluster::{Cluster, Member, READY_LIMIT};
use crate::support::process::{self, Process};
use crate::support::{self, http, poll, ports};
use crate::{Secure, etcdctl, https, prepare, start, wait_put_get};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A proxy that connects to whom it is told; how often it has done so.
fn proxy() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let tunnels = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tunnels);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let server = TcpStream::connect(target(&client)).expect("the target listens");
            (&client)
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .expect("it waits");
            counted.fetch_add(1, Ordering::Relaxed);
            carry(&client, &server);
            carry(&server, &client);
        }
    });
    (address, tunnels)
}

/// Reads the head of a CONNECT request; nothing else comes before its answer.
fn target(mut client: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next());
    target.unwrap_or_else(|| panic!("{head}")).to_owned()
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let share = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let (mut from, mut to) = (share(from), share(to));
    std::thread::spawn(move || {
        // The other end may have closed it already.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A member that is told nothing but these flags of its cluster.
fn discoverer(flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), flags);
    let arguments = &mut cluster.members[0].arguments;
    let place = arguments
        .iter()
        .position(|argument| argument == "--initial-cluster");
    let place = place.expect("a list");
    arguments.drain(place..place + 2);
    cluster
}

fn wait_healthy(member: &Member, process: &mut Process) {
    let look = || match process.ended() {
        Some(status) => panic!("it ended with {status}: {}", member.log_text()),
        None => http::get(member.client, "/health"),
    };
    poll::until(READY_LIMIT, look).expect("it has founded its cluster");
}

#[test]
fn a_discovery_url_is_reached_over_tls_behind_a_proxy() {
    let scratch = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(scratch.path(), "authority");
    let pair = authority.sign(scratch.path(), "server", "server");
    let certificate = format!("--cert-file={}", pair.certificate.display());
    let key = format!("--key-file={}", pair.key.display());
    let mut service = prepare(1, Secure::Clients, &["--enable-v2", &certificate, &key]);
    service.members[0].program = support::etcd_bin();
    start(&mut service);
    let set = || {
        let mut command = process::command(&support::etcdctl_bin());
        command.env("ETCDCTL_API", "2").args([
            "--endpoints",
            &https(&service, 0),
            "--ca-file",
            authority.file.to_str().expect("a path"),
            "set",
            "/discovery/one/_config/size",
            "1",
        ]);
        match process::run(command, b"", READY_LIMIT) {
            Ok(finished) if finished.code == 0 => Ok(()),
            Ok(finished) => Err(finished.text()),
            Err(complaint) => Err(complaint),
        }
    };
    poll::until(READY_LIMIT, set).expect("the size is set");

    let (address, tunnels) = proxy();
    let url = format!("{}/v2/keys/discovery/one", https(&service, 0));
    let proxy = format!("http://{address}");
    let cluster = discoverer(&["--discovery", &url, "--discovery-proxy", &proxy]);
    let member = &cluster.members[0];
    let mut command = process::command(&member.program);
    command.args(&member.arguments);
    // What the operating system trusts.
    command.env("SSL_CERT_FILE", &authority.file);
    let mut process = Process::start(command, &member.log);
    wait_healthy(member, &mut process);
    assert!(tunnels.load(Ordering::Relaxed) > 0, "the proxy was not asked");
}

#[test]
fn a_discovery_token_is_reached_over_tls() {
    let scratch = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(scratch.path(), "authority");
    let pair = authority.sign(scratch.path(), "server", "server");
    let mut flags: Vec<String> = pair.flags("", &authority).into();
    flags.push("--client-cert-auth".to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut service = prepare(1, Secure::Clients, &flags);
    start(&mut service);
    let files = pair.arguments(&authority);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    wait_put_get(&https(&service, 0), &files, &service);
    let size = ["put", "/_etcd/registry/tok/_config/size", "1"];
    assert_eq!(etcdctl(&https(&service, 0), &files, &size).code, 0);

    let endpoint = https(&service, 0);
    let own: Vec<String> = files
        .iter()
        .map(|file| file.replacen("--", "--discovery-", 1))
        .collect();
    let mut flags = vec!["--discovery-token", "tok", "--discovery-endpoints", &endpoint];
    flags.extend(own.iter().map(String::as_str));
    let mut cluster = discoverer(&flags);
    cluster.members[0].start_ready();
}
