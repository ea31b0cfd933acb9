//! Damaged files of a stopped member. It may start, or end with a message and a code that is not zero; it must not
//! panic, hang, or answer with anything that was never written.
//!
//! Callboard promises more than etcd here, whose storage panics on most damage.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callboard::proto::etcdserverpb::RangeRequest;

use super::support::cluster::{Cluster, StartError, arguments};
use super::support::kv_client::{Client, ask, block_on};
use super::support::{self, poll, ports};
use super::{REQUEST_LIMIT, shows_panic};

const KEYS: usize = 200;

/// Damaged copies per way of stopping.
const CASES: usize = 20;

/// Where the places of the damage come from; print of a failure names file and offset.
const SEED: u64 = 0x00ca_11b0_a12d;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// One bit changed.
    Flip {
        offset: u64,
        mask: u8,
    },
    /// A stretch of zeros, as a lost page leaves it.
    Zero {
        offset: u64,
        length: u64,
    },
    Truncate {
        length: u64,
    },
}

impl Damage {
    /// Damage at the very end looks like a write that a power loss cut short, and may be dropped as such. Whatever has
    /// sound writes behind it must be noticed.
    fn writes_lost_at_most(self) -> usize {
        match self {
            Self::Flip { .. } => 1,
            // One write takes more than 300 bytes.
            Self::Zero { .. } => 3,
            Self::Truncate { .. } => KEYS,
        }
    }
}

#[test]
fn after_sigterm() {
    damage_and_start(SEED, |cluster| {
        cluster.members[0].terminate();
    });
}

#[test]
fn after_kill() {
    damage_and_start(SEED + 1, |cluster| cluster.members[0].kill());
}

fn damage_and_start(seed: u64, stop: impl FnOnce(&mut Cluster)) {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = cluster.members[0].client;
    block_on(async {
        let client = Client::new(&[member], REQUEST_LIMIT);
        for number in 0..KEYS {
            client
                .put(key(number).as_bytes(), value(number).as_bytes())
                .await
                .acked()
                .expect("a put");
        }
    });
    stop(&mut cluster);

    let sound = cluster.members[0].data_dir.clone();
    let mut files = Vec::new();
    find_files(&sound, Path::new(""), &mut files);
    files.sort();
    let mut largest = files.clone();
    largest.sort_by_key(|(_, written)| std::cmp::Reverse(*written));
    largest.truncate(3);
    let mut random = Random(seed);
    let mut started = 0;
    for case in 0..CASES {
        // Every file in turn, and the large ones, where most of the data is, once more each time.
        let (file, written) = match case % 2 {
            0 => &files[case / 2 % files.len()],
            _ => &largest[case / 2 % largest.len()],
        };
        let damage = draw(&mut random, case, *written);
        let copy = cluster.directory().join(format!("damaged-{case}"));
        copy_sparsely(&sound, &copy);
        inflict(&copy.join(file), damage);
        match start_on(&cluster, &copy, damage) {
            Ok(true) => started += 1,
            Ok(false) => {}
            Err(complaint) => panic!("{} with {damage:?}: {complaint}", file.display()),
        }
        std::fs::remove_dir_all(&copy).expect("remove the copy");
    }
    println!(
        "{CASES} damaged directories: {started} started, {} refused",
        CASES - started
    );
}

