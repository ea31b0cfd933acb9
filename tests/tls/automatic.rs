//! `--peer-auto-tls` and `--auto-tls`.

use super::support::{http, poll, process};
use super::{COMMAND_LIMIT, Secure, assert_fails, etcdctl, https, prepare, start, support, wait_put_get};
use std::io::Write;
use std::net::TcpStream;

const INSECURE: [&str; 2] = ["--insecure-transport=false", "--insecure-skip-tls-verify"];

#[test]
fn members_with_automatic_certificates_make_a_cluster() {
    let mut cluster = prepare(3, Secure::Peers, &["--peer-auto-tls"]);
    start(&mut cluster);
    for number in 0..3 {
        let endpoint = cluster.members[number].client.to_string();
        wait_put_get(&endpoint, &[], &cluster);
    }
    let certificate = cluster.members[0].data_dir.join("fixtures/peer/cert.pem");
    let made = std::fs::read(&certificate).expect("made under etcd's name");
    cluster.members[0].terminate();
    cluster.members[0].start_ready();
    assert_eq!(std::fs::read(&certificate).expect("still there"), made);
    assert!(
        http::get(cluster.members[0].peer, "/version").is_err(),
        "the peer port answers plain requests"
    );
}

#[test]
fn clients_come_in_by_an_automatic_certificate() {
    let mut cluster = prepare(1, Secure::Clients, &["--auto-tls"]);
    start(&mut cluster);
    let endpoint = https(&cluster, 0);
    // Somebody who connects and says nothing, and somebody who speaks something else, hold nobody up.
    let client = cluster.members[0].client;
    let connect = || TcpStream::connect(client);
    let mut silent = poll::until(COMMAND_LIMIT, connect).expect("a connection");
    wait_put_get(&endpoint, &INSECURE, &cluster);
    assert!(http::get(client, "/health").is_err());
    assert_fails(&endpoint, &["--insecure-transport=false"]);
    assert_fails(&client.to_string(), &[]);
    let mut command = process::command(&support::callboard_bin());
    command.args([
        "bench",
        "put",
        "--total",
        "20",
        "--insecure-skip-tls-verify",
        "--endpoints",
    ]);
    command.arg(&endpoint);
    let bench = process::run(command, b"", COMMAND_LIMIT).expect("ends");
    assert_eq!(bench.code, 0, "{}", bench.text());
    assert!(cluster.members[0].is_running());
    silent.write_all(b"x").expect("still connected");
}

#[test]
fn one_port_can_speak_both() {
    let mut cluster = prepare(1, Secure::Peers, &["--auto-tls", "--peer-auto-tls"]);
    let member = &mut cluster.members[0];
    let both = format!("http://{0},https://{0}", member.client);
    member
        .arguments
        .extend(["--listen-client-urls".into(), both.into()]);
    member.start_ready();
    let plain = member.client.to_string();
    wait_put_get(&plain, &[], &cluster);
    wait_put_get(&https(&cluster, 0), &INSECURE, &cluster);
    let version = etcdctl(&plain, &[], &["endpoint", "status"]);
    assert_eq!(version.code, 0, "{}", version.text());
}
