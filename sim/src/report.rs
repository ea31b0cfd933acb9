//! The output at the end: the verdict with the command to replay it, and the coverage of a swarm.

use crate::coverage;
use crate::fault_kind::FaultKind;
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
        "{word} {:.0} simulated seconds in {:.1} s, trace {:016x}. Replay: {}",
        verdict.simulated.as_secs_f64(),
        verdict.real.as_secs_f64(),
        verdict.fingerprint,
        replay(options, fixed)
    ));
    lines.join("\n")
}

/// The command that replays a rehearsal.
pub fn replay(options: &Options, fixed: &Fixed) -> String {
    format!("cargo sim --seed {}{}", options.seed, fixed.flags())
}

/// The summary of many rehearsals.
#[derive(Debug, Default)]
pub struct Summary {
    passed: u64,
    /// Seeds with their first violation.
    failed: BTreeMap<u64, String>,
    simulated: Duration,
    /// How often each point was reached, and in how many seeds.
    reached: BTreeMap<String, (u64, u64)>,
}

impl Summary {
    pub fn add(&mut self, seed: u64, verdict: &Verdict) {
        if verdict.passed() {
            self.passed += 1;
        } else {
            self.failed.insert(seed, verdict.violations[0].to_string());
        }
        self.simulated += verdict.simulated;
        for (name, count) in coverage::points(&verdict.counters, &verdict.record) {
            let (sum, seeds) = self.reached.entry(name).or_default();
            *sum += count;
            *seeds += u64::from(count > 0);
        }
    }

    pub fn all_passed(&self) -> bool {
        self.failed.is_empty()
    }

    pub fn seeds(&self) -> u64 {
        self.passed + self.failed.len() as u64
    }

    pub fn failed(&self) -> usize {
        self.failed.len()
    }

    /// The lowest seed that failed, with its violation.
    pub fn first_failure(&self) -> String {
        let first = self.failed.first_key_value();
        first.map_or("never noticed".to_owned(), |(seed, what)| {
            let what: String = what.chars().take(120).collect();
            format!("{seed}: {what}")
        })
    }

    /// Prints the coverage and the speed.
    pub fn print(&self, real: Duration) {
        println!("{:<36} {:>10} {:>8}", "reached", "times", "in seeds");
        for (name, (sum, seeds)) in self.reached.iter().filter(|(_, (sum, _))| *sum > 0) {
            let fault = FaultKind::ALL.iter().find(|kind| kind.counter() == name);
            let what = fault.map_or("", |kind| kind.description());
            println!(
                "{}",
                format!("{name:<36} {sum:>10} {seeds:>8}  {what}").trim_end()
            );
        }
        // These counters are 0 in the best case, so that is no gap.
        let never = self.reached.iter().filter(|(name, (sum, _))| {
            *sum == 0 && !name.starts_with("not judged") && *name != "keys given up"
        });
        let never: Vec<&str> = never.map(|(name, _)| name.as_str()).collect();
        println!(
            "never reached: {}",
            if never.is_empty() {
                "nothing".to_owned()
            } else {
                never.join("; ")
            }
        );
        let word = if self.all_passed() { "PASSED" } else { "FAILED" };
        println!(
            "{word} {} of {} seeds, {:.0} simulated seconds in {:.1} s",
            self.passed,
            self.seeds(),
            self.simulated.as_secs_f64(),
            real.as_secs_f64()
        );
        if !self.failed.is_empty() {
            let seeds: Vec<_> = self.failed.keys().map(u64::to_string).collect();
            println!("failed: {}", seeds.join(" "));
        }
    }
}
