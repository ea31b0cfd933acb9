//! Takes out of etcdctl's outputs what differs between two runs of the same server, and nothing else.
//!
//! Both clusters run on the same ports with the same token, one after the other. Cluster and member ids are sums of
//! just these, so they are compared as they are, and so are addresses, revisions, counts and hashes. What is replaced:
//!
//! - raft's term, and in `endpoint status` its index, the leader, the server's version and sizes of the database;
//! - how long a health check took; the checks run side by side, so their results are sorted too;
//! - the time and the random client id in the lines that etcdctl itself logs.

use callboard::proto::etcdserverpb::ResponseHeader;
use prost::Message;

use crate::support::process::Finished;

/// The command and the format decide what can be in the output.
pub fn normalise(words: &[Vec<u8>], finished: &Finished) -> Finished {
    let has = |word: &str| words.iter().any(|other| other == word.as_bytes());
    let format = words
        .iter()
        .position(|word| word == b"-w")
        .and_then(|at| words.get(at + 1));
    let format = format.map_or("simple", |format| std::str::from_utf8(format).unwrap_or("simple"));
    let endpoint = match (has("endpoint"), has("status"), has("health")) {
        (true, true, _) => Endpoint::Status,
        (true, _, true) => Endpoint::Health,
        _ => Endpoint::Other,
    };
    let stdout = match (format, std::str::from_utf8(&finished.stdout)) {
        ("protobuf", _) => without_term_in_header(&finished.stdout),
        (_, Err(_)) => finished.stdout.clone(),
        ("json", Ok(text)) => json(text, endpoint).into_bytes(),
        ("fields", Ok(text)) => fields(text, endpoint).into_bytes(),
        ("table", Ok(text)) => table(text, endpoint).into_bytes(),
        (_, Ok(text)) => simple(text, endpoint).into_bytes(),
    };
    let stderr = simple(&client_log(&String::from_utf8_lossy(&finished.stderr)), endpoint).into_bytes();
    Finished {
        code: finished.code,
        stdout,
        stderr,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Status,
    Health,
    Other,
}

/// Replaces what stands between each `start` and the next of `ends` by `<…>`.
pub fn replace_between(text: &str, start: &str, ends: &[char], replacement: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(start) {
        let (before, after) = rest.split_at(at + start.len());
        result.push_str(before);
        result.push_str(replacement);
        let end = after.find(ends).unwrap_or(after.len());
        rest = &after[end..];
    }
    result.push_str(rest);
    result
}

fn client_log(text: &str) -> String {
    let text = replace_between(text, "\"ts\":\"", &['"'], "<time>");
    replace_between(&text, "endpoint://client-", &['/'], "<id>")
}

fn json(text: &str, endpoint: Endpoint) -> String {
    let mut text = replace_between(text, "\"raft_term\":", &[',', '}'], "<term>");
    match endpoint {
        Endpoint::Other => text,
        Endpoint::Status => {
            for (field, replacement) in [
                ("\"version\":\"", "<version>"),
                ("\"dbSize\":", "<size>"),
                ("\"dbSizeInUse\":", "<size>"),
                ("\"leader\":", "<leader>"),
                ("\"raftIndex\":", "<index>"),
                ("\"raftTerm\":", "<term>"),
                ("\"raftAppliedIndex\":", "<index>"),
            ] {
                text = replace_between(&text, field, &[',', '}', '"'], replacement);
            }
            text
        }
        Endpoint::Health => {
            let text = replace_between(&text, "\"took\":\"", &['"'], "<time>");
            sorted(&text, "},{")
        }
    }
}

fn fields(text: &str, endpoint: Endpoint) -> String {
    let replaced = |line: &str| {
        let (name, value) = line.split_once(" : ").unwrap_or((line, ""));
        let replacement = match name {
            "\"RaftTerm\"" => "<term>",
            "\"RaftIndex\"" | "\"RaftAppliedIndex\"" if endpoint == Endpoint::Status => "<index>",
            "\"Leader\"" if endpoint == Endpoint::Status => "<leader>",
            "\"Version\"" if endpoint == Endpoint::Status => "<version>",
            "\"DBSize\"" if endpoint == Endpoint::Status => "<size>",
            "\"Took\"" if endpoint == Endpoint::Health => "<time>",
            _ => return line.to_owned(),
        };
        assert!(!value.is_empty(), "{name} has no value");
        format!("{name} : {replacement}")
    };
    let mut lines: Vec<String> = text.split('\n').map(replaced).collect();
    if endpoint == Endpoint::Health {
        lines = vec![sorted(&lines.join("\n"), "\n\n")];
    }
    lines.join("\n")
}

/// Comma-separated rows of `endpoint status`, sentences of `endpoint health`, anything else as it is.
fn simple(text: &str, endpoint: Endpoint) -> String {
    match endpoint {
        Endpoint::Other => text.to_owned(),
        Endpoint::Status => {
            let rows: Vec<String> = text.split('\n').map(|row| status_row(row, ", ")).collect();
            rows.join("\n")
        }
        Endpoint::Health => sorted(&replace_between(text, "took = ", &['\n'], "<time>"), "\n"),
    }
}

/// The width of a column follows what is replaced in it, so blanks and rules around cells go as well.
fn table(text: &str, endpoint: Endpoint) -> String {
    if endpoint == Endpoint::Other {
        return text.to_owned();
    }
    let mut rows: Vec<String> = Vec::new();
    for row in text.lines() {
        let Some(cells) = row.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            rows.push(row.replace('-', ""));
            continue;
        };
        let mut cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if endpoint == Endpoint::Health && cells[0] != "ENDPOINT" {
            cells[2] = "<time>";
        }
        let row = cells.join(" | ");
        rows.push(if endpoint == Endpoint::Status {
            status_row(&row, " | ")
        } else {
            row
        });
    }
    if endpoint == Endpoint::Health {
        rows.sort_unstable();
    }
    rows.join("\n")
}

