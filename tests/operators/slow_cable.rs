//! A cable on which every frame takes its time: two interfaces of the kind whose other end is a program (tun(4)), which carries
//! frames from one to the other. Kernels without netem have them too.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// More than a frame has.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// `struct ifreq`: a name of 16 bytes, and what the call is about.
const IFREQ_BYTES: usize = 40;
const NAME_BYTES: usize = 16;

/// One end of a cable, in the network namespace of this thread.
pub fn plug(name: &str) -> io::Result<File> {
    let end = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0_u8; IFREQ_BYTES];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the kernel reads and writes a `struct ifreq` at the pointer, which is as long.
    match unsafe { libc::ioctl(end.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(end),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Carries frames both ways, each `delay` later, until the interfaces are gone.
pub fn lay(one: File, other: File, delay: Duration) {
    let share = |end: &File| end.try_clone().expect("a descriptor");
    carry(share(&one), share(&other), delay);
    carry(other, one, delay);
}

/// On two threads: one takes, the other gives when it is time.
fn carry(mut from: File, mut to: File, delay: Duration) {
    let (taken, given) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        while let Ok(length) = from.read(&mut frame) {
            if taken
                .send((Instant::now() + delay, frame[..length].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, frame) in given {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // An interface that is down, or full, drops frames, as any does.
            let _ = to.write(&frame);
        }
    });
}
