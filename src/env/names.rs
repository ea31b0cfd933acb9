//! What the resolver knows of services.

/// Where a service runs, as a DNS record of type SRV says it (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRecord {
    pub priority: u16,
    /// A name without the dot at its end.
    pub target: String,
    pub port: u16,
}

impl ServiceRecord {
    /// `host:port`, to resolve and to connect to.
    pub fn address(&self) -> String {
        format!("{}:{}", self.target, self.port)
    }
}
