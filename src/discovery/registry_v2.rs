//! A registry by the v2 protocol: a directory in an etcd's v2 key space, whose URL is the token. `_config/size` says how many members
//! the cluster is to have, and each member's entry stands beside it under the member's id.

use super::Refusal;
use super::error::Failure;
use super::http_client::{HttpAnswer, HttpClient, HttpRequest};
use super::registering::RegistryService;
use super::registry::{Registration, Registry};
use crate::config::DiscoveryUrl;
use crate::env;
use http::{Method, StatusCode};
use serde::Deserialize;
use std::time::Duration;
use url::Url;

/// etcd's client has this limit for requests (client/v2, `DefaultRequestTimeout`).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without news the registry is read again: a server that has lost its power sends none.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// The v2 protocol's code for a key that must not be there.
const NODE_EXISTS: u64 = 105;
/// The one for changes that were forgotten.
const EVENTS_CLEARED: u64 = 401;

/// Where keys are counted up to.
const INDEX_HEADER: &str = "x-etcd-index";
/// What stands beside the members' entries.
const CONFIG: &str = "_config";

/// The registry behind a discovery URL.
#[derive(Debug)]
pub(super) struct Service {
    client: HttpClient,
    token: Url,
    own: Registration,
}

impl Service {
    pub fn new(options: &DiscoveryUrl, own: Registration) -> Result<Self, Refusal> {
        let token = Url::parse(&options.url).map_err(|_| Refusal::InvalidUrl)?;
        if !matches!(token.scheme(), "http" | "https") {
            return Err(Refusal::InvalidUrl);
        }
        Ok(Self {
            client: HttpClient::new(&options.proxy)?,
            token,
            own,
        })
    }

    /// A key below the token; the token itself if it is empty.
    fn key(&self, key: &str) -> Url {
        let mut url = self.token.clone();
        let token = url.path().trim_end_matches('/');
        let path = if key.is_empty() {
            token.to_owned()
        } else {
            format!("{token}/{key}")
        };
        url.set_path(&path);
        url
    }

    async fn read(&self, key: &str) -> Result<Answer, Failure> {
        let mut url = self.key(key);
        // What was written is to be seen whichever member of the service is asked.
        url.query_pairs_mut().append_pair("quorum", "true");
        self.send(Method::GET, url, None, REQUEST_TIMEOUT).await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        form: Option<String>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let request = HttpRequest { method, url, form };
        let answer = self.client.send(&request, limit).await;
        let answer = answer.map_err(|error| Failure::Passing(format!("{}: {error}", self.token)))?;
        Answer::read(&answer)
    }
}

impl RegistryService for Service {
    fn own(&self) -> &Registration {
        &self.own
    }

    async fn look(&mut self) -> Result<Registry, Failure> {
        let size = self.read(&format!("{CONFIG}/size")).await?;
        let size = Registry::parse_size(&size.node.value)?;
        let found = self.read("").await?;
        Ok(Registry::new(size, found.node.registrations(), found.index))
    }

    async fn register(&mut self) -> Result<(), Failure> {
        let mut url = self.key(&self.own.id);
        url.query_pairs_mut().append_pair("prevExist", "false");
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let form = form.append_pair("value", &self.own.urls).finish();
        match self.send(Method::PUT, url, Some(form), REQUEST_TIMEOUT).await {
            Err(Failure::Final(Refusal::Service {
                code: NODE_EXISTS, ..
            })) => Err(Refusal::DuplicateId.into()),
            outcome => outcome.map(drop),
        }
    }

    async fn wait(&mut self, registry: &Registry) -> Result<(), Failure> {
        let mut url = self.key("");
        url.query_pairs_mut()
            .append_pair("wait", "true")
            .append_pair("waitIndex", &(registry.seen + 1).to_string())
            .append_pair("recursive", "true");
        // The client's limit is beyond the one that counts here.
        let news = self.send(Method::GET, url, None, 2 * WAIT_MAX);
        match env::timeout(WAIT_MAX, news).await {
            Err(env::Elapsed)
            | Ok(Err(Failure::Final(Refusal::Service {
                code: EVENTS_CLEARED, ..
            }))) => Ok(()),
            Ok(outcome) => outcome.map(drop),
        }
    }
}

/// What the service says of a key.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    node: Node,
    index: u64,
}

/// A key or a directory.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    key: String,
    value: String,
    created_index: u64,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Body {
    node: Node,
}

/// An error in the service's form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: u64,
    message: String,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    index: u64,
}

