//! Maintenance.Downgrade: in some rehearsals an operator begins, asks for and cancels downgrades. One that was confirmed is in
//! progress, for every member, until it is cancelled.

use crate::checkers::{Violation, violation};
use crate::clients;
use crate::options::Options;
use crate::random::RandomStream;
use crate::workloads::guest::Guest;
use crate::world::World;
use callboard::client::{Client, Error};
use callboard::etcd_errors::EtcdError;
use callboard::proto::etcdserverpb::DowngradeRequest;
use callboard::proto::etcdserverpb::downgrade_request::DowngradeAction;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The percentage of rehearsals.
const SHARE: u64 = 15;

/// Starts the operator's machine.
pub fn start(options: &Options, world: &World) -> Guest {
    let address = Ipv4Addr::new(10, 0, 13, 1);
    Guest::start("downgrader", SHARE, address, (options, world), live)
}

async fn live(options: Options, world: World) {
    let mut random = RandomStream::of(options.seed, "downgrader");
    let client = clients::connect(0..options.members, Duration::from_secs(12));
    // Before the members have agreed on a version there is none to go down from.
    while ask(&client, DowngradeAction::Validate, "3.6").await.is_err() {
        madsim::time::sleep(Duration::from_secs(1)).await;
    }
    let mut in_progress = false;
    loop {
        madsim::time::sleep(Duration::from_millis(random.between(0, 5_000))).await;
        let action = *random.pick(&[
            DowngradeAction::Validate,
            DowngradeAction::Enable,
            DowngradeAction::Cancel,
        ]);
        let answer = ask(&client, action, "3.6").await;
        match judge(action, &answer, in_progress) {
            Ok(after) => in_progress = after,
            Err(violation) => return world.violated(violation),
        }
        let is_unknown = answer.is_err_and(|error| error.is_unknown_outcome());
        if is_unknown && action != DowngradeAction::Validate {
            // It may take effect at any time from now on.
            return;
        }
        world.count("downgrade requests judged", 1);
    }
}

async fn ask(client: &Client, action: DowngradeAction, version: &str) -> Result<(), Error> {
    let request = DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    };
    client.downgrade(request).await.map(|_| ())
}

/// Whether a downgrade is in progress after this answer.
fn judge(action: DowngradeAction, answer: &Result<(), Error>, in_progress: bool) -> Result<bool, Violation> {
    if action == DowngradeAction::Cancel {
        return Ok(in_progress && answer.is_err());
    }
    // While one is in progress, the cluster's version is 3.6, from which none leads to 3.6.
    let is_target = match answer {
        Ok(()) => true,
        Err(error) => {
            let text = error.status().map_or("", |status| status.message());
            if text != EtcdError::InvalidDowngradeTarget.text() {
                return Ok(in_progress);
            }
            false
        }
    };
    if is_target == in_progress {
        return violation(format!(
            "{action:?} of a downgrade is answered {answer:?}, and in_progress={in_progress}"
        ));
    }
    Ok(in_progress || action == DowngradeAction::Enable)
}
