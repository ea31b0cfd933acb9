//! Rehearsals that failed once, or reached a rare corner: each a line of flags in `corpus.txt`, replayed with every change.

use crate::options::Fixed;
use clap::Parser;

/// The lines at the time of the build.
const LINES: &str = include_str!("../corpus.txt");

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
pub struct Entry {
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    pub fixed: Fixed,
}

/// Every rehearsal of the corpus. A comment after `#` gives the reason for it.
pub fn entries() -> Result<Vec<Entry>, clap::Error> {
    parse(LINES)
}

fn parse(lines: &str) -> Result<Vec<Entry>, clap::Error> {
    lines
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|flags| !flags.is_empty())
        .map(|flags| Entry::try_parse_from(flags.split_whitespace()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_corpus_says_what_to_rehearse() {
        assert!(!entries().expect("flags that are known").is_empty());
    }

    #[test]
    fn lines_are_flags() {
        let entries = parse("# why\n\n--seed 7 --strikes 2,9 # because\n").expect("flags");
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].seed, entries[0].fixed.flags()),
            (7, " --strikes 2,9".to_owned())
        );
        assert!(parse("--sead 7").is_err());
    }
}
