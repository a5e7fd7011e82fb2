//! A view of the whole database at one moment, and ordered scans over it.
//!
//! A snapshot keeps the *versions* it can see from being pruned for as long as it is open; it pins no memory between
//! calls. A scan fetches its records in batches and is pinned only while it fetches, so a slow consumer holds back
//! neither writers nor reclamation.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Bound, RangeBounds};

use crate::commit::{Engine, check_key};
use crate::error::Result;
use crate::mvcc::{Direction, KeyBounds, OpenSnapshot, Scanned};
use crate::types::{Key, RunId, Timestamp, TypeTag};

/// Records that a scan fetches while pinned once.
const SCAN_BATCH: usize = 64;

/// The database as it was when this was opened, however long ago that is.
///
/// Reads through it never wait, never fail for contention and always repeat. Dropping it closes it; it may be moved
/// to another thread before. While it is open, every key keeps the version that it sees.
///
/// ```
/// # use unlatched::{Database, RunId};
/// let database = Database::in_memory()?;
/// let run = RunId::new();
/// database.put(run, "a", "1")?;
/// let snapshot = database.snapshot()?;
/// database.put(run, "a", "2")?;
/// database.put(run, "b", "2")?;
/// assert_eq!(snapshot.get(run, "a")?.as_deref(), Some(&b"1"[..]));
/// assert_eq!(snapshot.prefix(run, b"").count(), 1);
/// # Ok::<(), unlatched::Error>(())
/// ```
pub struct Snapshot<'db> {
    engine: &'db Engine,
    open: OpenSnapshot,
}

impl<'db> Snapshot<'db> {
    pub(crate) fn new(engine: &'db Engine) -> Self {
        Self {
            engine,
            open: engine.store().open_snapshot(),
        }
    }

    /// Returns the read timestamp: commits up to it are seen.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.open.timestamp()
    }

    pub(crate) fn raw(&self) -> &OpenSnapshot {
        &self.open
    }

    /// Returns a copy of a key's value. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`](crate::Error::EmptyKey), [`Error::KeyTooLong`](crate::Error::KeyTooLong), or
    /// [`Error::Closed`](crate::Error::Closed) after shutdown.
    pub fn get(&self, run: impl Borrow<RunId>, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_with(run, key, |value, _| value.to_vec())
    }

    /// Reads a key's value where it lies, under a guard: `read` gets the bytes and their commit timestamp. O(log n), no
    /// allocation.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    #[inline]
    pub fn get_with<T>(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8], Timestamp) -> T,
    ) -> Result<Option<T>> {
        self.get_tagged(run.borrow(), TypeTag::Raw, key.as_ref(), read)
    }

    /// Returns copies of several keys' values, in the order of `keys`, all of this one moment.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn get_many<K: AsRef<[u8]>>(&self, run: impl Borrow<RunId>, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get(run.borrow(), key)).collect()
    }

    /// Returns a run's records with keys in `keys`, ascending, or from the back descending.
    ///
    /// ```
    /// # use unlatched::{Database, RunId};
    /// # let database = Database::in_memory()?;
    /// # let run = RunId::new();
    /// for key in ["a", "b", "c", "d"] {
    ///     database.put(run, key, "")?;
    /// }
    /// let snapshot = database.snapshot()?;
    /// let from_b: Vec<_> = snapshot.range(run, b"b".to_vec()..).map(|(key, _)| key).collect();
    /// assert_eq!(from_b, [b"b", b"c", b"d"]);
    /// let (last, _) = snapshot.range(run, ..).next_back().expect("four keys");
    /// assert_eq!(last, b"d");
    /// # Ok::<(), unlatched::Error>(())
    /// ```
    pub fn range(&self, run: impl Borrow<RunId>, keys: impl RangeBounds<Vec<u8>>) -> Scan<'_> {
        let run = run.borrow();
        let encode = |key: &Vec<u8>| Key::new(run, TypeTag::Raw, key);
        let (first, end) = whole(run, TypeTag::Raw, b"");
        let from = match keys.start_bound() {
            Bound::Included(key) => Bound::Included(encode(key)),
            Bound::Excluded(key) => Bound::Excluded(encode(key)),
            Bound::Unbounded => first,
        };
        let to = match keys.end_bound() {
            Bound::Included(key) => Bound::Included(encode(key)),
            Bound::Excluded(key) => Bound::Excluded(encode(key)),
            Bound::Unbounded => end,
        };
        Scan::new(self, (from, to))
    }

    /// Returns a run's records whose keys start with `prefix`, ascending, or from the back descending.
    pub fn prefix(&self, run: impl Borrow<RunId>, prefix: &[u8]) -> Scan<'_> {
        self.scan_tagged(run.borrow(), TypeTag::Raw, prefix)
    }

    #[inline]
    pub(crate) fn get_tagged<T>(
        &self,
        run: &RunId,
        tag: TypeTag,
        key: &[u8],
        read: impl FnOnce(&[u8], Timestamp) -> T,
    ) -> Result<Option<T>> {
        self.engine.check_open()?;
        check_key(key)?;
        Ok(self
            .engine
            .store()
            .get_at(&Key::new(run, tag, key), self.timestamp(), read))
    }

    pub(crate) fn scan_tagged(&self, run: &RunId, tag: TypeTag, prefix: &[u8]) -> Scan<'_> {
        Scan::new(self, whole(run, tag, prefix))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.engine.store().close_snapshot(&self.open);
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("timestamp", &self.timestamp())
            .finish_non_exhaustive()
    }
}

