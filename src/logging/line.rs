//! One record as one line.

use super::{Format, Level, time};
use bytes::Bytes;
use std::fmt;
use std::time::Duration;
use tracing::field::{Field, Visit};

/// A record as it is written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    /// The folder of the source that logged it.
    pub package: &'static str,
    /// With its end.
    pub text: Bytes,
}

/// The line, or nothing if the record is less important than asked for.
pub fn line(event: &tracing::Event<'_>, now: Duration, level_min: Level, format: Format) -> Option<Line> {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let level = if fields.fatal {
        Level::Fatal
    } else {
        Level::of(*metadata.level())
    };
    if level < level_min {
        return None;
    }
    let logger = (metadata.target() == "raft").then_some("raft");
    let file = short(metadata.file().unwrap_or("unknown"));
    let place = (file, metadata.line().unwrap_or(0));
    Some(written(level, now, logger, place, &fields, format))
}

/// A line that says that others are missing here.
pub fn dropped(lines: u64, now: Duration, format: Format) -> Line {
    let mut fields = Fields {
        message: "log lines were dropped: the output took them too slowly, or not at all".to_owned(),
        ..Fields::default()
    };
    push_field(&mut fields.json, "lines", &lines.to_string());
    let place = (short(file!()), line!());
    written(Level::Warn, now, None, place, &fields, format)
}

fn written(
    level: Level,
    now: Duration,
    logger: Option<&'static str>,
    (file, number): (&'static str, u32),
    fields: &Fields,
    format: Format,
) -> Line {
    let head = Head {
        level: level.as_str(),
        time: time::format(now),
        logger,
        caller: format!("{file}:{number}"),
    };
    let text = match format {
        Format::Json => json(&head, fields),
        Format::Console => console(&head, fields),
    };
    Line {
        level,
        package: file.rsplit_once('/').map_or(".", |(folder, _)| folder),
        text: text.into(),
    }
}

struct Head {
    level: &'static str,
    time: String,
    logger: Option<&'static str>,
    caller: String,
}

fn json(head: &Head, fields: &Fields) -> Vec<u8> {
    let mut line = format!("{{\"level\":\"{}\",\"ts\":\"{}\"", head.level, head.time);
    if let Some(logger) = head.logger {
        push_field(&mut line, "logger", &quoted(logger));
    }
    push_field(&mut line, "caller", &quoted(&head.caller));
    push_field(&mut line, "msg", &quoted(&fields.message));
    line.push_str(&fields.json);
    line.push_str("}\n");
    line.into_bytes()
}

fn console(head: &Head, fields: &Fields) -> Vec<u8> {
    let mut line = format!("{}\t{}", head.time, head.level);
    for part in head.logger.into_iter().chain([head.caller.as_str()]) {
        line.push('\t');
        line.push_str(part);
    }
    line.push('\t');
    line.push_str(&fields.message);
    if !fields.json.is_empty() {
        line.push_str("\t{");
        line.push_str(&fields.json[1..]);
        line.push('}');
    }
    line.push('\n');
    line.into_bytes()
}

/// The last folder and the file, as zap has it.
fn short(file: &str) -> &str {
    let mut slashes = file.rmatch_indices('/').map(|(at, _)| at);
    let start = slashes.nth(1).map_or(0, |at| at + 1);
    &file[start..]
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn push_field(line: &mut String, name: &str, value: &str) {
    line.push(',');
    line.push_str(&quoted(name));
    line.push(':');
    line.push_str(value);
}

/// The fields of a record: `json` has a comma before each.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
    fatal: bool,
}

impl Fields {
    fn push(&mut self, field: &Field, value: &str) {
        push_field(&mut self.json, &field.name().replace('_', "-"), value);
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "fatal" {
            self.fatal = value;
        } else {
            self.push(field, if value { "true" } else { "false" });
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, &serde_json::Value::from(value).to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.push(field, &quoted(value));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, &quoted(&value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            // A JSON object whose fields shall stand beside the others.
            "flatten" if text.len() > 2 => {
                self.json.push(',');
                self.json.push_str(&text[1..text.len() - 1]);
            }
            "flatten" => {}
            // Lists of strings print nearly as JSON does: keep them lists.
            _ => match serde_json::from_str::<Vec<String>>(&text) {
                Ok(list) => self.push(field, &serde_json::Value::from(list).to_string()),
                Err(_) => self.push(field, &quoted(&text)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    struct Capture(Level, Format, Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let line = line(event, Duration::from_secs(1), self.0, self.1);
            let line = line.map(|line| String::from_utf8(line.text.to_vec()).unwrap());
            self.2.lock().unwrap().extend(line);
        }
    }

    fn lines(format: Format, level: Level, log: impl FnOnce()) -> Vec<String> {
        let lines = Arc::default();
        let capture = Capture(level, format, Arc::clone(&lines));
        let subscriber = tracing_subscriber::registry().with(capture);
        tracing::subscriber::with_default(subscriber, log);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn json_lines_look_like_zaps() {
        let urls = ["http://a:1", "http://b:2"];
        let line = lines(Format::Json, Level::Info, || {
            tracing::debug!("unseen");
            tracing::warn!(local_member_id = %"8e9e", urls = ?urls, n = 5, ok = true, "a \"b\"\n");
            tracing::error!(fatal = true, "end");
            tracing::info!(target: "raft", "r");
        });
        let caller = format!("logging/line.rs:{}", line!() - 4);
        assert_eq!(
            line[0],
            format!(
                "{{\"level\":\"warn\",\"ts\":\"1970-01-01T00:00:01.000000Z\",\"caller\":\"{caller}\",\"msg\":\"a \\\"b\\\"\\n\",\
                 \"local-member-id\":\"8e9e\",\"urls\":[\"http://a:1\",\"http://b:2\"],\"n\":5,\"ok\":true}}\n"
            )
        );
        assert!(line[1].starts_with("{\"level\":\"fatal\","));
        assert!(line[2].contains("\"logger\":\"raft\",\"caller\":"));
        assert_eq!(line.len(), 3);
        for line in &line {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
        }
    }

    #[test]
    fn console_lines_look_like_zaps() {
        let line = lines(Format::Console, Level::Error, || {
            tracing::warn!("unseen");
            tracing::error!(a = 1, "m");
        });
        let caller = format!("logging/line.rs:{}", line!() - 2);
        assert_eq!(
            line,
            [format!(
                "1970-01-01T00:00:01.000000Z\terror\t{caller}\tm\t{{\"a\":1}}\n"
            )]
        );
    }
}
