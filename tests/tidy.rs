//! The architecture as a test: folders stand in layers, and each imports only from those below it. Beside that, files and functions
//! are short, some words are not used, and what documents name exists.

#![allow(
    clippy::disallowed_methods,
    reason = "a test reads the sources as they are on disk"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders and single files of `src/`, lowest first. What stands in one row does not know of each other either.
const LAYERS: &[&[&str]] = &[
    &[
        "bound",
        "env",
        "etcd_errors",
        "ids",
        "inbox",
        "limits",
        "mutants",
        "stop",
        "version",
    ],
    &["cluster", "logging", "metrics", "tls"],
    &["client", "storage"],
    &["bench", "state"],
    &["backup", "requests", "watch"],
    &["apply", "compactor", "quota"],
    &["consensus"],
    &["peer"],
    &["corruption", "lease"],
    &["api", "config"],
    &["discovery"],
    &["bootstrap"],
    &["node"],
];

/// In the first rows, all may import each other.
const FREE_LAYERS: usize = 1;

/// The wire messages are a crate of their own below all of these.
const PROTO: &str = "proto";

fn layer_of(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

/// A source file: the folder or single file of `src/` that it belongs to, its path and its text.
struct Source {
    room: String,
    path: PathBuf,
    text: String,
}

/// Those below `src/`.
fn sources() -> Vec<Source> {
    sources_below("src")
}

fn sources_below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let inside = path.strip_prefix(&root).expect("it is below the root");
            let first = inside.iter().next().expect("a file has a name").to_string_lossy();
            found.push(Source {
                room: first.trim_end_matches(".rs").to_owned(),
                text: std::fs::read_to_string(&path).expect("a source is text"),
                path,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// What follows each `crate::` outside of comments, with its line.
fn imports(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().enumerate();
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        let uses = line.match_indices("crate::").filter(move |(at, _)| {
            let before = line[..*at].chars().next_back();
            before.is_none_or(|before| !before.is_alphanumeric() && before != '_')
        });
        uses.map(move |(at, found)| {
            let rest = &line[at + found.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            (number + 1, &rest[..end.unwrap_or(rest.len())])
        })
    })
}

/// Imports of one source that go against the layers.
fn faults(source: &Source) -> Vec<String> {
    let at = |line| format!("{}:{line}", source.path.display());
    let Some(own) = layer_of(&source.room) else {
        return vec![format!(
            "{}: `{}` stands in no layer",
            source.path.display(),
            source.room
        )];
    };
    let wrong = imports(&source.text).filter_map(|(line, room)| {
        if room == source.room || room == PROTO {
            return None;
        }
        match layer_of(room) {
            None => Some(format!("{}: `{room}` stands in no layer", at(line))),
            Some(layer) if layer < own => None,
            Some(layer) if layer == own && own < FREE_LAYERS => None,
            Some(_) => Some(format!("{}: `{}` may not import `{room}`", at(line), source.room)),
        }
    });
    wrong.collect()
}

#[test]
fn folders_import_only_what_is_below_them() {
    for (depth, layer) in LAYERS.iter().enumerate() {
        println!("{depth:>2}  {}", layer.join(" "));
    }
    let sources = sources();
    let modules = sources
        .iter()
        .filter(|source| !["lib", "main"].contains(&source.room.as_str()));
    let faults: Vec<String> = modules.flat_map(faults).collect();
    assert!(faults.is_empty(), "against the layers:\n{}", faults.join("\n"));
    let known: BTreeSet<_> = sources.iter().map(|source| source.room.as_str()).collect();
    let gone = LAYERS.iter().flat_map(|layer| layer.iter());
    let gone: Vec<_> = gone.filter(|room| !known.contains(**room)).collect();
    assert!(
        gone.is_empty(),
        "these stand in a layer and do not exist: {gone:?}"
    );
}

#[test]
fn an_import_against_the_layers_is_found() {
    let source = |room: &str, text: &str| Source {
        room: room.to_owned(),
        path: PathBuf::from("made_up.rs"),
        text: text.to_owned(),
    };
    let cases = [
        ("state", "use crate::consensus::core::Core;", 1),
        ("consensus", "use crate::state::Machine;", 0),
        ("consensus", "use crate::{state, peer};", 1),
        ("peer", "fn f() { crate::lease::handle() }", 1),
        ("lease", "use crate::corruption::HashHandle;", 1),
        ("storage", "// see crate::node\nuse crate::env;", 0),
        ("env", "use crate::limits::X;", 0),
        ("nowhere", "", 1),
        ("env", "use crate::nowhere::X;", 1),
    ];
    for (room, text, expected) in cases {
        assert_eq!(faults(&source(room, text)).len(), expected, "{room}: {text}");
    }
}

const DOCUMENTS: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/compatibility.md",
    "sim/README.md",
];

/// Files that a document names: in links, in code (`src/…`, `tests/…`, or a file of `src/` as the architecture names it), and
/// behind `cargo test --test`.
fn named_files(document: &str, text: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = root.join(document);
    let beside = beside.parent().expect("a document is in a directory");
    let mut named = Vec::new();
    for link in text.split("](").skip(1) {
        let target = link.split(')').next().unwrap_or_default();
        if !target.starts_with("http") {
            named.push(beside.join(target.split('#').next().unwrap_or_default()));
        }
    }
    // Inside a pair of backticks, or a line of a block.
    for word in text.split(['`', '\n', ' ']) {
        let first = word.split('/').next().unwrap_or_default();
        let is_path = word.contains('/')
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
        if is_path && ["src", "tests", "docs", "fuzz", "sim"].contains(&first) {
            named.push(root.join(word));
        } else if is_path && document == "docs/architecture.md" && layer_of(first).is_some() {
            named.push(root.join("src").join(word));
        }
    }
    for test in text.split("cargo test --test ").skip(1) {
        let name = test
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        let alone = root.join("tests").join(format!("{name}.rs"));
        named.push(if alone.exists() {
            alone
        } else {
            root.join("tests").join(name).join("main.rs")
        });
    }
    named
}

#[test]
fn what_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut gone = Vec::new();
    let mut named = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).expect("the document is there");
        for file in named_files(document, &text) {
            named += 1;
            if !file.exists() {
                gone.push(format!("{document} names {}", file.display()));
            }
        }
    }
    println!("{named} files are named");
    assert!(gone.is_empty(), "{}", gone.join("\n"));
    let made_up = named_files(
        "README.md",
        "run `tests/gone`, [read](docs/gone.md), `cargo test --test gone`",
    );
    assert_eq!(made_up.len(), 3);
    assert!(made_up.iter().all(|file| !file.exists()));
}

