//! A directory with a program called `etcd` in it, members that are started by that name, and etcdctl beside them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tempfile::TempDir;

use super::support::process::{self, Finished, Process};
use super::support::{self, poll};

/// From its start to a member that serves: an election, and room for a busy machine.
pub const READY_LIMIT: Duration = Duration::from_secs(30);
/// etcdctl itself gives up after five seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Tests that measure times have the machine for themselves.
static MACHINE: RwLock<()> = RwLock::new(());

/// Where one test takes place. All of it goes with its value.
pub struct Scene {
    directory: TempDir,
    _machine: Machine,
}

/// This test's share of the machine, as long as it runs.
enum Machine {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Scene {
    /// Other tests may run at the same time.
    pub fn new() -> Self {
        Self::on(Machine::Shared {
            _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// No other test of this program runs at the same time.
    pub fn alone() -> Self {
        Self::on(Machine::Alone {
            _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn on(machine: Machine) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("callboard-operators-")
            .tempdir()
            .expect("a scratch directory");
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        std::os::unix::fs::symlink(support::callboard_bin(), bin.join("etcd")).expect("a link");
        Self {
            directory,
            _machine: machine,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text, for flags.
    pub fn file(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a scratch file");
        path
    }

    /// A program that finds `etcd` on the PATH.
    fn program(&self, name: &str) -> Command {
        let mut command = process::command(Path::new(name));
        let mut path = OsString::from(self.path("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
        command
    }

    /// The words of a command line, as in a shell: nothing here needs quotes.
    pub fn command(&self, line: &str, variables: &[(String, String)]) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.program(words.next().unwrap_or_default());
        command.args(words);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A running member, whose log is `<name>.log`.
    pub fn start(&self, name: &str, line: &str, variables: &[(String, String)]) -> Process {
        let log = self.path(&format!("{name}.log"));
        Process::start(self.command(line, variables), &log)
    }

    /// A command line that is to end soon.
    pub fn run(&self, line: &str, variables: &[(String, String)], limit: Duration) -> Finished {
        process::run(self.command(line, variables), b"", limit)
            .unwrap_or_else(|complaint| panic!("{line}: {complaint}"))
    }
}

/// etcdctl, run to its end.
pub fn etcdctl(flags: &str, words: &[&str]) -> Finished {
    let mut command = process::command(&support::etcdctl_bin());
    command.env("ETCDCTL_API", "3");
    command.args(flags.split_whitespace()).args(words);
    process::run(command, b"", COMMAND_LIMIT).unwrap_or_else(|complaint| panic!("{complaint}"))
}

/// What etcdctl printed on success, once it succeeds.
pub fn wait_etcdctl(flags: &str, words: &[&str], member: &mut Process) -> String {
    let look = || {
        if let Some(status) = member.ended() {
            return Ok(Err(format!("the member ended with {status}")));
        }
        let finished = etcdctl(flags, words);
        match finished.code {
            0 => Ok(Ok(String::from_utf8_lossy(&finished.stdout).into_owned())),
            _ => Err(finished.text()),
        }
    };
    let outcome = poll::until(READY_LIMIT, look).and_then(|outcome| outcome);
    outcome.unwrap_or_else(|complaint| panic!("{words:?}: {complaint}\n{}", member.tail()))
}

/// What it printed on success, at once.
pub fn etcdctl_stdout(flags: &str, words: &[&str]) -> String {
    let finished = etcdctl(flags, words);
    assert_eq!(finished.code, 0, "{flags} {words:?}: {}", finished.text());
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// The cells of a table that etcdctl has drawn, its head included.
pub fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The id of the member at an endpoint, as `endpoint status` has it.
pub fn member_id(flags: &str) -> u64 {
    let text = etcdctl_stdout(flags, &["endpoint", "status", "-w", "json"]);
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    all[0]["Status"]["header"]["member_id"].as_u64().expect("an id")
}

/// Whether a log has a line with all these words.
pub fn is_logged(log: &str, words: &[&str]) -> bool {
    log.lines()
        .any(|line| words.iter().all(|word| line.contains(word)))
}
