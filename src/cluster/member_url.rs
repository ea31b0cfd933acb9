//! URLs of members: to listen on and to advertise. Mirrors etcd's client/pkg/types/urls.go.
//!
//! The text is kept as the operator wrote it, because IDs are sums over it: `http://localhost:80` must not become
//! `http://localhost/`.

use std::fmt;
use std::net::IpAddr;

/// The protocol of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

/// One URL of a member: a scheme and `host:port`, or the path of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberUrl {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
}

/// What is wrong with a URL; the texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    #[error("no valid URLs given")]
    Empty,
    #[error("parse {text:?}: {reason}")]
    Syntax { text: String, reason: String },
    #[error("URL scheme must be http, https, unix, or unixs: {0}{hint}", hint = hint(.0))]
    Scheme(String),
    #[error("parse {0:?}: first path segment in URL cannot contain colon{hint}", hint = hint(.0))]
    NoScheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("expected IP in URL for binding ({0})")]
    BindHost(String),
    #[error("unexpected empty host ({0})")]
    EmptyHost(String),
}

/// What somebody meant who wrote no scheme.
fn hint(text: &str) -> String {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    if port.parse::<u16>().is_ok() && !text.contains('/') {
        format!("; write http://{text} or https://{text}")
    } else {
        String::new()
    }
}

impl MemberUrl {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(UrlError::Scheme(text.to_owned()));
        };
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(UrlError::NoScheme(text.to_owned()));
        }
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let authority = rest.strip_prefix("//").unwrap_or(rest);
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            return Ok(Self {
                text: text.to_owned(),
                scheme,
                host: authority.to_owned(),
                port: 0,
            });
        }
        url::Url::parse(text).map_err(|error| UrlError::Syntax {
            text: text.to_owned(),
            reason: error.to_string(),
        })?;
        if authority.contains('/') {
            return Err(UrlError::Path(text.to_owned()));
        }
        let (host, port) = split_host_port(authority).ok_or_else(|| UrlError::HostPort(text.to_owned()))?;
        Ok(Self {
            text: text.to_owned(),
            scheme,
            host: host.to_owned(),
            port,
        })
    }

    /// Reads a comma-separated list; the result is sorted and has no duplicates.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, UrlError> {
        if list.is_empty() {
            return Err(UrlError::Empty);
        }
        let mut urls = list.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// As the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// Whether it is a Unix domain socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// `host:port`, or `unix:` and a path, for dialling and listening.
    pub fn address(&self) -> String {
        if self.is_unix() {
            format!("unix:{}", self.host)
        } else if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The authority of requests to this URL: `host:port`, or `localhost` for a Unix domain socket.
    pub fn authority(&self) -> String {
        if self.is_unix() {
            "localhost".to_owned()
        } else {
            self.address()
        }
    }

    /// Checks that a member can listen there: the host must be an IP address or `localhost`.
    pub fn check_bind(&self) -> Result<(), UrlError> {
        if self.is_unix() {
            return Ok(());
        }
        if self.host == "localhost" || self.host.parse::<IpAddr>().is_ok() {
            Ok(())
        } else {
            Err(UrlError::BindHost(self.text.clone()))
        }
    }

    /// Checks that other members can dial it.
    pub fn check_host(&self) -> Result<(), UrlError> {
        if self.host.is_empty() && !self.is_unix() {
            Err(UrlError::EmptyHost(self.text.clone()))
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for MemberUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split_host_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(bare) => Some((bare, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_etcd_reads_them() {
        let good = [
            ("http://localhost:2379", "localhost", 2379),
            (" http://127.0.0.1:80 ", "127.0.0.1", 80),
            ("https://[::1]:2379", "::1", 2379),
            ("http://node-1.example:1", "node-1.example", 1),
        ];
        for (text, host, port) in good {
            let url = MemberUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.port(), url.as_str()), (host, port, text.trim()));
        }
        let bad = [
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379; write http://localhost:2379 or \
                 https://localhost:2379",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon; write http://127.0.0.1:2379 or \
                 https://127.0.0.1:2379",
            ),
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            (
                "http://127.0.0.1:1/x",
                "URL must not contain a path: http://127.0.0.1:1/x",
            ),
        ];
        for (text, message) in bad {
            assert_eq!(MemberUrl::parse(text).unwrap_err().to_string(), message);
        }
        for text in ["http://1.1.1.1:x", "http://1.1.1.1:99999", "http://:"] {
            assert!(MemberUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_sorted_and_unique() {
        let urls = MemberUrl::parse_list("http://b:2,http://a:1,http://b:2").unwrap();
        let texts: Vec<_> = urls.iter().map(MemberUrl::as_str).collect();
        assert_eq!(texts, ["http://a:1", "http://b:2"]);
        assert_eq!(MemberUrl::parse_list(""), Err(UrlError::Empty));
    }

    #[test]
    fn hosts_are_checked_for_their_use() {
        let url = |text| MemberUrl::parse(text).unwrap();
        assert!(url("http://0.0.0.0:1").check_bind().is_ok());
        assert!(url("http://[::]:1").check_bind().is_ok());
        assert!(url("unix://a.sock").check_bind().is_ok());
        assert_eq!(
            url("http://foo:1").check_bind().unwrap_err().to_string(),
            "expected IP in URL for binding (http://foo:1)"
        );
        let socket = url("unix:///run/a.sock");
        assert_eq!(
            (socket.address().as_str(), socket.authority().as_str()),
            ("unix:/run/a.sock", "localhost")
        );
        assert_eq!(url("http://[::1]:5").address(), "[::1]:5");
    }
}
