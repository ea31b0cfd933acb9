//! A member's storage engine makes tables of what it holds in memory and merges them, at a moment that the seed names.

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
    // A disk that is ill right now fails it; the member notices when it writes next.
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
