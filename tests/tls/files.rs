//! Certificates from files.

use super::support::authority::Authority;
use super::{Secure, assert_fails, https, logs, prepare, start, wait_logged, wait_put_get};
use std::ffi::OsString;
use std::fs;

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn only_who_has_a_certificate_comes_in_and_new_certificates_need_no_restart() {
    let mut cluster = prepare(
        3,
        Secure::Both,
        &["--client-cert-auth", "--peer-client-cert-auth"],
    );
    let directory = cluster.directory().to_path_buf();
    let authority = Authority::new(&directory, "first");
    let server = authority.sign(&directory, "server", "server");
    for member in &mut cluster.members {
        let flags = server
            .flags("", &authority)
            .into_iter()
            .chain(server.flags("peer-", &authority));
        member.arguments.extend(flags.map(OsString::from));
    }
    start(&mut cluster);
    let client = authority
        .sign(&directory, "client", "client")
        .arguments(&authority);
    let client = texts(&client);
    for number in 0..3 {
        wait_put_get(&https(&cluster, number), &client, &cluster);
    }
    let endpoint = https(&cluster, 0);
    assert_fails(&endpoint, &client[..1]);

    let old = [fs::read(&server.certificate), fs::read(&server.key)].map(|file| file.expect("readable"));
    fs::write(&server.certificate, "no certificate").expect("write");
    wait_put_get(&endpoint, &client, &cluster);
    wait_logged(&cluster, 0, &["new certificates cannot be used", "server.crt"]);
    fs::write(&server.certificate, &old[0]).expect("write");

    // Everything new: what the old authority has signed counts no more, neither way.
    let newer = Authority::new(&directory, "second");
    let renewed = newer.sign(&directory, "renewed", "server");
    let newer_client = newer.sign(&directory, "newer-client", "client").arguments(&newer);
    let newer_client = texts(&newer_client);
    assert_fails(&endpoint, &newer_client);
    fs::copy(&renewed.key, &server.key).expect("copy");
    fs::copy(&renewed.certificate, &server.certificate).expect("copy");
    fs::copy(&newer.file, &authority.file).expect("copy");
    wait_put_get(&endpoint, &newer_client, &cluster);
    wait_logged(&cluster, 0, &["took new certificates"]);
    let mut both = client.clone();
    both[0] = newer_client[0];
    assert_fails(&endpoint, &both);
}

#[test]
fn members_of_another_authority_are_refused() {
    let mut cluster = prepare(3, Secure::Peers, &[]);
    let directory = cluster.directory().to_path_buf();
    let authorities = ["ours", "theirs"].map(|name| Authority::new(&directory, name));
    for (number, member) in cluster.members.iter_mut().enumerate() {
        let authority = &authorities[number / 2];
        let pair = authority.sign(&directory, &member.name, &member.name);
        let flags = pair.flags("peer-", authority);
        member.arguments.extend(flags.into_iter().map(OsString::from));
    }
    start(&mut cluster);
    let endpoint = cluster.members[0].client.to_string();
    wait_put_get(&endpoint, &[], &cluster);
    wait_logged(&cluster, 0, &["rejected connection", "TLS handshake failed"]);
    wait_logged(&cluster, 2, &["peer connection", "UnknownIssuer"]);
    assert!(
        !cluster.members[2]
            .log_text()
            .contains("established a peer connection"),
        "{}",
        logs(&cluster)
    );
}

#[test]
fn a_member_can_be_asked_for_by_its_name() {
    let mut cluster = prepare(3, Secure::Peers, &["--peer-cert-allowed-cn=actor,understudy"]);
    let directory = cluster.directory().to_path_buf();
    let authority = Authority::new(&directory, "ours");
    for (member, name) in cluster.members.iter_mut().zip(["actor", "understudy", "critic"]) {
        let pair = authority.sign(&directory, name, name);
        let flags = pair.flags("peer-", &authority);
        member.arguments.extend(flags.into_iter().map(OsString::from));
    }
    start(&mut cluster);
    let endpoint = cluster.members[0].client.to_string();
    wait_put_get(&endpoint, &[], &cluster);
    wait_logged(&cluster, 0, &["rejected connection", "NotValidForName"]);
}
