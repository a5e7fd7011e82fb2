//! Drives the bytes of a durable engine: overwrites of uniform keys with values of any length, each with a durability of its
//! own, checked like any other slice.
//!
//! Keys belong to threads in turn: of `threads`, thread `t` overwrites those whose index is `t` modulo `threads`. A
//! value begins with a number that no other operation of any slice puts, so that after the slice every key must hold
//! the value that its one writer put last.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use unlatched::{Durability, RunId};

use super::drive::latency_histogram;
use super::random::{Random, split_mix};
use super::{KeySet, Stream, run_id};
use crate::disk::counted::Tally;
use crate::disk::place::Place;
use crate::engines::EngineError;
use crate::engines::durable::Durable;
use crate::harness::threads::Work;

/// Bytes of the number that a value begins with.
const NUMBER_BYTES: usize = size_of::<u64>();

/// Strict puts from which the bytes of one are learned, and the length of the segments that they go to: all fit into one.
const SAMPLE_PUTS: u64 = 16;
const SAMPLE_SEGMENT_BYTES: usize = 1 << 20;

/// What is put, and how.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How long values are, in bytes: at least eight.
    pub value_bytes: usize,
    /// What each put promises.
    pub durability: Durability,
    /// Whether each put is timed by itself.
    pub timed: bool,
}

/// Which keys are a thread's.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The thread.
    pub thread: usize,
    /// Of how many.
    pub threads: usize,
}

/// One thread's puts.
pub struct Puts<'e, D> {
    engine: &'e D,
    run: RunId,
    keys: &'e KeySet,
    stream: Stream,
    part: Part,
    manner: Manner,
    value: Vec<u8>,
    /// The number put last.
    number: u64,
    first: u64,
    /// The number put last under each of its keys in this slice, zero if none was.
    last: Vec<u64>,
    latency: Option<Histogram<u64>>,
    error: Option<EngineError>,
}

/// What a thread did.
#[derive(Debug)]
pub struct Put {
    /// Puts, the warm-up's among them.
    pub operations: u64,
    /// The time of each put after the warm-up, if they were timed.
    pub latency: Option<Histogram<u64>>,
    /// What went wrong first, or what is not there.
    pub wrong: Option<String>,
}

impl<'e, D: Durable> Puts<'e, D> {
    /// Puts to a thread's part of the keys of `run`, which are there. Give a seed that no other slice or side has.
    ///
    /// # Panics
    ///
    /// If a thread would have no key.
    #[must_use]
    pub fn new(engine: &'e D, run: RunId, keys: &'e KeySet, part: Part, manner: Manner, seed: u64) -> Self {
        assert!(
            part.thread < part.threads && part.threads <= keys.len(),
            "every thread has a key"
        );
        let own = (keys.len() - part.thread).div_ceil(part.threads);
        let thread_seed = split_mix(seed ^ split_mix(part.thread as u64 + 1));
        Self {
            engine,
            run,
            keys,
            stream: Stream::uniform(own, &mut Random::new(thread_seed)),
            part,
            value: vec![0; manner.value_bytes.max(NUMBER_BYTES)],
            // Halved, so that counting on does not reach zero again.
            number: thread_seed >> 1,
            first: thread_seed >> 1,
            last: vec![0; own],
            latency: manner.timed.then(latency_histogram),
            manner,
            error: None,
        }
    }

    /// Puts a value under every key of a run, so that there is something to overwrite.
    ///
    /// # Errors
    ///
    /// What the engine refused.
    pub fn load(engine: &D, run: RunId, keys: &KeySet, manner: Manner) -> Result<(), EngineError> {
        let value = vec![0; manner.value_bytes.max(NUMBER_BYTES)];
        (0..keys.len()).try_for_each(|key| engine.put_as(&run, keys.bytes(key), &value, manner.durability))
    }

    #[inline]
    fn put(&mut self) -> Result<(), EngineError> {
        let own = self.stream.advance();
        self.number += 1;
        self.value[..NUMBER_BYTES].copy_from_slice(&self.number.to_le_bytes());
        let key = self.keys.bytes(own * self.part.threads + self.part.thread);
        match &mut self.latency {
            None => self
                .engine
                .put_as(&self.run, key, &self.value, self.manner.durability)?,
            Some(latency) => {
                let begun = Instant::now();
                self.engine
                    .put_as(&self.run, key, &self.value, self.manner.durability)?;
                // Longer than a minute is a minute.
                latency.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }
        self.last[own] = self.number;
        Ok(())
    }

    /// Compares what is there with what was put.
    fn check(&self) -> Result<(), String> {
        let mut found = Vec::new();
        for (own, number) in self.last.iter().enumerate().filter(|(_, number)| **number > 0) {
            let key = own * self.part.threads + self.part.thread;
            let is_there = self.engine.get_bytes(&self.run, self.keys.bytes(key), &mut found);
            let is_there = is_there.map_err(|error| error.to_string())?;
            let is_last = found.len() == self.value.len() && found[..NUMBER_BYTES] == number.to_le_bytes();
            if !is_there || !is_last {
                return Err(format!("lost update: key {key} does not hold what was put last"));
            }
        }
        Ok(())
    }
}

impl<D: Durable> Work for Puts<'_, D> {
    type Report = Put;

