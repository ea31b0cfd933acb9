//! The counts of a phase of the benchmark.

use super::load::Method;
use super::wire::WireError;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies are recorded with three digits, from a microsecond to an hour.
const LATENCY_MIN_NS: u64 = 1_000;
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;
/// Errors are counted by their text; the limit protects memory from a server that produces ever new texts.
const ERROR_KINDS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Tally {
    /// Latencies of successful requests, by [`Method`].
    latencies: [Histogram<u64>; Method::ALL.len()],
    pub errors: BTreeMap<String, u64>,
    pub succeeded: u64,
    pub failed: u64,
    pub answer_bytes: u64,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            latencies: std::array::from_fn(|_| histogram()),
            errors: BTreeMap::new(),
            succeeded: 0,
            failed: 0,
            answer_bytes: 0,
        }
    }

    /// Counts one request.
    pub fn record(&mut self, method: Method, latency: Duration, outcome: Result<u64, WireError>) {
        match outcome {
            Ok(answer_bytes) => {
                self.succeeded += 1;
                self.answer_bytes += answer_bytes;
                self.latencies[method as usize].saturating_record(latency.as_nanos() as u64);
            }
            Err(WireError(kind)) => {
                self.failed += 1;
                let known = self.errors.contains_key(&kind) || self.errors.len() < ERROR_KINDS_MAX;
                *self
                    .errors
                    .entry(if known { kind } else { "others".to_owned() })
                    .or_default() += 1;
            }
        }
    }

    /// The latencies of each method with successful requests, by name.
    pub fn by_method(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let all = Method::ALL.iter().zip(&self.latencies);
        all.map(|(method, latencies)| (method.name(), latencies))
            .filter(|(_, latencies)| !latencies.is_empty())
    }

    /// The latencies of all requests.
    pub fn overall(&self) -> Histogram<u64> {
        let mut sum = histogram();
        for latencies in &self.latencies {
            sum.add(latencies).expect("the bounds are equal");
        }
        sum
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, DIGITS).expect("the bounds are in order")
}
