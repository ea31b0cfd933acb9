//! Plain HTTP/1.1 for the v2 protocol: one connection a request, with TLS, behind a proxy and with redirects followed where that is
//! asked for. It verifies servers against the authorities of the operating system, as etcd's client does there.

use super::Refusal;
use crate::env;
use crate::limits::DISCOVERY_ANSWER_BYTES_MAX;
use crate::tls::{MaybeTlsStream, Settings};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use url::Url;

/// As etcd's client has it.
const REDIRECTS_MAX: usize = 10;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct HttpRequest {
    pub method: Method,
    pub url: Url,
    /// A form as its body.
    pub form: Option<String>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(super) struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Sends requests. An error is one of the way there, for the log.
#[derive(Debug)]
pub(super) struct HttpClient {
    proxy: Option<Proxy>,
}

#[derive(Debug, PartialEq, Eq)]
struct Proxy {
    address: String,
    /// The value of a header.
    credentials: Option<String>,
}

impl Proxy {
    /// Reads `http://host:port` or `host:port`, with `user:password@` in front of the host if need be.
    fn parse(text: &str) -> Option<Self> {
        let url = if text.contains("://") {
            Url::parse(text).ok()?
        } else {
            Url::parse(&format!("http://{text}")).ok()?
        };
        if url.scheme() != "http" {
            return None;
        }
        let decoded = |text| percent_decoded(text).unwrap_or_default();
        let credentials = (!url.username().is_empty()).then(|| {
            let pair = format!(
                "{}:{}",
                decoded(url.username()),
                decoded(url.password().unwrap_or_default())
            );
            format!("Basic {}", BASE64_STANDARD.encode(pair))
        });
        Some(Self {
            address: address(&url)?,
            credentials,
        })
    }
}

/// What `%40` and their like stand for.
fn percent_decoded(text: &str) -> Option<String> {
    // A form's rules, but for the plus sign.
    let form = format!("x={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(form.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned())
}

/// `host:port`, to connect to.
fn address(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

impl HttpClient {
    /// A client that goes through `proxy`, if that is not empty.
    pub fn new(proxy: &str) -> Result<Self, Refusal> {
        let proxy = match proxy {
            "" => None,
            text => Some(Proxy::parse(text).ok_or_else(|| Refusal::Proxy(text.to_owned()))?),
        };
        if let Some(proxy) = &proxy {
            tracing::info!(proxy = proxy.address, "running proxy with discovery");
        }
        Ok(Self { proxy })
    }

    /// Sends a request, and again to where it is sent on. `limit` is for all of it.
    pub async fn send(&self, request: &HttpRequest, limit: Duration) -> Result<HttpAnswer, String> {
        let answer = env::timeout(limit, self.send_on(request.clone())).await;
        answer.unwrap_or_else(|env::Elapsed| Err(format!("no answer within {limit:?}")))
    }

    async fn send_on(&self, mut request: HttpRequest) -> Result<HttpAnswer, String> {
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.exchange(&request).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let place = answer.headers.get(LOCATION).ok_or("location header not set")?;
            let place = place.to_str().ok().and_then(|place| request.url.join(place).ok());
            request.url = place.ok_or("location header not valid URL")?;
        }
        Err(format!("too many redirects: more than {REDIRECTS_MAX}"))
    }

    async fn exchange(&self, request: &HttpRequest) -> Result<HttpAnswer, String> {
        let address = address(&request.url).ok_or_else(|| format!("{} names no host", request.url))?;
        let is_secure = request.url.scheme() == "https";
        // Where TLS is spoken, the proxy carries bytes; else it takes the request and sends it on.
        let asked = self.proxy.as_ref().filter(|_| !is_secure);
        let stream = match (&self.proxy, asked) {
            (Some(proxy), None) => proxy.tunnel(&address).await?,
            (Some(proxy), Some(_)) => connect(&proxy.address).await?,
            (None, _) => connect(&address).await?,
        };
        let stream = if is_secure {
            let connector = Settings::default().http_connector().map_err(text)?;
            connector.connect(stream, &address).await.map_err(text)?
        } else {
            MaybeTlsStream::Plain(stream)
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        env::spawn(async move {
            // Its error is the exchange's, too.
            let _ = connection.await;
        });
        let answer = sender.send_request(build(request, asked)?).await.map_err(text)?;
        read(answer).await
    }
}

async fn connect(address: &str) -> Result<env::Stream, String> {
    let stream = env::connect(address).await;
    stream.map_err(|error| format!("dial tcp {address}: {error}"))
}

impl Proxy {
    /// Has the proxy connect to `address`.
    async fn tunnel(&self, address: &str) -> Result<env::Stream, String> {
        let stream = TokioIo::new(connect(&self.address).await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(text)?;
        env::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        let mut request = Request::connect(address).header(HOST, address);
        if let Some(credentials) = &self.credentials {
            request = request.header(PROXY_AUTHORIZATION, credentials);
        }
        let request = request.body(Full::<Bytes>::default()).map_err(text)?;
        let answer = sender.send_request(request).await.map_err(text)?;
        if !answer.status().is_success() {
            return Err(format!("the proxy {} answers {}", self.address, answer.status()));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(text)?;
        let parts = upgraded.downcast::<TokioIo<env::Stream>>();
        let parts = parts.map_err(|_| "the connection to the proxy is another one".to_owned())?;
        // The server says nothing before the client does.
        Ok(parts.io.into_inner())
    }
}

/// The request as it is written: a proxy that sends it on is told the whole URL.
fn build(request: &HttpRequest, asked: Option<&Proxy>) -> Result<Request<Full<Bytes>>, String> {
    let url = &request.url;
    let target = match (asked, url.query()) {
        (Some(_), _) => url.as_str().to_owned(),
        (None, None) => url.path().to_owned(),
        (None, Some(query)) => format!("{}?{query}", url.path()),
    };
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let mut built = Request::builder()
        .method(&request.method)
        .uri(target)
        .header(HOST, host);
    if let Some(credentials) = asked.and_then(|proxy| proxy.credentials.as_ref()) {
        built = built.header(PROXY_AUTHORIZATION, credentials);
    }
    if request.form.is_some() {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        built = built.header(CONTENT_TYPE, form);
    }
    let body = request.form.clone().unwrap_or_default();
    built.body(Full::from(body)).map_err(text)
}

async fn read(answer: Response<Incoming>) -> Result<HttpAnswer, String> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, DISCOVERY_ANSWER_BYTES_MAX).collect().await;
    Ok(HttpAnswer {
        status: head.status,
        headers: head.headers,
        body: body.map_err(text)?.to_bytes(),
    })
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn proxies_are_read_as_etcd_reads_them() {
        let of = |text| Proxy::parse(text).map(|proxy| (proxy.address, proxy.credentials));
        assert_eq!(of("http://p.example:3128"), Some(("p.example:3128".into(), None)));
        assert_eq!(of("p.example:3128"), Some(("p.example:3128".into(), None)));
        assert_eq!(of("http://10.0.0.1"), Some(("10.0.0.1:80".into(), None)));
        let pair = Some("Basic dXNlcjpwQHNzK3dvcmQ=".to_owned());
        assert_eq!(
            of("http://user:p%40ss+word@[::1]:1"),
            Some(("[::1]:1".into(), pair))
        );
        for text in ["https://p.example:1", "http://", "://"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_proxy_is_told_the_whole_url_and_a_server_its_own_part() {
        let request = HttpRequest {
            method: Method::PUT,
            url: url("http://d.example:4001/v2/keys/t?wait=true"),
            form: Some("value=x".to_owned()),
        };
        let proxy = Proxy::parse("u:p@proxy:1").expect("a proxy");
        for (asked, target, credentials) in [
            (None, "/v2/keys/t?wait=true", None),
            (
                Some(&proxy),
                "http://d.example:4001/v2/keys/t?wait=true",
                Some("Basic dTpw"),
            ),
        ] {
            let built = build(&request, asked).expect("a request");
            assert_eq!(built.uri().to_string(), target);
            assert_eq!(built.headers()[HOST], "d.example:4001");
            let shown = built.headers().get(PROXY_AUTHORIZATION);
            assert_eq!(shown.and_then(|value| value.to_str().ok()), credentials);
        }
    }
}
