//! The flags about discovery: where a new cluster learns of its members, if not from `--initial-cluster` (etcd:
//! server/embed/config.go; those of the v2 protocol as in etcd 3.6, the last release that has it).

use super::Error;
use super::flags::Flags;
use super::values::{boolean, duration};
use crate::client::KeepAlive;
use crate::logging::Notice;
use crate::tls::ClientFiles;
use clap::{ArgAction, Args};
use std::time::Duration;

/// All of them.
#[derive(Debug, Args)]
pub struct DiscoveryFlags {
    /// Discovery URL used to bootstrap the cluster, by the v2 protocol.
    #[arg(long, default_value = "")]
    pub discovery: String,
    /// HTTP proxy to use for traffic to the discovery service of --discovery.
    #[arg(long, default_value = "")]
    pub discovery_proxy: String,
    /// `exit` or `proxy`. A member that finds its cluster full exits either way: there is no proxy mode.
    #[arg(long, default_value = "exit", value_parser = fallback)]
    pub discovery_fallback: String,
    /// DNS domain used to bootstrap the cluster.
    #[arg(long, default_value = "")]
    pub discovery_srv: String,
    /// Suffix to the DNS SRV names queried when bootstrapping.
    #[arg(long, default_value = "")]
    pub discovery_srv_name: String,
    /// V3 discovery: discovery token for the cluster to be bootstrapped.
    #[arg(long, default_value = "")]
    pub discovery_token: String,
    /// V3 discovery: gRPC endpoints of the discovery service, comma-separated.
    #[arg(long, default_value = "")]
    pub discovery_endpoints: String,
    /// V3 discovery: dial timeout for client connections.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub discovery_dial_timeout: Duration,
    /// V3 discovery: timeout for discovery requests (excluding dial timeout).
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub discovery_request_timeout: Duration,
    /// V3 discovery: keepalive time for client connections.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub discovery_keepalive_time: Duration,
    /// V3 discovery: keepalive timeout for client connections.
    #[arg(long, default_value = "6s", value_parser = duration)]
    pub discovery_keepalive_timeout: Duration,
    /// V3 discovery: disable transport security for client connections.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub discovery_insecure_transport: bool,
    /// V3 discovery: skip server certificate verification (CAUTION: this option should be enabled only for testing purposes).
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub discovery_insecure_skip_tls_verify: bool,
    /// V3 discovery: identify secure client using this TLS certificate file.
    #[arg(long, default_value = "")]
    pub discovery_cert: String,
    /// V3 discovery: identify secure client using this TLS key file.
    #[arg(long, default_value = "")]
    pub discovery_key: String,
    /// V3 discovery: verify certificates of TLS-enabled secure servers using this CA bundle.
    #[arg(long, default_value = "")]
    pub discovery_cacert: String,
    /// V3 discovery: username[:password] for authentication.
    #[arg(long, default_value = "")]
    pub discovery_user: String,
    /// V3 discovery: password for authentication (if this option is used, --discovery-user shouldn't include a password).
    #[arg(long, default_value = "")]
    pub discovery_password: String,
}

fn fallback(text: &str) -> Result<String, &'static str> {
    match text {
        "exit" | "proxy" => Ok(text.to_owned()),
        _ => Err("invalid value"),
    }
}

/// Where a new cluster learns of its members.
#[derive(Clone, Debug)]
pub enum Discovery {
    Url(DiscoveryUrl),
    Endpoints(DiscoveryEndpoints),
    Srv(DiscoverySrv),
}

/// A registry by the v2 protocol. Texts are as given: they are read only for a data directory without a member.
#[derive(Clone, Debug)]
pub struct DiscoveryUrl {
    pub url: String,
    /// Empty: none.
    pub proxy: String,
}

/// A registry by the v3 protocol.
#[derive(Clone, Debug)]
pub struct DiscoveryEndpoints {
    pub token: String,
    /// As given, too.
    pub endpoints: Vec<String>,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    pub keep_alive: Option<KeepAlive>,
    /// Endpoints without a scheme are dialled with TLS, even if no file is given.
    pub is_secure: bool,
    pub files: ClientFiles,
    pub credentials: Option<Credentials>,
}

