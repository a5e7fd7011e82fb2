//! A storage that counts what it is asked to make durable: how often, how many bytes, and how long the device took.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use unlatched::internals::Storage;

use super::wrapped::wrap;

/// What was counted so far. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Syncs>>);

/// What a tally held at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syncs {
    /// Syncs of a segment's range that returned successfully.
    pub count: u64,
    /// Bytes of those ranges.
    pub bytes: u64,
    /// Bytes behind everything that had been synced of their file before: what a log has grown by.
    pub new_bytes: u64,
    /// Time that the syncs took.
    pub time: Duration,
}

impl Syncs {
    /// Returns what was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count - earlier.count,
            bytes: self.bytes - earlier.bytes,
            new_bytes: self.new_bytes - earlier.new_bytes,
            time: self.time.saturating_sub(earlier.time),
        }
    }

    /// Returns the mean of something that was added up over all syncs, if there was one.
    #[must_use]
    pub fn mean(self, sum: f64) -> Option<f64> {
        (self.count > 0).then(|| sum / self.count as f64)
    }
}

impl Tally {
    /// Returns the counts.
    #[must_use]
    pub fn now(&self) -> Syncs {
        *lock(&self.0)
    }

    /// Returns a storage that is `storage`, counted.
    #[must_use]
    pub fn count(&self, storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
        let tally = self.clone();
        let ends = Mutex::new(BTreeMap::<u64, usize>::new());
        wrap(
            storage,
            Arc::new(move |file, bytes, sync| {
                let begun = Instant::now();
                sync()?;
                let took = begun.elapsed();
                let mut ends = lock(&ends);
                let end = ends.entry(file).or_default();
                let new_bytes = bytes.end.saturating_sub(bytes.start.max(*end));
                *end = bytes.end.max(*end);
                tally.note(bytes.len(), new_bytes, took);
                Ok(())
            }),
        )
    }

    fn note(&self, bytes: usize, new_bytes: usize, took: Duration) {
        let mut syncs = lock(&self.0);
        syncs.count += 1;
        syncs.bytes += bytes as u64;
        syncs.new_bytes += new_bytes as u64;
        syncs.time += took;
    }
}

/// Nothing that may panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use unlatched::internals::SimDisk;
    use unlatched::{Database, RunId};

    use super::*;

    // Goal: one thread's strict put is one sync, and the bytes that it adds to the log are known. Method: ten of them, of
    // the same length.
    #[test]
    fn every_strict_put_of_one_thread_is_one_sync_of_its_bytes() {
        let tally = Tally::default();
        let storage = tally.count(Arc::new(SimDisk::new().open().expect("nobody has it open")));
        let database = Database::builder().storage(storage).segment_bytes(64 << 10);
        let database = database.background(false).open().expect("an empty disk opens");
        let mut before = tally.now();
        let mut grown = Vec::new();
        for number in 0..10_u8 {
            let put = database.put(RunId::from_bytes([1; 16]), [number], [number]);
            put.expect("there is room");
            let syncs = tally.now().since(before);
            before = tally.now();
            assert_eq!(syncs.count, 1);
            assert!(syncs.bytes >= syncs.new_bytes);
            grown.push(syncs.new_bytes);
        }
        assert!(grown.iter().all(|bytes| *bytes == grown[0]), "{grown:?}");
        assert!(grown[0] >= 128, "a record and a marker: {grown:?}");
        assert_eq!(Syncs::default().mean(1.0), None);
    }
}
