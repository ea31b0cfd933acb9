//! The client endpoints of members, as operators write them: `host:port`, `http://host:port` or `https://host:port`, several
//! separated by commas.
//!
//! Mirrors what etcdctl accepts for `--endpoints`: without a scheme, TLS is used if the client has certificates or CAs for it.
//! Unix sockets are refused with an explicit error.

use crate::tls::{ClientFiles, Connector, TlsError};
use std::fmt;

/// The port that etcd's clients assume.
const PORT_DEFAULT: u16 = 2379;

/// One address of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: String,
    scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// No scheme: depends on the client's files.
    Open,
    Http,
    Https,
}

/// What is wrong with a list of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    #[error("endpoint {0}: this client was not told how to speak TLS")]
    NoTls(String),
    #[error("endpoint {0:?}: the scheme is not known, use http://host:port, https://host:port or host:port")]
    Scheme(String),
    #[error("endpoint {0:?}: expected host:port, http://host:port or https://host:port")]
    Malformed(String),
    #[error("no endpoints given, expected for example 127.0.0.1:2379")]
    Empty,
}

impl Endpoint {
    /// `host:port`, to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The TLS connector to dial with; none for a plain connection.
    pub fn connector(&self, own: Option<&Connector>) -> Result<Option<Connector>, EndpointError> {
        match (self.scheme, own) {
            (Scheme::Http, _) | (Scheme::Open, None) => Ok(None),
            (_, Some(own)) => Ok(Some(own.clone())),
            (Scheme::Https, None) => Err(EndpointError::NoTls(self.to_string())),
        }
    }

    /// `host:port`, the name of the server in requests.
    pub fn authority(&self) -> &str {
        &self.address
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Https => write!(f, "https://{}", self.address),
            Scheme::Http | Scheme::Open => f.write_str(&self.address),
        }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Open, text),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(_) => return Err(EndpointError::Scheme(text.to_owned())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().map_err(|_| malformed())?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(malformed());
        }
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            None => PORT_DEFAULT,
            Some(port) => port.parse().map_err(|_| malformed())?,
        };
        Ok(Self {
            address: format!("{}:{port}", authority.host()),
            scheme,
        })
    }
}

/// The TLS connector for these endpoints, from the files that the client was given; none if no endpoint needs one.
pub fn connector(endpoints: &[Endpoint], files: &ClientFiles) -> Result<Option<Connector>, TlsError> {
    let is_wanted = |endpoint: &Endpoint| match endpoint.scheme {
        Scheme::Open => !files.is_empty(),
        Scheme::Http => false,
        Scheme::Https => true,
    };
    let wanted = endpoints.iter().any(is_wanted);
    wanted.then(|| files.connector()).transpose()
}

/// Parses a list of endpoints, whose elements may be comma-separated lists.
pub fn parse_endpoints<S: AsRef<str>>(
    lists: impl IntoIterator<Item = S>,
) -> Result<Vec<Endpoint>, EndpointError> {
    let mut endpoints = Vec::new();
    for list in lists {
        for text in list
            .as_ref()
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            endpoints.push(text.parse()?);
        }
    }
    if endpoints.is_empty() {
        return Err(EndpointError::Empty);
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let table: [(&str, &[&str]); 8] = [
            ("https://a:1,b:2", &["a:1", "b:2"]),
            ("127.0.0.1:2379", &["127.0.0.1:2379"]),
            ("http://localhost:2380", &["localhost:2380"]),
            ("http://m1:1/,m2:2, http://m3:3 ,", &["m1:1", "m2:2", "m3:3"]),
            ("localhost", &["localhost:2379"]),
            ("http://example.com", &["example.com:2379"]),
            ("[::1]:2379", &["[::1]:2379"]),
            ("http://[::1]", &["[::1]:2379"]),
        ];
        for (text, expected) in table {
            let endpoints = parse_endpoints([text]).expect(text);
            let addresses: Vec<&str> = endpoints.iter().map(Endpoint::address).collect();
            assert_eq!(addresses, expected, "{text}");
        }
    }

    #[test]
    fn bad_lists_are_refused() {
        let table = [
            ("unix://a:1", EndpointError::Scheme("unix://a:1".into())),
            ("a:b:c", EndpointError::Malformed("a:b:c".into())),
            ("a:99999", EndpointError::Malformed("a:99999".into())),
            (
                "http://a:1/path",
                EndpointError::Malformed("http://a:1/path".into()),
            ),
            ("user@a:1", EndpointError::Malformed("user@a:1".into())),
            (":2379", EndpointError::Malformed(":2379".into())),
            ("", EndpointError::Empty),
            (" , ", EndpointError::Empty),
        ];
        for (text, expected) in table {
            assert_eq!(parse_endpoints([text]).expect_err(text), expected, "{text}");
        }
    }

    #[test]
    fn schemes_say_who_speaks_tls() {
        let files = ClientFiles {
            insecure_skip_tls_verify: true,
            ..ClientFiles::default()
        };
        // Without files and with them.
        let table = [
            ("http://a:1", Some(false), false),
            ("a:1", Some(false), true),
            ("https://a:1", None, true),
        ];
        for (text, without, with) in table {
            let endpoint: Endpoint = text.parse().expect(text);
            let own = connector(std::slice::from_ref(&endpoint), &files).expect("nothing to read");
            let speaks = |own| endpoint.connector(own).ok().map(|connector| connector.is_some());
            assert_eq!(speaks(None), without, "{text}");
            assert_eq!(speaks(own.as_ref()), Some(with), "{text}");
        }
    }
}
