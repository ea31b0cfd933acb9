//! Parity: one actor, one server and one client, compiled and run against the module that is built.

use super::*;
use actix::{Actor, Context, Handler, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Adder(u64);

impl Actor for Adder {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

impl Handler<Add> for Adder {
    type Result = u64;

    fn handle(&mut self, message: Add, _: &mut Context<Self>) -> u64 {
        self.0 += message.0;
        self.0
    }
}

async fn serve(listener: Listener, adder: actix::Addr<Adder>) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    while let Ok(number) = stream.read_u64().await {
        let sum = adder.send(Add(number)).await.expect("the actor lives");
        stream.write_u64(sum).await.expect("the client lives");
        stream.flush().await.expect("the client lives");
    }
}

#[test]
fn parity_of_actor_server_and_client() {
    block_on(async {
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (ready, address_of_actor) = tokio::sync::oneshot::channel();
        thread("adder", 1, move || async move {
            let _ = ready.send(start(|_| Adder(0)));
            sleep(Duration::from_millis(200)).await;
        });
        let adder = address_of_actor.await.expect("the actor starts");
        spawn_local(serve(listener, adder));
        let mut stream = connect(&address).await.expect("the server listens");
        for (number, sum) in [(1, 1), (2, 3), (39, 42)] {
            stream.write_u64(number).await.expect("the server lives");
            stream.flush().await.expect("the server lives");
            assert_eq!(stream.read_u64().await.expect("an answer"), sum);
        }
    });
}

#[test]
fn parity_of_timers() {
    block_on(async {
        let start = now();
        sleep(Duration::from_millis(20)).await;
        assert!(now() - start >= Duration::from_millis(20));
        assert_eq!(
            timeout(Duration::from_millis(5), std::future::pending::<()>()).await,
            Err(Elapsed)
        );
        assert_eq!(timeout(Duration::from_secs(5), async { 7 }).await, Ok(7));
    });
}

#[test]
fn parity_of_random_numbers() {
    block_on(async {
        let (first, second) = (random_u64(), random_u64());
        assert_ne!(first, second);
        assert!((0..100).all(|_| random_below(10) < 10));
    });
}

/// The reader is slow at first, so that pieces of all sizes fit only partly.
#[test]
fn parity_of_writes_in_pieces() {
    const PIECES: usize = 3_000;
    fn piece(number: usize) -> Vec<u8> {
        vec![number as u8; number * number % 3_001]
    }
    block_on(async {
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            for number in 0..PIECES {
                stream.write_all(&piece(number)).await.expect("the reader lives");
                if number % 97 == 0 {
                    stream.flush().await.expect("the reader lives");
                }
            }
            stream.shutdown().await.expect("the reader lives");
        });
        let mut stream = connect(&address).await.expect("the writer listens");
        let (mut read, mut buffer) = (Vec::new(), [0; 1_000]);
        loop {
            match stream.read(&mut buffer).await.expect("the writer lives") {
                0 => break,
                count => read.extend_from_slice(&buffer[..count]),
            }
            if read.len() < 100_000 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let written: Vec<u8> = (0..PIECES).flat_map(piece).collect();
        assert!(read == written, "{} bytes came of {}", read.len(), written.len());
    });
}

#[cfg(not(madsim))]
#[test]
#[allow(clippy::disallowed_methods)] // what stands behind the seam is what is tested
fn patient_threads_start_patient_threads_and_their_starter_stays_as_it_was() {
    // SAFETY: plain numbers; 0 is the calling thread.
    let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let before = niceness();
    let (inside, started) = with_patient_threads(|| {
        let started = std::thread::spawn(niceness).join();
        (niceness(), started.expect("it does not panic"))
    });
    assert_eq!(inside, 10.max(before));
    assert_eq!(started, inside);
    assert_eq!(niceness(), before);
}
