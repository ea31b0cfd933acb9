//! The order of steps: look whether there is room, register, and wait until all have come. A service that cannot be reached is tried
//! again for as long as it takes, with growing pauses.

use super::Refusal;
use super::error::Failure;
use super::registry::{Registration, Registry};
use crate::cluster::InitialCluster;
use crate::env;
use std::collections::BTreeSet;
use std::time::Duration;

/// Pauses grow to the second power of this many: 256 seconds, as with etcd.
const DOUBLINGS_MAX: u32 = 8;

/// What a service of either protocol does for this member.
pub(super) trait RegistryService {
    /// This member's own entry.
    fn own(&self) -> &Registration;

    /// Reads what has registered.
    async fn look(&mut self) -> Result<Registry, Failure>;

    /// Writes this member's own entry.
    async fn register(&mut self) -> Result<(), Failure>;

    /// Waits until something may have changed since `registry` was read.
    async fn wait(&mut self, registry: &Registry) -> Result<(), Failure>;
}

/// Takes part in a new cluster, and returns once it is whole.
pub(super) async fn join(service: &mut impl RegistryService) -> Result<InitialCluster, Refusal> {
    let mut patience = Patience::default();
    let own = service.own().id.clone();
    look(service, &mut patience).await?.check_place(&own)?;
    register(service, &mut patience).await?;
    let mut known = BTreeSet::new();
    loop {
        let registry = look(service, &mut patience).await?;
        registry.check_place(&own)?;
        for member in registry.members() {
            if known.insert(member.id.clone()) {
                tracing::info!(
                    peer = member.id,
                    urls = member.urls,
                    "found peer from discovery service"
                );
            }
        }
        let (found, missing) = (registry.members().len(), registry.missing());
        if missing == 0 {
            tracing::info!(found, "found all needed peers from discovery service");
            return registry.initial_cluster();
        }
        tracing::info!(
            found,
            missing,
            "found peers from discovery service; waiting for more"
        );
        if let Err(failure) = service.wait(&registry).await {
            patience.after(failure, "waiting for other nodes").await?;
        }
    }
}

async fn look(service: &mut impl RegistryService, patience: &mut Patience) -> Result<Registry, Refusal> {
    loop {
        match service.look().await {
            Ok(registry) => {
                patience.retries = 0;
                return Ok(registry);
            }
            Err(failure) => patience.after(failure, "cluster status check").await?,
        }
    }
}

/// An entry that is there already is this member's own if an earlier try was not answered.
async fn register(service: &mut impl RegistryService, patience: &mut Patience) -> Result<(), Refusal> {
    let mut may_have_arrived = false;
    loop {
        match service.register().await {
            Ok(()) => break,
            Err(Failure::Final(Refusal::DuplicateId)) if may_have_arrived => break,
            Err(failure) => patience.after(failure, "register member itself").await?,
        }
        may_have_arrived = true;
    }
    let own = service.own();
    tracing::info!(
        member = own.id,
        urls = own.urls,
        "register member itself successfully"
    );
    Ok(())
}

/// How often in a row a step has failed.
#[derive(Debug, Default)]
struct Patience {
    retries: u32,
}

impl Patience {
    /// Waits before the next try, if there is to be one.
    async fn after(&mut self, failure: Failure, reason: &str) -> Result<(), Refusal> {
        let error = match failure {
            Failure::Passing(error) => error,
            Failure::Final(refusal) => return Err(refusal),
        };
        self.retries = self.retries.saturating_add(1);
        let pause = pause(self.retries);
        tracing::warn!(
            error,
            reason,
            backoff = ?pause,
            "retry connecting to discovery service"
        );
        env::sleep(pause).await;
        Ok(())
    }
}

fn pause(retries: u32) -> Duration {
    Duration::from_secs(1 << retries.min(DOUBLINGS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// Answers with what was put in, in this order.
    struct Script {
        own: Registration,
        size: usize,
        entries: Vec<Registration>,
        /// Who registers while this member waits.
        coming: Vec<Registration>,
        /// Who registers in the very moment before this member does.
        rival: Option<Registration>,
        registers: Result<(), fn() -> Failure>,
    }

    fn entry(id: &str, created: u64) -> Registration {
        Registration {
            id: id.to_owned(),
            urls: format!("m{id}=http://{id}:1"),
            created,
        }
    }

    impl RegistryService for Script {
        fn own(&self) -> &Registration {
            &self.own
        }

        async fn look(&mut self) -> Result<Registry, Failure> {
            Ok(Registry::new(self.size, self.entries.clone(), 0))
        }

        async fn register(&mut self) -> Result<(), Failure> {
            self.registers.map_err(|make| make())?;
            self.entries.extend(self.rival.take());
            self.entries.push(self.own.clone());
            Ok(())
        }

        async fn wait(&mut self, registry: &Registry) -> Result<(), Failure> {
            assert!(registry.missing() > 0, "nobody is waited for");
            self.entries.push(self.coming.remove(0));
            Ok(())
        }
    }

    fn script(size: usize, entries: &[(&str, u64)], coming: &[(&str, u64)]) -> Script {
        let all = |list: &[(&str, u64)]| list.iter().map(|(id, created)| entry(id, *created)).collect();
        Script {
            own: entry("7", 7),
            size,
            entries: all(entries),
            coming: all(coming),
            rival: None,
            registers: Ok(()),
        }
    }

    fn run(mut script: Script) -> Result<String, Refusal> {
        let joined = join(&mut script).now_or_never().expect("the script has an end");
        joined.map(|listed| listed.to_string())
    }

    #[test]
    fn a_member_registers_and_waits_for_the_others() {
        let whole = "m1=http://1:1,m7=http://7:1,m9=http://9:1";
        assert_eq!(run(script(3, &[("1", 1)], &[("9", 9)])).expect("joined"), whole);
        assert_eq!(run(script(3, &[], &[("9", 9), ("1", 1)])).expect("joined"), whole);
        assert_eq!(run(script(1, &[], &[])).expect("joined"), "m7=http://7:1");
    }

    #[test]
    fn a_member_for_which_there_is_no_room_is_refused_before_and_after_it_has_registered() {
        assert!(matches!(run(script(1, &[("1", 1)], &[])), Err(Refusal::Full)));
        let mut late = script(1, &[], &[]);
        late.rival = Some(entry("1", 1));
        assert!(matches!(run(late), Err(Refusal::Full)));
        let mut refused = script(2, &[("1", 1)], &[]);
        refused.registers = Err(|| Refusal::DuplicateId.into());
        assert!(matches!(run(refused), Err(Refusal::DuplicateId)));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let seconds: Vec<_> = [1, 2, 3, 7, 8, 9, u32::MAX]
            .map(|retries| pause(retries).as_secs())
            .into();
        assert_eq!(seconds, [2, 4, 8, 128, 256, 256, 256]);
    }
}
