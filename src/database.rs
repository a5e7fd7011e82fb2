//! `Database`: opens, wires the parts together, checks what callers hand in, and shuts down.
//!
//! A single operation is a complete commit of its own, without a transaction object. Keys given here are plain bytes
//! under [`TypeTag::Raw`]; facades keep theirs under their own tags.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::background::Background;
use crate::checkpoint;
use crate::commit::{Engine, check_key, check_value};
use crate::error::{Error, Result};
use crate::mvcc::DefaultStore;
use crate::opening::open as open_engine;
use crate::options::{Durability, Options, RetryConfig};
use crate::recovery::Progress;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
#[cfg(loom)]
use crate::storage::FileStorage as DefaultStorage;
#[cfg(not(loom))]
use crate::storage::MmapStorage as DefaultStorage;
use crate::storage::Storage;
use crate::transaction::Transaction;
use crate::types::{Key, RunId, Timestamp, TypeTag};

/// A multi-version key-value database in which no thread ever waits for another.
///
/// Share it between threads by reference or in an [`Arc`](std::sync::Arc). All methods take `&self`. None waits for
/// another thread, and only transactions can fail for contention
/// ([`transaction_with_retry`](Self::transaction_with_retry) pauses between its attempts).
///
/// ```
/// use unlatched::{Database, RunId, Timestamp};
///
/// let database = Database::in_memory()?;
/// let run = RunId::new();
/// let written = database.put(run, "greeting", "hello")?;
/// assert_eq!(database.get(run, "greeting")?.as_deref(), Some(&b"hello"[..]));
///
/// // Compare and swap goes by commit timestamps; an absent key has `Timestamp::ABSENT`.
/// database.cas(run, "greeting", written, "good morning")?;
/// assert!(database.cas(run, "greeting", Timestamp::ABSENT, "too late").is_err());
///
/// database.transaction(run, |txn| {
///     let greeting = txn.get("greeting")?.unwrap_or_default();
///     txn.put("copy", greeting)
/// })?;
/// assert_eq!(database.get(run, "copy")?.as_deref(), Some(&b"good morning"[..]));
/// # Ok::<(), unlatched::Error>(())
/// ```
///
/// # Long keys
///
/// Steady work on keys of up to 29 bytes allocates nothing. A longer key, more than
/// [`INLINE_KEY_BYTES`](crate::INLINE_KEY_BYTES) with run and type tag, is allocated by each operation that is given it,
/// reads included, and the allocator may make a thread wait. Keep keys short that are used all the time.
pub struct Database {
    engine: Arc<Engine>,
    background: Option<Background>,
}

impl Database {
    /// Returns a builder with the default options.
    pub fn builder() -> DatabaseBuilder {
        DatabaseBuilder {
            options: Options::new(),
            path: None,
            storage: None,
            progress: None,
        }
    }

