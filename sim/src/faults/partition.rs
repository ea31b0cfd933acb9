//! The members are divided into two groups that cannot reach each other.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let mut members: Vec<_> = (0..stage.cluster.members.len()).collect();
    if members.len() < 2 {
        return;
    }
    stage.random.shuffle(&mut members);
    let cut = stage.random.between(1, members.len() as u64 - 1) as usize;
    let (left, right) = members.split_at(cut);
    let names = |group: &[usize]| {
        let names: Vec<_> = group
            .iter()
            .map(|member| stage.cluster.members[*member].name.as_str())
            .collect();
        names.join(",")
    };
    stage.cluster.world.note(
        "! partition",
        &format!("{{{}}} {{{}}}", names(left), names(right)),
    );
    for one in left {
        for other in right {
            stage.cluster.cut(*one, *other);
            stage.cluster.cut(*other, *one);
        }
    }
    let everybody = members.clone();
    stage.wait(100, 10_000).await;
    stage.cluster.mend_all(&everybody);
    stage.cluster.world.note("partition heals", "");
}
