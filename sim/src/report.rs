//! What a reader is told at the end: the verdict and how to see it again, and what a swarm has covered.

use crate::options::{Fixed, Options};
use crate::rehearsal::Verdict;
use std::collections::BTreeMap;
use std::time::Duration;

/// The last lines of one rehearsal.
pub fn verdict(options: &Options, fixed: &Fixed, verdict: &Verdict) -> String {
    let mut lines: Vec<String> = verdict
        .violations
        .iter()
        .map(|violation| format!("  {violation}"))
        .collect();
    let word = if verdict.passed() { "PASSED" } else { "FAILED" };
    lines.push(format!(
        "{word} {:.0} simulated seconds in {:.1} s, trace {:016x}. Replay: cargo sim --seed {}{}",
        verdict.simulated.as_secs_f64(),
        verdict.real.as_secs_f64(),
        verdict.fingerprint,
        options.seed,
        fixed.flags()
    ));
    lines.join("\n")
}

/// Many rehearsals.
#[derive(Debug, Default)]
pub struct Summary {
    passed: u64,
    /// Seeds, and what was wrong first.
    failed: BTreeMap<u64, String>,
    simulated: Duration,
    counters: BTreeMap<&'static str, (u64, u64)>,
}

impl Summary {
    pub fn add(&mut self, seed: u64, verdict: &Verdict) {
        if verdict.passed() {
            self.passed += 1;
        } else {
            self.failed.insert(seed, verdict.violations[0].to_string());
        }
        self.simulated += verdict.simulated;
        for (name, count) in &verdict.counters {
            let (sum, seeds) = self.counters.entry(name).or_default();
            *sum += count;
            *seeds += u64::from(*count > 0);
        }
    }

    pub fn all_passed(&self) -> bool {
        self.failed.is_empty()
    }

    pub fn failed(&self) -> usize {
        self.failed.len()
    }

    /// The lowest seed that failed, and with what.
    pub fn first_failure(&self) -> String {
        let first = self.failed.first_key_value();
        first.map_or("never noticed".to_owned(), |(seed, what)| {
            let what: String = what.chars().take(120).collect();
            format!("{seed}: {what}")
        })
    }

    /// What was covered, and how fast.
    pub fn print(&self, real: Duration) {
        println!("{:<24} {:>10} {:>8}", "covered", "times", "in seeds");
        for (name, (sum, seeds)) in &self.counters {
            println!("{name:<24} {sum:>10} {seeds:>8}");
        }
        let word = if self.all_passed() { "PASSED" } else { "FAILED" };
        println!(
            "{word} {} of {} seeds, {:.0} simulated seconds in {:.1} s",
            self.passed,
            self.passed + self.failed.len() as u64,
            self.simulated.as_secs_f64(),
            real.as_secs_f64()
        );
        if !self.failed.is_empty() {
            let seeds: Vec<_> = self.failed.keys().map(u64::to_string).collect();
            println!("failed: {}", seeds.join(" "));
        }
    }
}
