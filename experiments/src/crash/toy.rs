//! A store small enough to be seen to be right, and wrong in one chosen way: what a campaign must find.
//!
//! Everything is behind one lock. A flush writes all that has a record into a new file, syncs the directory and removes
//! the file before it; opening takes the newest whole file.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unlatched::internals::{SimStorage, Storage};
use unlatched::{Durability, Error, Key, RunId, TypeTag};

use super::subject::{Records, Subject};
use super::workload::Settings;
use crate::workload::random::split_mix;

pub(super) const SOUND: u8 = 0;
/// Strict writes are acknowledged before they are flushed.
pub(super) const EARLY_ACKNOWLEDGEMENT: u8 = 1;
/// The directory is never synced.
pub(super) const UNSYNCED_NAMES: u8 = 2;
/// A transaction is recorded in two parts.
pub(super) const TORN_TRANSACTIONS: u8 = 3;
/// What should have no record has one.
pub(super) const RECORDS_EVERYTHING: u8 = 4;
/// Files are believed without a look at their sums.
pub(super) const TRUSTS_FILES: u8 = 5;
/// Opening removes what it has read.
pub(super) const EATS_FILES: u8 = 6;
/// Buffered writes are not held back.
pub(super) const UNBOUNDED: u8 = 7;
/// Some keys are flushed one flush late.
pub(super) const LATE_KEYS: u8 = 8;
/// An error of a flush is forgotten.
pub(super) const FORGETS_ERRORS: u8 = 9;
/// A swap does not compare.
pub(super) const CARELESS_SWAPS: u8 = 10;
/// Panics at a certain value.
pub(super) const PANICS: u8 = 11;

type Map = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

pub(super) struct Toy<const DEFECT: u8> {
    storage: SimStorage,
    state: Mutex<State>,
}

struct State {
    clock: u64,
    latest: Map,
    recorded: Map,
    /// What the last flush wrote.
    flushed: Map,
    file: u64,
    pending: usize,
    cause: Option<Arc<Error>>,
}

impl State {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>, is_recorded: bool) -> u64 {
        self.clock += 1;
        let now = self.clock;
        let put = |map: &mut Map| match value {
            Some(value) => drop(map.insert(key.to_vec(), (value.to_vec(), now))),
            None => drop(map.remove(key)),
        };
        put(&mut self.latest);
        if is_recorded {
            put(&mut self.recorded);
            self.pending += 1;
        }
        now
    }
}

fn file_name(number: u64) -> String {
    format!("cut-{number:020}")
}

fn encode(map: &Map) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, (value, timestamp)) in map {
        for part in [key, value] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&timestamp.to_le_bytes());
    }
    let sum = sum_of(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn sum_of(bytes: &[u8]) -> u64 {
    let add = |sum, byte: &u8| split_mix(sum ^ u64::from(*byte));
    bytes.iter().fold(bytes.len() as u64, add)
}

fn decode(mut bytes: &[u8], trusts: bool) -> Option<Map> {
    let sum = bytes.split_off(bytes.len().checked_sub(8)?..)?;
    if !trusts && sum != sum_of(bytes).to_le_bytes() {
        return None;
    }
    let mut map = Map::new();
    let number = |bytes: &mut &[u8]| {
        let number = bytes.split_off(..8)?;
        Some(u64::from_le_bytes(number.try_into().ok()?))
    };
    let record = |bytes: &mut &[u8]| {
        let length = number(bytes)?;
        let key = bytes.split_off(..usize::try_from(length).ok()?)?;
        let length = number(bytes)?;
        let value = bytes.split_off(..usize::try_from(length).ok()?)?;
        Some((key.to_vec(), (value.to_vec(), number(bytes)?)))
    };
    while !bytes.is_empty() {
        match record(&mut bytes) {
            Some((key, value)) => drop(map.insert(key, value)),
            None if trusts => break,
            None => return None,
        }
    }
    Some(map)
}

impl<const DEFECT: u8> Toy<DEFECT> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(state: &State, durability: Durability) -> Result<bool, Error> {
        match &state.cause {
            Some(cause) if durability != Durability::InMemory => Err(Error::Poisoned {
                cause: Arc::clone(cause),
            }),
            _ => Ok(DEFECT == RECORDS_EVERYTHING || durability != Durability::InMemory),
        }
    }

    fn acknowledge(&self, state: &mut State, durability: Durability) -> Result<(), Error> {
        match durability {
            Durability::Strict if DEFECT == EARLY_ACKNOWLEDGEMENT && state.clock.is_multiple_of(5) => Ok(()),
            Durability::Strict => self.flush_locked(state),
            Durability::Buffered { max_pending_writes, .. }
                if DEFECT != UNBOUNDED && state.pending >= 2 * max_pending_writes =>
            {
                self.flush_locked(state)
            }
            _ => Ok(()),
        }
    }

    fn flush_locked(&self, state: &mut State) -> Result<(), Error> {
        Self::check(state, Durability::Strict)?;
        let flushed = self.write_out(state);
        if let Err(error) = flushed
            && DEFECT != FORGETS_ERRORS
        {
            let cause = Arc::new(error);
            state.cause = Some(Arc::clone(&cause));
            return Err(Error::Poisoned { cause });
        }
        state.pending = 0;
        Ok(())
    }

    fn write_out(&self, state: &mut State) -> Result<(), Error> {
        let mut map = state.recorded.clone();
        if DEFECT == LATE_KEYS {
            map.retain(|key, _| !key.ends_with(b"1") || state.flushed.contains_key(key));
        }
        let bytes = encode(&map);
        state.file += 1;
        let mut parts = bytes.chunks(700).map(|part| Ok(part.to_vec()));
        self.storage.write_file(&file_name(state.file), &mut parts)?;
        if DEFECT != UNSYNCED_NAMES {
            self.storage.sync_directory()?;
        }
        state.flushed.clone_from(&state.recorded);
        let old = file_name(state.file - 1);
        if self.storage.list()?.contains(&old) {
            self.storage.remove(&old)?;
        }
        Ok(())
    }
}

