//! The versions that clients and other members are told: etcd's, whose behaviour this is.

/// This program's.
pub const SERVER: &str = "3.7.1";

/// What the cluster version and the storage version look like at this version.
pub const CLUSTER: &str = "3.7.0";
