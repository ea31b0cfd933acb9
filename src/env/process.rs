//! The operating system's data about this process: processor time, memory, files. In the simulator many members share a process,
//! so its usage says nothing about one member, and the functions return none.

#![allow(clippy::disallowed_methods)] // this is the seam

/// The resources that this process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// In user and kernel mode, of all threads.
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

/// Replaces this process by a new run of the program with the same arguments, even if its threads are blocked. Returns only on
/// failure, with the reason.
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

/// The command-line arguments of this process, with the program's name.
pub fn arguments() -> Vec<String> {
    let words = std::env::args_os();
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The usage of this process now; none if the operating system does not report it.
pub fn process_usage() -> Option<ProcessUsage> {
    if cfg!(madsim) {
        return None;
    }
    let process = std::fs::read_to_string("/proc/self/stat").ok()?;
    let machine = std::fs::read_to_string("/proc/stat").ok()?;
    // SAFETY: both take and return plain numbers.
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

/// The limit of open files of a simulated member.
const SIMULATED_OPEN_FILES_MAX: u64 = 20_000;

/// The limit of open files and connections of this process.
pub fn open_files_max() -> u64 {
    if cfg!(madsim) {
        return SIMULATED_OPEN_FILES_MAX;
    }
    limit(libc::RLIMIT_NOFILE)
}

/// Raises the limit of open files to its maximum, as Go programs do at their start: a shell's soft limit of 1,024 is meant for
/// programs that use `select`. Returns the new limit.
pub fn raise_open_files_max() -> u64 {
    if !cfg!(madsim) {
        let mut limits = limits(libc::RLIMIT_NOFILE);
        limits.rlim_cur = limits.rlim_max;
        // SAFETY: the pointer is to our own limits; if the call fails, the limit stays as it was.
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
    // SAFETY: the pointer is to our own limits; if the call fails, they mean that there is no limit.
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
        // The program's name is in parentheses and may contain anything; the third field follows.
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
