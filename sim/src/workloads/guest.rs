//! A machine with one workload, in a share of the rehearsals.

use crate::options::Options;
use crate::random::RandomStream;
use crate::world::World;
use callboard::env::network;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::future::Future;
use std::net::Ipv4Addr;

/// See the head of the file.
#[derive(Clone, Copy, Debug)]
pub struct Guest(Option<NodeId>);

impl Guest {
    /// Starts it in `share` percent of the rehearsals. Scenarios have none.
    pub fn start<F: Future<Output = ()> + 'static>(
        name: &'static str,
        share: u64,
        address: Ipv4Addr,
        (options, world): (&Options, &World),
        live: fn(Options, World) -> F,
    ) -> Self {
        let is_wanted = RandomStream::of(options.seed, &format!("{name} wanted")).chance(share);
        if !is_wanted || options.operations == 0 {
            return Self(None);
        }
        let (options, told) = (options.clone(), world.clone());
        let node = Handle::current()
            .create_node()
            .name(name)
            .init(move || live(options.clone(), told.clone()))
            .build();
        world.name(node.id(), name);
        network::settle(node.id(), address.into());
        Self(Some(node.id()))
    }

    /// Switches the machine off.
    pub fn leave(&self) {
        if let Some(node) = self.0 {
            Handle::current().kill(node);
        }
    }
}
