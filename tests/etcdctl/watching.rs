//! `etcdctl watch`, which does not end on its own: what it prints after each step, and at the end, is compared.
//!
//! Every watch names the revision it begins with, so that nothing depends on when it is in place; after each step the
//! test waits for as many lines as etcd prints there, so that no two steps share a response.

use super::support::cluster::{Cluster, StartError};
use super::support::process::{self, Finished};
use super::support::{self, poll, ports};
use super::{COMMAND_LIMIT, MEMBERS, normalise};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

const LINES_LIMIT: Duration = Duration::from_secs(10);

/// What happens while somebody watches.
enum Step {
    /// Another etcdctl runs this.
    Run(&'static str),
    /// The watching one reads this.
    Type(&'static str),
    /// It has printed so many lines by now.
    Lines(usize),
    /// It ends on its own.
    Ends,
}

use Step::{Ends, Lines, Run, Type};

struct Watch {
    words: &'static [&'static str],
    steps: &'static [Step],
}

/// One after the other on one cluster. Revision 2 is that of the first put.
const WATCHES: &[Watch] = &[
    Watch {
        words: &["watch", "--rev", "1", "a"],
        steps: &[
            Run("put a 1"),
            Lines(3),
            Run("put ab 2"),
            Run("del a"),
            Lines(6),
            Run("put a 2"),
            Lines(9),
        ],
    },
    Watch {
        words: &["watch", "--rev", "1", "--prefix", "--prev-kv", "a"],
        steps: &[
            Lines(14),
            Run("put ab 3"),
            Lines(19),
            Run("del a --prefix"),
            Lines(29),
        ],
    },
    Watch {
        words: &["-w", "json", "watch", "--rev", "2", "--prefix", "--prev-kv", "a"],
        steps: &[Lines(1), Run("put a \u{1}"), Lines(2)],
    },
    Watch {
        words: &["-w", "fields", "watch", "--rev", "2", "--prev-kv", "a", "zz"],
        steps: &[Lines(84), Run("put b x"), Lines(95)],
    },
    Watch {
        words: &["-w", "json", "watch", "--rev", "9", "c", "d"],
        steps: &[
            Run("put c 1"),
            Lines(1),
            Run("txn"),
            Run("put d 1"),
            Run("put c2 1"),
            Lines(2),
            Run("del c c9"),
            Lines(3),
        ],
    },
    Watch {
        words: &[
            "watch",
            "--rev",
            "2",
            "a",
            "--",
            "sh",
            "-c",
            "env | grep ^ETCD_WATCH | sort",
        ],
        steps: &[Lines(35)],
    },
    Watch {
        words: &["watch", "-i"],
        steps: &[
            Type("watch e --rev 13\n"),
            Type("watch --prefix f --rev 13 --prev-kv\n"),
            Type("watch --rev 10 c d\n"),
            Lines(11),
            Run("put e 1"),
            Lines(14),
            Run("put f1 1"),
            Lines(17),
            Run("put f1 2"),
            Lines(22),
            Type("progress\n"),
            Lines(23),
            Type("nonsense\n"),
            Ends,
        ],
    },
    Watch {
        words: &["-w", "json", "watch", "--rev", "13", "--progress-notify", "e"],
        steps: &[Lines(3)],
    },
    Watch {
        words: &["watch"],
        steps: &[Ends],
    },
    Watch {
        words: &["watch", "--rev", "3", "a"],
        steps: &[Lines(12), Run("compaction 10"), Run("put a 9"), Lines(15)],
    },
    Watch {
        words: &["watch", "--rev", "3", "a"],
        steps: &[Ends],
    },
    Watch {
        words: &["-w", "json", "watch", "--rev", "10", "a", "zz"],
        steps: &[Lines(1)],
    },
];

/// `etcd` has a flag of this name in 3.4, Callboard as well.
const FLAGS: &[&str] = &["--experimental-watch-progress-notify-interval", "400ms"];

#[test]
fn watch() {
    let (expected, found) = on_the_same_ports();
    for (watch, (expected, found)) in WATCHES.iter().zip(expected.iter().zip(&found)) {
        let mut report = String::new();
        super::show_difference(&mut report, "stdout", &expected.stdout, &found.stdout);
        super::show_difference(&mut report, "stderr", &expected.stderr, &found.stderr);
        assert_eq!(
            expected,
            found,
            "etcdctl {} (- etcd, + callboard):\n{report}",
            watch.words.join(" ")
        );
        println!("{}: {} bytes alike", watch.words.join(" "), expected.stdout.len());
    }
}

fn on_the_same_ports() -> (Vec<Finished>, Vec<Finished>) {
    for _ in 0..5 {
        let ports = ports::free(2 * MEMBERS);
        let run = |program: &Path| match Cluster::start_on(program, &ports, FLAGS) {
            Ok(cluster) => Some(WATCHES.iter().map(|watch| perform(&cluster, watch)).collect()),
            Err(StartError::PortTaken(_)) => None,
            Err(StartError::Other(text)) => panic!("{text}"),
        };
        if let (Some(expected), Some(found)) = (run(&support::etcd_bin()), run(&support::callboard_bin())) {
            return (expected, found);
        }
    }
    panic!("found no ports that stayed free");
}

/// An etcdctl that does not end on its own.
pub struct Watching {
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

fn perform(cluster: &Cluster, watch: &Watch) -> Finished {
    let words: Vec<Vec<u8>> = watch.words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let mut watching = Watching::start(etcdctl(cluster, &words));
    let mut code = None;
    let mut stdin = String::new();
    let mut steps = watch.steps.iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Run("txn") => {
                // What follows goes into one transaction.
                stdin.push('\n');
                while let Some(Run(operation)) = steps.next_if(|step| matches!(step, Run(_))) {
                    stdin.push_str(operation);
                    stdin.push('\n');
                }
                stdin.push_str("\n\n");
                run(cluster, "txn", &stdin);
            }
            Run(command) => run(cluster, command, ""),
            Type(line) => {
                let mut stdin = watching.child.stdin.as_ref().expect("it is open");
                stdin.write_all(line.as_bytes()).expect("etcdctl reads");
            }
            Lines(lines) => watching.wait_for_lines(*lines),
            Ends => code = watching.wait(),
        }
    }
    let mut finished = watching.finish(code, &words);
    if words.iter().any(|word| word == b"--progress-notify")
        && let Some(Lines(lines)) = watch.steps.last()
    {
        // More may have come before it was killed.
        let lines = finished
            .stdout
            .split_inclusive(|byte| *byte == b'\n')
            .take(*lines);
        finished.stdout = lines.collect::<Vec<_>>().concat();
    }
    finished
}

