//! The command line, one argument per line, lines with `NAME=value` after an empty one being the environment; and every
//! line as a URL.

#![no_main]

use callboard::cluster::MemberUrl;
use callboard::config::{self, Invocation};
use libfuzzer_sys::fuzz_target;
use std::ffi::OsString;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for line in text.lines() {
        if let Ok(url) = MemberUrl::parse(line) {
            let again = MemberUrl::parse(url.as_str()).expect("a URL that was accepted once");
            assert_eq!(again, url);
        }
    }
    let (arguments, environment) = text.split_once("\n\n").unwrap_or((text, ""));
    let arguments = std::iter::once("callboard").chain(arguments.lines());
    let environment = environment.lines().filter_map(|line| line.split_once('='));
    let parsed = config::parse(
        arguments.map(OsString::from),
        environment.map(|(name, value)| (OsString::from(name), OsString::from(value))),
        |_| Ok(text.to_owned()),
    );
    match parsed {
        Ok(Invocation::Server(server)) => {
            let _ = server
                .initial_cluster()
                .map(|cluster| cluster.found(&server.initial_cluster_token));
        }
        Ok(_) => {}
        Err(error) => drop(error.to_string()),
    }
});
