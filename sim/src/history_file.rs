//! Writes a history as JSON lines, one operation each, for external checkers. README.md describes the format.

#![allow(clippy::disallowed_methods)] // the simulator's own files, for people to read

use crate::history::{Answer, Held, History, Input, Operation, Outcome, key_name};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::path::Path;

/// Writes all operations, in the order of their calls.
pub fn write(history: &History, path: &Path) -> io::Result<()> {
    let mut text = String::new();
    for operation in &history.operations {
        text += &line(operation).to_string();
        text.push('\n');
    }
    io::BufWriter::new(std::fs::File::create(path)?).write_all(text.as_bytes())
}

/// One operation.
pub fn line(operation: &Operation) -> Value {
    let (call, arguments) = call(operation);
    let outcome = operation.returned.as_ref().map(|(_, outcome)| outcome);
    let (result, answer) = match outcome {
        Some(Outcome::Answered(answer)) => ("answered", self::answer(answer)),
        Some(Outcome::Refused(reason)) => ("refused", json!({ "error": reason })),
        Some(Outcome::Unknown(reason)) => ("unknown", json!({ "error": reason })),
        None => ("unknown", json!({})),
    };
    json!({
        "operation": operation.id,
        "process": operation.client,
        "call": call,
        "arguments": arguments,
        "result": result,
        "answer": answer,
        "called": operation.called,
        "returned": operation.returned.as_ref().map(|(moment, _)| moment),
        "called_s": operation.called_at.as_secs_f64(),
        "returned_s": operation.returned_at.map(|at| at.as_secs_f64()),
    })
}

fn call(operation: &Operation) -> (&'static str, Value) {
    let value = operation.id.to_string();
    match &operation.input {
        Input::Get { key, serializable } => (
            "get",
            json!({ "key": key_name(*key), "serializable": serializable }),
        ),
        Input::PastRange { revision } => ("range", json!({ "revision": revision })),
        Input::Put { key } => ("put", json!({ "key": key_name(*key), "value": value })),
        Input::DeleteRange { key } => ("delete", json!({ "key": key_name(*key) })),
        Input::Swap { expected } => ("swap", json!({ "expected": values(expected), "value": value })),
        Input::Compact { revision } => ("compact", json!({ "revision": revision })),
    }
}

fn answer(answer: &Answer) -> Value {
    let revision = answer.revision();
    match answer {
        Answer::Got { value, .. } => {
            json!({ "revision": revision, "value": value.map(|value| value.to_string()) })
        }
        Answer::Range { values: found, .. } => {
            let found: Vec<Held> = found.iter().map(|(key, value)| (*key, Some(*value))).collect();
            json!({ "revision": revision, "values": values(&found) })
        }
        Answer::Written { .. } | Answer::Compacted { .. } => json!({ "revision": revision }),
        Answer::Deleted { existed, .. } => json!({ "revision": revision, "deleted": existed }),
        Answer::Swapped { swapped, found, .. } => {
            json!({ "revision": revision, "swapped": swapped, "found": values(found) })
        }
    }
}

/// Keys and their values; null if they do not exist.
fn values(held: &[Held]) -> Map<String, Value> {
    let value = |value: &Option<u64>| value.map_or(Value::Null, |value| json!(value.to_string()));
    held.iter()
        .map(|(key, held)| (key_name(*key), value(held)))
        .collect()
}

#[cfg(test)]
#[path = "history_file_tests.rs"]
mod tests;
