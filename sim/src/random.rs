//! Random numbers from the seed, in streams: each part of a rehearsal draws from its own stream, so that a change in one part
//! does not shift the numbers of another.

/// A stream of random numbers (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct RandomStream(u64);

impl RandomStream {
    /// The stream of this name in the rehearsal with this seed.
    pub fn of(seed: u64, name: &str) -> Self {
        let mut stream = Self(seed ^ fingerprint(name.as_bytes()));
        stream.next();
        stream
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several; there must be one.
    pub fn pick<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        &several[self.below(several.len() as u64) as usize]
    }

    /// Shuffles (Fisher and Yates).
    pub fn shuffle<T>(&mut self, several: &mut [T]) {
        for last in (1..several.len()).rev() {
            several.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// A fingerprint of bytes that does not depend on the platform or process (FNV-1a).
pub fn fingerprint(bytes: &[u8]) -> u64 {
    extend_fingerprint(0xcbf2_9ce4_8422_2325, bytes)
}

/// Extends a fingerprint by these bytes.
pub fn extend_fingerprint(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, name| {
            let mut stream = RandomStream::of(seed, name);
            [stream.next(), stream.next(), stream.below(7)]
        };
        assert_eq!(draw(1, "faults"), draw(1, "faults"));
        assert_ne!(draw(1, "faults"), draw(2, "faults"));
        assert_ne!(draw(1, "faults"), draw(1, "clients"));
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut numbers: Vec<_> = (0..20).collect();
        RandomStream::of(3, "shuffle").shuffle(&mut numbers);
        assert_ne!(numbers, (0..20).collect::<Vec<_>>());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }
}
