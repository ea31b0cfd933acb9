//! Scenarios: scripted events of a cluster, step by step, with their expected results. The language has one step per line and is
//! described in README.md; `steps` parses it, `play` executes it.

#![allow(clippy::disallowed_methods)] // the simulator's own files, for people to read

#[cfg(madsim)]
pub mod play;
pub mod steps;

use std::path::{Path, PathBuf};

/// The directory of the scenarios.
pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

/// The files of all scenarios, in the order of their names.
pub fn files() -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{DIRECTORY}: {error}");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(DIRECTORY).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "scenario") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// All scenarios, with their names.
pub fn all() -> Result<Vec<(String, steps::Scenario)>, String> {
    let stories = files()?.into_iter().map(|path| Ok((name(&path), read(&path)?)));
    stories.collect()
}

/// The name of a scenario is that of its file.
pub fn name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Reads a scenario.
pub fn read(path: &Path) -> Result<steps::Scenario, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    steps::parse(&text).map_err(|error| format!("{}:{error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_can_be_read_and_expects_something() {
        let stories = all().expect("the stories are there");
        assert!(stories.len() >= 5, "{stories:?}");
        for (name, scenario) in stories {
            let expects = |step: &steps::Step| step.expects_something();
            assert!(scenario.steps.iter().any(|(_, step)| expects(step)), "{name}");
        }
    }
}
