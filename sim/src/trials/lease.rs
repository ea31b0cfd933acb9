//! A lease that expires while its leader's clients keep the admission full.

use super::{calm, until};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use callboard::client::Client;
use callboard::limits::{self, Sizes};
use callboard::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use std::cell::Cell;
use std::time::Duration;

/// The lease of this trial, which has no keys, and one that is never granted.
const TRIAL_LEASE: i64 = 0x7472_6961_6c00;
const NO_LEASE: i64 = TRIAL_LEASE + 1;
/// Its TTL: the shortest that is granted.
const TRIAL_TTL_S: i64 = 2;
/// An expired lease is revoked within this time if there is a leader: it checks every 100 ms, and disks and links are slow. A
/// leader whose revocation is refused retries only after a longer time.
const EXPIRES_WITHIN: Duration = Duration::from_millis(2_500);

/// Whether the trial could be made.
pub async fn ends_under_load(cluster: &Cluster) -> Result<bool, Violation> {
    let (leader, term) = calm(cluster).await?;
    let clients = [0, 1, 2].map(|_| clients::connect([leader], Duration::from_secs(5)));
    let lease = LeaseGrantRequest {
        id: TRIAL_LEASE,
        ttl: TRIAL_TTL_S,
    };
    // Refused under an alarm: then the trial cannot be made.
    if clients[0].lease_grant(lease).await.is_err() {
        return Ok(false);
    }
    let usual = limits::sizes();
    limits::set_sizes(Sizes {
        proposals_waiting_max: 1,
        ..usual
    });
    let stop = Cell::new(false);
    let watch = async {
        let is_gone = || {
            let views = cluster.views(leader);
            views.is_some_and(|views| {
                let view = views.load();
                view.leases().flatten().all(|(id, _)| id != TRIAL_LEASE)
            })
        };
        let gone = until(Duration::from_secs(TRIAL_TTL_S as u64) + EXPIRES_WITHIN, is_gone).await;
        stop.set(true);
        gone
    };
    let (gone, one, two, three) = tokio::join!(
        watch,
        crowd(&clients[0], &stop),
        crowd(&clients[1], &stop),
        crowd(&clients[2], &stop)
    );
    limits::set_sizes(usual);
    if !cluster.leads(leader) || cluster.standing(leader).term != term {
        return Ok(false);
    }
    if !gone {
        return violation(format!(
            "a lease of {TRIAL_TTL_S} s did not go within {EXPIRES_WITHIN:?} after its time, while its leader's clients \
             were busy"
        ));
    }
    Ok(one + two + three > 0)
}

/// Sends one command after the other, none of which changes anything. Returns how many were refused because of too many requests.
async fn crowd(client: &Client, stop: &Cell<bool>) -> u64 {
    let mut refused = 0;
    while !stop.get() {
        let answer = client.lease_revoke(LeaseRevokeRequest { id: NO_LEASE }).await;
        refused += u64::from(answer.is_err_and(|error| error.to_string().contains("too many requests")));
    }
    refused
}
