//! Renewal of certificates: where members have certificates that an authority has signed, an operator renews them again and again,
//! now and then replaces the authority, and revokes what was replaced, while everything else goes on. No member may notice, and
//! none may admit a connection with a certificate that was revoked before it was opened.

use crate::checkers::Violation;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::random::RandomStream;
use callboard::peer::link;
use std::rc::Rc;
use std::time::Duration;

/// Starts the operator, who goes on until the rehearsal is over.
pub fn start(options: &Options, cluster: &Rc<Cluster>) {
    if let Some(certificates) = &cluster.certificates {
        let (certificates, world) = (Rc::clone(certificates), cluster.world.clone());
        let whole = Rc::downgrade(cluster);
        let members = cluster.members.len();
        let mut random = RandomStream::of(options.seed, "renewal");
        madsim::task::spawn_local(async move {
            loop {
                wait(&mut random, 10_000, 30_000).await;
                let other_authority = random.chance(40);
                if other_authority {
                    certificates.add_authority();
                    wait(&mut random, 0, 1_000).await;
                }
                for member in 0..members {
                    wait(&mut random, 0, 2_000).await;
                    certificates.renew(member);
                    world.count("certificates renewed", 1);
                }
                wait(&mut random, 0, 5_000).await;
                if other_authority {
                    certificates.drop_authorities();
                    world.count("certificate authorities replaced", 1);
                } else if members > 1
                    && let Some(cluster) = whole.upgrade()
                {
                    certificates.revoke_replaced();
                    intrude(&cluster, &mut random);
                }
            }
        });
    }
}

/// Opens a connection from one member to another with a certificate that was revoked.
fn intrude(cluster: &Cluster, random: &mut RandomStream) {
    let mut pair: Vec<_> = (0..cluster.members.len()).collect();
    random.shuffle(&mut pair);
    let (from, to) = (pair[0], pair[1]);
    let (Some(certificates), Some(mut remote)) = (&cluster.certificates, cluster.remote(from, to)) else {
        return;
    };
    let revoked = certificates.replaced(from).settings();
    remote.dialler = Some(revoked.connector().expect("sound files"));
    let (world, name) = (cluster.world.clone(), cluster.members[to].name.clone());
    cluster.on_machine(from, async move {
        if link::open(&remote, 0).await.is_ok() {
            world.violated(Violation(format!(
                "{name} admits a member whose certificate was revoked"
            )));
        }
        world.count("revoked certificates tried", 1);
    });
}

async fn wait(random: &mut RandomStream, ms_min: u64, ms_max: u64) {
    madsim::time::sleep(Duration::from_millis(random.between(ms_min, ms_max))).await;
}