/// Returns the bounds of all keys with a prefix.
fn whole(run: &RunId, tag: TypeTag, prefix: &[u8]) -> KeyBounds {
    let first = Key::new(run, tag, prefix);
    let end = first.prefix_end().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(first), end)
}

/// Records of a snapshot in key order; consumed from the front, from the back, or from both.
///
/// A scan of an open snapshot goes on after a shutdown: what it reads is still there. Yields the user's key and a copy
/// of the value. O(log n) per batch of some dozens of records, O(1) per record.
pub struct Scan<'s> {
    snapshot: &'s Snapshot<'s>,
    /// What is not fetched yet.
    bounds: KeyBounds,
    /// Fetched from the front, ascending.
    front: VecDeque<Scanned>,
    /// Fetched from the back, descending.
    back: VecDeque<Scanned>,
    /// Nothing is left to fetch.
    exhausted: bool,
}

impl<'s> Scan<'s> {
    fn new(snapshot: &'s Snapshot<'s>, bounds: KeyBounds) -> Self {
        // An inverted range is empty; some indexes refuse it.
        let exhausted = match (&bounds.0, &bounds.1) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        Self {
            snapshot,
            bounds,
            front: VecDeque::new(),
            back: VecDeque::new(),
            exhausted,
        }
    }

    /// Fetches batches from one end until something is there or nothing is left.
    fn fetch(&mut self, direction: Direction) {
        let buffer = match direction {
            Direction::Ascending => &mut self.front,
            Direction::Descending => &mut self.back,
        };
        let mut records = Vec::new();
        while buffer.is_empty() && !self.exhausted {
            let bounds = (self.bounds.0.as_ref(), self.bounds.1.as_ref());
            let (store, at) = (self.snapshot.engine.store(), self.snapshot.timestamp());
            let last = store.scan(bounds, direction, at, SCAN_BATCH, &mut records);
            buffer.extend(records.drain(..).map(|(key, value)| (key.user_key().to_vec(), value)));
            match (last, direction) {
                (None, _) => self.exhausted = true,
                (Some(key), Direction::Ascending) => self.bounds.0 = Bound::Excluded(key),
                (Some(key), Direction::Descending) => self.bounds.1 = Bound::Excluded(key),
            }
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Scanned;

    fn next(&mut self) -> Option<Scanned> {
        self.fetch(Direction::Ascending);
        self.front.pop_front().or_else(|| self.back.pop_back())
    }
}

impl DoubleEndedIterator for Scan<'_> {
    fn next_back(&mut self) -> Option<Scanned> {
        self.fetch(Direction::Descending);
        self.back.pop_front().or_else(|| self.front.pop_back())
    }
}

impl std::iter::FusedIterator for Scan<'_> {}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}
