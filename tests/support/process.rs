//! A child process whose output goes to a file, and programs that are run to their end.
//!
//! Variables that start with `ETCD` never reach a child: a developer's settings must not change what a test says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::poll;

/// Interval between looks at a program that soon ends: a script runs hundreds of them.
const EXIT_PAUSE: Duration = Duration::from_millis(2);

/// What is shown of a log when a test fails.
const TAIL_BYTES: u64 = 6_000;

/// A command without the caller's `ETCD…` variables, that dies with the thread that starts it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    // SAFETY: between fork and exec only the async-signal-safe prctl is called; it touches no memory of the parent.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command
}

/// A running server. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; everything it prints is appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("open the log");
        let errors = output.try_clone().expect("share the log");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self {
            child,
            log: log.to_path_buf(),
        }
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for the process")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the process");
        self.child.wait().expect("wait for the process");
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait(limit)
    }

    /// Waits for the end without asking for it.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        poll::until(limit, || self.ended().ok_or("still running"))
            .unwrap_or_else(|complaint| panic!("{complaint}\n{}", self.tail()))
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill takes no pointers; the id is our own child's, which has not been waited for yet.
        let answer = unsafe { libc::kill(pid, signal) };
        assert_eq!(answer, 0, "signal {signal}: {}", std::io::Error::last_os_error());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last part of the log, for a person.
    pub fn tail(&self) -> String {
        tail_of(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended on its own; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail_of(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("unreadable: {error}"));
    format!("--- end of {}\n{text}\n---", log.display())
}

/// What a program that ran to its end left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code, or 128 + the signal that ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Both outputs as text, for looking for messages.
    pub fn text(&self) -> String {
        format!(
            "{}{}",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        )
    }
}

/// Runs `command` with `stdin` to its end. A program that is still running after `limit` is killed: `Err` with what it
/// had printed.
///
/// Input and output are files: no pipe can fill up, and a program that does not read its input is no error.
pub fn run(mut command: Command, stdin: &[u8], limit: Duration) -> Result<Finished, String> {
    let mut input = tempfile::tempfile().expect("a scratch file");
    input.write_all(stdin).expect("write the input");
    input.rewind().expect("rewind the input");
    let mut stdout = tempfile::tempfile().expect("a scratch file");
    let mut stderr = tempfile::tempfile().expect("a scratch file");
    command.stdin(input);
    command.stdout(stdout.try_clone().expect("share a scratch file"));
    command.stderr(stderr.try_clone().expect("share a scratch file"));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let status = poll::until_every(EXIT_PAUSE, limit, || {
        child
            .try_wait()
            .expect("wait for the process")
            .ok_or("still running")
    });
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let contents = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().expect("rewind the output");
        file.read_to_end(&mut bytes).expect("read the output");
        bytes
    };
    let (stdout, stderr) = (contents(&mut stdout), contents(&mut stderr));
    match status {
        Ok(status) => {
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            Ok(Finished { code, stdout, stderr })
        }
        Err(complaint) => Err(format!(
            "{:?} {complaint}\n{}{}",
            command.get_args().collect::<Vec<&OsStr>>(),
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        )),
    }
}
