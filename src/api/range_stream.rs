//! RangeStream: a range in several messages, all from one view. Mirrors etcd 3.7's server/etcdserver/v3_server.go: chunks of ten
//! keys at first, then doubled or halved so that their size approaches `--max-request-bytes`; header, `more` and `count` are in
//! the last message only.

use super::backend::{Backend, header};
use super::body::{Body, frame};
use super::check;
use super::kv::{run, view};
use super::status::CallError;
use crate::proto::etcdserverpb::range_request::SortTarget;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader};
use crate::state::View;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use tonic::Status;

const FIRST_CHUNK_KEYS: i64 = 10;

pub async fn range_stream(backend: &impl Backend, mut request: RangeRequest) -> Result<Body, Status> {
    check::range_stream(&request)?;
    request.sort_target = SortTarget::Key as i32;
    let view = view(backend, request.serializable).await?;
    backend.metrics().store.ranges.inc();
    // Errors about the revision come before the first message.
    view.range(&request).map_err(CallError::from)?;
    let limit = if request.limit > 0 {
        request.limit
    } else {
        i64::MAX
    };
    let chunks = Chunks {
        header: header(backend, view.revision()),
        view,
        left: limit,
        chunk_keys: FIRST_CHUNK_KEYS,
        chunk_bytes: backend.limits().max_request_bytes,
        sent: 0,
        request,
        done: false,
    };
    let messages = futures_util::stream::try_unfold(chunks, |mut chunks| async move {
        match chunks.next().await {
            Ok(message) => Ok(message.map(|message| (message, chunks))),
            Err(status) => Err(status),
        }
    });
    Ok(Body::messages(Box::pin(messages)))
}

struct Chunks {
    view: Arc<View>,
    header: ResponseHeader,
    /// Its key advances with every chunk.
    request: RangeRequest,
    /// Keys that the caller's limit still permits.
    left: i64,
    chunk_keys: i64,
    chunk_bytes: usize,
    sent: i64,
    done: bool,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.done {
            return Ok(None);
        }
        let keys = self.chunk_keys.min(self.left);
        let request = RangeRequest {
            limit: keys,
            ..self.request.clone()
        };
        let scan = self.view.range(&request).map_err(CallError::from)?;
        if request.count_only {
            let count = run(scan).await.map_err(CallError::from)?.count;
            return self.last(RangeResponse {
                count,
                ..Default::default()
            });
        }
        let scan = scan.without_count().within_bytes(self.chunk_bytes);
        let mut chunk = run(scan).await.map_err(CallError::from)?.into_response(None);
        let found = chunk.kvs.len() as i64;
        self.left -= found;
        self.sent += found;
        self.adjust(keys, chunk.encoded_len());
        let last_key = chunk.kvs.last().map(|kv| kv.key.clone());
        let Some(last_key) = last_key.filter(|_| chunk.more) else {
            chunk.count = self.sent;
            return self.last(chunk);
        };
        self.request.key = [last_key.as_ref(), &[0]].concat().into();
        if self.left == 0 {
            let rest = RangeRequest {
                count_only: true,
                limit: 0,
                ..self.request.clone()
            };
            let rest = self.view.range(&rest).map_err(CallError::from)?;
            chunk.count = self.sent + run(rest).await.map_err(CallError::from)?.count;
            return self.last(chunk);
        }
        chunk.more = false;
        chunk.count = 0;
        framed(chunk)
    }

    fn last(&mut self, mut chunk: RangeResponse) -> Result<Option<Bytes>, Status> {
        self.done = true;
        chunk.header = Some(self.header);
        framed(chunk)
    }

    fn adjust(&mut self, keys: i64, bytes: usize) {
        if bytes < self.chunk_bytes / 2 {
            self.chunk_keys = keys.saturating_mul(2);
        } else if bytes > self.chunk_bytes {
            self.chunk_keys = (keys / 2).max(1);
        }
    }
}

fn framed(chunk: RangeResponse) -> Result<Option<Bytes>, Status> {
    let message = RangeStreamResponse {
        range_response: Some(chunk),
    };
    frame(&message).map(Some)
}
