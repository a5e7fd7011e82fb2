//! A store with a log over a simulated disk, for models of what survives.
//!
//! The bytes of the files are no part of a model: they are standard atomics, so that a sync costs no steps. What a model
//! explores is who sees whose place, timestamp, cut and poison.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use unlatched::internals::{
    Beginning, Clock, Fault, FaultPlan, Log, PAGE_BYTES, Recorder, Recovered, Refused, SimDisk, SimStorage, Survivors,
    TICK, Write, recover,
};
use unlatched::{Error, Result, Timestamp};

use crate::store::{ModelStore, Shared, key, new_store};

/// Bytes of a value whose record takes four units, which is what a segment of a model has for records.
const LONG: usize = 180;

/// A store and its log, shared by a model's threads.
pub struct Durable<C: Clock> {
    /// The store.
    pub store: Shared<C>,
    log: Option<Arc<Log>>,
    /// The disk under it.
    pub disk: SimDisk,
}

impl<C: Clock> Clone for Durable<C> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            log: self.log.clone(),
            disk: self.disk.clone(),
        }
    }
}

impl<C: Clock> Drop for Durable<C> {
    fn drop(&mut self) {
        let log = self.log.take();
        if std::thread::panicking() {
            // As for a store.
            std::mem::forget(log);
        }
    }
}

impl<C: Clock> Durable<C> {
    /// Returns an empty store with an empty log.
    pub fn new() -> Self {
        let beginning = Beginning {
            log: 1,
            next_segment: 1,
            last: Timestamp::ABSENT,
            clock: Timestamp::from_raw(TICK),
            kept: Vec::new(),
        };
        let disk = SimDisk::new();
        let storage = disk.open().expect("nobody else has it");
        Self::begin(new_store::<C>(), disk, storage, beginning)
    }

    /// Opens what a crash has left, and goes on from there. The disk is this life's alone.
    pub fn reopen(disk: SimDisk) -> Self {
        let store = new_store::<C>();
        let storage = disk.open().expect("the crash has freed the lock");
        let (recovered, writes) = read(&storage);
        for number in 0..3 {
            for (bytes, value, timestamp) in &writes {
                if bytes == key(number).as_bytes() {
                    store.restore(&key(number), value.as_deref(), *timestamp);
                }
            }
        }
        store.end_restoration(recovered.clock);
        let beginning = Beginning {
            log: recovered.log.unwrap_or(1),
            next_segment: recovered.next_segment,
            last: recovered.cut,
            clock: recovered.clock,
            kept: recovered.segments,
        };
        Self::begin(store, disk, storage, beginning)
    }

    fn begin(store: Shared<C>, disk: SimDisk, storage: SimStorage, beginning: Beginning) -> Self {
        let log = Log::begin(Arc::new(storage), 2 * PAGE_BYTES, beginning).expect("an empty disk has room");
        store.advance_durable_cut(log.durable_cut());
        Self {
            store,
            log: Some(Arc::new(log)),
            disk,
        }
    }

    /// Lets the next sync fail.
    pub fn fail_next_sync(&self) {
        let next = self.disk.tally().syncs + 1;
        self.disk.follow(FaultPlan::new().fail_sync(next, Fault::Io));
    }

    /// Returns the log.
    pub fn log(&self) -> &Log {
        self.log.as_ref().expect("taken when dropped only")
    }

    /// Returns the store.
    pub fn store(&self) -> &ModelStore<C> {
        &self.store
    }

    /// Writes a value with a record; returns its timestamp. It is decided and not durable yet.
    pub fn put(&self, number: u8, value: u8) -> Result<Timestamp> {
        let fill = |bytes: &mut [u8]| bytes[0] = value;
        let mut recorder = Recorder::new(self.log());
        self.store.put_enlisted(&key(number), 1, fill, &mut recorder)
    }

    /// Writes a value with a record that takes all units of a segment.
    pub fn put_long(&self, number: u8, value: u8) -> Result<Timestamp> {
        let fill = |bytes: &mut [u8]| bytes.fill(value);
        let mut recorder = Recorder::new(self.log());
        self.store.put_enlisted(&key(number), LONG, fill, &mut recorder)
    }

    /// Writes a value with a record if the key's newest commit is `expected`; `Ok(None)` if it is another.
    pub fn compare_and_put(&self, number: u8, expected: Timestamp, value: u8) -> Result<Option<Timestamp>> {
        let fill = |bytes: &mut [u8]| bytes[0] = value;
        let mut recorder = Recorder::new(self.log());
        let swapped = self
            .store
            .compare_and_put_enlisted(&key(number), expected, 1, fill, &mut recorder);
        match swapped {
            Ok(timestamp) => Ok(Some(timestamp)),
            Err(Refused::Judged(_)) => Ok(None),
            Err(Refused::NoRecord(error)) => Err(error),
        }
    }

    /// Deletes a key with a record; returns its timestamp.
    pub fn delete(&self, number: u8) -> Result<Timestamp> {
        let mut recorder = Recorder::new(self.log());
        let deleted = self.store.delete_enlisted(&key(number), true, &mut recorder)?;
        Ok(deleted.timestamp)
    }

