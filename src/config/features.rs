//! `--feature-gates`, with etcd 3.7's names and messages (pkg/featuregate/feature_gate.go, server/features/).

use super::Error;
use super::values::boolean;
use crate::logging::Notice;

/// Gates that decide something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub initial_corrupt_check: bool,
    pub compact_hash_check: bool,
}

/// Gates that etcd has and that have nothing to decide here: what they bring is always there, or has no cost to spare. With etcd's
/// defaults.
const WITHOUT_EFFECT: [(&str, bool); 5] = [
    ("FastLeaseKeepAlive", true),
    ("LeaseCheckpoint", false),
    ("LeaseCheckpointPersist", false),
    ("PriorityRequest", false),
    ("TxnModeWriteWithSharedBuffer", true),
];

/// Gates whose effect does not exist here.
const NOT_YET: [&str; 2] = ["SetMemberLocalAddr", "StopGRPCServiceOnDefrag"];

impl Features {
    /// Reads `Name=true,Name=false`.
    pub fn read(text: &str, notices: &mut Vec<Notice>) -> Result<Self, Error> {
        let mut features = Self::default();
        let usage = |reason: String| {
            Error::Usage(format!(
                "invalid value {text:?} for flag -feature-gates: {reason}"
            ))
        };
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(usage(format!("missing bool value for {}", pair.trim()))),
            };
            let invalid = |_| {
                usage(format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
                ))
            };
            let enabled = boolean(value).map_err(invalid)?;
            match name {
                "InitialCorruptCheck" => features.initial_corrupt_check = enabled,
                "CompactHashCheck" => features.compact_hash_check = enabled,
                name if NOT_YET.contains(&name) && enabled => {
                    return Err(Error::Unsupported {
                        flag: "feature-gates",
                        value: pair.to_owned(),
                        hint: "",
                    });
                }
                name if NOT_YET.contains(&name) => {}
                name if WITHOUT_EFFECT.contains(&(name, enabled)) => {}
                name if WITHOUT_EFFECT.contains(&(name, !enabled)) => notices.push(Notice::warn(
                    "a feature gate has no effect",
                    [("feature", &name.to_owned()), ("enabled", &enabled.to_string())],
                )),
                name => return Err(usage(format!("unrecognized feature gate: {name}"))),
            }
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_as_etcd_reads_them() {
        let features = |initial_corrupt_check, compact_hash_check| {
            Ok(Features {
                initial_corrupt_check,
                compact_hash_check,
            })
        };
        let usage = |text: &str, reason: &str| {
            Err(Error::Usage(format!(
                "invalid value {text:?} for flag -feature-gates: {reason}"
            )))
        };
        let table = [
            ("", features(false, false)),
            (
                "InitialCorruptCheck=true,,LeaseCheckpoint=true",
                features(true, false),
            ),
            (
                " InitialCorruptCheck = true ,InitialCorruptCheck=F,CompactHashCheck=1",
                features(false, true),
            ),
            ("StopGRPCServiceOnDefrag=false", features(false, false)),
            (
                "InitialCorruptCheck",
                usage(
                    "InitialCorruptCheck",
                    "missing bool value for InitialCorruptCheck",
                ),
            ),
            ("Foo=true", usage("Foo=true", "unrecognized feature gate: Foo")),
            (
                "CompactHashCheck=yes",
                usage(
                    "CompactHashCheck=yes",
                    "invalid value of CompactHashCheck=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
                ),
            ),
        ];
        for (text, expected) in table {
            let mut notices = Vec::new();
            assert_eq!(Features::read(text, &mut notices), expected, "{text}");
            assert_eq!(
                !notices.is_empty(),
                text.contains("LeaseCheckpoint=true"),
                "{text}"
            );
        }
        assert!(matches!(
            Features::read("SetMemberLocalAddr=true", &mut Vec::new()),
            Err(Error::Unsupported { .. })
        ));
    }
}
