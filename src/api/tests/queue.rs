//! The Lock and Election services, from the bytes of requests to those of replies.

use super::fake::Fake;
use super::{Reading, call, framed, start_hub};
use crate::api::{Caller, Routes};
use crate::env::{self, block_on};
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::watch::HubOptions;
use ::http::Request;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tonic::Code;

pub(super) type Answer<A> = Result<A, (Code, String)>;
pub(super) type Waiting<'a, A> = Pin<Box<dyn Future<Output = Answer<A>> + 'a>>;

/// A member with a hub and leases of these ids. The store's revision is 1.
pub(super) async fn stage(leases: &[i64], options: HubOptions) -> (Fake, Routes<Fake>) {
    let fake = Fake::new();
    start_hub(&fake, options);
    let routes = Routes::new(fake.clone());
    for id in leases {
        let request = LeaseGrantRequest { id: *id, ttl: 60 };
        let _: LeaseGrantResponse = call(&routes, "Lease/LeaseGrant", &request)
            .await
            .expect("a lease");
    }
    (fake, routes)
}

pub(super) fn lock(routes: &Routes<Fake>, lease: i64) -> Waiting<'_, LockResponse> {
    Box::pin(async move {
        let name = "l".into();
        call(routes, "v3lockpb.Lock/Lock", &LockRequest { name, lease }).await
    })
}

pub(super) async fn unlock(routes: &Routes<Fake>, key: &str) -> Answer<UnlockResponse> {
    let key = key.to_owned().into();
    call(routes, "v3lockpb.Lock/Unlock", &UnlockRequest { key }).await
}

pub(super) fn campaign<'a>(
    routes: &'a Routes<Fake>,
    lease: i64,
    value: &str,
) -> Waiting<'a, CampaignResponse> {
    let request = CampaignRequest {
        name: "e".into(),
        lease,
        value: value.to_owned().into(),
    };
    Box::pin(async move { call(routes, "v3electionpb.Election/Campaign", &request).await })
}

async fn proclaim(routes: &Routes<Fake>, leader: &LeaderKey, value: &str) -> Answer<ProclaimResponse> {
    let request = ProclaimRequest {
        leader: Some(leader.clone()),
        value: value.to_owned().into(),
    };
    call(routes, "v3electionpb.Election/Proclaim", &request).await
}

async fn resign(routes: &Routes<Fake>, leader: &LeaderKey) -> Answer<ResignResponse> {
    let leader = Some(leader.clone());
    call(routes, "v3electionpb.Election/Resign", &ResignRequest { leader }).await
}

async fn leader(routes: &Routes<Fake>) -> Answer<LeaderResponse> {
    call(
        routes,
        "v3electionpb.Election/Leader",
        &LeaderRequest { name: "e".into() },
    )
    .await
}

async fn observe(routes: &Routes<Fake>, require_leader: bool) -> Reading {
    let mut request = Request::post("http://x/v3electionpb.Election/Observe");
    if require_leader {
        request = request.header("hasleader", "true");
    }
    let body = Full::new(framed(&LeaderRequest { name: "e".into() }));
    Reading::new(routes.handle(request.body(body).expect("a request")).await)
}

pub(super) async fn keys(routes: &Routes<Fake>) -> Vec<String> {
    let everything = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    };
    let found: RangeResponse = call(routes, "KV/Range", &everything).await.expect("a range");
    let keys = found.kvs.into_iter().map(|kv| kv.key);
    keys.map(|key| String::from_utf8(key.to_vec()).expect("text"))
        .collect()
}

pub(super) async fn delete(routes: &Routes<Fake>, key: &str) {
    let request = DeleteRangeRequest {
        key: key.to_owned().into(),
        ..DeleteRangeRequest::default()
    };
    let _: DeleteRangeResponse = call(routes, "KV/DeleteRange", &request).await.expect("a delete");
}

/// Lets all other tasks run as far as they can, then checks whether the call still waits.
pub(super) async fn is_waiting<A>(waiting: &mut Waiting<'_, A>) -> bool {
    for _ in 0..50 {
        if poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready())).await {
            return false;
        }
        env::yield_now().await;
    }
    true
}

pub(super) async fn come_back<A>(waiting: Waiting<'_, A>) -> Answer<A> {
    let limit = Duration::from_secs(10);
    env::timeout(limit, waiting).await.expect("in time")
}

async fn wait_for_keys(routes: &Routes<Fake>, expected: &[&str]) {
    let reached = async {
        while keys(routes).await != expected {
            env::yield_now().await;
        }
    };
    let reached = env::timeout(Duration::from_secs(10), reached).await;
    assert!(reached.is_ok(), "{:?}", keys(routes).await);
}

