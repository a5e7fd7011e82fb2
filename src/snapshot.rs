//! A view of the whole database at one moment, and ordered scans over it.
//!
//! A snapshot keeps the *versions* it can see from being pruned for as long as it is open; it pins no memory between
//! calls. A scan fetches its records in batches and is pinned only while it fetches, so a slow consumer holds back
//! neither writers nor reclamation.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Bound, ControlFlow, RangeBounds};

use crate::commit::{Engine, check_key};
use crate::error::Result;
use crate::mvcc::{Direction, KeyBounds, OpenSnapshot, Scanned};
use crate::types::{Key, RunId, Timestamp, TypeTag, user_key};

/// Keys that a scan looks at while pinned once, if it copies what it finds.
const SCAN_BATCH: usize = 64;

/// Keys that a scan looks at while pinned once, if it shows what it finds where it lies.
const VISIT_BATCH: usize = 1_024;

/// Keys that a scan is taken to look at if nobody knows: the memory of that many is asked for ahead of it.
const EXPECTED_VISITS: usize = 100;

/// What a scan hands out: the user's key and the value.
type Record = (Vec<u8>, Vec<u8>);

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

    /// Opens one at the durable cut.
    pub(crate) fn durable(engine: &'db Engine) -> Self {
        Self {
            engine,
            open: engine.store().open_durable_snapshot(),
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
        let bounds = (
            keys.start_bound().map(Vec::as_slice),
            keys.end_bound().map(Vec::as_slice),
        );
        Scan::new(self, bounds_of(run.borrow(), bounds))
    }

    /// Shows a run's records with keys in `keys` to `visit`, ascending, where they lie, until it breaks: nothing is
    /// copied. `visit` may itself use the database. O(log n), and O(1) for each record; the thread is pinned for up to
    /// about a thousand records at a time.
    ///
    /// ```
    /// # use std::ops::{Bound, ControlFlow};
    /// # use unlatched::{Database, RunId};
    /// # let database = Database::in_memory()?;
    /// # let run = RunId::new();
    /// for key in ["a", "b", "c", "d"] {
    ///     database.put(run, key, "value")?;
    /// }
    /// let (mut bytes, mut count) = (0, 0);
    /// database.snapshot()?.range_with(run, (Bound::Excluded(&b"a"[..]), Bound::Unbounded), |_key, value| {
    ///     (bytes, count) = (bytes + value.len(), count + 1);
    ///     if count < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    /// });
    /// assert_eq!((bytes, count), (10, 2));
    /// # Ok::<(), unlatched::Error>(())
    /// ```
    pub fn range_with<'k>(
        &self,
        run: impl Borrow<RunId>,
        keys: impl RangeBounds<&'k [u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) {
        let bounds = (keys.start_bound().map(|key| *key), keys.end_bound().map(|key| *key));
        let mut bounds = bounds_of(run.borrow(), bounds);
        if is_inverted(&bounds) {
            return;
        }
        let (store, at) = (self.engine.store(), self.timestamp());
        let mut show = |key: &[u8], value: &[u8], _| visit(user_key(key), value);
        while let Scanned::UpTo(last) = store.scan(
            (bounds.0.as_ref(), bounds.1.as_ref()),
            Direction::Ascending,
            at,
            (VISIT_BATCH, Some(EXPECTED_VISITS)),
            &mut show,
        ) {
            bounds.0 = Bound::Excluded(last);
        }
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

/// Returns the encoded bounds of a range of a run's plain keys.
fn bounds_of(run: &RunId, keys: (Bound<&[u8]>, Bound<&[u8]>)) -> KeyBounds {
    let encode = |key: &[u8]| Key::new(run, TypeTag::Raw, key);
    let (first, end) = whole(run, TypeTag::Raw, b"");
    let or = |bound: Bound<&[u8]>, whole| match bound {
        Bound::Included(key) => Bound::Included(encode(key)),
        Bound::Excluded(key) => Bound::Excluded(encode(key)),
        Bound::Unbounded => whole,
    };
    (or(keys.0, first), or(keys.1, end))
}

/// Says whether a range is empty because it ends before it begins; some indexes refuse that.
fn is_inverted(bounds: &KeyBounds) -> bool {
    match (&bounds.0, &bounds.1) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
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
    front: VecDeque<Record>,
    /// Fetched from the back, descending.
    back: VecDeque<Record>,
    /// Nothing is left to fetch.
    exhausted: bool,
}

impl<'s> Scan<'s> {
    fn new(snapshot: &'s Snapshot<'s>, bounds: KeyBounds) -> Self {
        let exhausted = is_inverted(&bounds);
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
        while buffer.is_empty() && !self.exhausted {
            let bounds = (self.bounds.0.as_ref(), self.bounds.1.as_ref());
            let (store, at) = (self.snapshot.engine.store(), self.snapshot.timestamp());
            let end = store.scan(
                bounds,
                direction,
                at,
                (SCAN_BATCH, Some(SCAN_BATCH)),
                |key, value, _| {
                    buffer.push_back((user_key(key).to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                },
            );
            match (end, direction) {
                (Scanned::UpTo(key), Direction::Ascending) => self.bounds.0 = Bound::Excluded(key),
                (Scanned::UpTo(key), Direction::Descending) => self.bounds.1 = Bound::Excluded(key),
                (Scanned::Everything | Scanned::UntilBreak, _) => self.exhausted = true,
            }
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.fetch(Direction::Ascending);
        self.front.pop_front().or_else(|| self.back.pop_back())
    }
}

impl DoubleEndedIterator for Scan<'_> {
    fn next_back(&mut self) -> Option<Record> {
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
