//! The server on sockets.

use super::*;
use crate::api::{ServeOptions, serve};
use crate::env::{self, Executor, Listener, block_on};
use crate::proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

#[test]
fn http1_and_http2_share_a_port_and_the_server_stops() {
    block_on(async {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let more = axum::Router::new().route("/more", axum::routing::get(async || "more"));
        let routes = Routes::new(Fake::new()).with(more);
        env::spawn_local(async move {
            let shutdown = async { drop(stopped.await) };
            serve(listener, routes, ServeOptions::default(), shutdown).await;
            let _ = ended.send(());
        });

        for (path, status, body) in [
            ("/livez", "200 OK", "ok\n"),
            ("/more", "200 OK", "more"),
            ("/nothing", "404 Not Found", "404 page not found\n"),
        ] {
            let mut stream = env::connect(&address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        }

        let stream = env::connect(&address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(Executor, TokioIo::new(stream))
            .await
            .unwrap();
        env::spawn_local(async move { drop(connection.await) });
        let value = Bytes::from(vec![b'v'; 60_000]);
        for number in 0..40 {
            let put = PutRequest {
                key: format!("k{number}").into(),
                value: value.clone(),
                ..Default::default()
            };
            let reply: PutResponse = over(&mut sender, &address, "KV/Put", &put).await;
            assert_eq!(reply.header.unwrap().revision, 2 + number);
        }
        let list = RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            ..Default::default()
        };
        let reply: RangeResponse = over(&mut sender, &address, "KV/Range", &list).await;
        assert_eq!((reply.kvs.len(), reply.count), (40, 40));
        assert!(reply.kvs.iter().all(|kv| kv.value == value));

        stop.send(()).unwrap();
        env::timeout(std::time::Duration::from_secs(10), end)
            .await
            .expect("the server stops")
            .unwrap();
    });
}

async fn over<Q: Message, A: Message + Default>(
    sender: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    address: &str,
    path: &str,
    request: &Q,
) -> A {
    let mut framed = vec![0];
    framed.put_u32(request.encoded_len() as u32);
    request.encode(&mut framed).unwrap();
    let request = Request::post(format!("http://{address}/etcdserverpb.{path}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "5S")
        .body(Full::new(Bytes::from(framed)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    let mut data = body.to_bytes();
    data.advance(5);
    A::decode(data).unwrap()
}