#[test]
fn a_lock_goes_from_one_to_the_next() {
    block_on(async {
        let (_, routes) = stage(&[1, 0x2a, 3], HubOptions::default()).await;
        let first = come_back(lock(&routes, 1)).await.expect("nobody has it");
        let header = first.header.expect("a header");
        assert_eq!(
            (&first.key[..], header.revision, header.cluster_id),
            (&b"l/1"[..], 2, 0xc)
        );
        let again = come_back(lock(&routes, 1)).await.expect("it has it already");
        assert_eq!((&again.key[..], again.header), (&b"l/1"[..], first.header));

        let mut second = lock(&routes, 0x2a);
        let mut third = lock(&routes, 3);
        assert!(is_waiting(&mut second).await && is_waiting(&mut third).await);
        assert_eq!(keys(&routes).await, ["l/1", "l/2a", "l/3"]);
        // The caller in between leaves: its key is deleted, and the next one still waits.
        drop(second);
        wait_for_keys(&routes, &["l/1", "l/3"]).await;
        assert!(is_waiting(&mut third).await);
        let unlocked = unlock(&routes, "l/1").await.expect("a key");
        let revision = unlocked.header.expect("a header").revision;
        let third = come_back(third).await.expect("its turn");
        assert_eq!(
            (&third.key[..], third.header.expect("a header").revision),
            (&b"l/3"[..], revision)
        );
        // A lock that does not exist.
        unlock(&routes, "l/1").await.expect("no harm");
    });
}

#[test]
fn who_comes_without_a_lease_gets_one() {
    block_on(async {
        let (fake, routes) = stage(&[], HubOptions::default()).await;
        let key = come_back(lock(&routes, 0)).await.expect("nobody has it").key;
        let leases: Vec<_> = fake
            .views
            .load()
            .leases()
            .map(|lease| lease.expect("sound"))
            .collect();
        assert_eq!((leases.len(), leases[0].1.ttl), (1, 60));
        assert_eq!(key, format!("l/{:x}", leases[0].0));
    });
}

#[test]
fn refusals_are_etcds() {
    block_on(async {
        let (_, routes) = stage(&[1, 2], HubOptions::default()).await;
        let unknown = |text: &str| (Code::Unknown, text.to_owned());
        let refused = come_back(lock(&routes, 99)).await.expect_err("no such lease");
        assert_eq!(refused, unknown("etcdserver: requested lease not found"));
        let refused = unlock(&routes, "").await.expect_err("no key");
        assert_eq!(refused, unknown("etcdserver: key is not provided"));
        let refused = leader(&routes).await.expect_err("nobody leads");
        assert_eq!(refused, unknown("election: no leader"));
        let nobody = LeaderKey {
            key: "e/1".into(),
            rev: 7,
            lease: 1,
            name: "e".into(),
        };
        let refused = proclaim(&routes, &nobody, "x").await.expect_err("not the leader");
        assert_eq!(refused, unknown("election: not leader"));
        resign(&routes, &nobody).await.expect("as good as done");
        let missing = unknown("\"leader\" field must be provided");
        let refused: Answer<ProclaimResponse> = call(
            &routes,
            "v3electionpb.Election/Proclaim",
            &ProclaimRequest::default(),
        )
        .await;
        assert_eq!(refused.expect_err("nobody"), missing);
        let refused: Answer<ResignResponse> =
            call(&routes, "v3electionpb.Election/Resign", &ResignRequest::default()).await;
        assert_eq!(refused.expect_err("nobody"), missing);

        // A key that is deleted while its owner waits is found missing when the turn comes.
        come_back(lock(&routes, 1)).await.expect("nobody has it");
        let mut second = lock(&routes, 2);
        assert!(is_waiting(&mut second).await);
        delete(&routes, "l/2").await;
        delete(&routes, "l/1").await;
        let refused = come_back(second).await.expect_err("lost");
        assert_eq!(refused, unknown("mutex: session is expired"));
        let first = come_back(campaign(&routes, 1, "a")).await.expect("nobody leads");
        let mut second = campaign(&routes, 2, "b");
        assert!(is_waiting(&mut second).await);
        delete(&routes, "e/2").await;
        resign(&routes, &first.leader.expect("a leader"))
            .await
            .expect("it led");
        let refused = come_back(second).await.expect_err("lost");
        assert_eq!(refused, unknown("election: not leader"));
    });
}