    /// Commits a transaction with a record, that reads nothing; `None` deletes. `Ok(None)` is a conflict.
    pub fn commit(&self, writes: &[(u8, Option<u8>)]) -> Result<Option<Timestamp>> {
        let writes = writes.iter().map(|(number, value)| Write {
            key: key(*number),
            value: value.map(|value| Box::from([value])),
        });
        let writes: Vec<Write> = writes.collect();
        let snapshot = self.store.open_snapshot();
        let mut recorder = Recorder::new(self.log());
        let committed = self.store.commit_enlisted(&snapshot, writes.as_slice(), &mut recorder);
        self.store.close_snapshot(&snapshot);
        match committed {
            Ok(timestamp) => Ok(Some(timestamp)),
            Err(Refused::Judged(_)) => Ok(None),
            Err(Refused::NoRecord(error)) => Err(error),
        }
    }

    /// Waits until everything up to `timestamp` is durable.
    pub fn wait(&self, timestamp: Timestamp) -> Result<()> {
        self.log().wait(timestamp, self.store())
    }

    /// Makes everything durable that is committed.
    pub fn flush(&self) -> Result<()> {
        self.log().flush(self.store())
    }

    /// Runs `body` on a loom thread of its own.
    pub fn spawn<T: 'static>(&self, body: impl FnOnce(&Self) -> T + 'static) -> loom::thread::JoinHandle<T> {
        let durable = self.clone();
        loom::thread::spawn(move || body(&durable))
    }
}

/// Says whether an error is that of a poisoned log.
pub fn is_poison(error: &Error) -> bool {
    matches!(error, Error::Poisoned { .. })
}

/// A write that recovery hands out.
type Written = (Vec<u8>, Option<Vec<u8>>, Timestamp);

/// Recovers what a storage holds.
fn read(storage: &SimStorage) -> (Recovered, Vec<Written>) {
    let writes = Mutex::new(Vec::new());
    let recovered = recover(storage, TICK, None, &|_| (), &|key, value, timestamp| {
        let write = (key.to_vec(), value.map(<[u8]>::to_vec), timestamp);
        writes.lock().expect("nobody panics while holding it").push(write);
    });
    let recovered = recovered.expect("whatever a crash leaves can be recovered");
    (recovered, writes.into_inner().expect("nobody panics while holding it"))
}

/// What a crash has left.
pub struct Remains {
    /// The cut that recovery restored.
    pub cut: Timestamp,
    /// The durable cut when the power failed.
    acknowledged: Timestamp,
    state: BTreeMap<Vec<u8>, (Option<u8>, Timestamp)>,
}

impl Remains {
    /// Lets the power fail now, and recovers what then survives. The disk itself goes on.
    pub fn of<C: Clock>(durable: &Durable<C>, survivors: Survivors) -> Self {
        let acknowledged = durable.log().durable_cut();
        Self::on(&durable.disk.crash(&survivors), acknowledged)
    }

    /// Lets the power fail now, and recovers what then survives, for every subset of what may.
    pub fn all<C: Clock>(durable: &Durable<C>) -> Vec<Self> {
        let acknowledged = durable.log().durable_cut();
        let disks = durable.disk.crashes();
        disks.iter().map(|disk| Self::on(disk, acknowledged)).collect()
    }

    /// Recovers what is on a disk.
    pub fn on(after: &SimDisk, acknowledged: Timestamp) -> Self {
        let storage = after.open().expect("the crash has freed the lock");
        let (recovered, writes) = read(&storage);
        let mut state: BTreeMap<Vec<u8>, (Option<u8>, Timestamp)> = BTreeMap::new();
        for (key, value, timestamp) in writes {
            let entry = state.entry(key).or_default();
            assert_ne!(entry.1, timestamp, "two writes of a key never share a timestamp");
            if entry.1 < timestamp {
                *entry = (value.map(|bytes| bytes[0]), timestamp);
            }
        }
        Self {
            cut: recovered.cut,
            acknowledged,
            state,
        }
    }

    /// Returns the value that was restored.
    pub fn get(&self, number: u8) -> Option<u8> {
        self.state.get(key(number).as_bytes())?.0
    }

    /// Returns the commit timestamp of the write that was restored.
    pub fn timestamp(&self, number: u8) -> Option<Timestamp> {
        self.state.get(key(number).as_bytes()).map(|restored| restored.1)
    }

    /// Checks that a key is as a snapshot at the restored cut sees it, when nothing of it has been pruned; and that the cut
    /// covers what was durable. (Cuts that cover nothing new leave no trace.)
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn check<C: Clock>(&self, durable: &Durable<C>, number: u8) {
        let timestamps = durable.store.timestamps(&key(number));
        let expected = timestamps.iter().copied().find(|timestamp| *timestamp <= self.cut);
        let durable = timestamps.into_iter().find(|timestamp| *timestamp <= self.acknowledged);
        assert!(self.timestamp(number) >= durable, "what is durable survives");
        assert_eq!(
            self.timestamp(number),
            expected,
            "recovered is what a snapshot at the cut sees"
        );
    }
}
