//! The versions that clients and other members are told: etcd's, whose behaviour this is.

use semver::Version;

/// This program's.
pub const SERVER: &str = "3.7.1";

/// What the cluster version and the storage version look like at this version.
pub const CLUSTER: &str = "3.7.0";

/// The cluster version that a version belongs to, which may be written without its last number: 3.6.0 for `3.6` and `3.6.13`
/// (etcd: `convertToClusterVersion`). None if it is no version.
pub fn cluster_version(text: &str) -> Option<String> {
    let parsed = Version::parse(text).or_else(|_| Version::parse(&format!("{text}.0")));
    parsed.ok().map(|version| minor(version.major, version.minor))
}

/// The only cluster version to which a cluster of version `cluster` can be downgraded: one minor version lower (etcd:
/// `allowedDowngradeVersion`). None if there is none.
pub fn downgrade_target(cluster: &str) -> Option<String> {
    let version = Version::parse(cluster).ok()?;
    Some(minor(version.major, version.minor.checked_sub(1)?))
}

fn minor(major: u64, minor: u64) -> String {
    Version::new(major, minor, 0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_versions_have_two_numbers() {
        for text in ["3.6", "3.6.0", "3.6.13", "3.6.1-rc.0"] {
            assert_eq!(cluster_version(text).as_deref(), Some("3.6.0"), "{text}");
        }
        for text in [
            "",
            "3",
            "3.",
            "3.6.",
            "v3.6.0",
            "3.6.0.1",
            "-3.6",
            " 3.6",
            "3.99999999999999999999",
        ] {
            assert_eq!(cluster_version(text), None, "{text}");
        }
    }

    #[test]
    fn downgrades_go_down_by_one_minor_version() {
        assert_eq!(downgrade_target(CLUSTER).as_deref(), Some("3.6.0"));
        assert_eq!(downgrade_target("4.0.0"), None);
        assert_eq!(downgrade_target(""), None);
    }
}
