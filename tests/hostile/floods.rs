//! Many small things at once: requests, streams that are reset or cancelled, keep-alives, scrapers.

use crate::scene::Scene;
use crate::support::http;
use crate::support::kv_client::block_on;
use crate::wire::{begin, call, connect, drain, framed, get, put};
use callboard::proto::etcdserverpb as pb;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::net::SocketAddr;
use std::time::Duration;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// An HTTP/2 frame that resets a stream, as Go's clients cancel.
const CANCEL: h2::Reason = h2::Reason::CANCEL;

/// The attacker is a debug build on the same two processors: under seven times as many gets a release build of etcd 3.7.1 keeps the
/// bystander waiting for 0.9 s, and under four times as many scrapers for 0.7 s.
const GETS_AT_ONCE: usize = 4_000;
const STREAMS_RESET: usize = 4_000;
const SCRAPERS: usize = 12;

#[test]
fn one_connection_does_not_hold_up_others() {
    let mut scene = Scene::start(3);
    scene.attack("4,000 gets at once on one connection", 384, |member| async move {
        let mut sender = connect(member).await;
        let mut answers: FuturesUnordered<_> = (0..GETS_AT_ONCE)
            .map(|_| {
                let mut call = begin(&mut sender, RANGE).expect("a stream");
                call.requests.send_data(get("bystander"), true).expect("a stream");
                call.answer
            })
            .collect();
        while let Some(answer) = answers.next().await {
            drain(&mut answer.expect("an answer").into_body())
                .await
                .expect("an answer");
        }
    });
    scene.attack(
        "4,000 streams opened and reset at once",
        128,
        |member| async move {
            let mut sender = connect(member).await;
            for _ in 0..STREAMS_RESET {
                // The server may end such a connection.
                let Ok(mut call) = begin(&mut sender, RANGE) else {
                    break;
                };
                call.requests.send_reset(CANCEL);
            }
            // What was written before has been looked at by then, if the connection lives.
            let _ = call(&mut sender, RANGE, get("bystander")).await;
        },
    );
}

#[test]
fn cancelled_requests_do_not_end_the_connection_for_others() {
    let scene = Scene::start(1);
    let member = scene.cluster.members[0].client;
    block_on(async {
        let mut sender = connect(member).await;
        for round in 0..5 {
            let mut calls: Vec<_> = (0..1_500)
                .map(|_| {
                    let mut call = begin(&mut sender, PUT).expect("a stream");
                    call.requests
                        .send_data(put("cancelled", vec![0; 100]), true)
                        .expect("a stream");
                    call
                })
                .collect();
            if round % 2 == 0 {
                // Some of them are under way by then.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for call in &mut calls {
                call.requests.send_reset(CANCEL);
            }
            drop(calls);
            let bystander = call(&mut sender, PUT, put("bystander", vec![1])).await;
            assert_eq!(bystander.expect("the connection lives").0, 0, "round {round}");
        }
    });
}

#[test]
fn keep_alives_and_scrapers_do_not_hold_up_others() {
    let mut scene = Scene::start(3);
    scene.attack("200,000 keep-alives on one stream", 192, |member| async move {
        keep_alives(member, 200_000).await;
    });
    scene.attack("12 scrapers", 64, |member| async move {
        let scrapers: Vec<_> = (0..SCRAPERS)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..10 {
                        let answer = http::get(member, "/metrics").expect("an answer");
                        assert_eq!(answer.status, 200);
                    }
                })
            })
            .collect();
        for scraper in scrapers {
            scraper.join().expect("all are answered");
        }
    });
}

async fn keep_alives(member: SocketAddr, count: usize) {
    const AT_ONCE: usize = 1_000;
    let mut sender = connect(member).await;
    let mut call = begin(&mut sender, KEEP_ALIVE).expect("a stream");
    let question = framed(&pb::LeaseKeepAliveRequest { id: 7 });
    let questions = bytes::Bytes::from(question.repeat(AT_ONCE));
    let mut requests = call.requests;
    let send = async move {
        for _ in 0..count / AT_ONCE {
            requests.reserve_capacity(questions.len());
            while requests.capacity() < questions.len() {
                std::future::poll_fn(|context| requests.poll_capacity(context))
                    .await
                    .expect("the stream goes on")
                    .expect("the stream goes on");
            }
            requests
                .send_data(questions.clone(), false)
                .expect("the stream goes on");
        }
        requests
            .send_data(bytes::Bytes::new(), true)
            .expect("the stream goes on");
    };
    let receive = async {
        let answer = (&mut call.answer).await.expect("an answer");
        drain(&mut answer.into_body()).await.expect("answers to all");
    };
    futures_util::future::join(send, receive).await;
}
