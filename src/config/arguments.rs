//! Go's way of writing flags, turned into the way clap reads: `-name x` becomes `--name x`, and the flags that etcd
//! ignores are taken out.

use super::Error;
use std::ffi::OsString;

/// Flags that etcd still takes and ignores (server/etcdmain/config.go, `ignored`). They are switches: a value follows `=`.
const IGNORED: [&str; 15] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

/// The command line in one shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Normalised {
    /// Every flag as one word, `--name=value` or `--switch`.
    pub flags: Vec<String>,
    /// The first word that is no flag: there reading ends, as Go's flag package has it.
    pub word: Option<String>,
}

/// Rewrites the arguments, the program's name not among them.
pub fn normalise(arguments: impl Iterator<Item = OsString>) -> Result<Normalised, Error> {
    let mut normalised = Normalised::default();
    let mut arguments = arguments.map(|argument| {
        argument
            .into_string()
            .map_err(|argument| Error::Usage(format!("bad flag syntax: {}", argument.to_string_lossy())))
    });
    while let Some(argument) = arguments.next() {
        let argument = argument?;
        let Some(flag) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            normalised.word = Some(argument);
            break;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.is_empty() {
            normalised.word = arguments.next().transpose()?;
            break;
        }
        if flag.starts_with(['-', '=']) {
            return Err(Error::Usage(format!("bad flag syntax: {argument}")));
        }
        let name = flag.split_once('=').map_or(flag, |(name, _)| name);
        if IGNORED.contains(&name) {
            continue;
        }
        if matches!(name, "h" | "help") {
            normalised.flags.push("--help".to_owned());
            break;
        }
        if !super::flags::known(name) {
            return Err(Error::Usage(format!("flag provided but not defined: -{name}")));
        }
        if flag.contains('=') || super::flags::is_switch(name) {
            normalised.flags.push(format!("--{flag}"));
        } else {
            let value = arguments
                .next()
                .ok_or_else(|| Error::Usage(format!("flag needs an argument: -{flag}")))??;
            normalised.flags.push(format!("--{flag}={value}"));
        }
    }
    Ok(normalised)
}
