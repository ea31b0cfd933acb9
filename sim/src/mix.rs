//! The relative frequency of each API call, drawn for each seed, so that some rehearse mostly reads, some only transactions.

use crate::random::RandomStream;
use std::fmt;

/// The calls of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Put,
    Get,
    CompareAndSwap,
    ReadModifyWrite,
    DeleteRange,
    PastRange,
    Compact,
}

impl Call {
    pub const ALL: [Self; 7] = [
        Self::Put,
        Self::Get,
        Self::CompareAndSwap,
        Self::ReadModifyWrite,
        Self::DeleteRange,
        Self::PastRange,
        Self::Compact,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::CompareAndSwap => "swap",
            Self::ReadModifyWrite => "rmw",
            Self::DeleteRange => "delete",
            Self::PastRange => "past",
            Self::Compact => "compact",
        }
    }

    /// The weight of a call unless the seed draws another one.
    const fn usual_weight(self) -> u64 {
        match self {
            Self::Put => 35,
            Self::Get => 25,
            Self::CompareAndSwap => 15,
            Self::ReadModifyWrite => 10,
            Self::DeleteRange | Self::PastRange => 7,
            Self::Compact => 1,
        }
    }
}

/// Weights, in the order of [`Call::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix([u64; Call::ALL.len()]);

impl Mix {
    /// The usual weights in half of all seeds; else some calls are left out and others are more frequent.
    pub fn draw(seed: u64) -> Self {
        let mut random = RandomStream::of(seed, "mix");
        let mut weights = Call::ALL.map(Call::usual_weight);
        if random.chance(50) {
            for weight in &mut weights {
                *weight *= random.pick(&[0, 1, 1, 3]);
            }
            // Every seed has some writes and some reads.
            weights[0] = weights[0].max(5);
            weights[1] = weights[1].max(5);
        }
        Self(weights)
    }

    pub fn pick(&self, random: &mut RandomStream) -> Call {
        let mut place = random.below(self.0.iter().sum());
        for (call, weight) in Call::ALL.into_iter().zip(self.0) {
            if place < weight {
                return call;
            }
            place -= weight;
        }
        unreachable!("the place lies below the sum");
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (call, weight)) in Call::ALL.into_iter().zip(self.0).enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{}:{weight}", call.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_as_often_as_they_weigh() {
        let mut random = RandomStream::of(1, "test");
        let mix = Mix([50, 50, 0, 0, 0, 0, 0]);
        let picked: Vec<Call> = (0..1000).map(|_| mix.pick(&mut random)).collect();
        let puts = picked.iter().filter(|call| **call == Call::Put).count();
        assert!((400..600).contains(&puts), "{puts}");
        assert!(picked.iter().all(|call| [Call::Put, Call::Get].contains(call)));
    }

    #[test]
    fn every_call_is_left_out_by_some_seed_and_none_by_all() {
        for place in 2..Call::ALL.len() {
            let weights: Vec<u64> = (0..50).map(|seed| Mix::draw(seed).0[place]).collect();
            assert!(weights.contains(&0) && weights.iter().any(|weight| *weight > 0));
        }
    }
}
