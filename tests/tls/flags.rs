//! Flags that do not fit, compared with etcd.

use super::support::ports;
use super::support::process::{self, Finished};
use super::{COMMAND_LIMIT, Cluster, support};
use std::path::Path;

fn run(program: &Path, flags: &[&str]) -> Finished {
    let cluster = Cluster::prepare(program, &ports::free(2), flags);
    let mut command = process::command(program);
    command.args(&cluster.members[0].arguments);
    process::run(command, b"", COMMAND_LIMIT).unwrap_or_else(|complaint| panic!("{flags:?}: {complaint}"))
}

#[test]
fn what_etcd_refuses_is_refused_with_its_code_and_words() {
    let table: [(&[&str], &str); 7] = [
        (
            &["--listen-client-urls=https://127.0.0.1:1"],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-peer-urls=https://127.0.0.1:1"],
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
        ),
        (
            &[
                "--listen-peer-urls=https://127.0.0.1:0",
                "--peer-cert-file=/nowhere/a.crt",
            ],
            "KeyFile and CertFile must both be present[key: , cert: /nowhere/a.crt]",
        ),
        (
            &[
                "--listen-peer-urls=https://127.0.0.1:0",
                "--peer-cert-file=/nowhere/a.crt",
                "--peer-key-file=/nowhere/a.key",
            ],
            "open /nowhere/a.crt: no such file or directory",
        ),
        (&["--cipher-suites=NONE"], "unexpected TLS cipher suite \"NONE\""),
        (
            &["--client-cert-auth=x"],
            "invalid boolean value \"x\" for -client-cert-auth: parse error",
        ),
        (&["--peer-cert-file"], "flag needs an argument: -peer-cert-file"),
    ];
    for (flags, words) in table {
        let ours = run(&support::callboard_bin(), flags);
        let theirs = run(&support::etcd_bin(), flags);
        let text = ours.text().replace("\\\"", "\"");
        assert!(text.contains(words), "{flags:?}: {text}\netcd: {}", theirs.text());
        assert_eq!(
            ours.code,
            theirs.code,
            "{flags:?}: {text}\netcd: {}",
            theirs.text()
        );
    }
}