pub fn etcdctl(cluster: &Cluster, words: &[Vec<u8>]) -> Command {
    let mut command = process::command(&support::etcdctl_bin());
    command.env("ETCDCTL_API", "3");
    command.arg(format!("--endpoints={}", cluster.members[0].client));
    command.args(words.iter().map(|word| super::script::fill_in(word, &[])));
    command
}

fn run(cluster: &Cluster, command: &str, stdin: &str) {
    let words: Vec<Vec<u8>> = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let finished = process::run(etcdctl(cluster, &words), stdin.as_bytes(), COMMAND_LIMIT);
    let finished = finished.unwrap_or_else(|complaint| panic!("{command}: {complaint}"));
    assert_eq!(finished.code, 0, "{command}: {}", finished.text());
}

impl Watching {
    pub fn start(mut command: Command) -> Self {
        let output = || NamedTempFile::new().expect("a scratch file");
        let (stdout, stderr) = (output(), output());
        command.stdin(Stdio::piped());
        command.stdout(stdout.reopen().expect("share a scratch file"));
        command.stderr(stderr.reopen().expect("share a scratch file"));
        let child = command.spawn().expect("start etcdctl");
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill takes no pointers; the id is our own child's, which has not been waited for yet.
        let answer = unsafe { libc::kill(pid, signal) };
        assert_eq!(answer, 0, "signal {signal}: {}", std::io::Error::last_os_error());
    }

    /// Waits in vain where fewer come: the comparison will tell.
    pub fn wait_for_lines(&self, lines: usize) {
        let _ = poll::until(LINES_LIMIT, || {
            let printed = contents(&self.stdout).split(|byte| *byte == b'\n').count() - 1;
            if printed >= lines { Ok(()) } else { Err(printed) }
        });
    }

    pub fn wait(&mut self) -> Option<i32> {
        let status = poll::until(LINES_LIMIT, || {
            self.child
                .try_wait()
                .expect("wait for etcdctl")
                .ok_or("still running")
        });
        status.ok()?.code()
    }

    pub fn finish(mut self, code: Option<i32>, words: &[Vec<u8>]) -> Finished {
        if code.is_none() {
            self.child.kill().expect("kill etcdctl");
            self.child.wait().expect("wait for etcdctl");
        }
        let finished = Finished {
            // One that had to be killed has none.
            code: code.unwrap_or(-1),
            stdout: contents(&self.stdout),
            stderr: contents(&self.stderr),
        };
        normalise::normalise(words, &finished)
    }
}

fn contents(file: &NamedTempFile) -> Vec<u8> {
    std::fs::read(file.path()).expect("read the output")
}
