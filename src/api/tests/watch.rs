//! The Watch service, from the bytes of requests to those of responses.

use super::fake::Fake;
use super::{Reading, framed, start_hub};
use crate::api::{Body, Routes};
use crate::env::block_on;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, PutResponse, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::proto::mvccpb::event::EventType;
use crate::watch::HubOptions;
use ::http::{Request, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tonic::Code;

struct Watching {
    requests: mpsc::UnboundedSender<Bytes>,
    replies: Reading,
}

/// Sends requests cut into pieces of `cut` bytes.
async fn watch(routes: &Routes<Fake>, cut: usize, require_leader: bool) -> Watching {
    let (requests, receiver) = mpsc::unbounded_channel::<Bytes>();
    let receiver = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let pieces = receiver.flat_map(move |bytes| {
        let pieces: Vec<_> = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
        stream::iter(pieces)
    });
    let body = StreamBody::new(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
    let mut request =
        Request::post("http://x/etcdserverpb.Watch/Watch").header("content-type", "application/grpc");
    if require_leader {
        request = request.header("hasleader", "true");
    }
    let response: Response<Body> = routes.handle(request.body(body).expect("a request")).await;
    Watching {
        requests,
        replies: Reading::new(response),
    }
}

impl Watching {
    fn send(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests.send(framed(&request)).expect("the server reads");
    }

    fn create(&self, request: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request));
    }

    async fn next(&mut self) -> Result<WatchResponse, (Code, String)> {
        self.replies.next().await
    }

    /// Revision in the header, then type, key and revision of each event.
    async fn events(&mut self) -> (i64, Vec<(EventType, Bytes, i64)>) {
        let response = self.next().await.expect("events");
        let header = response.header.expect("a header");
        assert_eq!(
            (header.cluster_id, header.member_id, header.raft_term),
            (0xc, 0xa, 2)
        );
        let events = response.events.into_iter().map(|event| {
            let kind = event.r#type();
            let kv = event.kv.expect("a record");
            (kind, kv.key, kv.mod_revision)
        });
        (header.revision, events.collect())
    }
}

async fn put(routes: &Routes<Fake>, key: &str) {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        ..PutRequest::default()
    };
    let _: PutResponse = super::call(routes, "KV/Put", &request).await.expect("a put");
}

fn prefix(key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..WatchCreateRequest::default()
    }
}

#[test]
fn watchers_are_created_told_and_canceled() {
    block_on(async {
        let fake = Fake::new();
        start_hub(&fake, HubOptions::default());
        let routes = Routes::new(fake.clone());
        put(&routes, "a1").await;
        for cut in [1, 3, 1000] {
            let mut watching = watch(&routes, cut, false).await;
            watching.create(prefix("a", "b"));
            let created = watching.next().await.expect("created");
            assert!(created.created && !created.canceled && created.watch_id == 0);
            let revision = created.header.expect("a header").revision;
            put(&routes, "a2").await;
            put(&routes, "b").await;
            let told = (EventType::Put, "a2".into(), revision + 1);
            assert_eq!(watching.events().await, (revision + 1, vec![told]));
            watching.create(WatchCreateRequest {
                filters: vec![FilterType::Noput as i32],
                prev_kv: true,
                watch_id: 7,
                ..prefix("a", "b")
            });
            assert_eq!(watching.next().await.expect("created").watch_id, 7);
            let delete = DeleteRangeRequest {
                key: "a".into(),
                range_end: "b".into(),
                ..DeleteRangeRequest::default()
            };
            super::call_many::<_, crate::proto::etcdserverpb::DeleteRangeResponse>(
                &routes,
                "KV/DeleteRange",
                &delete,
            )
            .await
            .expect("a delete");
            let mut told = [
                watching.next().await.expect("told"),
                watching.next().await.expect("told"),
            ];
            told.sort_by_key(|response| response.watch_id);
            assert_eq!((told[0].watch_id, told[1].watch_id), (0, 7));
            let previous =
                |response: &WatchResponse| response.events.iter().all(|event| event.prev_kv.is_some());
            assert_eq!((previous(&told[0]), previous(&told[1])), (false, true));
            watching.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
            let progress = watching.next().await.expect("progress");
            assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
            assert_eq!(progress.header.expect("a header").revision, revision + 3);
            watching.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 }));
            let canceled = watching.next().await.expect("canceled");
            assert!(canceled.canceled && canceled.watch_id == 7);
            put(&routes, "a1").await;
            watching.events().await;
        }
    });
}