    /// Opens the database in a directory, with [`Durability::Strict`]; makes it if it is not there.
    ///
    /// # Errors
    ///
    /// As for [`DatabaseBuilder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder().path(path).open()
    }

    /// Opens an empty database that lives in memory alone: nothing of it survives the process.
    ///
    /// # Errors
    ///
    /// None today; opening a database may fail in general.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory().open()
    }

    /// Writes a value; returns its commit timestamp. When it returns, every later read and snapshot sees the value.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], [`Error::ValueTooLarge`], or [`Error::Closed`] after shutdown.
    #[inline]
    pub fn put(&self, run: impl Borrow<RunId>, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Timestamp> {
        self.put_with_durability(run, key, value, self.durability())
    }

    /// [`put`](Self::put), with another durability than the database's.
    ///
    /// Raising it costs the wait for the device. Lowering it to [`Durability::InMemory`] means that after a crash the key
    /// has again the last value that was written with a record, while whatever was computed from the lost one survives;
    /// unless a [`checkpoint`](Self::checkpoint) was taken since, which holds what a reader saw.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put); [`Error::InvalidOperation`] if the database has no storage. [`Error::DiskFull`] and
    /// [`Error::Io`] if no room for its record can be made; nothing was written then. But where a strict commit fails to become
    /// durable, by [`Error::Poisoned`] or for want of room, it is visible all the same, and whether it survives is known
    /// only when the database is opened again.
    #[inline]
    pub fn put_with_durability(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Timestamp> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.engine.check_open()?;
        check_key(key)?;
        check_value(value.len())?;
        let key = Key::new(run.borrow(), TypeTag::Raw, key);
        let fill = |bytes: &mut [u8]| bytes.copy_from_slice(value);
        self.engine.put(&key, value.len(), fill, durability)
    }

    /// Returns a copy of a key's latest value.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], or [`Error::Closed`] after shutdown.
    #[inline]
    pub fn get(&self, run: impl Borrow<RunId>, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_with(run, key, |value, _| value.to_vec())
    }

    /// Reads a key's latest value where it lies: `read` gets the bytes and their commit timestamp, and may itself use
    /// the database. No allocation, unless the key is [long](Database#long-keys).
    ///
    /// What `read` sees stays valid, and everything retired meanwhile stays allocated, until it returns.
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

    /// Copies a key's latest value into `buffer`, which is cleared first, and returns its commit timestamp. No
    /// allocation once the buffer is large enough, unless the key is [long](Database#long-keys).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    #[inline]
    pub fn get_into(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<[u8]>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Timestamp>> {
        buffer.clear();
        self.get_with(run, key, |value, timestamp| {
            buffer.extend_from_slice(value);
            timestamp
        })
    }

    /// Deletes a key; returns whether it existed.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn delete(&self, run: impl Borrow<RunId>, key: impl AsRef<[u8]>) -> Result<bool> {
        self.delete_tagged(run.borrow(), TypeTag::Raw, key.as_ref())
    }

    /// [`delete`](Self::delete), with another durability than the database's; see
    /// [`put_with_durability`](Self::put_with_durability).
    ///
    /// # Errors
    ///
    /// As for [`put_with_durability`](Self::put_with_durability).
    pub fn delete_with_durability(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<bool> {
        self.engine.check_open()?;
        check_key(key.as_ref())?;
        let key = Key::new(run.borrow(), TypeTag::Raw, key.as_ref());
        self.engine.delete(&key, durability)
    }

    /// Writes a value if the key's newest commit is `expected`; [`Timestamp::ABSENT`] expects that there is none.
    /// Returns the commit timestamp of the new value.
    ///
    /// # Errors
    ///
    /// [`Error::VersionMismatch`], naming what was found; and as for [`put`](Self::put).
    pub fn cas(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<[u8]>,
        expected: Timestamp,
        value: impl AsRef<[u8]>,
    ) -> Result<Timestamp> {
        self.cas_with_durability(run, key, expected, value, self.durability())
    }

    /// [`cas`](Self::cas), with another durability than the database's; see
    /// [`put_with_durability`](Self::put_with_durability).
    ///
    /// # Errors
    ///
    /// As for [`cas`](Self::cas) and [`put_with_durability`](Self::put_with_durability).
    pub fn cas_with_durability(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<[u8]>,
        expected: Timestamp,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Timestamp> {
        self.engine.check_open()?;
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key(key)?;
        check_value(value.len())?;
        let key = Key::new(run.borrow(), TypeTag::Raw, key);
        self.engine.compare_and_put(key, expected, value, durability)
    }

    /// Opens a snapshot of this moment. O(1), never waits.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after shutdown.
    #[inline]
    pub fn snapshot(&self) -> Result<Snapshot<'_>> {
        self.engine.check_open()?;
        Ok(Snapshot::new(&self.engine))
    }

    /// Opens a snapshot of the last moment up to which everything that is to survive does: what it shows no crash takes
    /// away, unless it was written with [`Durability::InMemory`]. O(1), never waits. Without storage it is a
    /// [`snapshot`](Self::snapshot).
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after shutdown.
    pub fn durable_snapshot(&self) -> Result<Snapshot<'_>> {
        self.engine.check_open()?;
        Ok(Snapshot::durable(&self.engine))
    }

    /// Returns a ticket for a commit of this database, to wait later until it would survive a crash.
    ///
    /// ```
    /// # use unlatched::{Database, Durability, RunId};
    /// # let directory = std::env::temp_dir().join(format!("unlatched-doc-{}", RunId::new()));
    /// let database = Database::builder().path(&directory).buffered().open()?;
    /// let written = database.put(RunId::new(), "key", "value")?;
    /// let ticket = database.ticket(written);
    /// // ... other work, then:
    /// ticket.wait()?;
    /// assert!(ticket.is_durable());
    /// # drop(database);
    /// # std::fs::remove_dir_all(&directory).expect("the directory is there");
    /// # Ok::<(), unlatched::Error>(())
    /// ```
    pub fn ticket(&self, commit: Timestamp) -> DurabilityTicket<'_> {
        DurabilityTicket {
            engine: &self.engine,
            commit,
        }
    }

    /// Runs `body` in a transaction on `run` and commits it. An error from `body` aborts: nothing of it is ever seen.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`], naming the key, if another transaction or put committed a key that this one writes after
    /// its snapshot: run it again, or use [`transaction_with_retry`](Self::transaction_with_retry). What `body`
    /// returns. [`Error::Closed`] after shutdown.
    pub fn transaction<T>(
        &self,
        run: impl Borrow<RunId>,
        body: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.transaction_with_durability(run, self.durability(), body)
    }

    /// [`transaction`](Self::transaction), with another durability than the database's; see
    /// [`put_with_durability`](Self::put_with_durability).
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction) and [`put_with_durability`](Self::put_with_durability).
    pub fn transaction_with_durability<T>(
        &self,
        run: impl Borrow<RunId>,
        durability: Durability,
        body: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.engine.check_open()?;
        let mut transaction = Transaction::begin(&self.engine, *run.borrow(), durability);
        let result = body(&mut transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Runs `body` in a transaction, and again after each conflict, with growing, jittered pauses.
    ///
    /// # Errors
    ///
    /// [`Error::RetriesExhausted`] with the last conflict; without retries, the conflict itself. Otherwise as for
    /// [`transaction`](Self::transaction).
    pub fn transaction_with_retry<T>(
        &self,
        run: impl Borrow<RunId>,
        retry: RetryConfig,
        body: impl Fn(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let run = *run.borrow();
        let start = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let last = match self.transaction(run, &body) {
                Err(conflict) if conflict.is_retryable() => conflict,
                result => return result,
            };
            if attempts > retry.max_retries() {
                return Err(if attempts == 1 {
                    last
                } else {
                    Error::RetriesExhausted {
                        attempts,
                        elapsed: start.elapsed(),
                        last: Box::new(last),
                    }
                });
            }
            // Transactions that collided have different clocks behind them, so their pauses differ.
            let pause = retry.delay_before(attempts, start.elapsed().as_nanos() as u64);
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }

    /// Returns what the database counts, summed over all threads.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.store().stats()
    }

    /// Returns the durability that the database was opened with.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.engine.default_durability()
    }

    /// Makes everything durable that is committed when this is called, and was not written with
    /// [`Durability::InMemory`].
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] if the device failed; [`Error::DiskFull`] if there is no room.
    pub fn flush(&self) -> Result<()> {
        self.engine.check_open()?;
        self.engine.flush()
    }

    /// Takes a checkpoint: writes everything that is committed when this is called, whatever it was written with, to a file
    /// of its own, and removes the log that is not needed any more. Returns the moment of the checkpoint. Opening the
    /// database takes less time afterwards, and what was written with [`Durability::InMemory`] until then survives.
    ///
    /// Runs beside readers and writers, whom it never waits for, and takes about as long as writing all keys and values to
    /// the device; there must be room for them beside the checkpoint before. Of calls at the same time one does the work.
    /// It is done by itself after every [`checkpoint_bytes`](DatabaseBuilder::checkpoint_bytes) of log.
    ///
    /// ```
    /// # use unlatched::{Database, RunId};
    /// # let directory = std::env::temp_dir().join(format!("unlatched-doc-{}", RunId::new()));
    /// let database = Database::open(&directory)?;
    /// let written = database.put(RunId::new(), "key", "value")?;
    /// assert!(database.checkpoint()? >= written);
    /// # drop(database);
    /// # std::fs::remove_dir_all(&directory).expect("the directory is there");
    /// # Ok::<(), unlatched::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOperation`] if the database has no storage, [`Error::Closed`] after shutdown, [`Error::Poisoned`] if
    /// the device failed before. [`Error::DiskFull`] and [`Error::Io`]: nothing is lost, and it may be tried again.
    pub fn checkpoint(&self) -> Result<Timestamp> {
        self.engine.check_open()?;
        let Some(durable) = self.engine.durable() else {
            let text = "a checkpoint needs storage, and this database was opened without a path";
            return Err(Error::InvalidOperation(text.to_owned()));
        };
        // A checkpoint is taken at the durable cut.
        self.engine.flush()?;
        checkpoint::take(self.engine.store(), durable.log())
    }

    /// Collects everything that can be collected now, prunable versions and dead keys, and returns how many versions
    /// were retired. Writers collect as they go; this is for what they have not come to yet, and for what threads have
    /// left that write no more. O(keys), beside running readers and writers.
    pub fn sweep(&self) -> u64 {
        self.engine.store().collect_garbage()
    }

    /// Says whether the database can be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.engine.check_open().is_ok()
    }

    /// Shuts the database down: every later operation is [`Error::Closed`], and what was acknowledged before, buffered
    /// commits included, is durable on return. Operations that are running finish; their buffered commits are made durable
    /// when the database is dropped, at the latest. Doing it twice is fine.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Self::flush).
    pub fn shutdown(&self) -> Result<()> {
        self.engine.close();
        if let Some(background) = &self.background {
            background.stop();
        }
        self.engine.flush()
    }

    /// [`put`](Self::put) under a type tag; `fill` writes the `length` bytes of the value where they will stay.
    #[inline]
    pub(crate) fn put_tagged(
        &self,
        run: &RunId,
        tag: TypeTag,
        key: &[u8],
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Timestamp> {
        self.engine.check_open()?;
        check_key(key)?;
        check_value(length)?;
        let durability = self.engine.default_durability();
        self.engine.put(&Key::new(run, tag, key), length, fill, durability)
    }

    /// [`get_with`](Self::get_with) under a type tag.
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
        Ok(self.engine.store().get_with(&Key::new(run, tag, key), read))
    }

    /// [`delete`](Self::delete) under a type tag.
    pub(crate) fn delete_tagged(&self, run: &RunId, tag: TypeTag, key: &[u8]) -> Result<bool> {
        self.engine.check_open()?;
        check_key(key)?;
        self.engine
            .delete(&Key::new(run, tag, key), self.engine.default_durability())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("durability", &self.durability())
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // After a shutdown its caller has the error already.
        let was_open = self.is_open();
        self.engine.close();
        if let Some(background) = &self.background {
            background.stop();
        }
        if let Err(error) = self.engine.flush()
            && was_open
        {
            // There is nobody to return it to, and buffered commits are not to be lost in silence.
            eprintln!("unlatched: closing the database lost commits that were not durable yet: {error}");
        }
    }
}

