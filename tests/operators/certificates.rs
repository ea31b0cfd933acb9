//! Certificates as tutorials have them made: a file that says for what and for how long, one more for each certificate, and cfssl.

use super::scene::Scene;
use super::support;
use std::path::Path;
use std::process::Command;

/// Which keys are made.
#[derive(Clone, Copy, Debug)]
pub enum Algorithm {
    Rsa,
    Ecdsa,
}

const CA_CONFIG: &str = r#"{
  "signing": {
    "default": { "expiry": "43800h" },
    "profiles": {
      "server": { "expiry": "43800h", "usages": ["signing", "key encipherment", "server auth"] },
      "client": { "expiry": "43800h", "usages": ["signing", "key encipherment", "client auth"] },
      "peer": { "expiry": "43800h", "usages": ["signing", "key encipherment", "server auth", "client auth"] }
    }
  }
}
"#;

impl Algorithm {
    fn key(self) -> &'static str {
        match self {
            Self::Rsa => r#""key": { "algo": "rsa", "size": 2048 }"#,
            Self::Ecdsa => r#""key": { "algo": "ecdsa", "size": 256 }"#,
        }
    }
}

/// Makes `ca.pem` and `ca-key.pem`.
pub fn make_authority(scene: &Scene, algorithm: Algorithm) {
    for program in ["/usr/bin/cfssl", "/usr/bin/cfssljson"] {
        support::installed(Path::new(program).to_owned());
    }
    scene.write("ca-config.json", CA_CONFIG);
    let request = format!(
        r#"{{ "CN": "Example CA", {}, "names": [{{ "C": "US", "L": "CA", "O": "Example", "OU": "Stores" }}] }}"#,
        algorithm.key()
    );
    scene.write("ca-csr.json", &request);
    shell(scene, "cfssl gencert -initca ca-csr.json | cfssljson -bare ca -");
}

/// Makes `<name>.pem` and `<name>-key.pem` for this machine.
pub fn sign(scene: &Scene, name: &str, profile: &str, algorithm: Algorithm) {
    let request = format!(
        r#"{{ "CN": "{name}", "hosts": ["localhost", "127.0.0.1"], {}, "names": [{{ "O": "Example" }}] }}"#,
        algorithm.key()
    );
    scene.write(&format!("{name}-csr.json"), &request);
    let line = format!(
        "cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile={profile} {name}-csr.json | \
         cfssljson -bare {name}"
    );
    shell(scene, &line);
}

fn shell(scene: &Scene, line: &str) {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(scene.path(""))
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {text}");
}

/// What a member takes for its clients.
pub fn client_flags(scene: &Scene, pair: &str) -> String {
    format!(
        "--cert-file={} --key-file={} --trusted-ca-file={} --client-cert-auth",
        scene.file(&format!("{pair}.pem")),
        scene.file(&format!("{pair}-key.pem")),
        scene.file("ca.pem")
    )
}

/// What it takes for other members.
pub fn peer_flags(scene: &Scene, pair: &str) -> String {
    format!(
        "--peer-cert-file={} --peer-key-file={} --peer-trusted-ca-file={} --peer-client-cert-auth",
        scene.file(&format!("{pair}.pem")),
        scene.file(&format!("{pair}-key.pem")),
        scene.file("ca.pem")
    )
}

/// What etcdctl takes.
pub fn etcdctl_flags(scene: &Scene, pair: &str) -> String {
    format!(
        "--cacert={} --cert={} --key={}",
        scene.file("ca.pem"),
        scene.file(&format!("{pair}.pem")),
        scene.file(&format!("{pair}-key.pem"))
    )
}
