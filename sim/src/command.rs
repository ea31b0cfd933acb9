//! The command line, and what each command does.

use crate::faults::schedule;
use crate::minimize::minimize;
use crate::options::{Fixed, Options};
use crate::rehearsal::{Verdict, rehearse, rehearse_story};
use crate::scenario::{self, steps::Scenario};
use crate::swarm::{Mutants, Swarm};
use crate::{corpus, history_file, report, timeline};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    /// Have the code make one mistake after another, and show that each is noticed.
    Mutants(Mutants),
    /// Rehearse what has failed once.
    Corpus,
    /// Rehearse scripted stories.
    Scenario(Stories),
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
    /// If it fails, look for fewer strikes and fewer operations that make it fail.
    #[arg(long)]
    minimize: bool,
    /// Write what the clients did and were told, as JSON lines.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write a page that shows the rehearsal over time.
    #[arg(long, value_name = "FILE.html")]
    timeline: Option<PathBuf>,
    /// Show every log record and every operation.
    #[arg(long, short)]
    verbose: bool,
    /// Show the verdict only.
    #[arg(long, short)]
    quiet: bool,
}

/// Which stories.
#[derive(Debug, Args)]
struct Stories {
    /// A file of steps.
    #[arg(required_unless_present = "all")]
    file: Option<PathBuf>,
    /// All stories that come with the simulator.
    #[arg(long)]
    all: bool,
    /// Each story is told with this many seeds.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// A mistake that the code is to make on purpose.
    #[arg(long, value_parser = crate::options::mutant)]
    mutant: Option<callboard::mutants::Mutant>,
    /// Write a page that shows the last one over time.
    #[arg(long, value_name = "FILE.html")]
    timeline: Option<PathBuf>,
    /// Show what happens; twice, every log record and every operation too.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    warm_up();
    let passed = match line.command {
        None => one(&line.one),
        Some(Command::Swarm(swarm)) => swarm.run(),
        Some(Command::Mutants(mutants)) => mutants.run(),
        Some(Command::Corpus) => replay_corpus(),
        Some(Command::Scenario(stories)) => stories.tell().unwrap_or_else(|error| {
            eprintln!("{error}");
            false
        }),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Initializes what a process sets up once with random numbers, before anything counts.
fn warm_up() {
    let fixed = Fixed {
        members: Some(1),
        clients: Some(1),
        operations: Some(20),
        faults: Some(Vec::new()),
        ..Fixed::default()
    };
    rehearse(&Options::draw(0, &fixed), false, false);
    callboard::api::json::table::call("kv/range").expect("it has a JSON form");
}

fn one(one: &One) -> bool {
    let options = Options::draw(one.seed, &one.fixed);
    if !one.quiet {
        println!("{options}");
    }
    let verdict = rehearse(&options, !one.quiet, one.verbose);
    println!("{}", report::verdict(&options, &one.fixed, &verdict));
    if let Err(error) = write_files(one, &options, &verdict) {
        eprintln!("{error}");
        return false;
    }
    let same = !one.check_determinism || repeats(one, &options, &verdict);
    if one.minimize && !verdict.passed() {
        shrink(one, &options, &verdict);
    }
    verdict.passed() && same
}

fn write_files(one: &One, options: &Options, verdict: &Verdict) -> std::io::Result<()> {
    if let Some(path) = &one.history {
        history_file::write(&verdict.record.history, path)?;
    }
    if let Some(path) = &one.timeline {
        let title = timeline::Title {
            command: report::replay(options, &one.fixed),
            options: options.to_string(),
            members: options.members,
            simulated: verdict.simulated,
        };
        timeline::write(&title, &verdict.record, &verdict.violations, path)?;
    }
    Ok(())
}

/// Searches for a smaller rehearsal that fails in the same way, and shows it.
fn shrink(one: &One, options: &Options, first: &Verdict) {
    let what = first.what_was_wrong();
    let fixed = |strikes: &[u32], operations| Fixed {
        strikes: Some(strikes.to_vec()),
        operations: Some(operations),
        ..one.fixed.clone()
    };
    let smallest = minimize(first.struck.clone(), options.operations, |strikes, operations| {
        let options = Options::draw(one.seed, &fixed(strikes, operations));
        rehearse(&options, false, false).what_was_wrong() == what
    });
    let fixed = fixed(&smallest.strikes, smallest.operations);
    println!("\nsmallest of {} rehearsals:", smallest.tried);
    let options = Options::draw(one.seed, &fixed);
    for strike in schedule::draw(&options) {
        let at_s = strike.at.as_secs_f64();
        println!(
            "  strike {} at {at_s:.2} s: {}",
            strike.number,
            strike.kind.name()
        );
    }
    let verdict = rehearse(&options, false, false);
    println!("{}", report::verdict(&options, &fixed, &verdict));
}

fn replay_corpus() -> bool {
    let entries = match corpus::entries() {
        Ok(entries) => entries,
        Err(error) => {
            eprintln!("{error}");
            return false;
        }
    };
    let mut failed = 0;
    for entry in &entries {
        let options = Options::draw(entry.seed, &entry.fixed);
        let verdict = rehearse(&options, false, false);
        println!("{}", report::verdict(&options, &entry.fixed, &verdict));
        failed += usize::from(!verdict.passed());
    }
    println!(
        "{} of {} rehearsals passed",
        entries.len() - failed,
        entries.len()
    );
    failed == 0
}

/// Whether the same rehearsal gives the same trace, here and in other processes.
fn repeats(one: &One, options: &Options, first: &Verdict) -> bool {
    // Verbose runs show the repetition too, to see where it differs.
    let mut traces = vec![rehearse(options, one.verbose, one.verbose).fingerprint];
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

impl Stories {
    /// Plays the scenarios; true if all have passed.
    fn tell(&self) -> Result<bool, String> {
        let paths = match &self.file {
            Some(file) => vec![file.clone()],
            None => scenario::files()?,
        };
        let mut passed = true;
        for path in paths {
            let story = scenario::read(&path)?;
            let name = scenario::name(&path);
            for seed in self.from..self.from + self.seeds {
                passed &= self.tell_one(&path, &name, &story, seed)?;
            }
        }
        Ok(passed)
    }

    fn tell_one(&self, path: &Path, name: &str, story: &Scenario, seed: u64) -> Result<bool, String> {
        let options = Options::of_story(seed, story, self.mutant);
        let verdict = rehearse_story(&options, Some(story), self.verbose > 0, self.verbose > 1);
        let word = if verdict.passed() { "ok    " } else { "FAILED" };
        println!(
            "{word} {name}, seed {seed}: {:.0} simulated seconds",
            verdict.simulated.as_secs_f64()
        );
        for violation in &verdict.violations {
            println!("  {violation}");
        }
        let mutant = self
            .mutant
            .map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
        let command = format!(
            "cargo sim scenario {} --from {seed} --seeds 1{mutant}",
            path.display()
        );
        if !verdict.passed() {
            println!("  Replay: {command} --verbose");
        }
        if let Some(page) = &self.timeline {
            let title = timeline::Title {
                command,
                options: options.to_string(),
                members: story.members,
                simulated: verdict.simulated,
            };
            timeline::write(&title, &verdict.record, &verdict.violations, page)
                .map_err(|error| error.to_string())?;
        }
        Ok(verdict.passed())
    }
}
