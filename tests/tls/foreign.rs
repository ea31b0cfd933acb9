//! Certificates as operators have them, made with openssl: which are let in towards a trusted file, at either end. What Go
//! accepts was tried with a program of crypto/tls for each line; where the two differ the line says so.

use callboard::env::{self, block_on};
use callboard::tls::{ClientFiles, Connector, HandshakeError, Settings, Ways};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(10);
const NAMES: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost";

/// Where the certificates of all tests are made, once.
struct Rack {
    directory: tempfile::TempDir,
}

impl Rack {
    fn shared() -> &'static Self {
        static RACK: OnceLock<Rack> = OnceLock::new();
        RACK.get_or_init(|| {
            let rack = Self {
                directory: tempfile::tempdir().expect("a directory"),
            };
            rack.fill();
            rack
        })
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{kind}"))
    }

    fn file(&self, name: &str, kind: &str) -> String {
        self.path(name, kind).to_string_lossy().into_owned()
    }

    fn openssl(&self, words: &[&str]) {
        let output = Command::new("openssl")
            .args(words)
            .current_dir(self.directory.path())
            .output()
            .expect("openssl is installed");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words:?}: {text}");
    }

    /// A certificate that signs itself, with extensions; openssl adds CA:TRUE unless told otherwise.
    fn self_signed(&self, name: &str, key: &str, extensions: &[&str]) {
        let (subject, key_file, file) = (
            format!("/CN={name}"),
            format!("{name}.key"),
            format!("{name}.pem"),
        );
        let mut words = vec![
            "req", "-x509", "-newkey", key, "-nodes", "-days", "30", "-subj", &subject,
        ];
        words.extend(["-keyout", &key_file, "-out", &file]);
        words.extend(extensions.iter().flat_map(|extension| ["-addext", extension]));
        self.openssl(&words);
    }

    fn request(&self, name: &str, key: &[&str]) {
        let (subject, key_file, file) = (
            format!("/CN={name}"),
            format!("{name}.key"),
            format!("{name}.csr"),
        );
        let mut words = vec![
            "req", "-nodes", "-subj", &subject, "-keyout", &key_file, "-out", &file, "-newkey",
        ];
        words.extend(key);
        self.openssl(&words);
    }

    /// A certificate signed by another; without extensions openssl makes it one of X.509 v1.
    fn signed(&self, name: &str, issuer: &str, extensions: &[&str]) {
        self.request(name, &["rsa:2048"]);
        self.sign(name, issuer, extensions, &[]);
    }

    fn sign(&self, name: &str, issuer: &str, extensions: &[&str], more: &[&str]) {
        let files = ["csr", "pem", "ext"].map(|kind| format!("{name}.{kind}"));
        let (issuer, issuer_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let mut words = vec!["x509", "-req", "-in", &files[0], "-out", &files[1], "-days", "30"];
        words.extend(["-CA", &issuer, "-CAkey", &issuer_key, "-CAcreateserial"]);
        if !extensions.is_empty() {
            std::fs::write(self.path(name, "ext"), extensions.join("\n")).expect("written");
            words.extend(["-extfile", &files[2]]);
        }
        words.extend(more);
        self.openssl(&words);
    }

    fn append(&self, name: &str, intermediate: &str) {
        let mut chain = std::fs::read(self.path(name, "pem")).expect("a chain");
        chain.extend(std::fs::read(self.path(intermediate, "pem")).expect("a certificate"));
        std::fs::write(self.path(name, "pem"), chain).expect("written");
    }

    fn fill(&self) {
        let authority = "basicConstraints=critical,CA:TRUE";
        self.self_signed("ca", "rsa:2048", &["keyUsage=critical,keyCertSign,cRLSign"]);
        self.self_signed("all-uses", "rsa:2048", &[NAMES]);
        self.self_signed(
            "self-leaf",
            "rsa:2048",
            &["basicConstraints=critical,CA:FALSE", NAMES],
        );
        self.self_signed("ca-1024", "rsa:1024", &[]);
        self.self_signed("ca-server", "rsa:2048", &["extendedKeyUsage=serverAuth"]);
        self.self_signed("ca-no-sign", "rsa:2048", &["keyUsage=digitalSignature"]);
        self.self_signed(
            "ca-path-0",
            "rsa:2048",
            &["basicConstraints=critical,CA:TRUE,pathlen:0"],
        );
        self.self_signed(
            "ca-named",
            "rsa:2048",
            &["nameConstraints=permitted;DNS:example.com"],
        );
        self.signed("ordinary", "ca", &[NAMES]);
        self.signed("eku-any", "ca", &[NAMES, "extendedKeyUsage=anyExtendedKeyUsage"]);
        self.signed("eku-server", "ca", &[NAMES, "extendedKeyUsage=serverAuth"]);
        self.signed("eku-client", "ca", &[NAMES, "extendedKeyUsage=clientAuth"]);
        self.signed("eku-code", "ca", &[NAMES, "extendedKeyUsage=codeSigning"]);
        self.signed("leaf-ca", "ca", &[NAMES, authority]);
        self.signed("no-names", "ca", &["basicConstraints=CA:FALSE"]);
        self.signed("v1", "ca", &[]);
        self.request("short", &["rsa:1024"]);
        self.sign("short", "ca", &[NAMES], &[]);
        self.request("p521", &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]);
        self.sign("p521", "ca", &[NAMES], &[]);
        self.request("sha1", &["rsa:2048"]);
        self.sign("sha1", "ca", &[NAMES], &["-sha1"]);
        self.request("v1-ca", &["rsa:2048"]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "v1-ca.csr",
            "-signkey",
            "v1-ca.key",
            "-days",
            "30",
            "-out",
            "v1-ca.pem",
        ]);
        self.signed("below-v1-ca", "v1-ca", &[NAMES]);
        self.signed("v1-below-v1-ca", "v1-ca", &[]);
        self.signed("below-ordinary", "ordinary", &[NAMES]);
        self.signed("below-v1", "v1", &[NAMES]);
        self.signed("below-1024", "ca-1024", &[NAMES]);
        self.signed("below-server", "ca-server", &[NAMES]);
        self.signed("below-no-sign", "ca-no-sign", &[NAMES]);
        self.signed("named-leaf-ca", "ca-named", &[NAMES, authority]);
        self.signed("int", "ca", &[authority]);
        self.signed("below-int", "int", &[NAMES]);
        self.append("below-int", "int");
        self.signed("v1-below-int", "int", &[]);
        self.append("v1-below-int", "int");
        self.signed("path-int", "ca-path-0", &[authority]);
        self.signed("below-path", "path-int", &[NAMES]);
        self.append("below-path", "path-int");
        self.expired();
    }

    /// An authority whose time is over, and a certificate below it whose time is not.
    fn expired(&self) {
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
            x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nbasicConstraints=critical,CA:TRUE\n";
        for (name, content) in [("old.cnf", config), ("index", ""), ("serial", "01\n")] {
            std::fs::write(self.directory.path().join(name), content).expect("written");
        }
        self.request("ca-old", &["rsa:2048"]);
        self.openssl(&[
            "ca",
            "-batch",
            "-config",
            "old.cnf",
            "-selfsign",
            "-keyfile",
            "ca-old.key",
            "-in",
            "ca-old.csr",
            "-out",
            "ca-old.pem",
            "-startdate",
            "20200101000000Z",
            "-enddate",
            "20210101000000Z",
            "-notext",
        ]);
        self.signed("below-old", "ca-old", &[NAMES]);
    }
}

