//! The API over a member without consensus.

mod fake;
mod grpc;
mod plain;
mod space;
mod watch;
mod wire;

use super::Routes;
use ::http::{Request, Response};
use bytes::{Buf, BufMut, Bytes};
use fake::Fake;
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::{Code, Status};

/// The reply's messages, or the status. `path` is service and method.
async fn call_many<Q: Message, A: Message + Default>(
    routes: &Routes<Fake>,
    path: &str,
    request: &Q,
) -> Result<Vec<A>, (Code, String)> {
    let mut framed = vec![0];
    framed.put_u32(request.encoded_len() as u32);
    request.encode(&mut framed).unwrap();
    let request = Request::post(format!("http://x/etcdserverpb.{path}"))
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from(framed)))
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

async fn text(response: Response<super::Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}