#[test]
fn leaders_proclaim_and_resign() {
    block_on(async {
        let (_, routes) = stage(&[1, 2], HubOptions::default()).await;
        let mut observer = observe(&routes, false).await;
        let mut first_told: Waiting<'_, LeaderResponse> = Box::pin(observer.next());
        assert!(is_waiting(&mut first_told).await);
        let first = come_back(campaign(&routes, 1, "a")).await.expect("nobody leads");
        let key = first.leader.expect("a leader");
        let told = come_back(first_told).await.expect("somebody leads");
        assert_eq!(told.header, first.header);
        assert_eq!(told.kv.expect("a key").value, "a");
        assert_eq!(
            (&key.name[..], &key.key[..], key.rev, key.lease),
            (&b"e"[..], &b"e/1"[..], 2, 1)
        );
        assert_eq!(first.header.expect("a header").revision, 2);
        let mut second = campaign(&routes, 2, "b");
        assert!(is_waiting(&mut second).await);
        let proclaimed = proclaim(&routes, &key, "a2").await.expect("it leads");
        assert_eq!(proclaimed.header.expect("a header").revision, 4);
        // The same lease again, with another value: it keeps the leadership.
        let again = come_back(campaign(&routes, 1, "a3")).await.expect("it leads");
        assert_eq!(again.leader.expect("a leader").rev, 2);
        let told = leader(&routes).await.expect("somebody leads");
        assert_eq!(told.kv.expect("a key").value, "a3");
        assert!(is_waiting(&mut second).await);
        resign(&routes, &key).await.expect("it led");
        let second = come_back(second)
            .await
            .expect("its turn")
            .leader
            .expect("a leader");
        assert_eq!((&second.key[..], second.rev), (&b"e/2"[..], 3));
        let refused = proclaim(&routes, &key, "late").await.expect_err("deposed");
        assert_eq!(refused.1, "election: not leader");
        proclaim(&routes, &second, "b2").await.expect("it leads");
        let mut seen = vec![];
        while seen.last() != Some(&"b2".to_owned()) {
            let response: LeaderResponse = observer.next().await.expect("more");
            let kv = response.kv.expect("a key");
            assert!(response.header.expect("a header").revision >= kv.mod_revision);
            seen.push(String::from_utf8(kv.value.to_vec()).expect("text"));
        }
        // The value that the second candidate had before it led was never proclaimed, unless it was read when it became leader.
        assert_eq!(
            seen.iter().filter(|value| *value != "b").collect::<Vec<_>>(),
            ["a2", "a3", "b2"]
        );
    });
}

#[test]
fn a_slow_observer_misses_nothing() {
    block_on(async {
        let options = HubOptions {
            outbox_bytes: 1_000,
            ..HubOptions::default()
        };
        let (_, routes) = stage(&[1], options).await;
        let leader = come_back(campaign(&routes, 1, "0")).await.expect("nobody leads");
        let leader = leader.leader.expect("a leader");
        let mut observer = observe(&routes, false).await;
        let first: LeaderResponse = observer.next().await.expect("a leader");
        assert_eq!(first.kv.expect("a key").value, "0");
        for number in 1..500 {
            proclaim(&routes, &leader, &number.to_string())
                .await
                .expect("it leads");
        }
        for number in 1..500 {
            let response: LeaderResponse = observer.next().await.expect("more");
            assert_eq!(response.kv.expect("a key").value, number.to_string());
        }
    });
}