/// Shakes hands; what either end says of it. The client reads a byte, since with TLS 1.3 it learns only then that it was
/// refused.
fn shake(server: &Settings, client: &Connector) -> (Result<(), HandshakeError>, Result<(), HandshakeError>) {
    block_on(async {
        let listener = env::Listener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let ways = Ways::Secure(server.acceptor().expect("the server's files"));
        let accept = async {
            let (stream, remote) = listener.accept().await.expect("a connection");
            let mut stream = ways.begin(stream, remote).await?;
            stream.write_all(b"x").await?;
            stream.flush().await?;
            Ok(())
        };
        let dial = async {
            let stream = env::connect(&address).await.expect("connected");
            let mut stream = client.connect(stream, &address).await?;
            stream.read_exact(&mut [0]).await?;
            Ok(())
        };
        env::timeout(LIMIT, async { tokio::join!(accept, dial) })
            .await
            .expect("no end of the handshake")
    })
}

fn server(rack: &Rack, shown: &str, trusted: Option<&str>) -> Settings {
    Settings {
        cert_file: rack.file(shown, "pem"),
        key_file: rack.file(shown, "key"),
        trusted_ca_file: trusted.map(|name| rack.file(name, "pem")).unwrap_or_default(),
        client_cert_auth: trusted.is_some(),
        ..Settings::default()
    }
}

