//! Members are far apart: all links, or those of one member, get a delay in each direction. Round trips stay below the election
//! timeout, so members only have to wait longer.

use super::Stage;
use std::time::Duration;

pub async fn strike(stage: &mut Stage) {
    let count = stage.cluster.members.len();
    let delay_ms = *stage.random.pick(&[50, 200, 300]);
    let victim = stage.victim();
    let all = stage.random.chance(50);
    let links: Vec<_> = (0..count)
        .flat_map(|from| (0..count).map(move |to| (from, to)))
        .filter(|(from, to)| from != to && (all || *from == victim || *to == victim))
        .collect();
    let note = format!("{delay_ms} ms each way, {}", if all { "all" } else { "its own" });
    stage.cluster.event(victim, "! slow links", &note);
    for (from, to) in &links {
        stage.cluster.delay(*from, *to, Duration::from_millis(delay_ms));
    }
    stage.wait(1_000, 20_000).await;
    for (from, to) in &links {
        stage.cluster.delay(*from, *to, Duration::ZERO);
    }
    stage.cluster.event(victim, "links are fast again", "");
}
