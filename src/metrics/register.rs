//! Adds series to a member's registry. Names are constants, so a malformed or duplicate name is a programmer error and stops the
//! first test that starts a member.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};

const SOUND: &str = "names of series are sound and distinct";

/// Buckets of a histogram: the first bound, the factor between bounds, and the number of buckets.
pub type Buckets = (f64, f64, usize);

/// etcd's buckets for disk operations: 1 ms to 8 s.
pub const DISK: Buckets = (0.001, 2.0, 14);

/// Creates series in one registry.
#[derive(Clone, Copy, Debug)]
pub struct Register<'r>(pub &'r Registry);

impl Register<'_> {
    pub fn counter(self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    pub fn counters(self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub fn gauge(self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    pub fn gauges(self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A gauge with its information in a label; its value is 1.
    pub fn note(self, name: &str, help: &str, label: &str, value: &str) {
        self.gauges(name, help, &[label])
            .with_label_values(&[value])
            .set(1);
    }

    pub fn histogram(self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        self.add(Histogram::with_opts(options(name, help, buckets)))
    }

    pub fn histograms(self, name: &str, help: &str, buckets: Buckets, labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(options(name, help, buckets), labels))
    }

    pub fn add<C: Collector + Clone + 'static>(self, made: prometheus::Result<C>) -> C {
        let collector = made.expect(SOUND);
        self.0.register(Box::new(collector.clone())).expect(SOUND);
        collector
    }
}

fn options(name: &str, help: &str, (start, factor, count): Buckets) -> HistogramOpts {
    let buckets = exponential_buckets(start, factor, count).expect(SOUND);
    HistogramOpts::new(name, help).buckets(buckets)
}
