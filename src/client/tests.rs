//! The client against a tiny server in the same process, which can also leave calls unanswered or drop its connections.

use super::*;
use crate::env;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::kv_server::{Kv, KvServer};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};

/// How the server treats a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Answer,
    Hang,
    /// Drops the connection of the call.
    Drop,
    Refuse(Code),
}

/// The server's side of one connection.
#[derive(Clone)]
struct Server {
    behaviour: Behaviour,
    calls: Arc<AtomicU64>,
    drop_connection: Arc<Notify>,
}

impl Server {
    async fn call<A: Default>(&self) -> Result<Response<A>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.behaviour {
            Behaviour::Answer => return Ok(Response::new(A::default())),
            Behaviour::Refuse(code) => return Err(Status::new(code, "refused")),
            Behaviour::Drop => self.drop_connection.notify_one(),
            Behaviour::Hang => {}
        }
        std::future::pending().await
    }
}

#[tonic::async_trait]
impl Kv for Server {
    async fn range(&self, _: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.call().await
    }

    type RangeStreamStream = tokio_stream::Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn put(&self, _: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.call().await
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.call().await
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.call().await
    }

    async fn compact(
        &self,
        _: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.call().await
    }
}

/// Starts a server. Returns its endpoint and the number of calls that reached it.
pub(crate) async fn serve(behaviour: Behaviour) -> (Endpoint, Arc<AtomicU64>) {
    let listener = env::Listener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    env::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let drop_connection = Arc::new(Notify::new());
            let server = Server {
                behaviour,
                calls: Arc::clone(&calls),
                drop_connection: Arc::clone(&drop_connection),
            };
            env::spawn(async move {
                let connection = hyper::server::conn::http2::Builder::new(env::Executor)
                    .timer(env::Timer)
                    .serve_connection(
                        TokioIo::new(stream),
                        TowerToHyperService::new(KvServer::new(server)),
                    );
                tokio::select! {
                    biased;
                    () = drop_connection.notified() => {}
                    _ = connection => {}
                }
            });
        }
    });
    (address.parse().expect("an endpoint"), counted)
}

/// An endpoint without a listener: a port that neither world assigns. (The simulator gives a port that was just closed to the
/// next connection, which then talks to itself.)
pub(crate) fn nobody() -> Endpoint {
    "127.0.0.1:65535".parse().expect("an endpoint")
}

