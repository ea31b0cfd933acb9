//! Scripted stories: what happens to a cluster step by step, and what must come of it. The language has one step a line
//! and is described in README.md; `steps` reads it, `play` carries it out.

#![allow(clippy::disallowed_methods)] // the simulator's own files, for people to read

#[cfg(madsim)]
pub mod play;
pub mod steps;

use std::path::{Path, PathBuf};

/// Where the stories are.
pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

/// All stories, by name.
pub fn all() -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(DIRECTORY)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "scenario") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a story.
pub fn read(path: &Path) -> Result<steps::Scenario, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    steps::parse(&text).map_err(|error| format!("{}:{error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_can_be_read_and_expects_something() {
        let paths = all().expect("the stories are there");
        assert!(paths.len() >= 5, "{paths:?}");
        for path in paths {
            let scenario = read(&path).expect("a story");
            let expects = |step: &steps::Step| step.expects_something();
            assert!(
                scenario.steps.iter().any(|(_, step)| expects(step)),
                "{}",
                path.display()
            );
        }
    }
}
