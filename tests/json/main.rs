//! The same JSON requests to one member of etcd and one of Callboard: status, type and content of the answers must be
//! the same.
//!
//! `requests.txt` holds them, `script.rs` says how. The real etcd answers first, then Callboard on the same ports, so
//! that ids agree. Debian's etcd 3.4 differs from 3.7 in places: there the script says what 3.7.1 answers. With
//! `ETCD_BIN=/path/to/etcd` another version is asked; all of 3.4.23, 3.5.1 and 3.7.1 have been.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod script;
#[path = "../support/mod.rs"]
mod support;

use script::Step;
use serde_json::Value;
use std::path::Path;
use support::cluster::{Cluster, StartError};
use support::{http, ports};

/// What is compared of an answer.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    content_type: String,
    /// One value, or one per line of a stream, whose order is free: watchers of one stream do not wait for one another.
    values: Vec<Value>,
    /// What is no JSON.
    text: String,
}

impl Answer {
    /// As a script states it: it does not know the ids of a cluster.
    fn without_ids(mut self) -> Self {
        for header in self.values.iter_mut().filter_map(|value| value.get_mut("header")) {
            header["cluster_id"] = "@".into();
            header["member_id"] = "@".into();
        }
        self
    }
}

#[test]
fn answers_are_those_of_etcd() {
    let steps = script::parse(include_str!("requests.txt"));
    let (version, expected, found) = on_the_same_ports(&steps);
    let old = ["3.4.", "3.5."].iter().any(|old| version.starts_with(old));
    let mut differences = 0;
    let mut differing = 0;
    for ((step, etcd), callboard) in steps.iter().zip(expected).zip(found) {
        let (expected, callboard) = match &step.newer {
            Some((status, body)) => {
                let content_type = if body.is_empty() { "" } else { "application/json" };
                let stated = answer(*status, content_type.to_owned(), body.clone());
                let same = stated == etcd.without_ids();
                assert!(
                    same || old,
                    "line {}: the script does not know etcd {version}",
                    step.line
                );
                differing += usize::from(!same);
                (stated, callboard.without_ids())
            }
            None => (etcd, callboard),
        };
        if callboard != expected {
            differences += 1;
            eprintln!("line {}: {} {} {}", step.line, step.method, step.path, step.body);
            eprintln!("    - {expected:?}\n    + {callboard:?}");
        }
    }
    println!(
        "{} requests alike, {differing} of them other than etcd {version}",
        steps.len()
    );
    assert_eq!(differences, 0, "answers differ (- etcd, + callboard)");
}

#[test]
fn a_watch_tells_of_what_comes_later() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let (first, last) = (cluster.members[0].client, cluster.members[2].client);
    let watch = r#"{"create_request":{"key":"Zm9v"}}"#;
    let watching = std::thread::spawn(move || http::lines(last, "/v3/watch", watch, 2));
    // The watch may be created after some of them.
    while !watching.is_finished() {
        let put = http::request(first, "POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#);
        assert_eq!(put.expect("an answer").status, 200);
    }
    let lines = watching.join().expect("no panic").expect("two lines");
    let told = lines.body.lines().nth(1).expect("a second line");
    let told: Value = serde_json::from_str(told).expect("JSON");
    assert_eq!(told["result"]["events"][0]["kv"]["value"], "YmFy");
}

#[test]
fn the_gateway_can_be_switched_off() {
    for program in [support::etcd_bin(), support::callboard_bin()] {
        let cluster = Cluster::start_with(&program, 1, &["--enable-grpc-gateway=false"]);
        let response = http::request(cluster.members[0].client, "POST", "/v3/kv/range", "{}");
        let response = response.expect("an answer");
        assert_eq!(
            (response.status, response.body.as_str()),
            (404, "404 page not found\n")
        );
    }
}

/// The version of etcd, what it answered, and what Callboard did.
fn on_the_same_ports(steps: &[Step]) -> (String, Vec<Answer>, Vec<Answer>) {
    for _ in 0..5 {
        let ports = ports::free(2);
        let run = |program: &Path| match Cluster::start_on(program, &ports, &[]) {
            Ok(cluster) => {
                let member = cluster.members[0].client;
                let version = http::get(member, "/version").expect("a version").body;
                let version: Value = serde_json::from_str(&version).expect("JSON");
                let answers = steps.iter().map(|step| perform(member, step)).collect();
                Some((
                    version["etcdserver"].as_str().expect("a text").to_owned(),
                    answers,
                ))
            }
            Err(StartError::PortTaken(_)) => None,
            Err(StartError::Other(text)) => panic!("{text}"),
        };
        let etcd = run(&support::etcd_bin());
        if let (Some((version, expected)), Some((_, found))) = (etcd, run(&support::callboard_bin())) {
            return (version, expected, found);
        }
    }
    panic!("found no ports that stayed free");
}

fn perform(member: std::net::SocketAddr, step: &Step) -> Answer {
    let response = match step.lines {
        0 => http::request(member, &step.method, &step.path, &step.body),
        count => http::lines(member, &step.path, &step.body, count),
    };
    let response = response.unwrap_or_else(|complaint| panic!("line {}: {complaint}", step.line));
    let content_type = response.headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type")
            .then(|| value.trim().to_owned())
    });
    answer(response.status, content_type.unwrap_or_default(), response.body)
}

fn answer(status: u16, content_type: String, body: String) -> Answer {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&body).into_iter().collect();
    let (mut values, text) = match values {
        Ok(values) if body.trim_start().starts_with('{') => (values, String::new()),
        _ => (vec![], body),
    };
    values.iter_mut().for_each(normalise);
    values.sort_by_key(Value::to_string);
    Answer {
        status,
        content_type,
        values,
        text,
    }
}

/// Takes out what differs between two runs of one server, and `error`, which etcd had until 3.5 and Callboard keeps.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("message") {
                fields.remove("error");
            }
            // An error without words that can be compared: only that there is one.
            if let Some(message) = fields.get_mut("message")
                && is_syntax(message)
            {
                *message = Value::Null;
            }
            for name in [
                "raft_term",
                "raftTerm",
                "raftIndex",
                "raftAppliedIndex",
                "version",
                "storageVersion",
                "dbSize",
                "dbSizeInUse",
                "dbSizeQuota",
                "downgradeInfo",
            ] {
                // The version of a key is a number in a string, too, but has no dot.
                if name != "version"
                    || fields
                        .get(name)
                        .is_some_and(|value| value.to_string().contains('.'))
                {
                    fields.remove(name);
                }
            }
            fields.values_mut().for_each(normalise);
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// Go's and Rust's parsers complain in their own words.
fn is_syntax(message: &Value) -> bool {
    let text = message.as_str().unwrap_or_default();
    [
        "proto:",
        "json:",
        "invalid character",
        "illegal base64",
        "unknown value",
        "unexpected EOF",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}
