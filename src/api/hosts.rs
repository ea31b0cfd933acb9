//! Under which names plain HTTP is answered (etcd: `--host-whitelist`, server/embed/serve.go, `accessController`).
//!
//! A web page can have a name of its own lead to this member and so use a browser inside a firewall (DNS rebinding, CVE-2018-5702).
//! TLS prevents it too, as does gRPC, which browsers do not speak.

use super::body::Body;
use super::http::error;
use crate::env;
use crate::logging::Sparse;
use ::http::{Request, Response, StatusCode, header};
use std::sync::Arc;

/// Lines about refused requests, which anybody can cause.
const REFUSED_PER_SECOND: u32 = 1;

/// The names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Arc<[String]>,
    refused: Arc<Sparse>,
}

impl Hosts {
    /// None if any name will do.
    pub fn new(names: &[String]) -> Option<Self> {
        let is_any = names.is_empty() || names.iter().any(|name| name == "*");
        (!is_any).then(|| Self {
            names: names.into(),
            refused: Arc::new(Sparse::new(REFUSED_PER_SECOND)),
        })
    }

    /// The answer to a request for another name.
    pub fn refuse<R>(&self, request: &Request<R>) -> Option<Response<Body>> {
        let named = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let named = named.or_else(|| request.uri().authority().map(::http::uri::Authority::as_str));
        let host = without_port(named.unwrap_or_default());
        if self.names.iter().any(|name| name == host) {
            return None;
        }
        if let Some(others) = self.refused.pass(env::now()) {
            tracing::warn!(
                host,
                others,
                "rejecting HTTP request to prevent DNS rebinding attacks"
            );
        }
        let text = format!(
            "The Host header {host:?} is none of the names that are answered here without TLS.\n\
             Use TLS, or start the server with --host-whitelist {host:?}.\n\
             This prevents DNS rebinding (CVE-2018-5702)."
        );
        Some(error(StatusCode::MISDIRECTED_REQUEST, &text))
    }
}

/// As Go's `net.SplitHostPort` has it; what it does not split stays as it is.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains([':', '[', ']']) => name,
        Some((name, _)) => match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(inner) => inner,
            None => host,
        },
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_their_ports() {
        let hosts = Hosts::new(&["a.example".to_owned(), "::1".to_owned()]).expect("not any");
        for (host, is_refused) in [
            ("a.example", false),
            ("a.example:2379", false),
            ("[::1]:2379", false),
            ("[::1]", true),
            ("b.example:2379", true),
            ("a.example.evil", true),
            ("", true),
        ] {
            let request = Request::builder()
                .uri("/version")
                .header(header::HOST, host)
                .body(())
                .expect("a request");
            let refused = hosts.refuse(&request);
            assert_eq!(refused.is_some(), is_refused, "{host}");
            assert!(refused.is_none_or(|answer| answer.status() == StatusCode::MISDIRECTED_REQUEST));
        }
        assert!(Hosts::new(&[]).is_none() && Hosts::new(&["a".to_owned(), "*".to_owned()]).is_none());
    }
}
