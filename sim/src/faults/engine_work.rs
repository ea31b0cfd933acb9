//! A member's storage engine writes its memtables to tables and merges these, at a moment that the seed decides.

use super::Stage;
use callboard::storage::log::LogDatabase;
use callboard::storage::state::StateDatabase;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let Some((state, log)) = stage.cluster.databases(victim) else {
        return;
    };
    let (works_on_state, works_on_log) = *stage.random.pick(&[(true, false), (false, true), (true, true)]);
    stage.cluster.event(victim, "! engine works", "");
    // It fails on a disk that is ill now; the member notices at its next write.
    if works_on_state && work_on_state(&state) {
        stage.cluster.world.count("state tables made", 1);
    }
    if works_on_log && work_on_log(&log) {
        stage.cluster.world.count("log tables made", 1);
    }
}

pub(super) fn work_on_state(state: &StateDatabase) -> bool {
    state.flush().and_then(|()| state.rewrite()).is_ok()
}

pub(super) fn work_on_log(log: &LogDatabase) -> bool {
    log.rewrite().is_ok()
}