/// Commands that a document names, and the file that must know each.
fn unknown_commands(text: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("the file is there");
    let mut unknown = Vec::new();
    for (before, file) in [
        ("cargo sim ", "sim/src/command.rs"),
        ("callboard bench ", "src/bench/options.rs"),
    ] {
        let source = read(file);
        for rest in text.split(before).skip(1) {
            let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            // clap makes a command of each variant.
            let mut variant = word.clone();
            if let Some(first) = variant.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            let is_known = [" ", "(", "{", ","]
                .iter()
                .any(|end| source.contains(&format!("    {variant}{end}")));
            if !word.is_empty() && !is_known {
                unknown.push(format!("{before}{word}"));
            }
        }
    }
    for rest in text.split("fuzz/smoke ").skip(1) {
        let mut words = rest.split(['`', '\n', ' ']);
        let target = words.nth(1).unwrap_or_default();
        let is_name = !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_name && !root.join("fuzz/targets").join(format!("{target}.rs")).exists() {
            unknown.push(format!("fuzz/smoke … {target}"));
        }
    }
    unknown
}

#[test]
fn commands_that_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).expect("the document is there");
        assert_eq!(unknown_commands(&text), [""; 0], "{document}");
    }
    let made_up = "`cargo sim swarm --seeds 1`, `cargo sim gone`, `cargo sim --seed 1`, `callboard bench put`, \
                   `callboard bench gone`, `fuzz/smoke 600 gone`, `fuzz/smoke 10 rpc_bodies`";
    assert_eq!(
        unknown_commands(made_up),
        ["cargo sim gone", "callboard bench gone", "fuzz/smoke … gone"]
    );
}

