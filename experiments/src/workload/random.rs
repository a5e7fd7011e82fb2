//! A small seeded generator: SplitMix64 (Steele, Lea, Flood, 2014), which is enough to shuffle and to fill values.
//!
//! Sequences are part of a result: the same seed must give them on every machine and in every version, so the
//! generator is written out here instead of taken from a crate that may change its own.
#![forbid(unsafe_code)]

/// The odd increment of SplitMix64: 2^64 divided by the golden ratio.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Maps a number to another, mixing all bits; a bijection.
#[inline]
#[must_use]
pub const fn split_mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(INCREMENT);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A sequence of random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts the sequence that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next number.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        let mixed = split_mix(self.state);
        self.state = self.state.wrapping_add(INCREMENT);
        mixed
    }

    /// Returns a number below `bound` (zero if `bound` is), uniform up to a bias of `bound` in 2^64.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// Shuffles in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: sequences never change. Method: the published first outputs of SplitMix64 for seed 1234567.
    #[test]
    fn the_sequence_is_that_of_split_mix_64() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..1_000).collect();
        Random::new(5).shuffle(&mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1_000));
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random::new(9);
        assert!((0..10_000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
    }
}
