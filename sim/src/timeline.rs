//! A rehearsal as one self-contained page: members with their leaders, outages and disks, links, and every operation of every
//! client over time. The page is `timeline.html` with the record inserted as JSON; it loads no other resources.

#![allow(clippy::disallowed_methods)] // the simulator's own files, for people to read

use crate::checkers::Violation;
use crate::history_file;
use crate::record::Record;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const PAGE: &str = include_str!("timeline.html");
/// The placeholder for the data in the page.
const PLACE: &str = "/* record */ null";

/// The head of the page.
#[derive(Clone, Debug)]
pub struct Title {
    /// The command that replays the rehearsal.
    pub command: String,
    pub options: String,
    pub members: usize,
    pub simulated: Duration,
}

/// Writes the page.
pub fn write(title: &Title, record: &Record, violations: &[Violation], path: &Path) -> std::io::Result<()> {
    std::fs::write(path, page(title, record, violations))
}

fn page(title: &Title, record: &Record, violations: &[Violation]) -> String {
    let happenings: Vec<_> = record
        .happenings
        .iter()
        .map(|happening| {
            json!({
                "at_s": happening.at.as_secs_f64(),
                "who": happening.who,
                "event": happening.event,
                "term": happening.term,
                "note": happening.note,
            })
        })
        .collect();
    let operations: Vec<_> = record.history.operations.iter().map(history_file::line).collect();
    let violations: Vec<_> = violations
        .iter()
        .map(|violation| json!({ "text": violation.0, "operations": evidence(&violation.0) }))
        .collect();
    let data = json!({
        "command": title.command,
        "options": title.options,
        "members": (1..=title.members).map(|number| format!("m{number}")).collect::<Vec<_>>(),
        "end_s": title.simulated.as_secs_f64(),
        "happenings": happenings,
        "operations": operations,
        "violations": violations,
    });
    assert!(PAGE.contains(PLACE), "the page has a place for its data");
    // The data must not close the script element.
    PAGE.replacen(PLACE, &data.to_string().replace("</", "<\\/"), 1)
}

/// The operations that a violation names: checkers write "operation 7".
fn evidence(text: &str) -> Vec<u64> {
    text.split("operation ")
        .skip(1)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
