//! The report: as tables for reading, or as one JSON object.

use super::options::Command;
use super::run::Measured;
use super::watch::Delivered;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The quantiles of the latency table, after the column "requests": name and quantile.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The measurements and their command.
#[derive(Debug)]
pub struct Report {
    command: Command,
    measured: Measured,
    delivered: Option<Delivered>,
}

impl Report {
    pub fn new(command: &Command, measured: Measured, delivered: Option<Delivered>) -> Self {
        Self {
            command: command.clone(),
            measured,
            delivered,
        }
    }

    /// Whether any request failed, or an event is missing.
    pub fn failed(&self) -> bool {
        self.measured.tally.failed > 0 || self.delivered.is_some_and(|delivered| delivered.missing > 0)
    }

    fn name(&self) -> &'static str {
        match self.command {
            Command::Put(_) => "put",
            Command::Range(_) => "range",
            Command::Txn(_) => "txn",
            Command::Mixed(_) => "mixed",
            Command::Watch(_) => "watch",
            Command::Lease(_) => "lease",
        }
    }

    fn requests(&self) -> u64 {
        self.measured.tally.succeeded + self.measured.tally.failed
    }

    fn throughput(&self) -> f64 {
        self.measured.tally.succeeded as f64 / self.measured.elapsed.as_secs_f64().max(1e-9)
    }

    fn cpu_us_per_request(&self) -> f64 {
        self.measured.cpu.as_secs_f64() * 1e6 / self.requests().max(1) as f64
    }

    /// The report for reading.
    pub fn text(&self) -> String {
        let Measured { tally, elapsed, cpu } = &self.measured;
        let common = self.command.common();
        let mut text = format!(
            "{}: {} clients on {} connections to {}\n",
            self.name(),
            common.clients,
            common.connections,
            common.endpoints.join(","),
        );
        let mut summary = plain_table();
        summary.add_row(["requests/s".to_owned(), format!("{:.0}", self.throughput())]);
        summary.add_row(["succeeded".to_owned(), tally.succeeded.to_string()]);
        summary.add_row(["failed".to_owned(), tally.failed.to_string()]);
        summary.add_row(["elapsed".to_owned(), format!("{:.3} s", elapsed.as_secs_f64())]);
        summary.add_row(["answers".to_owned(), format!("{} bytes", tally.answer_bytes)]);
        summary.add_row([
            "client CPU".to_owned(),
            format!(
                "{:.3} s, {:.2} us per request",
                cpu.as_secs_f64(),
                self.cpu_us_per_request()
            ),
        ]);
        if let Some(delivered) = self.delivered {
            for row in delivered_rows(&delivered) {
                summary.add_row(row);
            }
        }
        let mut latency = plain_table();
        let names = QUANTILES.iter().map(|&(name, _)| name);
        latency.set_header(
            ["latency (ms)", "requests", "min", "mean"]
                .into_iter()
                .chain(names)
                .chain(["max"]),
        );
        let overall = tally.overall();
        let by_method: Vec<_> = tally.by_method().collect();
        for (name, latencies) in &by_method {
            latency.add_row(latency_row(name, latencies));
        }
        if by_method.len() > 1 {
            latency.add_row(latency_row("all", &overall));
        }
        align_right(&mut latency);
        write!(text, "{summary}\n{latency}").expect("a string grows");
        if !tally.errors.is_empty() {
            let mut errors = plain_table();
            errors.set_header(["errors", "count"]);
            for (kind, count) in &tally.errors {
                errors.add_row([kind.clone(), count.to_string()]);
            }
            align_right(&mut errors);
            write!(text, "\n{errors}").expect("a string grows");
        }
        text
    }

    /// The report for programs. All durations are in microseconds, except those named in seconds.
    pub fn json(&self) -> Value {
        let Measured { tally, elapsed, cpu } = &self.measured;
        let common = self.command.common();
        let by_method: Map<String, Value> = tally
            .by_method()
            .map(|(name, latencies)| (name.to_owned(), latency_json(latencies)))
            .collect();
        let mut report = json!({
            "command": self.name(),
            "endpoints": common.endpoints,
            "connections": common.connections,
            "clients": common.clients,
            "key_space": common.key_space,
            "key_bytes": common.key_bytes,
            "value_bytes": common.value_bytes,
            "rate": common.rate,
            "elapsed_seconds": elapsed.as_secs_f64(),
            "requests_per_second": self.throughput(),
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "errors": tally.errors,
            "answer_bytes": tally.answer_bytes,
            "latency_us": latency_json(&tally.overall()),
            "latency_us_by_method": by_method,
            "client_cpu_seconds": cpu.as_secs_f64(),
            "client_cpu_us_per_request": self.cpu_us_per_request(),
        });
        if let Some(delivered) = self.delivered {
            report["watch"] = json!({
                "watchers": delivered.watchers,
                "created_in_seconds": delivered.created_in.as_secs_f64(),
                "events": delivered.events,
                "events_per_second": delivered.rate(),
                "responses": delivered.responses,
                "missing": delivered.missing,
            });
        }
        report
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}

/// Aligns numbers right; the first column holds names.
fn align_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn delivered_rows(delivered: &Delivered) -> [[String; 2]; 3] {
    let Delivered {
        watchers,
        events,
        responses,
        missing,
        ..
    } = delivered;
    let created_in = delivered.created_in.as_secs_f64();
    [
        [
            "watchers".to_owned(),
            format!("{watchers}, created in {created_in:.3} s"),
        ],
        ["events/s".to_owned(), format!("{:.0}", delivered.rate())],
        [
            "events".to_owned(),
            format!("{events} in {responses} responses, {missing} missing"),
        ],
    ]
}

fn latency_row(name: &str, latencies: &Histogram<u64>) -> Vec<String> {
    let milliseconds = |nanoseconds: u64| format!("{:.3}", nanoseconds as f64 / 1e6);
    let mut row = vec![
        name.to_owned(),
        latencies.len().to_string(),
        milliseconds(latencies.min()),
        milliseconds(latencies.mean() as u64),
    ];
    row.extend(
        QUANTILES
            .iter()
            .map(|&(_, quantile)| milliseconds(latencies.value_at_quantile(quantile))),
    );
    row.push(milliseconds(latencies.max()));
    row
}

fn latency_json(latencies: &Histogram<u64>) -> Value {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let mut object = Map::new();
    object.insert("count".to_owned(), json!(latencies.len()));
    object.insert("min".to_owned(), json!(microseconds(latencies.min())));
    object.insert("mean".to_owned(), json!(latencies.mean() / 1e3));
    for (name, quantile) in QUANTILES {
        object.insert(
            name.to_owned(),
            json!(microseconds(latencies.value_at_quantile(quantile))),
        );
    }
    object.insert("max".to_owned(), json!(microseconds(latencies.max())));
    Value::Object(object)
}
