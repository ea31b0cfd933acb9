//! What the operating system knows of this process: processor time, memory, files. In the simulator many members share a
//! process, and what it takes says nothing of one of them: there the answer is always nothing.

#![allow(clippy::disallowed_methods)] // this is the seam

/// What this process takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// In user and in kernel mode together, of all threads.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// The limit of the address space; `u64::MAX` if there is none.
    pub virtual_bytes_max: u64,
    pub open_files: u64,
    /// The limit of open files; `u64::MAX` if there is none.
    pub open_files_max: u64,
    /// Since 1970.
    pub start_seconds: f64,
}

/// Begins this program anew, with the same words: whatever its threads are held up by, it ends. Returns the reason why not.
pub fn restart_process() -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    command.args(words).exec()
}

/// The words that this process was started with.
pub fn arguments() -> Vec<String> {
    let words = std::env::args_os();
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// What this process takes now; nothing where the operating system does not say.
pub fn process_usage() -> Option<ProcessUsage> {
    if cfg!(madsim) {
        return None;
    }
    let process = std::fs::read_to_string("/proc/self/stat").ok()?;
    let machine = std::fs::read_to_string("/proc/stat").ok()?;
    // SAFETY: both take plain numbers and give one.
    let (ticks, page) = unsafe {
        (
            libc::sysconf(libc::_SC_CLK_TCK),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let stat = Stat::parse(&process, &machine)?;
    let ticks = ticks as f64;
    Some(ProcessUsage {
        cpu_seconds: stat.cpu_ticks as f64 / ticks,
        resident_bytes: stat.resident_pages * page as u64,
        virtual_bytes: stat.virtual_bytes,
        virtual_bytes_max: limit(libc::RLIMIT_AS),
        open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        open_files_max: limit(libc::RLIMIT_NOFILE),
        start_seconds: stat.boot_seconds as f64 + stat.start_ticks as f64 / ticks,
    })
}

/// What a simulated member may open.
const SIMULATED_OPEN_FILES_MAX: u64 = 20_000;

/// How many files and connections this process may have open.
pub fn open_files_max() -> u64 {
    if cfg!(madsim) {
        return SIMULATED_OPEN_FILES_MAX;
    }
    limit(libc::RLIMIT_NOFILE)
}

/// Has this process open as many files as it can be allowed to, as programs in Go do at their start: the soft limit of a
/// shell, 1,024, is there for programs that use `select`. Returns the limit that holds then.
pub fn raise_open_files_max() -> u64 {
    if !cfg!(madsim) {
        let mut limits = limits(libc::RLIMIT_NOFILE);
        limits.rlim_cur = limits.rlim_max;
        // SAFETY: the pointer is to limits of ours; if the call fails, the limit stays as it was.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) };
    }
    open_files_max()
}

fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    limits(resource).rlim_cur
}

fn limits(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limits = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the pointer is to limits of ours; if the call fails, they say that there is none.
    unsafe { libc::getrlimit(resource, &raw mut limits) };
    limits
}

/// Parts of `/proc/self/stat` (see proc(5)) and of `/proc/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
    boot_seconds: u64,
}

impl Stat {
    fn parse(process: &str, machine: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold anything; the third field follows.
        let (_, fields) = process.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
        let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
            boot_seconds: boot.trim().parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_whatever_the_programs_name_is() {
        let process =
            "77 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 4321 1000000 25 18446744073709551615 1";
        let stat = Stat::parse(process, "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n");
        let expected = Stat {
            cpu_ticks: 300,
            start_ticks: 4321,
            virtual_bytes: 1_000_000,
            resident_pages: 25,
            boot_seconds: 1_700_000_000,
        };
        assert_eq!(stat, Some(expected));
        assert_eq!(Stat::parse("77 (a) S 1", "btime 1\n"), None);
        assert_eq!(Stat::parse(process, "cpu 1\n"), None);
    }

    #[test]
    #[cfg(not(madsim))]
    fn this_process_takes_something() {
        let usage = process_usage().expect("a Linux");
        assert!(usage.resident_bytes > 1024 * 1024 && usage.resident_bytes < usage.virtual_bytes);
        assert!(usage.open_files >= 3 && usage.open_files <= usage.open_files_max);
        let now = super::super::unix_time().as_secs_f64();
        assert!(usage.start_seconds <= now + 1.0 && usage.start_seconds > now - 86400.0);
    }
}