#[test]
fn the_past_is_read_from_the_disk() {
    block_on(async {
        let fake = Fake::new();
        start_hub(&fake, HubOptions::default());
        let routes = Routes::new(fake.clone());
        for number in 0..300 {
            put(&routes, &format!("a{}", number % 7)).await;
        }
        let mut watching = watch(&routes, 1000, false).await;
        watching.create(WatchCreateRequest {
            start_revision: 2,
            prev_kv: true,
            ..prefix("a", "b")
        });
        assert!(watching.next().await.expect("created").created);
        let mut revisions = vec![];
        while revisions.len() < 300 {
            let response = watching.next().await.expect("events");
            for event in response.events {
                let kv = event.kv.expect("a record");
                let previous = event.prev_kv.map(|previous| previous.mod_revision);
                assert_eq!(previous, (kv.version > 1).then_some(kv.mod_revision - 7));
                revisions.push(kv.mod_revision);
            }
        }
        assert_eq!(revisions, (2..=301).collect::<Vec<_>>());
        let compact = CompactionRequest {
            revision: 100,
            physical: false,
        };
        super::call_many::<_, crate::proto::etcdserverpb::CompactionResponse>(
            &routes,
            "KV/Compact",
            &compact,
        )
        .await
        .expect("a compaction");
        for (start_revision, compacted) in [(99, true), (100, false)] {
            watching.create(WatchCreateRequest {
                start_revision,
                ..prefix("a", "b")
            });
            let created = watching.next().await.expect("created");
            let next = watching.next().await.expect("an answer");
            assert_eq!(next.watch_id, created.watch_id);
            assert_eq!(
                (next.canceled, next.compact_revision),
                (compacted, if compacted { 100 } else { 0 })
            );
            assert_eq!(
                next.header.expect("a header").revision,
                if compacted { 0 } else { 301 }
            );
            if !compacted {
                assert_eq!(next.events[0].kv.clone().expect("a record").mod_revision, 100);
            }
        }
    });
}

#[test]
fn streams_that_want_a_leader_end_without_one() {
    block_on(async {
        let fake = Fake::new();
        start_hub(&fake, HubOptions::default());
        let routes = Routes::new(fake.clone());
        let mut watching = watch(&routes, 1000, true).await;
        let mut patient = watch(&routes, 1000, false).await;
        for stream in [&mut watching, &mut patient] {
            stream.create(prefix("a", "b"));
            assert!(stream.next().await.expect("created").created);
        }
        fake.leader.store(0, Ordering::Relaxed);
        let ended = watching.next().await.expect_err("no leader");
        assert_eq!(ended, (Code::Unavailable, "etcdserver: no leader".into()));
        fake.leader.store(0xa, Ordering::Relaxed);
        put(&routes, "a").await;
        patient.events().await;
    });
}

#[test]
fn what_cannot_be_read_ends_the_stream() {
    block_on(async {
        let fake = Fake::new();
        start_hub(&fake, HubOptions::default());
        let routes = Routes::new(fake.clone());
        let cases: [(&[u8], Code); 3] = [
            (&[1, 0, 0, 0, 0], Code::Internal),
            (&[0, 0, 0, 0, 1, 0xff], Code::Internal),
            (&[0, 0xff, 0, 0, 0], Code::ResourceExhausted),
        ];
        for (bytes, code) in cases {
            let mut watching = watch(&routes, 1000, false).await;
            watching
                .requests
                .send(Bytes::copy_from_slice(bytes))
                .expect("the server reads");
            assert_eq!(watching.next().await.expect_err("an error").0, code);
        }
        // Unknown requests are ignored.
        let mut watching = watch(&routes, 1000, false).await;
        watching
            .requests
            .send(Bytes::from_static(&[0; 5]))
            .expect("the server reads");
        watching.create(prefix("", "\0"));
        assert!(watching.next().await.expect("created").created);
    });
}
