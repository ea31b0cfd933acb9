//! The thread of `--listen-metrics-urls`.

use crate::api;
use crate::bootstrap::StartError;
use crate::config;
use crate::node::backend::MemberBackend;
use crate::node::ports::{Addresses, Port, Shutdown, serve};
use crate::tls::Acceptor;

/// Binds them, if there are any.
pub(in crate::node) async fn bind(
    config: &config::Server,
    acceptor: Option<&Acceptor>,
    shutdown: Shutdown,
    options: api::ServeOptions,
) -> Result<Option<Port<MemberBackend>>, StartError> {
    let urls = Addresses::new(config, &config.listen_metrics_urls, acceptor);
    if urls.list.is_empty() {
        return Ok(None);
    }
    let port = Port::bind("metrics", 1, urls, move |listeners, backend| async move {
        let routes = api::Routes::monitoring(backend);
        serve(listeners, &routes, options, &shutdown).await;
    });
    port.await.map(Some)
}