fn client(endpoints: &[Endpoint], request_timeout: Duration) -> Client {
    let options = Options {
        request_timeout,
        ..Options::default()
    };
    Client::start(endpoints.to_vec(), options).expect("there are endpoints")
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn calls_are_answered_on_one_connection() {
    env::block_on(async {
        let (endpoint, calls) = serve(Behaviour::Answer).await;
        let client = client(&[endpoint], LONG);
        client.put(pb::PutRequest::default()).await.expect("put");
        client.range(pb::RangeRequest::default()).await.expect("range");
        client.txn(pb::TxnRequest::default()).await.expect("txn");
        client
            .delete_range(pb::DeleteRangeRequest::default())
            .await
            .expect("delete");
        client
            .compact(pb::CompactionRequest::default())
            .await
            .expect("compact");
        client.health().await.expect("health");
        assert_eq!(calls.load(Ordering::Relaxed), 6);
        assert_eq!(client.connection().await.expect("connected").generation, 1);
    });
}

#[test]
fn callers_share_the_attempt_to_connect() {
    env::block_on(async {
        let (endpoint, _) = serve(Behaviour::Answer).await;
        let client = client(&[endpoint], LONG);
        let puts = (0..50).map(|_| client.put(pb::PutRequest::default()));
        for put in futures_util::future::join_all(puts).await {
            put.expect("put");
        }
        assert_eq!(client.connection().await.expect("connected").generation, 1);
    });
}

#[test]
fn writes_go_to_the_next_endpoint_when_they_cannot_be_sent() {
    env::block_on(async {
        let (live, calls) = serve(Behaviour::Answer).await;
        let endpoints = [nobody(), live, nobody()];
        for _ in 0..8 {
            let client = client(&endpoints, LONG);
            client
                .put(pb::PutRequest::default())
                .await
                .expect("one endpoint is enough");
        }
        assert_eq!(calls.load(Ordering::Relaxed), 8);
    });
}

#[test]
fn a_write_that_may_have_been_applied_is_not_repeated() {
    env::block_on(async {
        let (endpoint, calls) = serve(Behaviour::Drop).await;
        let client = client(&[endpoint.clone(), endpoint], LONG);
        let error = client
            .put(pb::PutRequest::default())
            .await
            .expect_err("the connection drops");
        assert!(error.is_unknown_outcome(), "{error:?}");
        assert!(
            matches!(error, Error::Unknown(Reason::ConnectionLost(_))),
            "{error:?}"
        );
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        // The next write is a new one, on a new connection.
        client
            .put(pb::PutRequest::default())
            .await
            .expect_err("the connection drops again");
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_read_is_repeated_on_another_endpoint() {
    env::block_on(async {
        for behaviour in [Behaviour::Drop, Behaviour::Refuse(Code::Unavailable)] {
            let (bad, bad_calls) = serve(behaviour).await;
            let (good, _) = serve(Behaviour::Answer).await;
            let mut clients = 0;
            while bad_calls.load(Ordering::Relaxed) == 0 {
                clients += 1;
                assert!(clients < 100, "a client starts at a random endpoint");
                let client = client(&[bad.clone(), good.clone()], LONG);
                client
                    .range(pb::RangeRequest::default())
                    .await
                    .expect("the good endpoint answers");
            }
        }
    });
}

#[test]
fn unavailable_leaves_the_outcome_of_a_write_open() {
    env::block_on(async {
        let (endpoint, calls) = serve(Behaviour::Refuse(Code::Unavailable)).await;
        let client = client(&[endpoint], LONG);
        let error = client.put(pb::PutRequest::default()).await.expect_err("refused");
        assert!(matches!(error, Error::Unknown(Reason::Server(_))), "{error:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn definite_errors_are_given_back_at_once() {
    env::block_on(async {
        let (endpoint, calls) = serve(Behaviour::Refuse(Code::OutOfRange)).await;
        let client = client(&[endpoint], LONG);
        let range = client
            .range(pb::RangeRequest::default())
            .await
            .expect_err("refused");
        let put = client.put(pb::PutRequest::default()).await.expect_err("refused");
        for error in [range, put] {
            assert!(!error.is_unknown_outcome());
            assert_eq!(
                (error.code(), error.to_string()),
                (Code::OutOfRange, "refused".to_owned())
            );
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn deadlines_end_calls() {
    env::block_on(async {
        let (endpoint, calls) = serve(Behaviour::Hang).await;
        let client = client(&[endpoint], SHORT);
        let put = client
            .put(pb::PutRequest::default())
            .await
            .expect_err("nobody answers");
        assert!(matches!(put, Error::Unknown(Reason::Deadline(SHORT))), "{put:?}");
        let range = client
            .range(pb::RangeRequest::default())
            .await
            .expect_err("nobody answers");
        assert!(
            matches!(range, Error::Unavailable(Reason::Deadline(SHORT))),
            "{range:?}"
        );
        assert_eq!(range.code(), Code::DeadlineExceeded);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn without_a_connection_nothing_was_sent() {
    env::block_on(async {
        let client = client(&[nobody()], SHORT);
        let error = client
            .put(pb::PutRequest::default())
            .await
            .expect_err("nobody listens");
        assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
        assert!(error.to_string().contains("cannot connect"), "{error}");
        assert!(!error.is_unknown_outcome());
    });
}

#[test]
fn requests_beyond_the_bound_wait() {
    env::block_on(async {
        let (endpoint, calls) = serve(Behaviour::Hang).await;
        let channel = ChannelOptions {
            in_flight_max: 3,
            ..ChannelOptions::default()
        };
        let options = Options {
            request_timeout: SHORT,
            channel,
            ..Options::default()
        };
        let client = Client::start(vec![endpoint], options).expect("there is an endpoint");
        let puts = (0..5).map(|number| {
            // The requests that wait give up first, so that they do not see the others free their slots.
            let client = client.with_timeout(if number < 3 { SHORT * 2 } else { SHORT });
            async move { client.put(pb::PutRequest::default()).await }
        });
        let outcomes = futures_util::future::join_all(puts).await;
        let count = |is: fn(&Error) -> bool| {
            outcomes
                .iter()
                .filter(|outcome| outcome.as_ref().is_err_and(is))
                .count()
        };
        let unknown = count(Error::is_unknown_outcome);
        let not_sent = count(|error| matches!(error, Error::NotSent { .. }));
        assert_eq!((unknown, not_sent), (3, 2), "{outcomes:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn calls_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    env::block_on(async {
        let client = client(&[nobody()], SHORT);
        is_send(&client.put(pb::PutRequest::default()));
        is_send(&client.range(pb::RangeRequest::default()));
        is_send(&client.connection());
    });
}
