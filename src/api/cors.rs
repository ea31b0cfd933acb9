//! Which web pages may use the API: `--cors` (etcd: server/embed/serve.go, `addCORSHeader`).

use ::http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

/// Origins whose pages may read replies.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// None for all.
    origins: Option<Arc<[String]>>,
}

impl Cors {
    /// `*` among the origins, or no origin, means all origins.
    pub fn new(origins: &[String]) -> Self {
        let all = origins.is_empty() || origins.iter().any(|origin| origin == "*");
        Self {
            origins: (!all).then(|| origins.into()),
        }
    }

    pub(super) fn add_headers(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        let allowed = match &self.origins {
            None => HeaderValue::from_static("*"),
            Some(origins) => {
                let known = |origin: &HeaderValue| origins.iter().any(|known| known.as_str() == origin);
                let Some(origin) = origin.filter(known) else {
                    return;
                };
                origin
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                "POST, GET, OPTIONS, PUT, DELETE",
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "accept, content-type, authorization",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
