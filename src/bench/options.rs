//! The command line of `callboard bench`.

use crate::tls::ClientFiles;
use std::time::Duration;

/// The number of requests if neither `--total` nor `--duration` is given.
const TOTAL_DEFAULT: u64 = 10_000;

/// Load generator for servers with etcd's v3 API.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchOptions {
    #[command(subcommand)]
    pub command: Command,
}

/// What to send.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Writes keys.
    Put(PutOptions),
    /// Reads keys.
    Range(RangeOptions),
    /// Compares and writes one key in a transaction.
    Txn(PutOptions),
    /// Reads and writes keys.
    Mixed(MixedOptions),
    /// Writes keys while watchers of all of them count events.
    Watch(WatchOptions),
    /// Grants leases and lets them expire.
    Lease(LeaseOptions),
}

impl Command {
    /// The options shared by all commands.
    pub fn common(&self) -> &CommonOptions {
        match self {
            Self::Put(options) | Self::Txn(options) => &options.common,
            Self::Range(options) => &options.common,
            Self::Mixed(options) => &options.common,
            Self::Watch(options) => &options.common,
            Self::Lease(options) => &options.common,
        }
    }
}

/// BenchOptions of `put` and `txn`.
#[derive(Clone, Debug, clap::Args)]
pub struct PutOptions {
    #[command(flatten)]
    pub common: CommonOptions,
}

/// BenchOptions of `range`.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    #[command(flatten)]
    pub read: ReadOptions,
    /// Read the whole key space in every request.
    #[arg(long, conflicts_with = "prefix")]
    pub range_whole: bool,
    /// Read all keys with this prefix in every request.
    #[arg(long)]
    pub prefix: Option<String>,
    /// Maximum keys per response; 0 means no limit.
    #[arg(long, default_value_t = 0)]
    pub limit: i64,
    /// Request only the number of keys.
    #[arg(long)]
    pub count_only: bool,
    /// Request keys without values.
    #[arg(long)]
    pub keys_only: bool,
}

/// BenchOptions of `mixed`.
#[derive(Clone, Debug, clap::Args)]
pub struct MixedOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    #[command(flatten)]
    pub read: ReadOptions,
    /// Share of reads among all requests, from 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = parse_ratio)]
    pub read_ratio: f64,
}

/// BenchOptions of `watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    /// Number of watchers.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub watchers: u32,
    /// Number of streams that share the watchers; one per watcher by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub streams: Option<u32>,
    /// Number of connections that share the streams, besides those of the writers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub watch_connections: u32,
    /// Request previous values, too.
    #[arg(long)]
    pub prev_kv: bool,
    /// Let each watcher watch one key instead of all keys; missing events are not detected then.
    #[arg(long)]
    pub single_keys: bool,
}

/// BenchOptions of `lease`.
#[derive(Clone, Debug, clap::Args)]
pub struct LeaseOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    /// Lease TTL in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=9_000_000_000))]
    pub ttl: i64,
}

/// BenchOptions of everything that reads.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ReadOptions {
    /// Consistency of reads.
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    pub consistency: Consistency,
}

/// What a read may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Consistency {
    /// Linearizable: confirmed by a quorum.
    Linearizable,
    /// Serializable: answered by one member, possibly stale.
    Serializable,
}

/// BenchOptions of all commands.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonOptions {
    /// Servers, comma-separated. Connections are distributed over them round-robin.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// Number of connections.
    #[arg(long, alias = "conns", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Number of clients, each with one request at a time, distributed over the connections round-robin.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Number of distinct keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub key_space: u64,
    /// Use keys sequentially instead of randomly.
    #[arg(long)]
    pub sequential: bool,
    /// Key length in bytes; the number in it is padded with zeros.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub key_bytes: u32,
    /// Value length in bytes. Values are random, so that servers cannot compress them.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub value_bytes: u32,
    /// Maximum requests per second; 0 means no limit.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Number of requests. Default: 10000, or no limit with --duration.
    #[arg(long)]
    pub total: Option<u64>,
    /// Stop after this time, for example 30s.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Warm-up time that is not counted.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Number of keys to write first, not counted.
    #[arg(long, default_value_t = 0)]
    pub prepopulate: u64,
    /// Request timeout.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// CA file for https endpoints; the system's CAs by default.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub cacert: String,
    /// Client certificate.
    #[arg(long, default_value = "", hide_default_value = true, requires = "key")]
    pub cert: String,
    /// Private key of the client certificate.
    #[arg(long, default_value = "", hide_default_value = true, requires = "cert")]
    pub key: String,
    /// Skip verification of server certificates.
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,
    /// Output format of the report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

impl CommonOptions {
    /// The files for TLS.
    pub fn tls_files(&self) -> ClientFiles {
        ClientFiles {
            cacert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
        }
    }

    /// The limit on requests, if there is one.
    pub fn requests_max(&self) -> Option<u64> {
        match (self.total, self.duration) {
            (None, None) => Some(TOTAL_DEFAULT),
            (total, _) => total,
        }
    }
}

/// Output format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Text,
    Json,
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// Parses a number with ms, s, m or h.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number with ms, s, m or h, for example 30s".to_owned();
    let unit = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .ok_or_else(expected)?;
    let unit_seconds = match &text[unit..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = text[..unit].parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::parse;

    #[test]
    fn durations_are_read() {
        let table = [
            ("30s", Some(30_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("", None),
        ];
        for (text, millis) in table {
            assert_eq!(
                parse_duration(text).ok(),
                millis.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn command_lines_are_read() {
        let command = parse(
            "bench mixed --endpoints a:1,b:2 --clients 100 --read-ratio 0.9 --duration 3s \
             --consistency serializable",
        )
        .expect("a valid command line");
        assert_eq!(command.common().endpoints, ["a:1", "b:2"]);
        assert_eq!(command.common().requests_max(), None);
        let defaults = parse("bench put").expect("a valid command line");
        assert_eq!(defaults.common().requests_max(), Some(TOTAL_DEFAULT));
        for bad in [
            "bench",
            "bench put --clients 0",
            "bench mixed --read-ratio 2",
            "bench range --range-whole --prefix a",
        ] {
            parse(bad).expect_err(bad);
        }
    }
}
