//! A configuration file: YAML, of which JSON is a part, with etcd's keys (server/embed/config.go). It becomes flags.

use super::Error;
use serde_json::{Map, Value};

/// A map of settings, and the flags that its keys stand for: key and flag. A dot stands before the key of a map inside.
type Block = (&'static str, &'static [(&'static str, &'static str)]);

/// Flags that only a command line can have.
const NOT_IN_FILES: [&str; 2] = ["config-file", "version"];

const BLOCKS: &[Block] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    ),
    (
        "socket-options",
        &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
    ),
    (
        "discovery-config",
        &[
            ("token", "discovery-token"),
            ("client.endpoints", "discovery-endpoints"),
            ("client.dial-timeout", "discovery-dial-timeout"),
            ("client.request-timeout", "discovery-request-timeout"),
            ("client.keepalive-time", "discovery-keepalive-time"),
            ("client.keepalive-timeout", "discovery-keepalive-timeout"),
            ("client.secure.insecure-transport", "discovery-insecure-transport"),
            (
                "client.secure.insecure-skip-tls-verify",
                "discovery-insecure-skip-tls-verify",
            ),
            ("client.secure.cert", "discovery-cert"),
            ("client.secure.key", "discovery-key"),
            ("client.secure.cacert", "discovery-cacert"),
            ("client.auth.username", "discovery-user"),
            ("client.auth.password", "discovery-password"),
        ],
    ),
];

/// The flags that a file sets, each as one word, `--name=value`.
pub fn flags(path: &str, text: &str) -> Result<Vec<String>, Error> {
    let bad = |reason: String| Error::File {
        path: path.to_owned(),
        reason,
    };
    let settings: Option<Map<String, Value>> =
        serde_saphyr::from_str(text).map_err(|error| bad(error.to_string()))?;
    let mut words = Vec::new();
    for (key, value) in settings.unwrap_or_default() {
        if let Some((_, flags)) = BLOCKS.iter().find(|(block, _)| *block == key) {
            let Value::Object(block) = value else {
                return Err(bad(format!("{key:?} is no map")));
            };
            for (inner, value) in leaves(block) {
                let flag = flags.iter().find(|(known, _)| *known == inner);
                let (_, flag) = flag.ok_or_else(|| bad(format!("unknown field \"{key}.{inner}\"")))?;
                words.extend(word(flag, &value).map_err(|reason| bad(format!("{key}.{inner}: {reason}")))?);
            }
        } else if !NOT_IN_FILES.contains(&key.as_str()) && super::flags::known(&key) {
            words.extend(word(&key, &value).map_err(|reason| bad(format!("{key}: {reason}")))?);
        } else {
            return Err(bad(format!("unknown field {key:?}")));
        }
    }
    Ok(words)
}

/// The values of a map and of the maps inside it.
fn leaves(map: Map<String, Value>) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in map {
        match value {
            Value::Object(inner) => {
                let inner = leaves(inner).into_iter();
                found.extend(inner.map(|(last, value)| (format!("{key}.{last}"), value)));
            }
            value => found.push((key, value)),
        }
    }
    found
}

/// A flag that is set, unless the value is empty.
fn word(flag: &str, value: &Value) -> Result<Option<String>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        // Durations are nanoseconds, as Go writes them down.
        Value::Number(number) if super::flags::is_duration(flag) => format!("{number}ns"),
        Value::Array(items) => {
            let items = items.iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
            items.join(",")
        }
        value => scalar(value)?,
    };
    Ok(Some(format!("--{flag}={text}")))
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err("it is neither a word nor a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_flags() {
        let text = "
# as etcd's example has it
name: 'm1'
data-dir: /var/lib/m1
snapshot-count: 10000
listen-client-urls: http://localhost:2379,http://127.0.0.2:2379
cors:
auto-compaction-retention: \"1\"
warning-apply-duration: 200000000
pre-vote: true
log-outputs: [stderr]
client-transport-security:
  cert-file: path/to/cert
  client-cert-auth: false
peer-transport-security:
  allowed-cn: [a, b]
discovery-config:
  token: t
  client:
    endpoints: [http://d1:2379, http://d2:2379]
    dial-timeout: 3000000000
    secure: {cacert: ca.pem}
";
        let expected = [
            "--name=m1",
            "--data-dir=/var/lib/m1",
            "--snapshot-count=10000",
            "--listen-client-urls=http://localhost:2379,http://127.0.0.2:2379",
            "--auto-compaction-retention=1",
            "--warning-apply-duration=200000000ns",
            "--pre-vote=true",
            "--log-outputs=stderr",
            "--cert-file=path/to/cert",
            "--client-cert-auth=false",
            "--peer-cert-allowed-cn=a,b",
            "--discovery-token=t",
            "--discovery-endpoints=http://d1:2379,http://d2:2379",
            "--discovery-dial-timeout=3000000000ns",
            "--discovery-cacert=ca.pem",
        ];
        let mut words = flags("f", text).expect("sound");
        words.sort();
        let mut expected = expected.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(words, expected);
        assert_eq!(flags("f", r#"{"name": "m1"}"#), Ok(vec!["--name=m1".to_owned()]));
        assert_eq!(flags("f", ""), Ok(vec![]));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("nmae: x", "unknown field \"nmae\""),
            ("config-file: x", "unknown field \"config-file\""),
            ("version: true", "unknown field \"version\""),
            (
                "peer-transport-security: {cert: x}",
                "unknown field \"peer-transport-security.cert\"",
            ),
            (
                "discovery-config: {client: {tokn: x}}",
                "unknown field \"discovery-config.client.tokn\"",
            ),
            (
                "peer-transport-security: x",
                "\"peer-transport-security\" is no map",
            ),
            ("name: {a: b}", "name: it is neither a word nor a number"),
        ];
        for (text, reason) in cases {
            let error = flags("f", text).expect_err(text);
            assert_eq!(
                error.to_string(),
                format!("error parsing configuration file f: {reason}")
            );
            assert_eq!(error.exit_code(), 1);
        }
        for text in ["- a", "a: b: c", "x", "name: [unclosed"] {
            assert!(flags("f", text).is_err(), "{text}");
        }
    }
}
