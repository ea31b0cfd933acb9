//! `cargo sim`: a whole cluster of the real code, rehearsed inside one process on simulated machines, links, disks and clocks. A
//! seed decides everything: the options, the faults, the scheduling. The same seed gives the same rehearsal again, byte for byte.
//!
//! Without `--cfg madsim`, only the parts that need no simulated world are built, for their unit tests.

#![cfg_attr(not(madsim), allow(dead_code))]

mod checkers;
mod corpus;
mod coverage;
mod engine;
mod fault_kind;
mod history;
mod history_file;
mod minimize;
mod mix;
mod model;
mod options;
mod random;
mod record;
mod records;
mod reference;
mod scenario;
mod sizes;
mod space;
mod timeline;
mod trace;

#[cfg(madsim)]
mod audit;
#[cfg(madsim)]
mod clients;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod command;
#[cfg(madsim)]
mod disk;
#[cfg(madsim)]
mod entropy;
#[cfg(madsim)]
mod epilogue;
#[cfg(madsim)]
mod faults;
#[cfg(madsim)]
mod observer;
#[cfg(madsim)]
mod rehearsal;
#[cfg(madsim)]
mod report;
#[cfg(madsim)]
mod scratch;
#[cfg(madsim)]
mod swarm;
#[cfg(madsim)]
mod trials;
#[cfg(madsim)]
mod workloads;
#[cfg(madsim)]
mod world;

#[cfg(madsim)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    disk::raise_open_files_max();
    command::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "this was built without the simulated world; run it with `cargo sim`, and with RUSTFLAGS unset"
    );
    std::process::ExitCode::from(2)
}
