//! Reads a script of HTTP requests: a text file that a person can review.
//!
//! ```text
//! # a comment
//! POST /v3/kv/range {"key":"Zm9v"}     a request: method, path, body
//! 2 /v3/watch {"create_request":{}}    a POST that is answered by a stream, of which two lines are read
//! = 501 {"code":12}                    what etcd 3.7.1 answers to the request above, where older ones differ
//! ```

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub line: usize,
    pub method: String,
    pub path: String,
    pub body: String,
    /// Lines to read of a stream; 0 for an answer that ends.
    pub lines: usize,
    /// Status and body.
    pub newer: Option<(u16, String)>,
}

/// All requests of a script.
pub fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (second, third) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "" | "#" => {}
            "=" => {
                let step = steps.last_mut().expect("an answer to a request above it");
                let status = second.parse().expect("a status");
                step.newer = Some((status, third.to_owned()));
            }
            _ => {
                let lines = word.parse();
                steps.push(Step {
                    line: index + 1,
                    method: if lines.is_ok() { "POST" } else { word }.to_owned(),
                    path: second.to_owned(),
                    body: third.to_owned(),
                    lines: lines.unwrap_or(0),
                    newer: None,
                });
            }
        }
    }
    steps
}
