//! Renewal of certificates: where members have certificates that an authority has signed, an operator renews them again and again,
//! and now and then replaces the authority, while everything else goes on. No member may notice.

use crate::cluster::Cluster;
use crate::options::Options;
use crate::random::RandomStream;
use std::rc::Rc;
use std::time::Duration;

/// Starts the operator, who goes on until the rehearsal is over.
pub fn start(options: &Options, cluster: &Rc<Cluster>) {
    if let Some(certificates) = &cluster.certificates {
        let (certificates, world) = (Rc::clone(certificates), cluster.world.clone());
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
                if other_authority {
                    wait(&mut random, 0, 5_000).await;
                    certificates.drop_authorities();
                    world.count("certificate authorities replaced", 1);
                }
            }
        });
    }
}

async fn wait(random: &mut RandomStream, ms_min: u64, ms_max: u64) {
    madsim::time::sleep(Duration::from_millis(random.between(ms_min, ms_max))).await;
}