/// Starts a member on the damaged directory. `Ok` says whether it started; `Err` what it did that it must not.
fn start_on(cluster: &Cluster, data_dir: &Path, damage: Damage) -> Result<bool, String> {
    let mut prepared = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &[]);
    let original = &cluster.members[0];
    let member = &mut prepared.members[0];
    // The ports of the stopped member: its address is part of its membership.
    (member.client, member.peer) = (original.client, original.peer);
    member.data_dir = data_dir.to_path_buf();
    member.arguments = arguments(member, &format!("m1=http://{}", member.peer), "callboard-test");
    member.start();
    let ready = member.wait_ready();
    let log = member.log_text();
    if shows_panic(&log) {
        return Err(format!("it panicked:\n{log}"));
    }
    match ready {
        Ok(()) => {}
        Err(StartError::PortTaken(text)) => return Err(text),
        Err(StartError::Other(text)) if member.is_running() => return Err(format!("it hangs: {text}")),
        Err(StartError::Other(text)) => {
            let status = member.process().ended().expect("an ended process");
            let lower = log.to_lowercase();
            let clear = ["corrupt", "damaged", "checksum"]
                .iter()
                .any(|word| lower.contains(word))
                || log.contains(data_dir.to_str().expect("UTF-8"));
            return match (status.success(), clear) {
                (false, true) => Ok(false),
                (false, false) => Err(format!("no clear message: {text}")),
                (true, _) => Err(format!("it ended as if all was well: {text}")),
            };
        }
    }
    let request = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let answer = ask(member.client, REQUEST_LIMIT, async |client| {
        client.range(request).await
    });
    match answer.acked() {
        Ok(response) => {
            for (number, pair) in response.kvs.iter().enumerate() {
                if pair.key != key(number).as_bytes() || pair.value != value(number).as_bytes() {
                    let (key, value) = (pair.key.escape_ascii(), pair.value.escape_ascii());
                    return Err(format!("what was not written in place {number}: {key} = {value}"));
                }
            }
            let lost = KEYS - response.kvs.len();
            if lost > damage.writes_lost_at_most() {
                return Err(format!("it forgot {lost} of {KEYS} writes in silence"));
            }
        }
        // Noticed when reading: an error is an answer, as long as there was no panic.
        Err(error) if shows_panic(&member.log_text()) => {
            return Err(format!("{error}:\n{}", member.log_text()));
        }
        Err(_) => {}
    }
    // Anything it finds while stopping is of interest as well.
    let stopped = poll::until(Duration::from_millis(1), || {
        if member.is_running() { Ok(()) } else { Err("ended") }
    });
    if stopped.is_ok() {
        member.terminate();
    }
    if shows_panic(&member.log_text()) {
        Err(format!("it panicked:\n{}", member.log_text()))
    } else {
        Ok(true)
    }
}

fn key(number: usize) -> String {
    format!("key/{number:05}")
}

fn value(number: usize) -> String {
    format!("value {number} {}", "v".repeat(300))
}

/// Files with something in them, relative to the data directory, and how far they were written.
fn find_files(root: &Path, below: &Path, files: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(root.join(below)).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            find_files(root, &path, files);
            continue;
        }
        let bytes = std::fs::read(root.join(&path)).expect("a file");
        // Preallocated files end in zeros that nobody has written yet.
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            files.push((path, last as u64 + 1));
        }
    }
}

/// Half of all are flips of one bit.
fn draw(random: &mut Random, case: usize, written: u64) -> Damage {
    let offset = random.below(written);
    match case / 2 % 4 {
        0 | 2 => Damage::Flip {
            offset,
            mask: 1 << random.below(8),
        },
        1 => Damage::Zero {
            offset,
            length: 512.min(written - offset),
        },
        _ => Damage::Truncate { length: offset },
    }
}

fn inflict(path: &Path, damage: Damage) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open the file to damage");
    match damage {
        Damage::Flip { offset, mask } => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).expect("read a byte");
            file.write_all_at(&[byte[0] ^ mask], offset)
                .expect("write a byte");
        }
        Damage::Zero { offset, length } => {
            file.write_all_at(&vec![0; length as usize], offset)
                .expect("write zeros");
        }
        Damage::Truncate { length } => file.set_len(length).expect("truncate"),
    }
}

/// Preallocated files are long and almost empty: copied byte for byte they would fill the disk.
fn copy_sparsely(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("create a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_sparsely(&entry.path(), &target);
            continue;
        }
        let bytes = std::fs::read(entry.path()).expect("a file");
        let written = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let file = File::create(&target).expect("create a file");
        file.write_all_at(&bytes[..written], 0).expect("write a file");
        file.set_len(bytes.len() as u64).expect("set the length");
    }
    let permissions = std::fs::metadata(from).expect("a directory").permissions();
    std::fs::set_permissions(to, permissions).expect("set permissions");
}

/// Sebastiano Vigna's SplitMix64: a test that fails must fail again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
