//! Maintenance.MoveLeader: in some rehearsals a client transfers the leadership every few seconds, to any member. A confirmation
//! must come from a member that knows of a later term: two members never lead the same term one after the other.

use crate::checkers::{Violation, violation};
use crate::clients;
use crate::options::Options;
use crate::random::RandomStream;
use crate::workloads::guest::Guest;
use crate::world::World;
use callboard::client::Client;
use callboard::proto::etcdserverpb::{MemberListRequest, MoveLeaderRequest, StatusRequest};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The percentage of rehearsals.
const SHARE: u64 = 30;

/// Starts the client that transfers the leadership.
pub fn start(options: &Options, world: &World) -> Guest {
    let address = Ipv4Addr::new(10, 0, 10, 1);
    Guest::start("mover", SHARE, address, (options, world), live)
}

async fn live(options: Options, world: World) {
    let mut random = RandomStream::of(options.seed, "mover");
    let clients: Vec<_> = (0..options.members)
        .map(|number| clients::connect([number], Duration::from_secs(12)))
        .collect();
    loop {
        madsim::time::sleep(Duration::from_millis(random.between(500, 10_000))).await;
        for client in &clients {
            if let Err(violation) = move_leader(client, &mut random, &world).await {
                return world.violated(violation);
            }
        }
    }
}

/// Makes this member transfer the leadership, if it leads.
async fn move_leader(client: &Client, random: &mut RandomStream, world: &World) -> Result<(), Violation> {
    let Ok(before) = client.status(StatusRequest::default()).await else {
        return Ok(());
    };
    let Some(header) = before.header.filter(|header| header.member_id == before.leader) else {
        return Ok(());
    };
    let list = MemberListRequest { linearizable: false };
    let Ok(members) = client.member_list(list).await else {
        return Ok(());
    };
    let place = random.below(members.members.len() as u64) as usize;
    let target_id = members.members[place].id;
    if target_id == header.member_id {
        return Ok(());
    }
    let Ok(moved) = client.move_leader(MoveLeaderRequest { target_id }).await else {
        return Ok(());
    };
    world.count("leadership moved", 1);
    let term = moved.header.unwrap_or_default().raft_term;
    if term <= header.raft_term {
        return violation(format!(
            "leadership has moved to {target_id:x} in term {term}, and another member led in term {}",
            header.raft_term
        ));
    }
    Ok(())
}
