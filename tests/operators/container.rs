//! The image of the Dockerfile at the root of the repository, as far as it can be made without a registry: the stage that is shipped,
//! on nothing but the libraries that the program asks for.

use super::scene::{READY_LIMIT, Scene, etcdctl_stdout, wait_etcdctl};
use super::support::process::{self, Finished, Process};
use super::support::{self, poll, ports};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BUILDAH: &str = "/usr/bin/buildah";
const BUILD_LIMIT: Duration = Duration::from_mins(2);
const PROGRAM: &str = "/usr/local/bin/callboard";

/// Everything that buildah keeps is below the scene.
fn buildah(scene: &Scene, line: &str) -> Command {
    let mut command = process::command(Path::new(BUILDAH));
    command.args(["--storage-driver", "vfs"]);
    command.args(["--root", &scene.file("images"), "--runroot", &scene.file("run")]);
    command.args(line.split_whitespace());
    command
}

fn run(scene: &Scene, line: &str) -> Finished {
    process::run(buildah(scene, line), b"", BUILD_LIMIT)
        .unwrap_or_else(|complaint| panic!("buildah {line}: {complaint}"))
}

fn stdout(scene: &Scene, line: &str) -> String {
    let finished = run(scene, line);
    assert_eq!(finished.code, 0, "buildah {line}: {}", finished.text());
    String::from_utf8_lossy(&finished.stdout).trim().to_owned()
}

/// The last stage, with what the others would bring from files beside it.
fn last_stage() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("Dockerfile")).expect("it is there");
    let (_, stage) = text.rsplit_once("\nFROM ").expect("two stages");
    let lines = stage.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["COPY", from, _, to] if from.starts_with("--from=") => format!("COPY callboard {to}\n"),
            _ => format!("{line}\n"),
        }
    });
    format!("FROM scratch\nCOPY libraries /\n{}", lines.collect::<String>())
}

/// The program and what it is linked with, each library where it is on this machine.
fn fill(scene: &Scene) {
    let program = support::callboard_bin();
    let listed = Command::new("ldd").arg(&program).output().expect("ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = scene.path("context/libraries").join(&library[1..]);
        std::fs::create_dir_all(place.parent().expect("a directory")).expect("made");
        std::fs::copy(library, place).expect("copied");
    }
    std::fs::copy(program, scene.path("context/callboard")).expect("copied");
    scene.write("context/Containerfile", &last_stage());
}

#[test]
fn the_image_runs_a_member() {
    let scene = Scene::new();
    if !Path::new(BUILDAH).exists() {
        println!("skipped: {BUILDAH} is not installed");
        return;
    }
    let tried = run(&scene, "from scratch");
    if tried.code != 0 {
        println!("skipped: {}", tried.text());
        return;
    }
    fill(&scene);
    let (file, context) = (scene.file("context/Containerfile"), scene.file("context"));
    stdout(
        &scene,
        &format!("bud --isolation chroot -t callboard -f {file} {context}"),
    );
    let image: Value = serde_json::from_str(&stdout(&scene, "inspect --type image callboard")).expect("JSON");
    let config = &image["OCIv1"]["config"];
    assert_eq!(config["Entrypoint"], json!([PROGRAM]), "{config}");
    assert_eq!(config["Volumes"], json!({ "/data": {} }), "{config}");
    assert_eq!(
        config["ExposedPorts"],
        json!({ "2379/tcp": {}, "2380/tcp": {} }),
        "{config}"
    );

    // It has the ports of this machine here, where others may use the usual ones.
    let ports = ports::free(2);
    let container = stdout(&scene, "from callboard");
    let line = format!(
        "run --isolation chroot --env ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:{} --env \
         ETCD_LISTEN_PEER_URLS=http://127.0.0.1:{} {container} -- {PROGRAM}",
        ports[0], ports[1]
    );
    let mut member = Process::start(buildah(&scene, &line), &scene.path("member.log"));
    let endpoint = format!("--endpoints 127.0.0.1:{}", ports[0]);
    wait_etcdctl(&endpoint, &["put", "key", "value"], &mut member);
    assert_eq!(
        etcdctl_stdout(&endpoint, &["get", "key", "--print-value-only"]),
        "value\n"
    );
    let log = member.log_text();
    assert!(
        log.contains(r#""data-dir":"/data""#)
            && log.contains(r#""advertise-client-urls":["http://127.0.0.1:2379"]"#),
        "{log}"
    );
    member.terminate(READY_LIMIT);
    // The program goes with the one that has started it, a moment later.
    let gone = || match TcpStream::connect(("127.0.0.1", ports[0])) {
        Ok(_) => Err("it still listens"),
        Err(_) => Ok(()),
    };
    poll::until(READY_LIMIT, gone).expect("it has ended");
}
