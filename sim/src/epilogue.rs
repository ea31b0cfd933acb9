//! At the end of a rehearsal without violations, the data of one member is altered, with records that are sound in themselves.
//! The members must detect it and name the member, where the checks of this rehearsal can.
//!
//! | alteration | detected by |
//! |---|---|
//! | another value on the disk of a stopped member, which starts with the check at start | the member itself: it must stop |
//! | another value in the store of a running member | the leader's comparison of hashes |
//! | another version on the disk of a stopped member; then a put builds on it | the leader's comparison of digests |

use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::{Cluster, Trouble};
use crate::disk;
use crate::options::Options;
use crate::random::RandomStream;
use crate::world::elapsed;
use callboard::proto::etcdserverpb::{AlarmType, PutRequest};
use callboard::storage::directory::DataDirectory;
use callboard::storage::state::record::{NewRecord, Record};
use callboard::storage::state::{StateDatabase, StateKeyspace, StateOptions};
use std::time::Duration;

/// The members detect it within this time: some seconds between checks, and an election.
const NOTICED_MAX: Duration = Duration::from_secs(60);
/// No client writes this key.
const KEY: &[u8] = b"epilogue";

/// How the member differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    AtStart,
    InStore,
    InVersion,
}

/// Alters one member, and waits until it is detected.
pub async fn play(cluster: &Cluster, options: &Options) -> Result<(), Violation> {
    if options.members < 2 {
        return Ok(()); // nobody to compare with
    }
    let mut random = RandomStream::of(options.seed, "epilogue");
    let member = random.below(options.members as u64) as usize;
    let difference = if options.initial_check {
        Difference::AtStart
    } else if options.hashes_ms > 0 && random.chance(50) {
        Difference::InStore
    } else {
        Difference::InVersion
    };
    put(cluster, KEY, "as it is").await?;
    until("all members have the epilogue's key", || {
        (0..options.members).all(|number| holds_key(cluster, number))
    })
    .await?;
    cluster.trouble(member, Trouble::Altered);
    cluster.event(member, "! altered", &format!("{difference:?}"));
    if difference == Difference::InStore {
        let views = cluster.views(member).ok_or_else(|| gone(cluster, member))?;
        alter(&views.load().state, difference);
    } else {
        cluster.kill(member).await;
        disk::unnoticed(|| alter_at_rest(cluster, member, difference));
        cluster.restart(member);
    }
    match difference {
        Difference::AtStart => {
            until("a member that differs from all others stops at its start", || {
                !cluster.is_running(member)
            })
            .await?;
            cluster.world.count("differences noticed", 1);
        }
        Difference::InStore => {
            // A member serves a view of its store, and a new view only once something has changed.
            build_on(cluster, b"epilogue, later", "").await?;
            noticed(cluster, member).await?;
        }
        Difference::InVersion => {
            until("an altered member starts", || cluster.views(member).is_some()).await?;
            build_on(cluster, KEY, "built on it").await?;
            noticed(cluster, member).await?;
        }
    }
    cluster.event(member, "difference noticed or gone", "");
    Ok(())
}

fn gone(cluster: &Cluster, member: usize) -> Violation {
    Violation(format!(
        "{} has gone before the epilogue",
        cluster.members[member].name
    ))
}

async fn put(cluster: &Cluster, key: &'static [u8], value: &'static str) -> Result<(), Violation> {
    put_unless(cluster, key, value, |_| false).await
}

/// A put after the alteration. By then the alarm may already be raised, and refuse it.
async fn build_on(cluster: &Cluster, key: &'static [u8], value: &'static str) -> Result<(), Violation> {
    put_unless(cluster, key, value, |error| error.contains("corrupt cluster")).await
}

