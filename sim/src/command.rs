//! The command line, and what each command does.

use crate::options::{Fixed, Options};
use crate::rehearsal::{Verdict, rehearse};
use crate::report::{self, Summary};
use callboard::mutants::Mutant;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Rehearse a cluster on simulated machines.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    one: One,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rehearse many seeds and sum up.
    Swarm(Swarm),
    /// Have the code make one mistake after another, and show in how many seeds each is noticed.
    Mutants(Swarm),
}

/// One seed.
#[derive(Debug, Args)]
struct One {
    /// Decides everything that is not named here.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    fixed: Fixed,
    /// Rehearse twice in this process and twice in others, and compare the traces.
    #[arg(long)]
    check_determinism: bool,
    /// Show every log record and every operation.
    #[arg(long, short)]
    verbose: bool,
    /// Show the verdict only.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Swarm {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Rehearsals at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Rehearse each seed twice and compare the traces.
    #[arg(long)]
    check_determinism: bool,
    #[command(flatten)]
    fixed: Fixed,
}

pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    warm_up();
    let passed = match line.command {
        None => one(&line.one),
        Some(Command::Swarm(swarm)) => swarm.run(),
        Some(Command::Mutants(swarm)) => swarm.run_mutants(),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What a process sets up once, drawing random numbers for it, is set up before anything counts.
fn warm_up() {
    let fixed = Fixed {
        members: Some(1),
        clients: Some(1),
        operations: Some(20),
        faults: Some(Vec::new()),
        ..Fixed::default()
    };
    rehearse(&Options::draw(0, &fixed), false, false);
}

fn one(one: &One) -> bool {
    let options = Options::draw(one.seed, &one.fixed);
    if !one.quiet {
        println!("{options}");
    }
    let verdict = rehearse(&options, !one.quiet, one.verbose);
    println!("{}", report::verdict(&options, &one.fixed, &verdict));
    let same = !one.check_determinism || repeats(one, &options, &verdict);
    verdict.passed() && same
}

/// Whether the same happens again, here and in other processes.
fn repeats(one: &One, options: &Options, first: &Verdict) -> bool {
    let mut traces = vec![rehearse(options, false, false).fingerprint];
    let program = std::env::current_exe().expect("this program has a path");
    for _ in 0..2 {
        let mut command = std::process::Command::new(&program);
        command.args(["--quiet", "--seed"]).arg(one.seed.to_string());
        command.args(one.fixed.flags().split_whitespace());
        let output = command.output().expect("this program runs again");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let trace = text.split("trace ").nth(1).and_then(|rest| rest.get(..16));
        traces.push(
            trace
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .unwrap_or(0),
        );
    }
    let same = traces.iter().all(|trace| *trace == first.fingerprint);
    let word = if same { "the same" } else { "DIFFERENT" };
    println!("again here and in two processes: {word} {traces:016x?}");
    same
}

impl Swarm {
    fn run(&self) -> bool {
        let begin = Instant::now();
        let summary = self.rehearse_all(&self.fixed, true);
        summary.print(begin.elapsed());
        summary.all_passed()
    }

    /// Whether every mistake was noticed in some seed.
    fn run_mutants(&self) -> bool {
        println!(
            "{:<26} {:>12}  first seed, and what was noticed",
            "mutant", "caught in"
        );
        let mut all = true;
        for mutant in Mutant::ALL
            .into_iter()
            .filter(|mutant| self.fixed.mutant.is_none_or(|only| only == *mutant))
        {
            let fixed = Fixed {
                mutant: Some(mutant),
                ..self.fixed.clone()
            };
            let summary = self.rehearse_all(&fixed, false);
            all &= !summary.all_passed();
            println!(
                "{:<26} {:>5} of {:>3}  {}",
                mutant.name(),
                summary.failed(),
                self.seeds,
                summary.first_failure()
            );
        }
        all
    }

    fn rehearse_all(&self, fixed: &Fixed, print: bool) -> Summary {
        let next = AtomicU64::new(self.from);
        let summary = Mutex::new(Summary::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.from + self.seeds {
                            break;
                        }
                        let (options, verdict) = self.seed(seed, fixed);
                        let mut summary = summary.lock().expect("nobody panics with it");
                        summary.add(seed, &verdict);
                        if !print {
                            continue;
                        }
                        let word = if verdict.passed() { "ok    " } else { "FAILED" };
                        println!("{word} {options}");
                        if !verdict.passed() {
                            println!("{}", report::verdict(&options, fixed, &verdict));
                        }
                    }
                });
            }
        });
        summary.into_inner().expect("nobody panics with it")
    }

    fn seed(&self, seed: u64, fixed: &Fixed) -> (Options, Verdict) {
        let options = Options::draw(seed, fixed);
        let mut verdict = rehearse(&options, false, false);
        if self.check_determinism {
            let again = rehearse(&options, false, false).fingerprint;
            if again != verdict.fingerprint {
                let text = format!(
                    "another run differs: {again:016x}, not {:016x}",
                    verdict.fingerprint
                );
                verdict.violations.push(crate::checkers::Violation(text));
            }
        }
        (options, verdict)
    }
}