/// A stream of keep-alives, with these requests already sent.
async fn keep_alive(routes: &Routes<Fake>, require_leader: bool, asked: &[i64]) -> Reading {
    let questions: Vec<Bytes> = asked
        .iter()
        .map(|id| framed(&LeaseKeepAliveRequest { id: *id }))
        .collect();
    let open = stream::iter(questions).chain(stream::pending());
    let body = StreamBody::new(open.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
    let mut request = Request::post("http://x/etcdserverpb.Lease/LeaseKeepAlive");
    if require_leader {
        request = request.header("hasleader", "true");
    }
    let body = Box::pin(body);
    Reading::new(routes.handle(request.body(body).expect("a request")).await)
}

#[test]
fn streams_end_with_the_reason() {
    block_on(async {
        let (fake, routes) = stage(&[1], HubOptions::default()).await;
        let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
        come_back(campaign(&routes, 1, "a")).await.expect("nobody leads");
        let mut observer = observe(&routes, true).await;
        observer.next::<LeaderResponse>().await.expect("somebody leads");
        let mut idle = keep_alive(&routes, true, &[]).await;
        // Its request gets no reply: the member has no lessor.
        let mut busy = keep_alive(&routes, true, &[1]).await;
        let mut patient = [
            observe(&routes, false).await,
            keep_alive(&routes, false, &[]).await,
        ];
        patient[0].next::<LeaderResponse>().await.expect("somebody leads");
        let mut waiting = {
            come_back(lock(&routes, 1)).await.expect("nobody has it");
            lock(&routes, 0)
        };
        assert!(is_waiting(&mut waiting).await);
        fake.leader.store(0, Ordering::Relaxed);
        for stream in [&mut idle, &mut busy, &mut observer] {
            let ended = stream.next::<LeaderResponse>().await.expect_err("no leader");
            assert_eq!(ended, no_leader);
        }
        let refused = keep_alive_refused(&routes).await;
        assert_eq!(refused, no_leader);
        fake.leader.store(0xa, Ordering::Relaxed);
        fake.watches.stop();
        let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
        for stream in &mut patient {
            let ended = stream.next::<LeaderResponse>().await.expect_err("stopped");
            assert_eq!(ended, stopped);
        }
        assert_eq!(come_back(waiting).await.expect_err("stopped"), stopped);
        // Streams that are opened later end as well.
        let mut late = keep_alive(&routes, false, &[]).await;
        assert_eq!(late.next::<LeaderResponse>().await.expect_err("stopped"), stopped);
    });
}

/// A refused stream has its status in the headers.
async fn keep_alive_refused(routes: &Routes<Fake>) -> (Code, String) {
    let request = Request::post("http://x/etcdserverpb.Lease/LeaseKeepAlive").header("hasleader", "true");
    let body = Full::new(Bytes::new());
    let response = routes.handle(request.body(body).expect("a request")).await;
    let status = tonic::Status::from_header_map(response.headers()).expect("a status");
    (status.code(), status.message().to_owned())
}

#[test]
fn other_keys_of_the_same_name_do_not_matter() {
    block_on(async {
        let (_, routes) = stage(&[1], HubOptions::default()).await;
        for key in ["l", "l0", "l.", "k/1", "l!1"] {
            let request = PutRequest {
                key: key.to_owned().into(),
                ..PutRequest::default()
            };
            let _: PutResponse = call(&routes, "KV/Put", &request).await.expect("a put");
        }
        come_back(lock(&routes, 1)).await.expect("nobody has it");
    });
}

#[test]
fn who_goes_while_its_key_is_put_leaves_none() {
    block_on(async {
        let (fake, routes) = stage(&[1, 2], HubOptions::default()).await;
        come_back(lock(&routes, 1)).await.expect("nobody has it");
        for polls in 0..8 {
            let mut caller = lock(&routes, 2);
            for _ in 0..polls {
                let polled = poll_fn(|context| Poll::Ready(caller.as_mut().poll(context))).await;
                assert!(polled.is_pending());
                env::yield_now().await;
            }
            drop(caller);
            wait_for_keys(&routes, &["l/1"]).await;
        }
        // A caller that already has the lock, requests it again and leaves, keeps it.
        let mut again = lock(&routes, 1);
        drop(poll_fn(|context| Poll::Ready(again.as_mut().poll(context))).await);
        drop(again);
        while fake.queues.places() != 0 {
            env::yield_now().await;
        }
        assert_eq!(keys(&routes).await, ["l/1"]);
    });
}

#[test]
fn keys_of_callers_that_have_gone_are_deleted_once_there_is_a_leader() {
    block_on(async {
        let (fake, routes) = stage(&[1, 2], HubOptions::default()).await;
        come_back(lock(&routes, 1)).await.expect("nobody has it");
        let mut caller = lock(&routes, 2);
        assert!(is_waiting(&mut caller).await);
        let leader = fake.leader.swap(0, Ordering::Relaxed);
        drop(caller);
        for _ in 0..50 {
            env::yield_now().await;
        }
        fake.leader.store(leader, Ordering::Relaxed);
        wait_for_keys(&routes, &["l/1"]).await;
    });
}

#[test]
fn a_caller_that_waits_takes_little() {
    /// What the task of a call holds while it waits for the lock, besides its place in the queue.
    const CALL_BYTES_MAX: usize = 4 * 1024;
    /// The part of it that belongs to the lock or the election.
    const WAITING_BYTES_MAX: usize = 1280;
    block_on(async {
        let (fake, routes) = stage(&[1], HubOptions::default()).await;
        let request = LockRequest {
            name: "l".into(),
            lease: 1,
        };
        let caller = Caller::default();
        let waiting = crate::api::lock::lock(&fake, &caller, request.clone());
        let campaign = crate::api::election::campaign(&fake, &caller, CampaignRequest::default());
        let call = routes.handle(
            Request::post("http://x/v3lockpb.Lock/Lock")
                .body(Full::new(framed(&request)))
                .expect("a request"),
        );
        let bytes = [size_of_val(&waiting), size_of_val(&campaign), size_of_val(&call)];
        println!("lock, campaign, call: {bytes:?} bytes");
        assert!(bytes[0].max(bytes[1]) <= WAITING_BYTES_MAX, "{bytes:?}");
        let bytes = bytes[2] + bytes[1];
        assert!(bytes <= CALL_BYTES_MAX, "{bytes} bytes");
    });
}