/// The promise that a commit will be durable; made by [`Database::ticket`].
#[derive(Clone, Copy)]
pub struct DurabilityTicket<'db> {
    engine: &'db Engine,
    commit: Timestamp,
}

impl DurabilityTicket<'_> {
    /// Returns the commit's timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.commit
    }

    /// Says whether the commit would survive a crash. Never waits.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.engine
            .durable()
            .is_some_and(|durable| self.commit <= durable.log().durable_cut())
    }

    /// Waits for the device until the commit, and all before it, would survive a crash.
    ///
    /// # Errors
    ///
    /// Those of [`Database::flush`]; [`Error::InvalidOperation`] if the database has no storage.
    pub fn wait(&self) -> Result<()> {
        if self.engine.durable().is_none() {
            let text = "nothing becomes durable in a database that was opened without a path";
            return Err(Error::InvalidOperation(text.to_owned()));
        }
        self.engine.wait(self.commit)
    }
}

impl fmt::Debug for DurabilityTicket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurabilityTicket")
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

/// Collects options and opens a [`Database`]; made by [`Database::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct DatabaseBuilder {
    options: Options,
    path: Option<PathBuf>,
    storage: Option<Arc<dyn Storage>>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl DatabaseBuilder {
    /// Sets what survives a crash.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options = self.options.durability(durability);
        self
    }

    /// Keeps nothing beyond the process, unless an operation asks for more and there is a path.
    pub fn in_memory(self) -> Self {
        self.durability(Durability::InMemory)
    }

    /// Acknowledges commits before they are durable: [`Durability::BUFFERED`].
    pub fn buffered(self) -> Self {
        self.durability(Durability::BUFFERED)
    }

    /// As [`buffered`](Self::buffered), with bounds of one's own on what a crash may lose: milliseconds, and commits.
    pub fn buffered_with(self, flush_interval_ms: u64, max_pending_writes: usize) -> Self {
        self.durability(Durability::Buffered {
            flush_interval: Duration::from_millis(flush_interval_ms),
            max_pending_writes,
        })
    }

    /// Acknowledges a commit once it would survive a crash. The default.
    pub fn strict(self) -> Self {
        self.durability(Durability::Strict)
    }

    /// Sets the directory in which the database lives. It is made if it is not there.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets the length of a segment of the log, in bytes: [`DEFAULT_SEGMENT_BYTES`](crate::DEFAULT_SEGMENT_BYTES)
    /// unless set.
    pub fn segment_bytes(mut self, segment_bytes: usize) -> Self {
        self.options = self.options.segment_bytes(segment_bytes);
        self
    }

    /// Sets after how many bytes of log a checkpoint is taken by itself, or never:
    /// [`DEFAULT_CHECKPOINT_BYTES`](crate::DEFAULT_CHECKPOINT_BYTES) unless set.
    pub fn checkpoint_bytes(mut self, checkpoint_bytes: Option<u64>) -> Self {
        self.options = self.options.checkpoint_bytes(checkpoint_bytes);
        self
    }

    /// Sets whether the database has threads of its own that flush, make segments and take checkpoints: it has. Without
    /// them the threads that need one of these do it themselves, and a run can be repeated step by step.
    pub fn background(mut self, background: bool) -> Self {
        self.options = self.options.background(background);
        self
    }

    /// Calls `progress` while an existing database is read, some hundred times at most, from several threads.
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Uses a storage instead of a path: another way to write a directory, or a disk that is simulated.
    #[doc(hidden)]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Opens the database: what is there is recovered, in time proportional to the length of the log since the last
    /// checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOptions`], saying which option is wrong and what to set instead. [`Error::Locked`] if the directory
    /// is in use, [`Error::Corrupt`] and [`Error::FormatVersion`] if what is there cannot be read, [`Error::ReadOnly`],
    /// [`Error::DiskFull`] and [`Error::Io`]; in all of these cases what is there stays as it is.
    pub fn open(self) -> Result<Database> {
        self.options.validate()?;
        let storage = match (self.storage, &self.path) {
            (Some(storage), _) => Some(storage),
            (None, Some(path)) => Some(Arc::new(DefaultStorage::open(path)?) as Arc<dyn Storage>),
            (None, None) => None,
        };
        let durability = self.options.chosen_durability();
        let Some(storage) = storage else {
            if durability != Durability::InMemory {
                return Err(Error::InvalidOptions(format!(
                    "{} durability needs a path: set one with .path(..), or use .in_memory()",
                    durability.name()
                )));
            }
            return Ok(Database {
                engine: Arc::new(Engine::new(DefaultStore::new(), None, durability)),
                background: None,
            });
        };
        let report = |progress: Progress| {
            if let Some(callback) = &self.progress {
                callback(progress);
            }
        };
        let engine = Arc::new(open_engine(storage, &self.options, &report)?);
        let background = self
            .options
            .chosen_background()
            .then(|| Background::start(&engine, self.options.chosen_checkpoint_bytes()))
            .transpose()?;
        Ok(Database { engine, background })
    }
}

impl fmt::Debug for DatabaseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseBuilder")
            .field("options", &self.options)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
