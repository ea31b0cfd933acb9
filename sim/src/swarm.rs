//! Many rehearsals: of the real code, or of one mutant after another.

use crate::options::{Fixed, Options};
use crate::rehearsal::{Verdict, rehearse, rehearse_story};
use crate::report::{self, Summary};
use crate::scenario::{self, steps::Scenario};
use callboard::mutants::Mutant;
use clap::Args;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Which seeds, and how.
#[derive(Debug, Args)]
pub struct Swarm {
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

/// The same, with mistakes.
#[derive(Debug, Args)]
pub struct Mutants {
    /// Rehearse every seed, and count in how many a mistake is noticed, instead of going on to the next mistake at the
    /// first.
    #[arg(long)]
    count: bool,
    /// These mistakes only, between commas.
    #[arg(long, value_delimiter = ',', value_parser = crate::options::mutant)]
    only: Vec<Mutant>,
    /// Tell no stories: what the swarm alone notices.
    #[arg(long)]
    without_stories: bool,
    #[command(flatten)]
    swarm: Swarm,
}

impl Swarm {
    pub fn run(&self) -> bool {
        let begin = Instant::now();
        let summary = self.rehearse_all(&self.fixed, &[], true, false);
        summary.print(begin.elapsed());
        summary.all_passed()
    }

    /// Every seed, each preceded by one of the scenarios.
    fn rehearse_all(
        &self,
        fixed: &Fixed,
        stories: &[(String, Scenario)],
        print: bool,
        until_first: bool,
    ) -> Summary {
        let next = AtomicU64::new(self.from);
        let over = AtomicBool::new(false);
        let summary = Mutex::new(Summary::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.from + self.seeds {
                            break;
                        }
                        let story = stories.get(seed as usize % stories.len().max(1));
                        let rehearse = |fixed: &Fixed| {
                            let told = story.and_then(|story| tell(story, seed, fixed));
                            told.unwrap_or_else(|| self.seed(seed, fixed))
                        };
                        let (options, mut verdict) = rehearse(fixed);
                        if fixed.mutant.is_some()
                            && !verdict.passed()
                            && !rehearse(&fixed.without_mutant()).1.passed()
                        {
                            eprintln!("seed {seed} fails without the mistake too: it shows nothing");
                            verdict.violations.clear();
                        }
                        let mut summary = summary.lock().expect("nobody panics with it");
                        summary.add(seed, &verdict);
                        if print {
                            print_seed(&options, fixed, &verdict);
                        }
                        if until_first && !verdict.passed() {
                            over.store(true, Ordering::Relaxed);
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

/// Plays a scenario; returns its options and verdict if it fails.
fn tell((name, story): &(String, Scenario), seed: u64, fixed: &Fixed) -> Option<(Options, Verdict)> {
    let options = Options::of_story(seed, story, fixed.mutant);
    let mut verdict = rehearse_story(&options, Some(story), false, false);
    let first = verdict.violations.first_mut()?;
    first.0 = format!("story {name}: {}", first.0);
    Some((options, verdict))
}

fn print_seed(options: &Options, fixed: &Fixed, verdict: &Verdict) {
    let word = if verdict.passed() { "ok    " } else { "FAILED" };
    println!("{word} {options}");
    if !verdict.passed() {
        println!("{}", report::verdict(options, fixed, verdict));
    }
}

impl Mutants {
    /// Whether every mutant was caught in some seed.
    pub fn run(&self) -> bool {
        let stories = match scenario::all() {
            Ok(stories) => stories,
            Err(error) => {
                eprintln!("{error}");
                return false;
            }
        };
        let heading = "first seed, and what was noticed";
        println!("{:<26} {:>13}  {heading}", "mutant", "caught in");
        let stories = if self.without_stories { Vec::new() } else { stories };
        let only = self.swarm.fixed.mutant.as_slice().iter().chain(&self.only);
        let only: Vec<Mutant> = only.copied().collect();
        let mut all = true;
        for &mutant in Mutant::ALL {
            if !only.is_empty() && !only.contains(&mutant) {
                continue;
            }
            let fixed = Fixed {
                mutant: Some(mutant),
                ..self.swarm.fixed.clone()
            };
            let summary = self.swarm.rehearse_all(&fixed, &stories, false, !self.count);
            all &= !summary.all_passed();
            println!(
                "{:<26} {:>5} of {:>4}  {}",
                mutant.name(),
                summary.failed(),
                summary.seeds(),
                summary.first_failure()
            );
        }
        all
    }
}
