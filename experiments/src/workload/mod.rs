//! What the timed loops consume: keys, orders and run names, all made beforehand from a seed.
//!
//! Keys are 24 bytes of text, so that they serve the facade (which takes text) and the layers below (which take
//! bytes) alike. They lie behind one another in one string; slicing it is all that a timed loop does with them.
//! An order is a premade [`Stream`] of indices that repeats; one period holds every key equally often, shuffled, so
//! that an overwrite is uniform and, after the fact, the last value of every key can be worked out from the number
//! of operations alone ([`verify`]).
#![forbid(unsafe_code)]

use unlatched::RunId;

use self::random::{Random, split_mix};

pub mod drive;
pub mod puts;
pub mod random;
pub mod script;
pub mod trace;
pub mod verify;

/// Length of every key in bytes.
pub const KEY_BYTES: usize = 24;

/// Shortest period of a [`Stream`]: short ones would be learned by the branch predictor.
const MIN_PERIOD: usize = 1 << 16;

/// Keys that are all different, of [`KEY_BYTES`] bytes of ASCII text, in no particular order.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    text: String,
}

impl KeySet {
    /// Makes `count` keys. The seed decides their order and spelling.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(count * KEY_BYTES);
        for index in 0..count as u64 {
            // A bijection of the index: different keys, scattered over the order of keys.
            let scattered = split_mix(index ^ seed.rotate_left(32));
            write!(text, "key-{scattered:020}").expect("writing to a string cannot fail");
        }
        debug_assert_eq!(text.len(), count * KEY_BYTES);
        Self { text }
    }

    /// Returns how many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len() / KEY_BYTES
    }

    /// Says whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns a key as text.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    #[inline]
    #[must_use]
    pub fn text(&self, index: usize) -> &str {
        &self.text[index * KEY_BYTES..(index + 1) * KEY_BYTES]
    }

    /// Returns a key as bytes.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    #[inline]
    #[must_use]
    pub fn bytes(&self, index: usize) -> &[u8] {
        &self.text.as_bytes()[index * KEY_BYTES..(index + 1) * KEY_BYTES]
    }

    /// Returns a copy of a key.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn array(&self, index: usize) -> [u8; KEY_BYTES] {
        let mut array = [0; KEY_BYTES];
        array.copy_from_slice(self.bytes(index));
        array
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// An endless order of key indices with a premade period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    period: Vec<u32>,
    next: usize,
}

impl Stream {
    /// Makes an order in which every key below `keys` comes equally often, shuffled anew for each repetition
    /// within the period.
    ///
    /// # Panics
    ///
    /// If `keys` is zero or more than `u32::MAX`.
    #[must_use]
    pub fn uniform(keys: usize, random: &mut Random) -> Self {
        assert!(keys > 0, "a stream needs a key");
        let count = u32::try_from(keys).expect("at most u32::MAX keys");
        let repetitions = MIN_PERIOD.div_ceil(keys);
        let mut period = Vec::with_capacity(repetitions * keys);
        for _ in 0..repetitions {
            let from = period.len();
            period.extend(0..count);
            random.shuffle(&mut period[from..]);
        }
        Self { period, next: 0 }
    }

    /// Makes an order that names one key for ever.
    ///
    /// # Panics
    ///
    /// If `key` is more than `u32::MAX`.
    #[must_use]
    pub fn constant(key: usize) -> Self {
        Self {
            period: vec![u32::try_from(key).expect("at most u32::MAX keys")],
            next: 0,
        }
    }

    /// Returns the next index.
    #[inline]
    pub fn advance(&mut self) -> usize {
        let index = self.period[self.next] as usize;
        self.next += 1;
        if self.next == self.period.len() {
            self.next = 0;
        }
        index
    }

    /// Returns how often the first `operations` indices of a new stream name `key`.
    #[must_use]
    pub fn visits(&self, key: usize, operations: u64) -> u64 {
        let length = self.period.len() as u64;
        let among = |keys: &[u32]| keys.iter().filter(|named| **named as usize == key).count() as u64;
        operations / length * among(&self.period) + among(&self.period[..(operations % length) as usize])
    }

    /// Returns the indices of one period, in the order of a new stream.
    #[must_use]
    pub fn period(&self) -> &[u32] {
        &self.period
    }
}

/// Returns the run of a thread, the same for the same seed.
#[must_use]
pub fn run_id(seed: u64, thread: usize) -> RunId {
    let mut random = Random::new(seed ^ split_mix(thread as u64));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&random.next_u64().to_le_bytes());
    // Version 4, variant 1, so that it prints as the UUID it is.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    RunId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_distinct_text_of_the_stated_length() {
        let keys = KeySet::new(5_000, 3);
        let distinct: HashSet<&str> = (0..keys.len()).map(|index| keys.text(index)).collect();
        assert_eq!(distinct.len(), 5_000);
        assert!(distinct.iter().all(|key| key.len() == KEY_BYTES));
        assert_eq!(keys.text(7).as_bytes(), keys.bytes(7));
        assert_eq!(keys.array(7), keys.bytes(7));
        assert_eq!(keys, KeySet::new(5_000, 3));
        assert_ne!(keys, KeySet::new(5_000, 4));
        assert!(KeySet::new(0, 1).is_empty());
    }

    #[test]
    fn a_uniform_stream_visits_every_key_equally_often_per_period() {
        let mut stream = Stream::uniform(300, &mut Random::new(1));
        let period = stream.period().len();
        assert!(period >= MIN_PERIOD);
        let mut visits = vec![0; 300];
        for _ in 0..period {
            visits[stream.advance()] += 1;
        }
        assert!(visits.iter().all(|&count| count == period / 300));
        for operations in [0, 7, period as u64, 3 * period as u64 + 7] {
            let visits: u64 = (0..300).map(|key| stream.visits(key, operations)).sum();
            assert_eq!(visits, operations);
        }
        assert_eq!(stream.visits(0, period as u64), (period / 300) as u64);
        assert_eq!(
            stream,
            Stream::uniform(300, &mut Random::new(1)),
            "a whole period brings it back"
        );
    }

    #[test]
    fn runs_are_reproducible_and_differ_by_thread() {
        assert_eq!(run_id(1, 0), run_id(1, 0));
        assert_ne!(run_id(1, 0), run_id(1, 1));
        assert_eq!(&run_id(1, 0).to_string()[14..15], "4");
    }
}
