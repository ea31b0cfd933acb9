//! Handshakes on the peer port, which anybody can begin: each takes milliseconds of the thread that carries raft.

use crate::ATTACK_MIN;
use crate::scene::Scene;
use crate::support::cluster::Cluster;
use crate::support::{self, ports};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections at a time.
const CONNECTIONS: usize = 200;
/// Handshakes that the member answers at least: else nobody attacked.
const ANSWERED_MIN: u64 = 20;

/// Members that speak TLS with each other, with a key whose signatures take as long as any that operators have.
fn cluster() -> Cluster {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(6), &[]);
    let directory = cluster.directory().to_owned();
    make_certificate(&directory);
    let path = |name: &str| directory.join(name).into_os_string();
    let peers: Vec<_> = cluster
        .members
        .iter()
        .map(|member| member.peer.to_string())
        .collect();
    for member in &mut cluster.members {
        for argument in &mut member.arguments {
            let mut text = argument.to_string_lossy().into_owned();
            for peer in &peers {
                text = text.replace(&format!("http://{peer}"), &format!("https://{peer}"));
            }
            *argument = text.into();
        }
        let flags = [
            ("--peer-cert-file", path("cert.pem")),
            ("--peer-key-file", path("key.pem")),
            ("--peer-trusted-ca-file", path("cert.pem")),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [OsString::from(flag), value]);
        member.arguments.extend(flags);
        member.start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    cluster
}

fn make_certificate(directory: &Path) {
    let output = Command::new("openssl")
        .current_dir(directory)
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:4096",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=member",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .output()
        .expect("openssl is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The first words of a client that trusts nobody.
fn client_hello(member: SocketAddr) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), member.ip().into());
    let mut words = Vec::new();
    connection.expect("a name").write_tls(&mut words).expect("memory");
    words
}

/// Has a handshake begun and its signature made, again and again.
async fn begin_handshakes(member: SocketAddr, hello: &[u8], answered: &AtomicU64) {
    let begun = Instant::now();
    while begun.elapsed() < ATTACK_MIN {
        let Ok(mut stream) = TcpStream::connect(member).await else {
            continue;
        };
        let mut byte = [0];
        if stream.write_all(hello).await.is_ok() && stream.read_exact(&mut byte).await.is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_flood_of_handshakes_on_the_peer_port() {
    let mut scene = Scene::start_by(cluster);
    let place = scene.leader();
    let peer = scene.cluster.members[place].peer;
    let hello: Arc<[u8]> = client_hello(peer).into();
    let answered = Arc::new(AtomicU64::new(0));
    scene.attack("handshakes on the peer port", 64, |_| {
        let several: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (hello, answered) = (Arc::clone(&hello), Arc::clone(&answered));
                tokio::spawn(async move { begin_handshakes(peer, &hello, &answered).await })
            })
            .collect();
        async move {
            for one in several {
                one.await.expect("no panic");
            }
        }
    });
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered >= ANSWERED_MIN, "{answered} handshakes were answered");
}
