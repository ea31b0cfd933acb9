//! The program.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "callboard", version, about)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Puts load on a server that speaks etcd's v3 API.
    Bench(callboard::bench::Options),
}

fn main() -> ExitCode {
    match Program::parse().command {
        Command::Bench(options) => callboard::bench::run(options),
    }
}
