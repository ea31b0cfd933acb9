//! Requests whose bodies do not end, and bodies of JSON that are more than they seem.

use crate::scene::Scene;
use crate::support::kv_client::block_on;
use crate::wire::{begin, connect};
use bytes::Bytes;
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long bodies are left unfinished.
const HOLD: Duration = Duration::from_secs(3);

#[test]
fn unfinished_bodies_are_not_kept_without_bound() {
    let mut scene = Scene::start(1);
    scene.attack(
        "1,000 unfinished messages of 1.9 MB on one connection",
        96,
        |member| async move {
            let mut sender = connect(member).await;
            let mut calls = Vec::new();
            for _ in 0..1_000 {
                let mut call = begin(&mut sender, "/etcdserverpb.KV/Put").expect("a stream");
                let message = crate::wire::prefixed(&vec![0; 1_900_000]);
                // The end is missing, and the window decides what of it leaves.
                call.requests
                    .send_data(message.slice(..1_000_000), false)
                    .expect("a stream");
                calls.push(call);
            }
            tokio::time::sleep(HOLD).await;
        },
    );
    scene.attack("150 unfinished JSON bodies of 16 MB", 256, |member| async move {
        join_all((0..150).map(|_| unfinished_json(member))).await;
    });
}

async fn unfinished_json(member: SocketAddr) {
    let mut stream = tokio::net::TcpStream::connect(member)
        .await
        .expect("a connection");
    let head = format!("POST /v3/kv/put HTTP/1.1\r\nhost: {member}\r\ncontent-length: 16000000\r\n\r\n");
    let send = async {
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..159 {
            stream.write_all(&vec![b' '; 100_000]).await?;
        }
        std::io::Result::Ok(())
    };
    // It may be refused before all has left, or not be read.
    let _ = tokio::time::timeout(HOLD, send).await;
}

#[test]
fn json_that_is_more_than_it_seems_is_refused() {
    let mut scene = Scene::start(1);
    let operations = format!("{{\"success\":[{}{{}}]}}", "{},".repeat(4_000_000));
    let numbers = format!(
        "{{\"success\":[{{\"request_range\":{{\"limit\":[{}0]}}}}]}}",
        "0,".repeat(6_000_000)
    );
    let deep = format!(
        "{{\"success\":{}",
        "[{\"request_txn\":{\"success\":".repeat(400_000)
    );
    let unknown = format!("{{\"nobody\":[{}0]}}", "[],".repeat(4_000_000));
    for (name, body) in [
        ("JSON of 4,000,000 operations", operations),
        ("JSON of 6,000,000 numbers", numbers),
        ("JSON of 400,000 levels", deep),
        ("JSON of 4,000,000 unknown values", unknown),
    ] {
        let body = Bytes::from(body);
        scene.attack(name, 160, |member| {
            let body = body.clone();
            async move {
                join_all((0..4).map(|_| json(member, "/v3/kv/txn", body.clone()))).await;
            }
        });
    }
}

/// A body that is refused.
async fn json(member: SocketAddr, path: &str, body: Bytes) {
    let mut stream = tokio::net::TcpStream::connect(member)
        .await
        .expect("a connection");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {member}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("room for the head");
    // It may be refused before all has left.
    let _ = stream.write_all(&body).await;
    let mut status = [0; 12];
    if stream.read_exact(&mut status).await.is_ok() {
        let status = String::from_utf8_lossy(&status).into_owned();
        assert!(
            ["HTTP/1.1 400", "HTTP/1.1 429"].contains(&status.as_str()),
            "{status}"
        );
    }
}

#[test]
fn a_message_that_does_not_come_to_its_end_is_given_up() {
    // See limits::BODY_TIMEOUT and BODY_RATE_MIN.
    const GIVEN_UP: Duration = Duration::from_secs(40);
    let scene = Scene::start(1);
    let member = scene.cluster.members[0].client;
    block_on(async {
        let mut sender = connect(member).await;
        let mut call = begin(&mut sender, "/etcdserverpb.KV/Put").expect("a stream");
        let message = crate::wire::prefixed(&vec![0; 100_000]);
        call.requests
            .send_data(message.slice(..50_000), false)
            .expect("a stream");
        let answer = tokio::time::timeout(GIVEN_UP, call.answer).await;
        let answer = answer.expect("in time").expect("an answer");
        assert_eq!(answer.headers()["grpc-status"], "4", "deadline exceeded");
    });
}
