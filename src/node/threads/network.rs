//! The thread of clients: their port, and what works beside their requests.

use crate::api::{self, Traffic};
use crate::bootstrap::StartError;
use crate::compactor;
use crate::config;
use crate::env;
use crate::inbox::Inbox;
use crate::lease;
use crate::lease::actor::LessorActor;
use crate::lease::lessor::LessorOptions;
use crate::limits::GRPC_OVERHEAD_BYTES;
use crate::node::backend::MemberBackend;
use crate::node::entrance;
use crate::node::ports::{Addresses, ClientsStop, Port, serve, stopped};
use crate::quota;
use crate::quota::reserve::Reserves;
use crate::stop::StopSignal;
use crate::tls::{Acceptor, Listener};
use crate::watch::actor::{WatchHub, WatchHubOptions};
use crate::watch::{HubOptions, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Binds the port for clients. It has threads of its own: nothing that they ask for delays a heartbeat.
pub(in crate::node) async fn bind(
    config: &config::Server,
    acceptor: Option<&Acceptor>,
    stop: ClientsStop,
    options: api::ServeOptions,
) -> Result<Port<(Clients, MemberBackend)>, StartError> {
    let mut urls = Addresses::new(config, &config.listen_client_urls, acceptor);
    let with_grpc = urls.list.len();
    let http = Addresses::new(config, &config.listen_client_http_urls, acceptor);
    urls.list.extend(http.list);
    let options = api::ServeOptions {
        max_concurrent_streams: config.max_concurrent_streams,
        keep_alive_interval: config.keep_alive_interval,
        keep_alive_timeout: config.keep_alive_timeout,
        ..options
    };
    let workers = env::processors().saturating_sub(1).max(1);
    let serve = move |listeners, (clients, backend)| {
        serve_clients((listeners, with_grpc), clients, backend, options, stop)
    };
    Port::bind("network", workers, urls, serve).await
}

/// What the thread makes its actors of.
pub(in crate::node) struct Clients {
    reads: Arc<Inbox<Option<Read>>>,
    hub: HubOptions,
    election_timeout: Duration,
    lessor: lease::actor::LessorActorOptions,
    space: quota::watching::SpaceWatchOptions,
    /// None if nothing is compacted automatically.
    compactor: Option<compactor::CompactorOptions>,
    cors: api::Cors,
    /// Whether the JSON form of the API is answered.
    json: bool,
    /// The names that plain HTTP is answered under, if not any.
    hosts: Option<api::Hosts>,
    slow_calls: Duration,
    opened: entrance::EntranceOpened,
}

impl Clients {
    pub(in crate::node) fn new(
        config: &config::Server,
        backend: &MemberBackend,
        reads: Arc<Inbox<Option<Read>>>,
        stop: StopSignal,
        opened: entrance::EntranceOpened,
    ) -> Self {
        let (views, consensus) = (backend.views.clone(), backend.handle.clone());
        Self {
            reads,
            hub: HubOptions {
                fragment_bytes: config.max_request_bytes as usize + GRPC_OVERHEAD_BYTES,
                progress_interval_ms: config.watch_progress_notify_interval.as_millis() as u64,
                ..HubOptions::default()
            },
            election_timeout: Duration::from_millis(config.election_timeout_ms),
            lessor: lease::actor::LessorActorOptions {
                handle: backend.leases.clone(),
                consensus: consensus.clone(),
                views: views.clone(),
                own: backend.identity,
                caller: backend.caller.clone(),
                options: LessorOptions::new(config.election_timeout_ms),
                stop,
                metrics: Arc::clone(&backend.metrics.lease),
            },
            opened,
            space: quota::watching::SpaceWatchOptions {
                own: backend.identity.member,
                space: backend.space.clone(),
                views: views.clone(),
                consensus: consensus.clone(),
                reserves: Reserves::new(config.written_directories(), config.space),
            },
            compactor: config
                .auto_compaction
                .map(|retention| compactor::CompactorOptions {
                    retention,
                    views,
                    consensus,
                }),
            cors: api::Cors::new(&config.cors),
            json: config.enable_grpc_gateway,
            hosts: api::Hosts::new(&config.host_whitelist),
            slow_calls: config.warning_unary_request_duration,
        }
    }

    fn start_hub(&self, backend: &MemberBackend) {
        let status = Arc::clone(&backend.handle.status);
        let options = WatchHubOptions {
            handle: backend.watches.clone(),
            views: backend.views.clone(),
            reader: Arc::clone(&self.reads),
            options: self.hub,
            has_leader: Box::new(move || status.leader.load(Ordering::Acquire) != 0),
            election_timeout: self.election_timeout,
            metrics: Arc::clone(&backend.metrics.watch),
        };
        env::start(|_| WatchHub::new(options));
    }
}

async fn serve_clients(
    (mut with_grpc, count): (Vec<Listener>, usize),
    mut clients: Clients,
    backend: MemberBackend,
    options: api::ServeOptions,
    stop: ClientsStop,
) {
    clients.start_hub(&backend);
    env::start(|_| LessorActor::new(clients.lessor));
    env::spawn_local(quota::watching::watch(clients.space));
    if let Some(compactor) = clients.compactor {
        env::spawn_local(compactor::run(compactor));
    }
    let deliveries = Arc::clone(&backend.handle.deliveries);
    env::spawn(deliveries.run(Arc::clone(&backend.handle.sink)));
    if clients.opened.wait_for(|opened| *opened).await.is_err() {
        return;
    }
    let watches = backend.watches.clone();
    let mut routes = api::Routes::new(backend)
        .with_cors(clients.cors)
        .with_json(clients.json)
        .with_slow_calls(clients.slow_calls);
    if let Some(hosts) = clients.hosts {
        routes = routes.with_hosts(hosts);
    }
    // Those of --listen-client-http-urls, if there are any; then they are the only ones that answer plain HTTP.
    let with_http = with_grpc.split_off(count);
    let traffic = if with_http.is_empty() {
        Traffic::GrpcAndHttp
    } else {
        Traffic::Grpc
    };
    let (calls, plain) = (
        routes.clone().with_traffic(traffic),
        routes.with_traffic(Traffic::Http),
    );
    // Streams end only when told to.
    let end_streams = async {
        stopped(stop.shutdown.clone()).await;
        watches.stop();
    };
    futures_util::future::join3(
        serve(with_grpc, &calls, options.clone(), &stop.shutdown),
        serve(with_http, &plain, options, &stop.shutdown),
        end_streams,
    )
    .await;
    drop(stop.serving);
}
