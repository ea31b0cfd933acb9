//! A member as a service manager sees it: when it is ready, and when it ends.

use crate::support::cluster::Cluster;
use crate::support::{self, ports};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// A member alone has nobody to elect a leader with, however long it waits.
const ALONE: Duration = Duration::from_secs(3);
const READY_LIMIT: Duration = Duration::from_secs(30);

/// What was said to the service manager next.
fn next(socket: &UnixDatagram, within: Duration) -> Option<String> {
    socket.set_read_timeout(Some(within)).expect("a time");
    let mut bytes = [0; 1024];
    let length = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
}

#[test]
fn a_member_is_ready_once_it_has_joined_and_says_when_it_stops() {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(4), &[]);
    let path = cluster.directory().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let first = &mut cluster.members[0];
    let program = std::mem::replace(&mut first.program, Path::new("/usr/bin/env").to_owned());
    let told = [
        format!("NOTIFY_SOCKET={}", path.display()),
        // Half of it is the interval at which it says that it lives.
        "WATCHDOG_USEC=400000".to_owned(),
        program.display().to_string(),
    ];
    first.arguments.splice(0..0, told.map(Into::into));
    first.start();
    assert_eq!(next(&socket, ALONE), None, "it waits for the other one");
    cluster.members[1].start();
    assert_eq!(next(&socket, READY_LIMIT).as_deref(), Some("READY=1"));
    for _ in 0..3 {
        assert_eq!(next(&socket, READY_LIMIT).as_deref(), Some("WATCHDOG=1"));
    }
    let first = &mut cluster.members[0];
    first.terminate();
    let last = std::iter::from_fn(|| next(&socket, Duration::from_millis(10)));
    assert!(last.into_iter().any(|said| said == "STOPPING=1"));
}