/// Who the member is to the discovery service.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// DNS records of type SRV.
#[derive(Clone, Debug)]
pub struct DiscoverySrv {
    pub domain: String,
    /// Behind the services' names; empty: nothing.
    pub service_name: String,
}

impl Discovery {
    /// What stands for `--initial-cluster-token` where ids are computed; nothing if that one counts.
    pub fn token(&self) -> Option<&str> {
        match self {
            Self::Url(registry) => Some(&registry.url),
            Self::Endpoints(registry) => Some(&registry.token),
            Self::Srv(_) => None,
        }
    }
}

/// Whether `--initial-cluster` has no default: etcd takes the name of a service alone for that, too.
pub fn replaces_initial_cluster(flags: &DiscoveryFlags) -> bool {
    [
        &flags.discovery,
        &flags.discovery_srv,
        &flags.discovery_srv_name,
        &flags.discovery_endpoints,
    ]
    .iter()
    .any(|value| !value.is_empty())
}

/// The flags' meaning, checked.
pub fn read(flags: &Flags, notices: &mut Vec<Notice>) -> Result<Option<Discovery>, Error> {
    let given = &flags.discovery;
    let is_listed = flags.given.contains("initial-cluster") && !flags.initial_cluster.is_empty();
    let sources = [
        is_listed,
        !given.discovery.is_empty(),
        !given.discovery_endpoints.is_empty(),
        !given.discovery_srv.is_empty(),
    ];
    if sources.iter().filter(|is_set| **is_set).count() > 1 {
        return Err(Error::BootstrapFlags);
    }
    if given.discovery_token.is_empty() != given.discovery_endpoints.is_empty() {
        return Err(Error::DiscoveryTokenOrEndpoints);
    }
    if given.discovery_fallback == "proxy" {
        notices.push(Notice::warn(
            "there is no proxy mode: a member that finds its cluster full exits",
            [("discovery-fallback", &given.discovery_fallback)],
        ));
    }
    let discovery = if !given.discovery.is_empty() {
        Some(Discovery::Url(DiscoveryUrl {
            url: given.discovery.clone(),
            proxy: given.discovery_proxy.clone(),
        }))
    } else if !given.discovery_endpoints.is_empty() {
        Some(Discovery::Endpoints(endpoints(given)?))
    } else if !given.discovery_srv.is_empty() {
        Some(Discovery::Srv(DiscoverySrv {
            domain: given.discovery_srv.clone(),
            service_name: given.discovery_srv_name.clone(),
        }))
    } else {
        None
    };
    warn_of_idle(flags, discovery.as_ref(), notices);
    Ok(discovery)
}

/// Names flags that say how to discover in a way that is not in use.
fn warn_of_idle(flags: &Flags, discovery: Option<&Discovery>, notices: &mut Vec<Notice>) {
    let is_proxy = flags.discovery.discovery_fallback == "proxy";
    for name in flags.given.iter().filter(|name| name.starts_with("discovery-")) {
        let (is_used, needed) = match name.as_str() {
            "discovery-srv" | "discovery-token" | "discovery-endpoints" => continue,
            "discovery-fallback" if is_proxy => continue,
            "discovery-proxy" | "discovery-fallback" => {
                (matches!(discovery, Some(Discovery::Url(_))), "--discovery")
            }
            "discovery-srv-name" => (matches!(discovery, Some(Discovery::Srv(_))), "--discovery-srv"),
            _ => {
                let is_used = matches!(discovery, Some(Discovery::Endpoints(_)));
                (is_used, "--discovery-token")
            }
        };
        if !is_used {
            notices.push(Notice::warn(
                "a flag has no effect",
                [
                    ("flag", &format!("--{name}")),
                    ("reason", &format!("{needed} is not given")),
                ],
            ));
        }
    }
}

