//! Reads a script of etcdctl commands: a text file that a person can review.
//!
//! ```text
//! # a comment
//! $ put key 'a value'        one command
//! * get key                  the same command with each -w: simple, json, fields, table, protobuf
//! < a line                   standard input of the command above, with a newline
//! <- text                    the same without a newline
//! <* 129 put key% value      that many lines, % being 0, 1, 2, …
//! <= 2000 x                  that many times the text, nothing between
//! ^ 5 NOSPACE                raises an alarm in the name of member 5, without etcdctl
//! ! 1f5 600                  grants the lease 1f5 (hexadecimal) for 600 seconds, without etcdctl
//! ```
//!
//! Words are parted by blanks and joined by single quotes. `\xNN`, `\n`, `\t` and `\\` stand for bytes. `{clients}`
//! stands for all client endpoints, `{client1}` for the first member's, and so on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Formats that etcdctl knows; some commands refuse some of them, and that too is compared.
pub const FORMATS: [&str; 5] = ["simple", "json", "fields", "table", "protobuf"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Run { words: Vec<Vec<u8>>, stdin: Vec<u8> },
    Grant { id: i64, ttl_seconds: i64 },
    Raise { member_id: u64, alarm: String },
}

/// One thing to do, and where it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub line: usize,
    pub action: Action,
}

/// All steps of a script, `*` lines unfolded.
pub fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    // The commands that the lines of input belong to: one, or one per format.
    let mut open = 0..0;
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "" | "#" => {}
            "$" | "*" => {
                let formats: &[&str] = if mark == "*" { &FORMATS } else { &[""] };
                let start = steps.len();
                for format in formats {
                    let mut words = Vec::new();
                    if !format.is_empty() {
                        words.extend([b"-w".to_vec(), format.as_bytes().to_vec()]);
                    }
                    words.extend(split(rest));
                    steps.push(Step {
                        line: line_number,
                        action: Action::Run {
                            words,
                            stdin: Vec::new(),
                        },
                    });
                }
                open = start..steps.len();
            }
            "!" => {
                let (id, ttl) = rest
                    .split_once(' ')
                    .unwrap_or_else(|| panic!("line {line_number}: ! ID TTL"));
                let id = i64::from_str_radix(id, 16).expect("a hexadecimal lease id");
                let ttl_seconds = ttl.parse().expect("a time to live in seconds");
                steps.push(Step {
                    line: line_number,
                    action: Action::Grant { id, ttl_seconds },
                });
            }
            "^" => {
                let (id, alarm) = rest
                    .split_once(' ')
                    .unwrap_or_else(|| panic!("line {line_number}: ^ MEMBER ALARM"));
                steps.push(Step {
                    line: line_number,
                    action: Action::Raise {
                        member_id: id.parse().expect("the id of a member"),
                        alarm: alarm.to_owned(),
                    },
                });
            }
            "<" | "<-" | "<*" | "<=" => {
                let more = input(mark, rest);
                assert!(!open.is_empty(), "line {line_number}: input without a command");
                for step in &mut steps[open.clone()] {
                    if let Action::Run { stdin, .. } = &mut step.action {
                        stdin.extend_from_slice(&more);
                    }
                }
            }
            _ => panic!("line {line_number}: {line:?} is no step"),
        }
    }
    steps
}

fn input(mark: &str, rest: &str) -> Vec<u8> {
    let repeated = || {
        let (count, text) = rest.split_once(' ').expect("a count and a text");
        (count.parse::<usize>().expect("a count"), text)
    };
    match mark {
        "<-" => unescape(rest),
        "<*" => {
            let (count, text) = repeated();
            (0..count)
                .flat_map(|number| unescape(&format!("{}\n", text.replace('%', &number.to_string()))))
                .collect()
        }
        "<=" => {
            let (count, text) = repeated();
            unescape(text).repeat(count)
        }
        _ => unescape(&format!("{rest}\n")),
    }
}

/// Splits at blanks outside of single quotes, then resolves escapes.
fn split(text: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    assert!(!quoted, "a quote is not closed: {text}");
    words.extend(word);
    words.iter().map(|word| unescape(word)).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let length = match escape.as_bytes().first() {
            Some(b'n') => {
                bytes.push(b'\n');
                1
            }
            Some(b't') => {
                bytes.push(b'\t');
                1
            }
            Some(b'\\') => {
                bytes.push(b'\\');
                1
            }
            Some(b'x') => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).expect("two hexadecimal digits"));
                3
            }
            _ => panic!("no such escape: \\{escape}"),
        };
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A word with the cluster's addresses in the place of `{clients}` and `{client1}`, `{client2}`, …
pub fn fill_in(word: &[u8], clients: &[String]) -> OsString {
    let Ok(text) = std::str::from_utf8(word) else {
        return OsString::from_vec(word.to_vec());
    };
    let mut text = text.replace("{clients}", &clients.join(","));
    for (index, client) in clients.iter().enumerate() {
        text = text.replace(&format!("{{client{}}}", index + 1), client);
    }
    OsString::from(text)
}

#[test]
fn a_script_is_read_as_written() {
    let steps =
        parse("# note\n$ put 'a b' '' \\xff\n< one\n<- two\n\n! ff 60\n$ txn\n<* 2 put k% v\n<= 3 x\n");
    let run = |line, words: &[&[u8]], stdin: &[u8]| Step {
        line,
        action: Action::Run {
            words: words.iter().map(|word| word.to_vec()).collect(),
            stdin: stdin.to_vec(),
        },
    };
    assert_eq!(
        steps,
        [
            run(2, &[b"put", b"a b", b"", b"\xff"], b"one\ntwo"),
            Step {
                line: 6,
                action: Action::Grant {
                    id: 255,
                    ttl_seconds: 60
                }
            },
            run(7, &[b"txn"], b"put k0 v\nput k1 v\nxxx"),
        ]
    );
    assert_eq!(parse("* get k\n").len(), FORMATS.len());
    assert_eq!(
        fill_in(b"--endpoints={client2}", &["a:1".into(), "b:2".into()]),
        "--endpoints=b:2"
    );
}
