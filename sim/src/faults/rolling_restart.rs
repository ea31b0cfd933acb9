//! All members are stopped and restarted, one after another, as for an upgrade.

use super::{Stage, stop};

pub async fn strike(stage: &mut Stage) {
    for member in 0..stage.cluster.members.len() {
        stop::stop(stage, member).await;
        stage.wait(10, 1_000).await;
        stage.restart(member);
        stage.wait(100, 3_000).await;
    }
}
