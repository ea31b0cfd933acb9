//! A way between two programs on which everything takes longer, in each direction: a proxy for TCP that holds back what it is
//! given. How much it carries does not change.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Listens at `at` and carries everything to `to` and back, each way `delay` later, as long as the test program runs.
pub fn open(at: SocketAddr, to: SocketAddr, delay: Duration) {
    let listener = TcpListener::bind(at).expect("a free port");
    std::thread::spawn(move || {
        for accepted in listener.incoming() {
            let Ok(here) = accepted else { break };
            std::thread::spawn(move || {
                // What opening a connection takes.
                std::thread::sleep(2 * delay);
                if let Ok(there) = TcpStream::connect(to) {
                    carry(&here, &there, delay);
                    carry(&there, &here, delay);
                }
            });
        }
    });
}

/// Carries one direction, on two threads: one takes, the other gives when it is time.
fn carry(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let share = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let (mut source, mut sink) = (share(from), share(to));
    sink.set_nodelay(true).expect("a TCP stream");
    let (taken, given) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes) = source.read(&mut buffer) {
            let due = Instant::now() + delay;
            if taken.send((due, buffer[..bytes].to_vec())).is_err() || bytes == 0 {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in given {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || sink.write_all(&bytes).is_err() {
                break;
            }
        }
        // The other end may have closed it already.
        let _ = sink.shutdown(Shutdown::Write);
    });
}
