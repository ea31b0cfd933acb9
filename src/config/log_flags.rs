//! The flags about the log (etcd: server/embed/config.go, the group "Logging", and server/embed/config_logging.go).

use super::values::boolean;
use super::{Error, flags::Flags};
use crate::logging::{Format, Level, Notice, Options, Output, Rotation};
use clap::{ArgAction, Args};
use serde_json::Value;
use serde_json::error::Category;

/// What is logged, how and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogFlags {
    /// Only zap: JSON lines in its layout.
    #[arg(long, default_value = "zap")]
    pub logger: String,
    /// Outputs, comma-separated: `stderr`, `stdout`, `systemd/journal`, or paths of files; `default` is stderr.
    #[arg(long, alias = "log-output", default_value = "default")]
    pub log_outputs: String,
    /// Same as --log-level=debug.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub debug: bool,
    /// debug, info, warn, error, panic or fatal.
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// `json` or `console`.
    #[arg(long, default_value = "json")]
    pub log_format: String,
    /// Rotate the log file. --log-outputs must name one file.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_log_rotation: bool,
    /// How to rotate: maxsize in MiB, maxage of backups in days, maxbackups (0 for no limit), localtime, compress (gzip).
    #[arg(long, default_value = DEFAULT_ROTATION)]
    pub log_rotation_config_json: String,
}

const DEFAULT_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

const DEFAULT: &str = "default";
const JOURNAL: &str = "systemd/journal";
/// As an output among others it turns all of them off (etcd: client/pkg/logutil/zap.go, `mergePaths`).
const NOWHERE: &str = "/dev/null";

/// The flags' meaning, checked in etcd's order.
pub fn read(flags: &Flags, notices: &mut Vec<Notice>) -> Result<Options, Error> {
    let given = &flags.log;
    match given.logger.as_str() {
        "zap" => {}
        "capnslog" => return Err(Error::LoggerRemoved),
        other => return Err(Error::Logger(other.to_owned())),
    }
    let names = names(&given.log_outputs);
    if names.len() > 1 && names.contains(&DEFAULT) {
        return Err(Error::LogOutputsDefault);
    }
    let rotation = rotation(given, &names, notices)?;
    let format = match given.log_format.as_str() {
        "json" | "" => Format::Json,
        "console" => Format::Console,
        other => return Err(Error::LogFormat(other.to_owned())),
    };
    if names.len() > 1 && names.contains(&JOURNAL) {
        return Err(Error::LogOutputsJournal(format!(
            "[{}]",
            quoted(&names).join(" ")
        )));
    }
    Ok(Options {
        outputs: outputs(&names),
        rotation,
        level: Level::parse(if given.debug { "debug" } else { &given.log_level })
            .ok_or_else(|| Error::LogLevel(given.log_level.clone()))?,
        format,
    })
}

/// Each output once, sorted.
fn names(text: &str) -> Vec<&str> {
    let mut names: Vec<_> = text.split(',').filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        names.push(DEFAULT);
    }
    names
}

fn quoted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name:?}")).collect()
}

fn outputs(names: &[&str]) -> Vec<Output> {
    if names.contains(&NOWHERE) {
        return vec![Output::File(NOWHERE.into())];
    }
    let outputs = names.iter().map(|name| match *name {
        DEFAULT | "stderr" => Output::Stderr,
        "stdout" => Output::Stdout,
        JOURNAL => Output::Journal,
        path => Output::File(path.strip_prefix("file://").unwrap_or(path).into()),
    });
    outputs.collect()
}

fn rotation(given: &LogFlags, names: &[&str], notices: &mut Vec<Notice>) -> Result<Option<Rotation>, Error> {
    let text = &given.log_rotation_config_json;
    if !given.enable_log_rotation {
        if text != DEFAULT_ROTATION {
            notices.push(Notice::warn(
                "--log-rotation-config-json has no effect without --enable-log-rotation",
                [("log-rotation-config-json", text)],
            ));
        }
        return Ok(None);
    }
    let is_file = |name: &&&str| ![DEFAULT, "stderr", "stdout"].contains(name);
    let files = names.iter().filter(is_file).count();
    if files > 1 || (files == 0 && names.len() == 1) {
        return Err(Error::LogRotationOutputs);
    }
    let mut rotation = Rotation::default();
    for (key, value) in settings(text)? {
        // Go matches keys whatever their case, and leaves alone what is null.
        let name = key.to_ascii_lowercase();
        match name.as_str() {
            _ if value.is_null() => {}
            "maxsize" => match number(&name, &value)? {
                0 => {}
                megabytes => rotation.bytes_max = megabytes.saturating_mul(1024 * 1024),
            },
            "maxage" => rotation.age_days_max = number(&name, &value)?,
            "maxbackups" => rotation.backups_max = number(&name, &value)?,
            "localtime" => rotation.local_time = switch(&name, &value)?,
            "compress" => rotation.compress = switch(&name, &value)?,
            _ => notices.push(Notice::warn(
                "a key of --log-rotation-config-json has no effect",
                [("key", &key)],
            )),
        }
    }
    Ok(Some(rotation))
}