fn client(rack: &Rack, shown: Option<&str>, trusted: Option<&str>) -> ClientFiles {
    ClientFiles {
        cacert: trusted.map(|name| rack.file(name, "pem")).unwrap_or_default(),
        cert: shown.map(|name| rack.file(name, "pem")).unwrap_or_default(),
        key: shown.map(|name| rack.file(name, "key")).unwrap_or_default(),
        insecure_skip_tls_verify: trusted.is_none(),
    }
}

/// What the verifying end says when a server shows a certificate.
fn as_server(rack: &Rack, shown: &str, trusted: &str) -> Result<(), String> {
    let connector = client(rack, None, Some(trusted))
        .connector()
        .map_err(|error| error.to_string())?;
    server(rack, shown, None)
        .acceptor()
        .map_err(|error| error.to_string())?;
    let (_, dialler) = shake(&server(rack, shown, None), &connector);
    dialler.map_err(|error| error.to_string())
}

/// What the verifying end says when a client shows one.
fn as_client(rack: &Rack, shown: &str, trusted: &str) -> Result<(), String> {
    let connector = client(rack, Some(shown), None)
        .connector()
        .map_err(|error| error.to_string())?;
    server(rack, "ordinary", Some(trusted))
        .acceptor()
        .map_err(|error| error.to_string())?;
    let (acceptor, dialler) = shake(&server(rack, "ordinary", Some(trusted)), &connector);
    acceptor.map_err(|error| error.to_string())?;
    dialler.map_err(|error| error.to_string())
}

/// What is said of a certificate that is refused; nothing where it is accepted.
const OK: &str = "";

