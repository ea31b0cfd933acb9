//! Files of variables as systemd reads them for EnvironmentFile= (systemd.exec(5)): comments begin with # or ;, a backslash at the end
//! of a line joins it with the next, and quotes of either kind keep what is between them.

use std::iter::Peekable;
use std::str::Chars;

/// The variables of a file, in order; the last of a name counts.
pub fn read(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|next| next.is_whitespace()).is_some() {}
        match rest.peek() {
            None => return variables,
            Some('#' | ';') => skip_comment(&mut rest),
            Some(_) => {
                let mut name = String::new();
                while let Some(next) = rest.next_if(|next| !matches!(next, '=' | '\n')) {
                    name.push(next);
                }
                if rest.next() == Some('=') {
                    variables.push((name.trim().to_owned(), value(&mut rest)));
                }
            }
        }
    }
}

fn skip_comment(rest: &mut Peekable<Chars<'_>>) {
    while let Some(next) = rest.next() {
        match next {
            '\n' => return,
            '\\' => drop(rest.next()),
            _ => {}
        }
    }
}

/// Up to the end of its line, which counts no more than blanks around it do.
fn value(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    let mut kept = 0;
    // Quotes count only where a value, or another part of it, begins.
    let mut begins = true;
    while let Some(next) = rest.next() {
        match next {
            '\n' => break,
            '\\' => {
                value.extend(rest.next().filter(|escaped| *escaped != '\n'));
                begins = false;
            }
            '\'' | '"' if begins => quoted(next, rest, &mut value),
            next if next.is_whitespace() && begins => continue,
            next => {
                value.push(next);
                begins = false;
                if next.is_whitespace() {
                    continue;
                }
            }
        }
        kept = value.len();
    }
    value.truncate(kept);
    value
}

/// Up to the closing quote.
fn quoted(quote: char, rest: &mut Peekable<Chars<'_>>, value: &mut String) {
    while let Some(next) = rest.next() {
        match next {
            next if next == quote => return,
            '\\' if quote == '"' => match rest.next() {
                Some('\n') | None => {}
                Some(escaped) => {
                    if !matches!(escaped, '"' | '\\' | '`' | '$') {
                        value.push('\\');
                    }
                    value.push(escaped);
                }
            },
            next => value.push(next),
        }
    }
}

#[test]
fn files_are_read_as_systemd_reads_them() {
    let text = "# a comment\n; another\n\nA=plain\n B = two words \t\nC=\"in quotes # no comment\"\nD='single \"$'\n\
        E=\"one \\\n  line\"\nF=one\\\n,two\nG=\nno assignment\nH=\"a\\\"b\\$c\\d\"\nI=it's\nJ=\"a\"'b'\n#K=x\n";
    let expected = [
        ("A", "plain"),
        ("B", "two words"),
        ("C", "in quotes # no comment"),
        ("D", "single \"$"),
        ("E", "one   line"),
        ("F", "one,two"),
        ("G", ""),
        ("H", "a\"b$c\\d"),
        ("I", "it's"),
        ("J", "ab"),
    ];
    let found = read(text);
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(found, expected);
}
