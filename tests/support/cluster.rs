//! Members of one cluster as processes on free loopback ports, each with a data directory and a log of its own.
//!
//! A cluster lives in one temporary directory and dies with its value. When the test is failing at that moment, the
//! ends of all logs are printed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{self, Process};
use super::{http, poll, ports};

/// From start to a member that answers as healthy: an election, and room for a busy machine.
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// From SIGTERM to the end of the process.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

const START_ATTEMPTS: usize = 5;

/// One member, running or not.
pub struct Member {
    pub name: String,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    pub program: PathBuf,
    /// Everything after the program's name; a test may change it between two starts.
    pub arguments: Vec<OsString>,
    process: Option<Process>,
}

impl Member {
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = process::command(&self.program);
        command.args(&self.arguments);
        self.process = Some(Process::start(command, &self.log));
    }

    /// Waits until `/health` says true, which takes a leader and a majority.
    pub fn wait_ready(&mut self) -> Result<(), StartError> {
        let name = self.name.clone();
        let client = self.client;
        let process = self.process.as_mut().expect("a started member");
        let look = || match process.ended() {
            Some(status) => Ok(Err(status)),
            None => is_healthy(client).map(Ok),
        };
        match poll::until(READY_LIMIT, look) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => {
                let log = process.log_text();
                let port_taken = log.to_lowercase().contains("in use");
                let text = format!("{name} ended with {status}\n{}", process.tail());
                Err(if port_taken {
                    StartError::PortTaken(text)
                } else {
                    StartError::Other(text)
                })
            }
            Err(complaint) => Err(StartError::Other(format!(
                "{name} is not healthy: {complaint}\n{}",
                process.tail()
            ))),
        }
    }

    /// Starts it and waits until it is healthy.
    pub fn start_ready(&mut self) {
        self.start();
        self.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a started member")
    }

    pub fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.ended().is_none())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("a started member").kill();
    }

    /// SIGTERM, and the status it ended with.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process
            .take()
            .expect("a started member")
            .terminate(STOP_LIMIT)
    }

    /// Waits until it has ended on its own; the status it ended with.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.process.take().expect("a started member").wait(STOP_LIMIT)
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

fn is_healthy(client: SocketAddr) -> Result<(), String> {
    let response = http::get(client, "/health")?;
    if response.body.contains("\"health\":\"true\"") {
        Ok(())
    } else {
        Err(format!("{} {}", response.status, response.body))
    }
}

/// Why a cluster did not come up.
#[derive(Debug)]
pub enum StartError {
    /// Somebody else took a port between looking and binding: other ports may do.
    PortTaken(String),
    Other(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::PortTaken(text) | Self::Other(text)) = self;
        formatter.write_str(text)
    }
}

/// Members m1, m2, … of one program.
pub struct Cluster {
    pub members: Vec<Member>,
    directory: TempDir,
}

impl Cluster {
    /// `size` healthy members on ports of their own.
    pub fn start(program: &Path, size: usize) -> Self {
        Self::start_with(program, size, &[])
    }

    /// The same, with more flags for every member.
    pub fn start_with(program: &Path, size: usize, flags: &[&str]) -> Self {
        let mut complaint = String::new();
        for _ in 0..START_ATTEMPTS {
            match Self::start_on(program, &ports::free(2 * size), flags) {
                Ok(cluster) => return cluster,
                Err(StartError::PortTaken(text)) => complaint = text,
                Err(StartError::Other(text)) => panic!("{text}"),
            }
        }
        panic!("no free ports in {START_ATTEMPTS} attempts: {complaint}");
    }

    /// Healthy members on these ports: the client's and the peers' of the first member, of the second, …
    pub fn start_on(program: &Path, ports: &[u16], flags: &[&str]) -> Result<Self, StartError> {
        let mut cluster = Self::prepare(program, ports, flags);
        for member in &mut cluster.members {
            member.start();
        }
        for member in &mut cluster.members {
            member.wait_ready()?;
        }
        Ok(cluster)
    }

    /// Members with directories and arguments, none of them started.
    pub fn prepare(program: &Path, ports: &[u16], flags: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("callboard-test-")
            .tempdir()
            .expect("a scratch directory");
        let mut members: Vec<Member> = ports
            .chunks_exact(2)
            .enumerate()
            .map(|(index, pair)| {
                let name = format!("m{}", index + 1);
                Member {
                    client: SocketAddr::from(([127, 0, 0, 1], pair[0])),
                    peer: SocketAddr::from(([127, 0, 0, 1], pair[1])),
                    data_dir: directory.path().join(format!("{name}.data")),
                    log: directory.path().join(format!("{name}.log")),
                    program: program.to_path_buf(),
                    arguments: Vec::new(),
                    process: None,
                    name,
                }
            })
            .collect();
        let initial: Vec<String> = members
            .iter()
            .map(|member| format!("{}=http://{}", member.name, member.peer))
            .collect();
        for member in &mut members {
            member.arguments = arguments(member, &initial.join(","), "callboard-test");
            member.arguments.extend(flags.iter().map(OsString::from));
        }
        Self { members, directory }
    }

    /// `host:port` of every client URL, as `--endpoints` takes them.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<String> = self
            .members
            .iter()
            .map(|member| member.client.to_string())
            .collect();
        endpoints.join(",")
    }

    /// The directory around the members' own, for whatever else a test writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// etcd's flags for a member of a new cluster.
pub fn arguments(member: &Member, initial_cluster: &str, token: &str) -> Vec<OsString> {
    let client_url = format!("http://{}", member.client);
    let peer_url = format!("http://{}", member.peer);
    let flags = [
        ("--name", member.name.as_str()),
        (
            "--data-dir",
            member.data_dir.to_str().expect("a temporary path in UTF-8"),
        ),
        ("--listen-client-urls", &client_url),
        ("--advertise-client-urls", &client_url),
        ("--listen-peer-urls", &peer_url),
        ("--initial-advertise-peer-urls", &peer_url),
        ("--initial-cluster", initial_cluster),
        ("--initial-cluster-token", token),
        ("--initial-cluster-state", "new"),
    ];
    flags
        .iter()
        .flat_map(|(flag, value)| [OsString::from(flag), OsString::from(value)])
        .collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for member in &mut self.members {
            match &member.process {
                Some(process) => eprintln!("{}: {}", member.name, process.tail()),
                None => eprintln!(
                    "{}: stopped; its log ends:\n{}",
                    member.name,
                    last_lines(&member.log_text())
                ),
            }
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