#[test]
fn the_first_page_is_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("README.md")).expect("it is there");
    let lines = text.lines().count();
    assert!(lines <= 80, "README.md has {lines} lines");
}

/// All sources of the project.
fn all_sources() -> impl Iterator<Item = Source> {
    let folders = ["src", "sim/src", "tests", "benches", "fuzz/targets", "proto/src"];
    folders.into_iter().flat_map(sources_below)
}

const FILE_LINES_MAX: usize = 500;

/// A table of cases may be longer: tests are not looked at.
const FUNCTION_LINES_MAX: usize = 70;

/// The functions of a source, each with its lines. As rustfmt leaves them: a function ends with a brace below where it begins.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = code.split(" fn ").next().unwrap_or_default();
        let is_function = code.starts_with("fn ")
            || (code.contains(" fn ")
                && words.split(' ').all(|word| {
                    word.starts_with("pub") || ["const", "async", "unsafe", "in"].contains(&word)
                }));
        if !is_function {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let end = format!("{indent}}}");
        let Some(length) = lines[at..].iter().position(|line| *line == end) else {
            continue;
        };
        // One without a body ends before the next begins.
        let declared = lines[at..at + length].iter().any(|line| {
            line.ends_with(';') && line.starts_with(indent) && !line[indent.len()..].starts_with(' ')
        });
        if !declared {
            found.push((code, length + 1));
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    let is_named_so = |part: &std::ffi::OsStr| part.to_string_lossy().contains("test");
    path.iter().any(is_named_so)
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    let mut counted = 0;
    for source in all_sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{} has {lines} lines", source.path.display()));
        }
        if is_test(
            source
                .path
                .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                .expect("below the root"),
        ) {
            continue;
        }
        let code = source
            .text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        for (function, lines) in functions(code) {
            counted += 1;
            if lines > FUNCTION_LINES_MAX {
                long.push(format!("{}: {lines} lines: {function}", source.path.display()));
            }
        }
    }
    println!("{counted} functions");
    assert!(counted > 1_000, "they are not found: {counted}");
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn the_length_of_a_function_is_counted() {
    let text = "trait T {\n    fn declared(\n        x: u8,\n    );\n\n    pub(super) async fn two() {\n        if true {\n        }\n    }\n}\nfn one() {\n}\n";
    let lengths: Vec<_> = functions(text).into_iter().map(|(_, lines)| lines).collect();
    assert_eq!(lengths, [4, 2]);
}

/// What is said with another word, which stands behind it.
const WORDS: &[(&str, &str)] = &[
    ("by itself", "automatically, on its own"),
    ("by themselves", "automatically, on their own"),
    ("alarm over space", "the NOSPACE alarm"),
    ("what lives ", "live bytes"),
    ("Between two ", "interval between"),
    ("company", "clients"),
    ("audience", "watchers"),
    ("roads", "links, routes"),
    ("see off", "stop, reap"),
];

#[test]
fn words_that_have_a_better_one_are_not_used() {
    let mut found = Vec::new();
    for source in all_sources().filter(|source| !source.path.ends_with("tidy.rs")) {
        for (number, line) in source.text.lines().enumerate() {
            for (word, instead) in WORDS {
                if line.contains(word) {
                    let path = source.path.display();
                    found.push(format!("{path}:{}: {word:?}: say {instead}", number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
