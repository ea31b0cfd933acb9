//! DNS for one test: a thread with a network and mounts of its own, where a name server answers for `/etc/resolv.conf` and nobody
//! else's ports, names or files are in the way.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use std::ffi::CStr;
use std::io::{Error, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

const TTL_SECONDS: u32 = 0;

/// What the name server knows. Cheap to clone; may grow while it serves.
#[derive(Clone, Default)]
pub struct Zone(Arc<Mutex<Vec<Record>>>);

impl Zone {
    /// A name at 127.0.0.1.
    pub fn add_host(&self, name: &str) {
        self.add(name, RData::A(A(Ipv4Addr::LOCALHOST)));
    }

    /// Where a service runs.
    pub fn add_service(&self, name: &str, host: &str, port: u16) {
        let host = Name::from_ascii(format!("{host}.")).expect("a name");
        self.add(name, RData::SRV(SRV::new(0, 0, port, host)));
    }

    fn add(&self, name: &str, data: RData) {
        let name = Name::from_ascii(format!("{name}.")).expect("a name");
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(Record::from_rdata(name, TTL_SECONDS, data));
    }

    fn answer(&self, question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for query in &question.queries {
            let named = records.iter().filter(|record| record.name == *query.name());
            answer.metadata.response_code = match named.clone().count() {
                0 => ResponseCode::NXDomain,
                _ => ResponseCode::NoError,
            };
            let wanted = named.filter(|record| record.record_type() == query.query_type());
            answer.add_answers(wanted.cloned().collect::<Vec<_>>());
            answer.add_query(query.clone());
        }
        answer
    }

    fn serve(self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let answer = self.answer(&question).to_vec().expect("an answer");
            // Who asks may be gone.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// Runs `test` where `zone` is what DNS knows; false, with a message, where this machine allows no such place.
pub fn with_names(zone: &Zone, test: impl FnOnce() + Send) -> bool {
    std::thread::scope(|scope| {
        let place = scope.spawn(|| {
            if let Err(error) = leave() {
                println!("skipped: no network and mounts of its own: {error}");
                return false;
            }
            let socket = UdpSocket::bind("127.0.0.1:53").expect("nobody else is here");
            let zone = zone.clone();
            std::thread::spawn(move || zone.serve(&socket));
            test();
            true
        });
        place
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives this thread, and what it starts from now on, a network and mounts of its own.
fn leave() -> Result<(), Error> {
    let mut settings = tempfile::NamedTempFile::new()?;
    settings.write_all(b"nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")?;
    let path = std::ffi::CString::new(settings.path().to_str().expect("a temporary path in UTF-8"))?;
    // SAFETY: plain numbers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })?;
    // Nothing that is mounted from here on shows elsewhere.
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(&path, c"/etc/resolv.conf", libc::MS_BIND)?;
    raise_loopback()
}

fn mount(what: &CStr, place: &CStr, flags: libc::c_ulong) -> Result<(), Error> {
    // SAFETY: both strings end with a zero and outlive the call; the other pointers may be null.
    done(unsafe {
        libc::mount(
            what.as_ptr(),
            place.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    })
}

/// A new network has a loopback interface that is down.
fn raise_loopback() -> Result<(), Error> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: all fields of this C structure may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open, and the call reads a structure of this type.
    done(unsafe { libc::ioctl(descriptor, libc::SIOCSIFFLAGS, &request) })
}

fn done(code: libc::c_int) -> Result<(), Error> {
    if code == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}
