//! The API over a member without consensus.

mod backup;
mod caller;
mod downgrade;
mod fake;
mod grpc;
mod health;
mod json;
mod lease;
mod long_queue;
mod members;
mod plain;
mod ports;
mod queue;
mod space;
mod watch;
mod wire;

use super::{Body, Routes};
use crate::env;
use crate::stop::StopSignal;
use crate::watch::HubOptions;
use crate::watch::actor::{WatchHub, WatchHubOptions};
use crate::watch::reader::WatchReader;
use ::http::{Request, Response};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use fake::Fake;
use http_body_util::{BodyExt, Full};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::{Code, Status};

/// The reply's messages, or the status. `path` is service and method, with etcd's main package as the default.
async fn call_many<Q: Message, A: Message + Default>(
    routes: &Routes<Fake>,
    path: &str,
    request: &Q,
) -> Result<Vec<A>, (Code, String)> {
    let package = if path.contains('.') { "" } else { "etcdserverpb." };
    let request = Request::post(format!("http://x/{package}{path}"))
        .header("content-type", "application/grpc")
        .body(Full::new(framed(request)))
        .unwrap();
    let response = routes.handle(request).await;
    let of = |status: Status| match status.code() {
        Code::Ok => Ok(()),
        code => Err((code, status.message().to_owned())),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        of(status)?;
    }
    let body = response.into_body().collect().await.unwrap();
    of(Status::from_header_map(body.trailers().expect("trailers")).expect("a status"))?;
    let mut data = body.to_bytes();
    let mut replies = vec![];
    while data.has_remaining() {
        assert_eq!(data.get_u8(), 0, "not compressed");
        let bytes = data.get_u32() as usize;
        replies.push(A::decode(data.split_to(bytes)).unwrap());
    }
    Ok(replies)
}

/// The only message of a reply.
async fn call<Q: Message, A: Message + Default>(
    routes: &Routes<Fake>,
    path: &str,
    request: &Q,
) -> Result<A, (Code, String)> {
    let mut replies = call_many(routes, path, request).await?;
    assert_eq!(replies.len(), 1);
    Ok(replies.remove(0))
}

fn framed(message: &impl Message) -> Bytes {
    let mut framed = vec![0];
    framed.put_u32(message.encoded_len() as u32);
    message.encode(&mut framed).expect("a vector grows");
    framed.into()
}

/// Messages of a reply as they arrive.
struct Reading {
    body: Body,
    data: BytesMut,
}

impl Reading {
    fn new(response: Response<Body>) -> Self {
        assert_eq!(response.headers()["content-type"], "application/grpc");
        Self {
            body: response.into_body(),
            data: BytesMut::new(),
        }
    }

    /// The next message, or the status at the end.
    async fn next<A: Message + Default>(&mut self) -> Result<A, (Code, String)> {
        loop {
            if self.data.len() >= 5 {
                let bytes = u32::from_be_bytes(self.data[1..5].try_into().expect("four bytes")) as usize;
                if self.data.len() >= 5 + bytes {
                    self.data.advance(5);
                    return Ok(A::decode(self.data.split_to(bytes)).expect("well-formed"));
                }
            }
            let frame = env::timeout(Duration::from_secs(10), self.body.frame()).await;
            let frame = frame.expect("in time").expect("more").expect("sound");
            match frame.into_data() {
                Ok(data) => self.data.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("data or trailers");
                    let status = Status::from_header_map(&trailers).expect("a status");
                    return Err((status.code(), status.message().to_owned()));
                }
            }
        }
    }
}

/// Gives the member a hub.
fn start_hub(fake: &Fake, options: HubOptions) {
    let reader = Arc::default();
    let leader = Arc::clone(&fake.leader);
    let parts = WatchHubOptions {
        handle: fake.watches.clone(),
        views: fake.views.clone(),
        reader: Arc::clone(&reader),
        options,
        has_leader: Box::new(move || leader.load(Ordering::Relaxed) != 0),
        election_timeout: Duration::from_millis(10),
        metrics: Arc::clone(&fake.metrics.watch),
    };
    env::start(|_| WatchHub::new(parts));
    let (views, hub) = (fake.views.clone(), fake.watches.clone());
    env::start(|_| WatchReader {
        views,
        inbox: reader,
        hub,
        stop: StopSignal::default(),
    });
}

async fn text(response: Response<super::Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}