impl<const DEFECT: u8> Subject for Toy<DEFECT> {
    const CHECKPOINTS: bool = true;

    fn open(storage: SimStorage, _: &Settings) -> Result<Self, Error> {
        let mut state = State {
            clock: 1_000_000,
            latest: Map::new(),
            recorded: Map::new(),
            flushed: Map::new(),
            file: 0,
            pending: 0,
            cause: None,
        };
        for name in storage.list()?.iter().rev() {
            let number = name.strip_prefix("cut-").and_then(|number| number.parse().ok());
            state.file = state.file.max(number.unwrap_or(0));
            let mut bytes = vec![0; storage.length(name)? as usize];
            let length = storage.read(name, 0, &mut bytes)?;
            if let Some(map) = decode(&bytes[..length], DEFECT == TRUSTS_FILES) {
                // Found is not yet durable: a process may have been killed before it synced the directory.
                storage.sync_directory()?;
                let newest = map.values().map(|(_, timestamp)| *timestamp).max();
                state.clock = state.clock.max(newest.unwrap_or(0)) + 1_000;
                state.latest.clone_from(&map);
                state.flushed.clone_from(&map);
                state.recorded = map;
                if DEFECT == EATS_FILES {
                    storage.remove(name)?;
                }
                break;
            }
        }
        Ok(Self {
            storage,
            state: Mutex::new(state),
        })
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<u64, Error> {
        let mut state = self.state();
        let is_recorded = Self::check(&state, durability)?;
        assert!(DEFECT != PANICS || value[0] % 16 != 7, "a defect that panics");
        let now = state.write(key, Some(value), is_recorded);
        self.acknowledge(&mut state, durability)?;
        Ok(now)
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<bool, Error> {
        let mut state = self.state();
        let is_recorded = Self::check(&state, durability)?;
        let existed = state.latest.contains_key(key);
        state.write(key, None, is_recorded);
        self.acknowledge(&mut state, durability)?;
        Ok(existed)
    }

    fn swap(&self, key: &[u8], expected: u64, value: &[u8], durability: Durability) -> Result<u64, Error> {
        let mut state = self.state();
        let is_recorded = Self::check(&state, durability)?;
        let actual = state.latest.get(key).map_or(0, |(_, timestamp)| *timestamp);
        if actual != expected && DEFECT != CARELESS_SWAPS {
            return Err(Error::VersionMismatch {
                key: Box::new(Key::new(&RunId::from_bytes([7; 16]), TypeTag::Raw, key)),
                expected: unlatched::Timestamp::from_raw(expected),
                actual: unlatched::Timestamp::from_raw(actual),
            });
        }
        let now = state.write(key, Some(value), is_recorded);
        self.acknowledge(&mut state, durability)?;
        Ok(now)
    }

    fn transact(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)], durability: Durability) -> Result<Vec<bool>, Error> {
        let mut state = self.state();
        let is_recorded = Self::check(&state, durability)?;
        let mut existed = Vec::new();
        for (nth, (key, value)) in writes.iter().enumerate() {
            existed.push(state.latest.contains_key(key));
            state.write(key, value.as_deref(), is_recorded);
            if DEFECT == TORN_TRANSACTIONS && nth == 0 && is_recorded {
                self.flush_locked(&mut state)?;
            }
        }
        // One timestamp for all of it.
        let now = state.clock;
        let State { latest, recorded, .. } = &mut *state;
        for map in [latest, recorded] {
            for (key, value) in writes {
                if let (Some(value), Some(held)) = (value, map.get_mut(key))
                    && held.0 == *value
                {
                    held.1 = now;
                }
            }
        }
        self.acknowledge(&mut state, durability)?;
        Ok(existed)
    }

    fn flush(&self) -> Result<(), Error> {
        self.flush_locked(&mut self.state())
    }

    /// Gives a record to everything that has none.
    fn checkpoint(&self) -> Result<u64, Error> {
        let mut state = self.state();
        Self::check(&state, Durability::Strict)?;
        let recorded = state.latest.clone();
        state.recorded = recorded;
        self.flush_locked(&mut state)?;
        Ok(state.clock)
    }

    fn get(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Error> {
        Ok(self.state().latest.get(key).cloned())
    }

    fn now(&self) -> Result<u64, Error> {
        let mut state = self.state();
        state.clock += 1;
        Ok(state.clock)
    }

    fn scan(&self) -> Result<Records, Error> {
        let state = self.state();
        let records = state
            .latest
            .iter()
            .map(|(key, (value, _))| (key.clone(), value.clone()));
        Ok(records.collect())
    }

    fn shut_down(&self) -> Result<(), Error> {
        self.flush_locked(&mut self.state())
    }
}
