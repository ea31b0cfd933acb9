//! A network of this machine alone: hosts are network namespaces, each with a cable to a bridge in one more: a veth pair, or one that
//! takes its time. What is cut is dropped where it arrives, so that the other end hears nothing, as with a real network.

use super::slow_cable;
use super::support::process::{self, Finished};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const COMMAND_LIMIT: Duration = Duration::from_secs(10);
const BRIDGE: &str = "bridge";

/// Hosts and their bridge; gone with its value.
pub struct Net {
    prefix: String,
    hosts: Vec<Ipv4Addr>,
}

impl Net {
    /// Hosts that reach each other, each with what its cable takes in each direction; the reason, where this machine does not let a
    /// test make them.
    pub fn of(delays: &[Duration]) -> Result<Self, String> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let net = Self {
            prefix: format!("callboard-{}-{number}", std::process::id()),
            hosts: (1..=delays.len() as u8)
                .map(|host| Ipv4Addr::new(10, 99, 0, host))
                .collect(),
        };
        let hub = net.hub();
        run(&format!("ip netns add {hub}"))?;
        run(&format!("ip -n {hub} link add {BRIDGE} type bridge"))?;
        run(&format!("ip -n {hub} link set {BRIDGE} up"))?;
        for (host, (address, delay)) in net.hosts.iter().zip(delays).enumerate() {
            let name = net.namespace(host);
            run(&format!("ip netns add {name}"))?;
            if delay.is_zero() {
                run(&format!(
                    "ip -n {hub} link add port{host} type veth peer name eth0 netns {name}"
                ))?;
            } else {
                let ends = (
                    plug_in(&hub, format!("port{host}"))?,
                    plug_in(&name, "eth0".into())?,
                );
                slow_cable::lay(ends.0, ends.1, *delay);
            }
            run(&format!("ip -n {hub} link set port{host} master {BRIDGE} up"))?;
            run(&format!("ip -n {name} address add {address}/24 dev eth0"))?;
            run(&format!("ip -n {name} link set eth0 up"))?;
            run(&format!("ip -n {name} link set lo up"))?;
            let nft = format!("ip netns exec {name} nft");
            run(&format!("{nft} add table inet faults"))?;
            run(&format!(
                "{nft} add chain inet faults arriving {{ type filter hook input priority 0 ; }}"
            ))?;
        }
        Ok(net)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// The name of a host's namespace.
    pub fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.prefix)
    }

    pub fn address(&self, host: usize) -> Ipv4Addr {
        self.hosts[host]
    }

    /// Nothing that one host sends arrives at the other.
    pub fn cut(&self, from: usize, to: usize) {
        let from = format!("ip saddr {}", self.hosts[from]);
        self.drop_at(to, &from).expect("a rule");
    }

    /// So many of a hundred packets do not arrive at a host; the reason, where the kernel cannot draw lots.
    pub fn lose(&self, host: usize, percent: u32) -> Result<(), String> {
        self.drop_at(host, &format!("numgen random mod 100 < {percent}"))
    }

    fn drop_at(&self, host: usize, what: &str) -> Result<(), String> {
        let name = self.namespace(host);
        let rule = format!("ip netns exec {name} nft add rule inet faults arriving {what} drop");
        run(&rule).map(drop)
    }

    /// Everything arrives again at a host.
    pub fn mend(&self, host: usize) {
        let name = self.namespace(host);
        run(&format!(
            "ip netns exec {name} nft flush chain inet faults arriving"
        ))
        .expect("no rules");
    }

    pub fn mend_all(&self) {
        for host in 0..self.hosts.len() {
            self.mend(host);
        }
    }

    /// Moves this thread, and all that it starts, into a host.
    pub fn enter(&self, host: usize) {
        enter(&self.namespace(host)).expect("it is there");
    }
}

fn enter(namespace: &str) -> std::io::Result<()> {
    let namespace = File::open(Path::new("/run/netns").join(namespace))?;
    // SAFETY: the call takes a descriptor, which is open, and no pointers.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// An end of a slow cable in a namespace.
fn plug_in(namespace: &str, name: String) -> Result<File, String> {
    let namespace = namespace.to_owned();
    let end = std::thread::spawn(move || {
        enter(&namespace)?;
        slow_cable::plug(&name)
    });
    end.join()
        .expect("it does not panic")
        .map_err(|error| format!("/dev/net/tun: {error}"))
}

impl Drop for Net {
    fn drop(&mut self) {
        // Some of it may never have been made.
        for host in 0..self.hosts.len() {
            let name = self.namespace(host);
            let _ = run(&format!("ip -n {} link del port{host}", self.hub()));
            let _ = run(&format!("ip -n {name} link del eth0"));
            let _ = run(&format!("ip netns del {name}"));
        }
        let _ = run(&format!("ip netns del {}", self.hub()));
    }
}

/// A command line without quotes; what it complained about where it failed.
fn run(line: &str) -> Result<Finished, String> {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .map(|directory| Path::new(directory).join(program))
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| format!("{program} is not installed"))?;
    let mut command = process::command(&found);
    command.args(words);
    let finished = process::run(command, b"", COMMAND_LIMIT)?;
    match finished.code {
        0 => Ok(finished),
        _ => Err(format!("{line}: {}", finished.text().trim())),
    }
}
