//! The benchmark against the client's test server: what it counts, and that it ends.

use super::run::measure;
use super::{BenchOptions, Command};
use crate::client::tests::{Behaviour, nobody, serve};
use crate::env;
use clap::Parser;
use serde_json::Value;
use std::sync::atomic::Ordering;
use tonic::Code;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    options: BenchOptions,
}

/// Parses a command line.
pub fn parse(line: &str) -> Result<Command, clap::Error> {
    Program::try_parse_from(line.split_whitespace()).map(|program| program.options.command)
}

/// Runs a command line against a server. Returns the report and the number of calls that reached the server.
async fn run(line: &str, behaviour: Behaviour) -> (Value, u64) {
    let (endpoint, calls) = serve(behaviour).await;
    let command = parse(&format!("{line} --endpoints {endpoint}")).expect("a valid command line");
    let report = measure(&command).await.expect("the server listens");
    assert_eq!(report.failed(), report.json()["failed"] != 0);
    assert!(report.text().contains("latency (ms)"));
    (report.json(), calls.load(Ordering::Relaxed))
}

#[test]
fn requests_are_counted_exactly() {
    env::block_on(async {
        for (command, method) in [("put", "put"), ("range", "range"), ("txn", "txn")] {
            let line = format!("bench {command} --total 300 --clients 7 --connections 3");
            let (report, calls) = run(&line, Behaviour::Answer).await;
            assert_eq!(
                (&report["succeeded"], &report["failed"]),
                (&300.into(), &0.into()),
                "{report}"
            );
            assert_eq!(report["latency_us_by_method"][method]["count"], 300);
            assert_eq!(calls, 300);
        }
        let line = "bench mixed --total 100 --prepopulate 50 --read-ratio 0.3 --clients 3";
        let (report, calls) = run(line, Behaviour::Answer).await;
        assert_eq!((&report["succeeded"], calls), (&100.into(), 150), "{report}");
    });
}

#[test]
fn durations_and_rates_bound_the_load() {
    env::block_on(async {
        let line = "bench put --duration 300ms --rate 100 --warm-up 100ms --clients 5";
        let (report, calls) = run(line, Behaviour::Answer).await;
        let succeeded = report["succeeded"].as_u64().expect("a number");
        assert!((1..=31).contains(&succeeded), "{report}");
        assert!(calls > succeeded, "the warm-up sends too");
    });
}

#[test]
fn errors_are_counted_by_kind() {
    env::block_on(async {
        let (report, _) = run(
            "bench put --total 20 --clients 2",
            Behaviour::Refuse(Code::OutOfRange),
        )
        .await;
        assert_eq!(report["errors"]["OutOfRange: refused"], 20, "{report}");
        let (report, _) = run("bench put --total 4 --clients 2 --timeout 100ms", Behaviour::Hang).await;
        assert_eq!(report["errors"]["timeout"], 4, "{report}");
    });
}

#[test]
fn lost_connections_are_opened_again_and_nothing_is_sent_twice() {
    env::block_on(async {
        let (report, calls) = run("bench put --total 5", Behaviour::Drop).await;
        assert_eq!((&report["failed"], calls), (&5.into(), 5), "{report}");
    });
}

#[test]
fn nobody_listening_is_an_error() {
    env::block_on(async {
        let command = parse(&format!("bench put --endpoints {}", nobody())).expect("a valid command line");
        let error = measure(&command).await.expect_err("nobody listens");
        assert!(
            error.to_string().contains("cannot connect to 127.0.0.1"),
            "{error}"
        );
    });
}