impl Answer {
    fn read(answer: &HttpAnswer) -> Result<Self, Failure> {
        let status = answer.status;
        if status.is_server_error() {
            return Err(Failure::Passing(format!(
                "the discovery service answers {status}"
            )));
        }
        if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
            let error: Result<ErrorBody, _> = serde_json::from_slice(&answer.body);
            let error = error.map_err(|_| Refusal::BadEndpoint)?;
            return Err(Failure::Final(Refusal::Service {
                code: error.error_code,
                text: format!("{} ({}) [{}]", error.message, error.cause, error.index),
            }));
        }
        if answer.body.is_empty() {
            return Err(Failure::Passing(
                "the discovery service answers nothing".to_owned(),
            ));
        }
        let body: Result<Body, _> = serde_json::from_slice(&answer.body);
        let index = answer.headers.get(INDEX_HEADER);
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        Ok(Self {
            node: body.map_err(|_| Refusal::BadEndpoint)?.node,
            index: index.unwrap_or_default(),
        })
    }
}

impl Node {
    /// The members' entries in a directory.
    fn registrations(&self) -> Vec<Registration> {
        let entries = self.nodes.iter().map(|node| Registration {
            id: node.key.rsplit('/').next().unwrap_or_default().to_owned(),
            urls: node.value.clone(),
            created: node.created_index,
        });
        entries.filter(|entry| entry.id != CONFIG).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn service(url: &str) -> Result<Service, Refusal> {
        let options = DiscoveryUrl {
            url: url.to_owned(),
            proxy: String::new(),
        };
        let own = Registration {
            id: "1a".to_owned(),
            urls: "m=http://a:1".to_owned(),
            created: 0,
        };
        Service::new(&options, own)
    }

    fn read(status: u16, body: &str) -> Result<Answer, Failure> {
        Answer::read(&HttpAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::from_iter([(
                http::HeaderName::from_static(INDEX_HEADER),
                HeaderValue::from_static("31"),
            )]),
            body: body.to_owned().into(),
        })
    }

    #[test]
    fn keys_are_below_the_token() {
        for token in ["http://d:1/v2/keys/t", "http://d:1/v2/keys/t/"] {
            let service = service(token).expect("sound");
            assert_eq!(service.key("").as_str(), "http://d:1/v2/keys/t");
            assert_eq!(
                service.key("_config/size").as_str(),
                "http://d:1/v2/keys/t/_config/size"
            );
        }
        for token in ["", "d:1/v2/keys/t", "ftp://d/t"] {
            assert!(matches!(service(token), Err(Refusal::InvalidUrl)), "{token}");
        }
    }

    // What etcd 3.4 answered.
    #[test]
    fn a_directory_holds_the_members() {
        let body = r#"{"action":"get","node":{"key":"/t","dir":true,"nodes":[
            {"key":"/t/1a","value":"m1=http://a:1","modifiedIndex":9,"createdIndex":8},
            {"key":"/t/_config","dir":true,"modifiedIndex":4,"createdIndex":4},
            {"key":"/t/2b","value":"m2=http://b:1","modifiedIndex":7,"createdIndex":7}],
            "modifiedIndex":4,"createdIndex":4}}"#;
        let answer = read(200, body).expect("sound");
        let entries = answer.node.registrations();
        let ids: Vec<_> = entries
            .iter()
            .map(|entry| (entry.id.as_str(), entry.created))
            .collect();
        assert_eq!((ids, answer.index), (vec![("1a", 8), ("2b", 7)], 31));
        assert_eq!(entries[1].urls, "m2=http://b:1");
    }

    #[test]
    fn errors_are_told_from_answers_and_passing_ones_from_others() {
        let missing = r#"{"errorCode":100,"message":"Key not found","cause":"/t/_config","index":60}"#;
        let Err(Failure::Final(refusal)) = read(404, missing) else {
            panic!("it is there");
        };
        assert_eq!(refusal.to_string(), "100: Key not found (/t/_config) [60]");
        for (status, body) in [
            (404, "404 page not found"),
            (200, "<html>"),
            (200, "{}"),
            (204, ""),
        ] {
            let read = read(status, body);
            assert!(
                matches!(read, Err(Failure::Final(Refusal::BadEndpoint))),
                "{status} {body}: {read:?}"
            );
        }
        for (status, body) in [(500, missing), (503, ""), (200, "")] {
            assert!(
                matches!(read(status, body), Err(Failure::Passing(_))),
                "{status} {body}"
            );
        }
    }
}
