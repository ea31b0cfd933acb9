//! The TLS of a member: towards its clients and towards the other members. Mirrors `configurePeerListeners` and
//! `configureClientListeners` of etcd's server/embed/etcd.go.

use crate::bootstrap::StartError;
use crate::cluster::MemberUrl;
use crate::config::{self, Discovery};
use crate::storage::directory::DataDirectory;
use crate::tls::{self, Acceptor, Connector, Settings};
use std::path::Path;

const PEERS: &str = "members";
const CLIENTS: &str = "clients";

/// What listeners and links use. Nothing where no TLS is spoken.
pub(super) struct Security {
    pub peers: Option<Acceptor>,
    pub clients: Option<Acceptor>,
    /// For peer URLs of others that say https.
    pub dialler: Option<Connector>,
}

impl Security {
    /// Makes or reads certificates, and says what does not fit the URLs.
    pub(super) fn new(config: &config::Server) -> Result<Self, StartError> {
        let tls = &config.tls;
        let fixtures = config.data_dir.join("fixtures");
        let years = tls.self_signed_validity_years;
        if tls.peer_automatic || tls.client_automatic {
            DataDirectory::check_foreign(&config.data_dir)?;
        }
        let mut peer = tls.peer.clone();
        if tls.peer_automatic {
            if peer.is_empty() {
                automatic(&mut peer, &fixtures.join("peer"), &config.listen_peer_urls, years)
                    .map_err(|source| failed(PEERS, source))?;
            } else {
                tracing::warn!("ignoring peer auto TLS since certs given");
            }
        }
        let mut client = tls.client.clone();
        if tls.client_automatic {
            if client.is_empty() {
                let directory = fixtures.join("client");
                automatic(&mut client, &directory, &config.listen_client_urls, years)
                    .map_err(|source| failed(CLIENTS, source))?;
            } else {
                tracing::warn!("ignoring client auto TLS since certs given");
            }
        }
        warn_of_plain(&config.listen_peer_urls, &peer, "--peer-client-cert-auth");
        warn_of_plain(&config.listen_client_urls, &client, "--client-cert-auth");
        warn_of_plain(&config.listen_client_http_urls, &client, "--client-cert-auth");
        refuse_without_tls(config, &peer, &client)?;
        let acceptor = |settings: &Settings, is_wanted: bool, towards| {
            let acceptor = is_wanted.then(|| settings.acceptor());
            acceptor.transpose().map_err(|source| failed(towards, source))
        };
        let peers = secure(&config.listen_peer_urls).is_some();
        let clients = [
            &config.listen_client_urls,
            &config.listen_client_http_urls,
            &config.listen_metrics_urls,
        ];
        let clients = clients.into_iter().any(|urls| secure(urls).is_some());
        let dialler = (!peer.is_empty() || !peer.trusted_ca_file.is_empty()).then(|| peer.connector());
        let mut dialler = dialler.transpose().map_err(|source| failed(PEERS, source))?;
        if let (Some(Discovery::Srv(srv)), "") = (&config.discovery, peer.trusted_ca_file.as_str()) {
            // Anyone can have a certificate for a name in somebody's records; etcd wants the domain's, too.
            dialler = dialler.map(|dialler| dialler.for_servers_named(&srv.domain));
        }
        let mut peers = acceptor(&peer, peers, PEERS)?;
        if !peer.skip_client_san_verification {
            peers = peers.map(Acceptor::checking_address);
        }
        Ok(Self {
            // The thread that serves members carries raft.
            peers: peers.map(Acceptor::paced),
            clients: acceptor(&client, clients, CLIENTS)?,
            dialler,
        })
    }
}

fn failed(towards: &'static str, source: tls::TlsError) -> StartError {
    StartError::Tls { towards, source }
}

fn refuse_without_tls(config: &config::Server, peer: &Settings, client: &Settings) -> Result<(), StartError> {
    if peer.is_empty()
        && let Some(url) = secure(&config.listen_peer_urls)
    {
        return Err(StartError::UrlWithoutTls(url.address()));
    }
    if !client.is_empty() {
        return Ok(());
    }
    let of_http = || secure(&config.listen_client_http_urls);
    if let Some(url) = secure(&config.listen_client_urls).or_else(of_http) {
        return Err(StartError::ClientUrlWithoutTls(url.to_string()));
    }
    match secure(&config.listen_metrics_urls) {
        Some(url) => Err(StartError::UrlWithoutTls(url.address())),
        None => Ok(()),
    }
}

fn secure(urls: &[MemberUrl]) -> Option<&MemberUrl> {
    urls.iter().find(|url| url.is_secure())
}

fn automatic(
    settings: &mut Settings,
    directory: &Path,
    urls: &[MemberUrl],
    years: u32,
) -> Result<(), tls::TlsError> {
    let named = urls.iter().filter(|url| !url.is_unix());
    let hosts: Vec<&str> = named.map(MemberUrl::host).collect();
    let (certificate, key) = tls::self_signed(directory, &hosts, years)?;
    // Nothing else counts then, as with etcd.
    *settings = Settings {
        cert_file: certificate,
        key_file: key,
        cipher_suites: std::mem::take(&mut settings.cipher_suites),
        version_min: settings.version_min,
        version_max: settings.version_max,
        self_signed: true,
        ..Settings::default()
    };
    Ok(())
}

fn warn_of_plain(urls: &[MemberUrl], settings: &Settings, flag: &str) {
    for url in urls.iter().filter(|url| !url.is_secure()) {
        if !settings.is_empty() {
            tracing::warn!(%url, "scheme is HTTP while key and cert files are present; ignoring key and cert files");
        }
        if settings.client_cert_auth {
            tracing::warn!(%url, "scheme is HTTP while {flag} is enabled; ignoring client cert auth for this URL");
        }
    }
}