#[test]
fn what_is_let_in_towards_a_trusted_file() {
    let rack = Rack::shared();
    let purpose = "InvalidPurpose";
    let no_names = "no subject alternative names";
    let short = "RSA key of 1024 bits";
    let unknown = "UnknownIssuer";
    #[rustfmt::skip]
    let table = [
        // shown, trusted, as a server, as a client
        ("ordinary", "ca", OK, OK),
        ("ordinary", "all-uses", unknown, unknown),
        ("below-int", "ca", OK, OK),
        ("below-int", "int", OK, OK),
        // The certificate itself is trusted.
        ("all-uses", "all-uses", OK, OK),
        ("self-leaf", "self-leaf", OK, OK),
        ("ordinary", "ordinary", OK, OK),
        ("eku-client", "eku-client", purpose, OK),
        ("eku-server", "eku-server", OK, purpose),
        ("eku-code", "eku-code", purpose, purpose),
        ("no-names", "no-names", no_names, OK),
        ("v1", "v1", no_names, OK),
        ("v1-ca", "v1-ca", no_names, OK),
        // That does not make it an authority.
        ("below-ordinary", "ordinary", "may not sign others", "may not sign others"),
        ("below-no-sign", "ca-no-sign", "may not sign others", "may not sign others"),
        // Go takes this one: whoever is trusted for itself could vouch for anybody.
        ("below-v1", "v1", "may not sign others", "may not sign others"),
        // Purposes.
        ("eku-any", "ca", OK, OK),
        ("eku-server", "ca", OK, purpose),
        ("eku-client", "ca", purpose, OK),
        ("eku-code", "ca", purpose, purpose),
        ("below-server", "ca-server", OK, "does not allow this use"),
        // Old and unusual forms.
        ("leaf-ca", "ca", OK, OK),
        ("no-names", "ca", no_names, OK),
        ("v1", "ca", no_names, OK),
        ("v1-below-v1-ca", "v1-ca", no_names, OK),
        ("below-v1-ca", "v1-ca", OK, OK),
        // Go takes it as a client's: webpki verifies no such chain.
        ("v1-below-int", "ca", unknown, unknown),
        // Go would compare the names; refused here.
        ("named-leaf-ca", "ca-named", unknown, unknown),
        // Limits of authorities.
        ("below-old", "ca-old", "time is over", "time is over"),
        ("below-path", "ca-path-0", "path length", "path length"),
        // What ring does not verify. Go takes the first three.
        ("short", "ca", short, short),
        ("below-1024", "ca-1024", short, short),
        ("p521", "ca", "P-521", "P-521"),
        ("sha1", "ca", "SHA-1", "SHA-1"),
    ];
    let mut wrong = Vec::new();
    for (shown, trusted, server, client) in table {
        for (side, expected, outcome) in [
            ("server", server, as_server(rack, shown, trusted)),
            ("client", client, as_client(rack, shown, trusted)),
        ] {
            let fits = match &outcome {
                Ok(()) => expected == OK,
                Err(text) => expected != OK && text.contains(expected),
            };
            if !fits {
                wrong.push(format!(
                    "{shown} towards {trusted} as a {side}: {outcome:?}, expected {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_certificate_for_server_authority_and_client() {
    let rack = Rack::shared();
    let settings = server(rack, "all-uses", Some("all-uses"));
    let dialler = settings.connector().expect("a member dials with it, too");
    let (acceptor, dialled) = shake(&settings, &dialler);
    acceptor.expect("let in");
    dialled.expect("served");
}

/// A server that shows a certificate whose key it does not have.
fn impostor(
    shown: &Path,
    key: &Path,
    version: &'static rustls::SupportedProtocolVersion,
) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(shown).expect("a file");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[test]
fn a_trusted_certificate_without_its_key_is_of_no_use() {
    let rack = Rack::shared();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (shown, is_verified) in [("all-uses", true), ("ordinary", true), ("v1", false)] {
            let trusted = is_verified.then_some(shown);
            let connector = client(rack, None, trusted).connector().expect("files");
            let acceptor = impostor(&rack.path(shown, "pem"), &rack.path("self-leaf", "key"), version);
            let dialled = block_on(async {
                let listener = env::Listener::bind("127.0.0.1:0").await.expect("a port");
                let address = listener.local_addr().expect("an address").to_string();
                let accept = async {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    drop(acceptor.accept(stream).await);
                };
                let dial = async {
                    let stream = env::connect(&address).await.expect("connected");
                    connector.connect(stream, &address).await.map(drop)
                };
                env::timeout(LIMIT, async { tokio::join!(accept, dial) })
                    .await
                    .expect("an end")
                    .1
            });
            let error = dialled.expect_err("an impostor").to_string();
            assert!(error.contains("BadSignature"), "{shown} {version:?}: {error}");
        }
    }
}

#[test]
fn a_version_1_certificate_passes_both_versions_of_tls() {
    let rack = Rack::shared();
    for version in [callboard::tls::Version::Tls12, callboard::tls::Version::Tls13] {
        let settings = Settings {
            version_min: Some(version),
            version_max: Some(version),
            ..server(rack, "ordinary", Some("ca"))
        };
        let connector = client(rack, Some("v1"), None).connector().expect("files");
        let (acceptor, dialler) = shake(&settings, &connector);
        acceptor.expect("let in");
        dialler.expect("served");
    }
}

#[test]
fn a_revoked_certificate_is_refused_though_it_is_trusted_for_itself() {
    let rack = Rack::shared();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("names");
    params.serial_number = Some(77_u64.into());
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(rack.path("revoked", "pem"), certificate.pem()).expect("written");
    std::fs::write(rack.path("revoked", "key"), key.serialize_pem()).expect("written");
    as_client(rack, "revoked", "revoked").expect("let in as long as it is not revoked");
    let mut issuer = rcgen::CertificateParams::new([]).expect("no names");
    issuer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    issuer.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let issuer = rcgen::CertifiedIssuer::self_signed(issuer, rcgen::KeyPair::generate().expect("a key"));
    let now = std::time::SystemTime::now();
    let list = rcgen::CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + Duration::from_hours(24)).into(),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: 77_u64.into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer.expect("an issuer")).expect("a list");
    std::fs::write(rack.path("revoked", "crl"), list.der()).expect("written");
    let settings = Settings {
        crl_file: rack.file("revoked", "crl"),
        ..server(rack, "ordinary", Some("revoked"))
    };
    let connector = client(rack, Some("revoked"), None).connector().expect("files");
    let (acceptor, _) = shake(&settings, &connector);
    let error = acceptor.expect_err("revoked").to_string();
    assert!(error.contains("serial 4d revoked"), "{error}");
}
