//! The command line of `callboard bench`.

use crate::tls::ClientFiles;
use std::time::Duration;

/// How many requests are sent when neither `--total` nor `--duration` says.
const TOTAL_DEFAULT: u64 = 10_000;

/// Puts load on a server that speaks etcd's v3 API.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
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
    /// Writes keys, and has watchers of all of them count what they are told.
    Watch(WatchOptions),
    /// Grants leases, and leaves them to end by themselves.
    Lease(LeaseOptions),
}

impl Command {
    /// The options that all commands have.
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

/// Options of `put` and `txn`.
#[derive(Clone, Debug, clap::Args)]
pub struct PutOptions {
    #[command(flatten)]
    pub common: CommonOptions,
}

/// Options of `range`.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    #[command(flatten)]
    pub read: ReadOptions,
    /// Read the whole key space with every request.
    #[arg(long, conflicts_with = "prefix")]
    pub range_whole: bool,
    /// Read all keys with this prefix with every request.
    #[arg(long)]
    pub prefix: Option<String>,
    /// At most so many keys per answer; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub limit: i64,
    /// Ask for the number of keys only.
    #[arg(long)]
    pub count_only: bool,
    /// Ask for keys without values.
    #[arg(long)]
    pub keys_only: bool,
}

/// Options of `mixed`.
#[derive(Clone, Debug, clap::Args)]
pub struct MixedOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    #[command(flatten)]
    pub read: ReadOptions,
    /// The share of reads among all requests, from 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = parse_ratio)]
    pub read_ratio: f64,
}

/// Options of `watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    /// How many watchers.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub watchers: u32,
    /// How many streams share the watchers; one for each if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub streams: Option<u32>,
    /// How many connections, apart from those of the writers, share the streams.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub watch_connections: u32,
    /// Ask for the records before the changes, too.
    #[arg(long)]
    pub prev_kv: bool,
    /// Give each watcher a key of its own instead of all keys; whether events are missing is not known then.
    #[arg(long)]
    pub single_keys: bool,
}

/// Options of `lease`.
#[derive(Clone, Debug, clap::Args)]
pub struct LeaseOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    /// How long a lease lives, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=9_000_000_000))]
    pub ttl: i64,
}

/// Options of everything that reads.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ReadOptions {
    /// Whether reads see everything that was acknowledged before them.
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    pub consistency: Consistency,
}

/// What a read may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Consistency {
    /// Nothing: confirmed by a majority of the members.
    Linearizable,
    /// The newest writes: answered by the member that was asked.
    Serializable,
}

/// Options of all commands.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonOptions {
    /// Servers, separated by commas. Connections are spread over them in turn.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// How many connections to open.
    #[arg(long, alias = "conns", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// How many clients send one request after the other. They are spread over the connections in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Keys are the numbers below this one.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub key_space: u64,
    /// Take keys in turn, not at random.
    #[arg(long)]
    pub sequential: bool,
    /// The length of a key; the number in it is padded with zeros on the left.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub key_bytes: u32,
    /// The length of a value. Each is a piece of the same random bytes, so that no server can compress them away.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub value_bytes: u32,
    /// Send at most so many requests per second; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Stop after so many requests. Default: 10000, or no limit if there is a --duration.
    #[arg(long)]
    pub total: Option<u64>,
    /// Stop after this time, for example 30s.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Send the same load for this time first, without counting it.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Write this many of the keys first, without counting them.
    #[arg(long, default_value_t = 0)]
    pub prepopulate: u64,
    /// How long to wait for an answer.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Certificate authorities for https endpoints; the system's if not given.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub cacert: String,
    /// A certificate to show.
    #[arg(long, default_value = "", hide_default_value = true, requires = "key")]
    pub cert: String,
    /// Its key.
    #[arg(long, default_value = "", hide_default_value = true, requires = "cert")]
    pub key: String,
    /// Take every server's certificate.
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

impl CommonOptions {
    /// What TLS is spoken with.
    pub fn tls_files(&self) -> ClientFiles {
        ClientFiles {
            cacert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
        }
    }

    /// The bound on requests, if there is one.
    pub fn requests_max(&self) -> Option<u64> {
        match (self.total, self.duration) {
            (None, None) => Some(TOTAL_DEFAULT),
            (total, _) => total,
        }
    }
}

/// How to print the report.
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

/// A number with ms, s, m or h.
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