async fn put_unless(
    cluster: &Cluster,
    key: &'static [u8],
    value: &'static str,
    is_expected: impl Fn(&str) -> bool,
) -> Result<(), Violation> {
    let everybody = 0..cluster.members.len();
    let client = clients::connect(everybody, Duration::from_secs(5));
    let deadline = elapsed() + NOTICED_MAX;
    loop {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        match client.put(request).await {
            Ok(_) => return Ok(()),
            Err(error) if is_expected(&error.to_string()) => return Ok(()),
            Err(error) if elapsed() > deadline => {
                return violation(format!("the epilogue's put is not answered: {error}"));
            }
            Err(_) => madsim::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Violation> {
    let deadline = elapsed() + NOTICED_MAX;
    while !is_so() {
        if elapsed() > deadline {
            return violation(format!("not within {NOTICED_MAX:?}: {what}"));
        }
        madsim::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn holds_key(cluster: &Cluster, number: usize) -> bool {
    let Some(views) = cluster.views(number) else {
        return false;
    };
    disk::unnoticed(|| views.load().get(&KEY.into())).is_ok_and(|found| found.is_some())
}

/// Whether all members have the same newest version of the key, and are at the same revision.
fn is_same_everywhere(cluster: &Cluster) -> bool {
    let mut held = Vec::new();
    for number in 0..cluster.members.len() {
        let Some(views) = cluster.views(number) else {
            return false;
        };
        let view = views.load();
        match disk::unnoticed(|| view.get(&KEY.into())) {
            Ok(found) => held.push((view.revision(), found)),
            Err(_) => return false,
        }
    }
    held.windows(2).all(|pair| pair[0] == pair[1])
}

fn alter_at_rest(cluster: &Cluster, member: usize, difference: Difference) {
    let directory = DataDirectory::open(&cluster.members[member].directory).expect("nobody uses it");
    let path = directory.state_path().expect("it has a state");
    let state = StateDatabase::open(&path, &StateOptions::simulator()).expect("a sound state");
    alter(&state, difference);
}

/// Rewrites the key's newest record with altered content.
fn alter(state: &StateDatabase, difference: Difference) {
    let stored = state.get(StateKeyspace::Current, KEY).expect("readable");
    let record = Record::decode("current", KEY, stored.expect("it is there")).expect("sound");
    let is_version = difference == Difference::InVersion;
    let (_, altered) = Record::new(&NewRecord {
        key: KEY,
        place: record.place(),
        create_revision: record.header.create_revision,
        version: record.header.version + i64::from(is_version),
        value: if is_version {
            b"as it is"
        } else {
            b"something else"
        },
        lease: 0,
    });
    let mut batch = state.batch(1);
    batch.insert(StateKeyspace::Current, KEY, altered.stored().clone());
    batch.commit().expect("writable");
}

/// Waits until the alarm is raised for this member only, or for the whole cluster if there is no majority against it. If the
/// member lagged behind and received a snapshot, there is nothing left to detect.
async fn noticed(cluster: &Cluster, member: usize) -> Result<(), Violation> {
    let name = &cluster.members[member].name;
    let mut named = Vec::new();
    let mut replaced = false;
    until(&format!("the alarm CORRUPT for {name}"), || {
        let views = (0..cluster.members.len()).filter_map(|number| cluster.views(number));
        let mut raised =
            views.flat_map(|views| views.load().alarms.of(AlarmType::Corrupt).collect::<Vec<_>>());
        named.extend(raised.next().map(|raised| raised.member_id));
        replaced = named.is_empty() && is_same_everywhere(cluster);
        replaced || !named.is_empty()
    })
    .await?;
    if replaced {
        cluster.world.count("differences gone with a snapshot", 1);
        return Ok(());
    }
    cluster.world.count("differences noticed", 1);
    let expected = match cluster.members.len() {
        2 => 0,
        _ => cluster.member_id(member).unwrap_or_default(),
    };
    if named != [expected] {
        return violation(format!(
            "{name} ({expected:x}) differs, and the alarm is raised for {named:x?}"
        ));
    }
    Ok(())
}