fn settings(text: &str) -> Result<serde_json::Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(settings)) => Ok(settings),
        Ok(Value::Null) => Ok(serde_json::Map::new()),
        Ok(other) => Err(Error::LogRotationConfig(format!(
            "json: cannot unmarshal {} into Go value of type embed.logRotationConfig",
            kind(&other)
        ))),
        Err(error) if error.classify() == Category::Eof => Err(Error::LogRotationSyntax(
            "unexpected end of JSON input".to_owned(),
        )),
        Err(error) => Err(Error::LogRotationSyntax(error.to_string())),
    }
}

fn number(key: &str, value: &Value) -> Result<u64, Error> {
    match value.as_i64() {
        // lumberjack takes what is negative for no limit, but for the size, beyond which it would write nothing at all.
        Some(number) if number >= 0 => Ok(number.unsigned_abs()),
        Some(_) if key != "maxsize" => Ok(0),
        Some(negative) => Err(Error::LogRotationConfig(format!(
            "maxsize is {negative}, and must not be negative"
        ))),
        None => Err(mismatch(key, value, "int")),
    }
}

fn switch(key: &str, value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or_else(|| mismatch(key, value, "bool"))
}

/// In the words of Go's encoding/json.
fn mismatch(key: &str, value: &Value, wanted: &str) -> Error {
    Error::LogRotationConfig(format!(
        "json: cannot unmarshal {} into Go struct field logRotationConfig.Logger.{key} of type {wanted}",
        kind(value)
    ))
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Invocation, parse};
    use super::*;

    fn options(flags: &[&str]) -> Result<(Options, usize), String> {
        let words = ["callboard", "--name=m", "--data-dir=d"]
            .iter()
            .chain(flags)
            .map(Into::into);
        match parse(words, [], |_| Err(String::new())) {
            Ok(Invocation::Server(server)) => Ok((server.log, server.notices.len())),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn outputs_of(text: &str) -> Result<Vec<Output>, String> {
        options(&[&format!("--log-outputs={text}")]).map(|(options, _)| options.outputs)
    }

    #[test]
    fn outputs_are_read_as_etcd_reads_them() {
        let file = |path: &str| Output::File(path.into());
        for (text, outputs) in [
            ("", vec![Output::Stderr]),
            ("default", vec![Output::Stderr]),
            ("stdout,stderr,stdout", vec![Output::Stderr, Output::Stdout]),
            ("/b,a,stderr", vec![file("/b"), file("a"), Output::Stderr]),
            ("file:///b", vec![file("/b")]),
            ("stderr,/dev/null", vec![file("/dev/null")]),
            ("systemd/journal", vec![Output::Journal]),
        ] {
            assert_eq!(outputs_of(text), Ok(outputs), "{text}");
        }
        for (text, message) in [
            (
                "default,stderr",
                "multi logoutput for \"default\" is not supported yet",
            ),
            (
                "systemd/journal,stderr",
                "running with systemd/journal but other '--log-outputs' values ([\"stderr\" \"systemd/journal\"]) are \
                 configured with 'default'; override 'default' value with something else",
            ),
        ] {
            assert_eq!(outputs_of(text), Err(message.to_owned()));
        }
    }

    fn rotation_of(outputs: &str, json: &str) -> Result<(Option<Rotation>, usize), String> {
        let (outputs, json) = (
            format!("--log-outputs={outputs}"),
            format!("--log-rotation-config-json={json}"),
        );
        let options = options(&["--enable-log-rotation", &outputs, &json])?;
        Ok((options.0.rotation, options.1))
    }

    #[test]
    fn rotation_is_read_as_lumberjack_reads_it() {
        let rotation =
            |json| rotation_of("stderr,/f", json).map(|(rotation, _)| rotation.expect("asked for"));
        assert_eq!(rotation(DEFAULT_ROTATION), Ok(Rotation::default()));
        assert_eq!(rotation("{}"), Ok(Rotation::default()));
        let expected = Rotation {
            bytes_max: 5 << 20,
            age_days_max: 7,
            backups_max: 3,
            local_time: true,
            compress: true,
        };
        let text = r#"{"MaxSize": 5, "maxage": 7, "maxbackups": 3, "localtime": true, "compress": true}"#;
        assert_eq!(rotation(text), Ok(expected));
        assert_eq!(
            rotation(r#"{"maxage": -1, "maxsize": null}"#),
            Ok(Rotation::default())
        );
        assert_eq!(
            rotation_of("/f", r#"{"maxsise": 5}"#),
            Ok((Some(Rotation::default()), 1)),
            "a warning"
        );
        let not_one = "--log-outputs requires a single file path when --log-rotate-config-json is defined";
        for (outputs, json, message) in [
            ("default", "{}", not_one),
            ("stderr", "{}", not_one),
            ("/a,/b", "{}", not_one),
            (
                "/a",
                "{\"maxsize\": true",
                "improperly formatted log rotation config: unexpected end of JSON input",
            ),
            (
                "/a",
                "{\"maxsize\": true}",
                "invalid log rotation config: json: cannot unmarshal bool into Go struct field \
                 logRotationConfig.Logger.maxsize of type int",
            ),
        ] {
            assert_eq!(
                rotation_of(outputs, json),
                Err(message.to_owned()),
                "{outputs} {json}"
            );
        }
        let without = options(&["--log-rotation-config-json={}"]).expect("it is taken");
        assert_eq!((without.0.rotation, without.1), (None, 1), "a warning");
    }
}
