//! The machine's own ceiling: how much threads that share nothing gain from one another's company.
//!
//! Each thread overwrites values in a hash table of its own, over 24-byte keys made beforehand, walked in a premade
//! order: the same shape and about the same footprint as a put, and not one byte shared. What T such threads do,
//! divided by what one does while the other processors run the same loop, is the most that any engine can scale by
//! here; caches, memory channels, sibling threads and the clock's boost are all in it.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::hint::black_box;
use std::num::NonZeroUsize;

use rustc_hash::FxHashMap;

use super::threads::{Outcome, Plan, Work, run};
use crate::workload::random::Random;
use crate::workload::{KEY_BYTES, KeySet, Stream};

/// A private table and the order in which its keys are overwritten.
pub struct PrivateLoop {
    table: FxHashMap<[u8; KEY_BYTES], u64>,
    keys: Vec<[u8; KEY_BYTES]>,
    stream: Stream,
    next_value: u64,
}

impl PrivateLoop {
    /// Makes a loop over `keys` keys (at least one), all present.
    #[must_use]
    pub fn new(keys: usize, seed: u64) -> Self {
        let names = KeySet::new(keys.max(1), seed);
        let keys: Vec<_> = (0..names.len()).map(|index| names.array(index)).collect();
        let table = keys.iter().map(|key| (*key, 0)).collect();
        let stream = Stream::uniform(keys.len(), &mut Random::new(seed));
        Self {
            table,
            keys,
            stream,
            next_value: 0,
        }
    }
}

impl std::fmt::Debug for PrivateLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateLoop")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Work for PrivateLoop {
    type Report = u64;

    fn run(&mut self, operations: u64) {
        for _ in 0..operations {
            let key = &self.keys[self.stream.advance()];
            self.next_value += 1;
            if let Some(value) = self.table.get_mut(key) {
                *value = black_box(self.next_value);
            }
        }
    }

    fn finish(self) -> u64 {
        self.next_value
    }
}

/// Runs one slice of private loops, `keys_per_thread` keys each: one sample of the ceiling.
pub fn ceiling(plan: &Plan, threads: NonZeroUsize, keys_per_thread: usize, seed: u64) -> Outcome<u64> {
    let Ok(outcome) = run(plan, threads, |thread| {
        Ok::<_, Infallible>(PrivateLoop::new(keys_per_thread, seed ^ thread as u64))
    });
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_loops_do_what_they_are_told() {
        let outcome = ceiling(&Plan::counted(1_000), NonZeroUsize::MIN.saturating_add(1), 10, 1);
        assert_eq!(outcome.operations(), 2_000);
        assert!(outcome.threads.iter().all(|thread| thread.report == 1_000));
    }
}