    fn run(&mut self, operations: u64) {
        for _ in 0..operations {
            if self.error.is_some() {
                return;
            }
            self.error = self.put().err();
        }
    }

    fn warmed_up(&mut self) {
        if let Some(latency) = &mut self.latency {
            latency.reset();
        }
    }

    fn finish(self) -> Put {
        let wrong = match &self.error {
            Some(error) => Some(error.to_string()),
            None => self.check().err(),
        };
        Put {
            operations: self.number - self.first,
            latency: self.latency,
            wrong,
        }
    }
}

/// Returns how many bytes a strict put of one thread adds to the log, record and marker together: what a bare write has to
/// write to be compared with it. It is learned by counting, in a directory under `parent`.
///
/// # Errors
///
/// What the engine refused.
pub fn bytes_of_a_put<D: Durable>(parent: &Path, value_bytes: usize) -> Result<usize, EngineError> {
    let tally = Tally::default();
    let counting = tally.clone();
    let place = Place::positioned(parent)?.through(Arc::new(move |storage| counting.count(storage)));
    let engine = D::open_at(&place.segment_bytes(SAMPLE_SEGMENT_BYTES), Durability::Strict)?;
    let (names, run) = (KeySet::new(1, 0), run_id(0, 0));
    let value = vec![0; value_bytes.max(NUMBER_BYTES)];
    let before = tally.now();
    for _ in 0..SAMPLE_PUTS {
        engine.put_as(&run, names.bytes(0), &value, Durability::Strict)?;
    }
    let syncs = tally.now().since(before);
    let mean = syncs.mean(syncs.new_bytes as f64);
    Ok(mean.map_or(NUMBER_BYTES, |bytes| bytes.round() as usize))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::num::NonZeroUsize;

    use super::*;
    use crate::engines::broken::Broken;
    use crate::engines::unlatched::Unlatched;
    use crate::harness::threads::{Plan, run};

    fn drive<D: Durable>(value_bytes: usize) -> Vec<Put> {
        let place = Place::simulated(1).segment_bytes(64 << 10);
        let engine = D::open_at(&place, Durability::BUFFERED).expect("an empty disk opens");
        // More than are put, so that nothing is put over a loss.
        let keys = KeySet::new(1_000, 1);
        let manner = Manner {
            value_bytes,
            durability: Durability::BUFFERED,
            timed: true,
        };
        let home = run_id(1, 0);
        Puts::load(&engine, home, &keys, manner).expect("there is room");
        let threads = NonZeroUsize::MIN.saturating_add(2);
        let Ok(outcome) = run(&Plan::counted(300), threads, |thread| {
            let part = Part { thread, threads: 3 };
            Ok::<_, Infallible>(Puts::new(&engine, home, &keys, part, manner, 7))
        });
        outcome.threads.into_iter().map(|thread| thread.report).collect()
    }

    // Goal: a sound engine is not accused and every put is counted and timed; one that loses puts is found out.
    #[test]
    fn puts_are_counted_and_lost_ones_are_found() {
        for value_bytes in [8, 1_000] {
            for put in drive::<Unlatched>(value_bytes) {
                assert_eq!((put.operations, put.wrong), (300, None));
                assert_eq!(put.latency.map(|latency| latency.len()), Some(300));
            }
        }
        let lost = drive::<Broken>(8);
        assert!(
            lost.iter()
                .any(|put| put.wrong.as_deref().is_some_and(|why| why.contains("lost update")))
        );
    }

    // Goal: what is learned grows with the value, by whole units, and holds the value.
    #[test]
    fn bytes_of_a_put_follow_the_value() {
        let parent = std::env::temp_dir();
        let bytes = [8, 1_000].map(|length| bytes_of_a_put::<Unlatched>(&parent, length).expect("there is room"));
        assert!(bytes.iter().all(|bytes| bytes.is_multiple_of(64)), "{bytes:?}");
        assert!(bytes[0] >= 128 && bytes[1] >= bytes[0] + 992 - 64, "{bytes:?}");
    }
}