/// Columns: endpoint, id, version, size, is leader, is learner, term, index, applied index, errors.
fn status_row(row: &str, separator: &str) -> String {
    let mut cells: Vec<&str> = row.split(separator).collect();
    if cells.len() < 10 || cells[0] == "ENDPOINT" {
        return row.to_owned();
    }
    for (column, replacement) in [
        (2, "<version>"),
        (3, "<size>"),
        (4, "<leads>"),
        (6, "<term>"),
        (7, "<index>"),
        (8, "<index>"),
    ] {
        cells[column] = replacement;
    }
    cells.join(separator)
}

fn sorted(text: &str, separator: &str) -> String {
    let inner = text
        .trim_start_matches("[{")
        .trim_end_matches('\n')
        .trim_end_matches("}]");
    let mut parts: Vec<&str> = inner.split(separator).collect();
    parts.sort_unstable();
    parts.join(separator)
}

/// Every response starts with its header as field 1. The header is written again without the term, the rest stays.
fn without_term_in_header(bytes: &[u8]) -> Vec<u8> {
    let [0x0a, length, rest @ ..] = bytes else {
        return bytes.to_vec();
    };
    let length = usize::from(*length);
    // A length of 128 or more takes two bytes; a header never has as many.
    let header = rest
        .get(..length)
        .filter(|_| length < 128)
        .and_then(|header| ResponseHeader::decode(header).ok());
    let Some(mut header) = header else {
        return bytes.to_vec();
    };
    header.raft_term = 0;
    let mut result = format!("{header:?} ").into_bytes();
    result.extend_from_slice(&rest[length..]);
    result
}

#[test]
fn only_what_may_differ_is_replaced() {
    let run = |command: &str, stdout: &str| {
        let words: Vec<Vec<u8>> = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let finished = Finished {
            code: 0,
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        };
        String::from_utf8(normalise(&words, &finished).stdout).unwrap()
    };
    for (command, before, after) in [
        (
            "-w json get k",
            r#"{"header":{"revision":6,"raft_term":2},"kvs":[{"version":5}]}"#,
            r#"{"header":{"revision":6,"raft_term":<term>},"kvs":[{"version":5}]}"#,
        ),
        (
            "-w json endpoint status",
            r#"[{"Status":{"version":"3.4.23","dbSize":20480,"leader":1,"raftIndex":7,"dbSizeInUse":1}}]"#,
            r#"[{"Status":{"version":"<version>","dbSize":<size>,"leader":<leader>,"raftIndex":<index>,"dbSizeInUse":<size>}}]"#,
        ),
        (
            "-w fields get k",
            "\"RaftTerm\" : 2\n\"Version\" : 5\n",
            "\"RaftTerm\" : <term>\n\"Version\" : 5\n",
        ),
        (
            "endpoint status",
            "a:1, 8bac, 3.4.23, 20 kB, true, false, 2, 17, 17, \n",
            "a:1, 8bac, <version>, <size>, <leads>, false, <term>, <index>, <index>, \n",
        ),
        (
            "endpoint health",
            "b took = 3ms\na took = 4ms\n",
            "a took = <time>\nb took = <time>",
        ),
        (
            "-w table endpoint health",
            "+---+\n| ENDPOINT | HEALTH | TOOK | ERROR |\n| a | true | 2ms | |",
            "+\u{2b}\nENDPOINT | HEALTH | TOOK | ERROR\na | true | <time> | ",
        ),
        ("-w table member list", "+---+\n|  ID |\n", "+---+\n|  ID |\n"),
        ("get k", "\"raft_term\":2", "\"raft_term\":2"),
    ] {
        assert_eq!(run(command, before), after, "{command}");
    }
}
