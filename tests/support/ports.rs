//! Free loopback ports for members.
//!
//! They come from below the range from which the kernel draws the source ports of outgoing connections (32768 and
//! up on Linux). A port bound to 0 and released again would come from inside it: while a killed member is down, a
//! client could be given the member's port as its own, or even connect to itself, and the member could not return.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

const RANGE: Range<u16> = 10_000..32_000;

/// How far into the range this process is; zero while nothing was handed out.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// `count` ports of 127.0.0.1 that were free a moment ago, no two calls in this process getting the same ones.
/// Another process may still be faster: whoever starts a member tries again with others when it cannot bind.
pub fn free(count: usize) -> Vec<u16> {
    let width = RANGE.end - RANGE.start;
    // Test programs that run at the same time begin at different places.
    let origin = std::process::id().wrapping_mul(7_919) % u32::from(width);
    let mut found = Vec::with_capacity(count);
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (origin + u32::from(step)) % u32::from(width);
        let port = RANGE.start + offset as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
            if found.len() == count {
                return found;
            }
        }
    }
    panic!("no {count} free ports in {RANGE:?}");
}
