//! What a thread writes, number by number, and so what must be there after any number of its writes.
//!
//! A script is a run and a fixed order of puts, deletes and transactions over a few keys. Number `n` writes the value `n`,
//! and which keys it writes how follows from `n` alone. So whatever a crash leaves of a run is either what the first `n`
//! writes leave, for one `n`, or something that no moment of the run's history looked like.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

use unlatched::{Durability, RunId};

use super::run_id;
use crate::engines::EngineError;
use crate::engines::durable::Durable;

/// The contents of a run.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// One write of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Put(u64),
    Delete(u64),
    /// Both keys of a pair, in one transaction.
    Pair(u64),
}

/// What one thread writes.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    run: RunId,
    keys: u64,
}

impl Script {
    /// The script of thread `thread`, over `keys` keys and as many pairs; no other thread writes its run.
    #[must_use]
    pub fn new(seed: u64, thread: usize, keys: u64) -> Self {
        Self {
            run: run_id(seed, thread),
            keys: keys.max(1),
        }
    }

    /// Does write number `number`, counted from one.
    ///
    /// # Errors
    ///
    /// What the engine refused.
    pub fn write<D: Durable>(&self, engine: &D, number: u64, durability: Durability) -> Result<(), EngineError> {
        let value = number.to_le_bytes();
        match self.nth(number) {
            Write::Put(key) => engine.put_as(&self.run, &single(key), &value, durability),
            Write::Delete(key) => engine.delete_as(&self.run, &single(key), durability).map(drop),
            Write::Pair(key) => {
                let [first, second] = pair(key);
                engine.transact_as(&self.run, &[&first, &second], &value, durability)
            }
        }
    }

    /// Says whether what an engine holds of the run is what its first `n` writes leave, for one `n` of `possible`: which.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn find<D: Durable>(&self, engine: &D, possible: RangeInclusive<u64>) -> Result<u64, String> {
        let mut found = Contents::new();
        engine
            .visit(&self.run, &mut |key, value| {
                found.insert(key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            })
            .map_err(|error| error.to_string())?;
        self.explain(&found, possible)
    }

    fn explain(&self, found: &Contents, possible: RangeInclusive<u64>) -> Result<u64, String> {
        let mut contents = Contents::new();
        let mut at_least = None;
        for number in 0..=*possible.end() {
            self.apply(number, &mut contents);
            if number < *possible.start() {
                continue;
            }
            if contents == *found {
                return Ok(number);
            }
            at_least.get_or_insert_with(|| contents.clone());
        }
        let (from, to) = possible.into_inner();
        let differs = at_least.map_or_else(String::new, |expected| difference(&expected, found));
        Err(format!(
            "of {from} acknowledged writes of a run, and at most {to} made, what is there is no state: {differs}"
        ))
    }

    /// Changes what the writes before `number` left to what it leaves; number zero leaves nothing.
    fn apply(&self, number: u64, contents: &mut Contents) {
        if number == 0 {
            return;
        }
        let value = number.to_le_bytes().to_vec();
        match self.nth(number) {
            Write::Put(key) => {
                contents.insert(single(key), value);
            }
            Write::Delete(key) => {
                contents.remove(&single(key));
            }
            Write::Pair(key) => {
                contents.extend(pair(key).map(|key| (key, value.clone())));
            }
        }
    }

    fn nth(&self, number: u64) -> Write {
        // Kinds and keys go round with different periods, so that every key sees every kind.
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.keys;
        match number % 7 {
            2 | 5 => Write::Pair(key),
            3 => Write::Delete(key),
            _ => Write::Put(key),
        }
    }
}

fn single(key: u64) -> Vec<u8> {
    format!("single-{key:017}").into_bytes()
}

fn pair(key: u64) -> [Vec<u8>; 2] {
    [1, 2].map(|half| format!("pair-{half}-{key:017}").into_bytes())
}

/// Names the first key on which two contents differ.
fn difference(expected: &Contents, found: &Contents) -> String {
    let keys = expected.keys().chain(found.keys());
    let differs = keys.min_by_key(|key| (expected.get(*key) == found.get(*key), key.len()));
    let shown = |contents: &Contents, key: &Vec<u8>| {
        contents.get(key).map_or_else(
            || "nothing".to_owned(),
            |value| match value.as_slice().try_into() {
                Ok(bytes) => format!("the value of write {}", u64::from_le_bytes(bytes)),
                Err(_) => "what nobody wrote".to_owned(),
            },
        )
    };
    differs.map_or_else(String::new, |key| {
        format!(
            "{} holds {}, and held {} after the last acknowledged one",
            String::from_utf8_lossy(key),
            shown(found, key),
            shown(expected, key)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(script: &Script, writes: u64) -> Contents {
        let mut contents = Contents::new();
        (0..=writes).for_each(|number| script.apply(number, &mut contents));
        contents
    }

    // Goal: every state is told from every other, and what no state is, is refused. Method: all of a short history, then
    // states with one key lost, one taken back, half of a pair, and one made up.
    #[test]
    fn what_is_found_is_one_state_of_the_history_or_none() {
        let script = Script::new(1, 0, 5);
        for writes in 0..60 {
            let found = after(&script, writes);
            let number = script
                .explain(&found, writes..=writes + 1)
                .expect("it is the first of the two");
            assert_eq!(after(&script, number), found);
        }
        let (writes, whole) = (40, after(&script, 40));
        let key = whole.keys().next_back().expect("something is left").clone();
        let mut lost = whole.clone();
        lost.remove(&key);
        let mut taken_back = whole.clone();
        taken_back.insert(key.clone(), 1_u64.to_le_bytes().to_vec());
        let mut made_up = whole.clone();
        made_up.insert(b"other".to_vec(), vec![1]);
        let mut torn = whole.clone();
        let [first, _] = pair(key.last().map_or(0, |digit| u64::from(digit - b'0')));
        torn.insert(first, 41_u64.to_le_bytes().to_vec());
        for wrong in [lost, taken_back, made_up, torn, Contents::new(), after(&script, 39)] {
            let why = script
                .explain(&wrong, writes..=writes + 1)
                .expect_err("it is no such state");
            assert!(why.contains("40 acknowledged"), "{why}");
        }
    }

    #[test]
    fn every_key_sees_every_kind() {
        let script = Script::new(1, 0, 6);
        let kinds: std::collections::BTreeSet<String> =
            (1..200).map(|number| format!("{:?}", script.nth(number))).collect();
        assert_eq!(kinds.len(), 3 * 6, "{kinds:?}");
    }
}
