//! The server's command line and environment: etcd's names, defaults, messages and exit codes (server/embed/config.go and
//! server/etcdmain/config.go).
//!
//! A configuration file stands alone; else flags go before the environment. A flag that is not implemented is refused or, where
//! it has no meaning here, taken with a warning; only the flags that etcd itself ignores are ignored in silence.
//! Nothing here touches the world: the caller hands in arguments, environment and a way to read a file, and carries out what
//! comes back.

mod arguments;
mod discovery_flags;
mod error;
mod features;
mod file;
mod flags;
mod groups;
mod log_flags;
mod other_flags;
mod server;
mod tls_flags;
mod values;

#[cfg(test)]
mod flag_tests;
#[cfg(test)]
mod tests;

pub use discovery_flags::{Credentials, Discovery, DiscoveryEndpoints, DiscoverySrv, DiscoveryUrl};
pub use error::Error;
pub use server::{ClusterState, Server};
pub use tls_flags::Tls;

use std::ffi::OsString;
use std::path::Path;

/// What follows the program's name when it is not the server that is asked for.
const SUBCOMMANDS: [&str; 1] = ["bench"];

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run a member.
    Server(Box<Server>),
    /// Run another program of this binary; `arguments` starts with its name, as a command line does.
    Subcommand {
        name: &'static str,
        arguments: Vec<OsString>,
    },
    /// Print this on standard output and leave with exit code 0.
    Print(String),
}

/// Reads the command line (with the program's name in front) and the environment. `read_file` gives the text of a configuration
/// file, or the reason why there is none.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    read_file: impl Fn(&Path) -> Result<String, String>,
) -> Result<Invocation, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    if let Some(name) = SUBCOMMANDS.into_iter().find(|name| Some(*name) == first) {
        return Ok(Invocation::Subcommand {
            name,
            arguments: arguments[1..].to_vec(),
        });
    }
    let arguments = arguments::normalise(arguments.into_iter().skip(1))?;
    let environment: Vec<(String, String)> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    flags::read(arguments, &environment, read_file)
}

/// What `--version` prints: four lines, of which scripts read the first.
fn version_text() -> String {
    format!(
        "etcd Version: {}\nGit SHA: {}\nGo Version: rustc {}\nGo OS/Arch: {}/{}\n",
        crate::version::SERVER,
        option_env!("CALLBOARD_GIT_SHA").unwrap_or("Not provided"),
        env!("CARGO_PKG_RUST_VERSION"),
        std::env::consts::OS,
        go_architecture(std::env::consts::ARCH),
    )
}

fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