fn endpoints(given: &DiscoveryFlags) -> Result<DiscoveryEndpoints, Error> {
    let mut endpoints: Vec<String> = given
        .discovery_endpoints
        .split(',')
        .map(ToOwned::to_owned)
        .collect();
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(Error::DiscoveryEndpointEmpty);
    }
    endpoints.sort();
    endpoints.dedup();
    let credentials = (!given.discovery_user.is_empty()).then(|| credentials(given));
    let keep_alive = KeepAlive {
        interval: given.discovery_keepalive_time,
        timeout: given.discovery_keepalive_timeout,
    };
    Ok(DiscoveryEndpoints {
        token: given.discovery_token.clone(),
        endpoints,
        dial_timeout: given.discovery_dial_timeout,
        request_timeout: given.discovery_request_timeout,
        keep_alive: (!keep_alive.interval.is_zero()).then_some(keep_alive),
        is_secure: !given.discovery_insecure_transport,
        files: ClientFiles {
            cacert: given.discovery_cacert.clone(),
            cert: given.discovery_cert.clone(),
            key: given.discovery_key.clone(),
            insecure_skip_tls_verify: given.discovery_insecure_skip_tls_verify,
        },
        credentials,
    })
}

/// As etcdctl reads them: a password behind the name counts if there is no other.
fn credentials(given: &DiscoveryFlags) -> Credentials {
    let (user, password) = match given.discovery_user.split_once(':') {
        Some((user, password)) if given.discovery_password.is_empty() => (user, password),
        _ => (given.discovery_user.as_str(), given.discovery_password.as_str()),
    };
    Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, Server, parse};
    use std::ffi::OsString;

    fn server(line: &str) -> Result<Server, Error> {
        let words = std::iter::once("callboard").chain(line.split_whitespace());
        match parse(words.map(OsString::from), [], |_| Err(String::new()))? {
            Invocation::Server(server) => Ok(*server),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn one_source_of_members_replaces_the_default_list() {
        for (line, token) in [
            ("--discovery http://d/t --discovery-proxy p:1", "http://d/t"),
            ("--discovery-token t --discovery-endpoints b:1,a:1,b:1", "t"),
            (
                "--discovery-srv example.com --discovery-srv-name x",
                "etcd-cluster",
            ),
        ] {
            let server = server(line).expect(line);
            assert_eq!(
                (server.cluster_token(), server.initial_cluster_text.as_str()),
                (token, ""),
                "{line}"
            );
            if let Some(Discovery::Endpoints(options)) = server.discovery {
                assert_eq!(options.endpoints, ["a:1", "b:1"]);
                assert!(!options.is_secure && options.files.is_empty() && options.credentials.is_none());
                assert_eq!(options.dial_timeout, Duration::from_secs(2));
            }
        }
        let server = server("--name m --discovery-fallback exit").expect("no discovery");
        assert!(server.discovery.is_none());
        assert_eq!(server.initial_cluster_text, "m=http://localhost:2380");
    }

    #[test]
    fn mistakes_have_the_texts_of_etcd() {
        let many = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
                    \"discovery-endpoints\" or \"discovery-srv\"";
        let half = "both --discovery-token and --discovery-endpoints must be set";
        for (line, message) in [
            ("--discovery http://d/t --initial-cluster a=http://a:1", many),
            ("--discovery http://d/t --discovery-srv example.com", many),
            (
                "--discovery-token t --discovery-endpoints a:1 --discovery-srv example.com",
                many,
            ),
            ("--discovery-endpoints a:1 --initial-cluster a=http://a:1", many),
            ("--discovery-token t", half),
            ("--discovery-endpoints a:1", half),
            (
                "--discovery-token t --discovery-endpoints a:1,,b:1",
                "--discovery-endpoints must not contain empty endpoints",
            ),
            (
                "--discovery-fallback never",
                "invalid value \"never\" for flag -discovery-fallback: invalid value",
            ),
        ] {
            assert_eq!(server(line).expect_err(line).to_string(), message, "{line}");
        }
    }

    #[test]
    fn passwords_stand_behind_the_name_or_alone() {
        for (line, user, password) in [
            ("--discovery-user u:p:q", "u", "p:q"),
            ("--discovery-user u --discovery-password p", "u", "p"),
            ("--discovery-user u:v --discovery-password p", "u:v", "p"),
        ] {
            let server =
                server(&format!("--discovery-token t --discovery-endpoints a:1 {line}")).expect(line);
            let Some(Discovery::Endpoints(options)) = server.discovery else {
                panic!("no endpoints");
            };
            let credentials = options.credentials.expect(line);
            assert_eq!(
                (credentials.user.as_str(), credentials.password.as_str()),
                (user, password)
            );
            assert!(!format!("{credentials:?}").contains("p:q"));
        }
    }
}
