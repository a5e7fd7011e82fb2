//! `Database`: opens, wires the parts together, checks what callers hand in, and shuts down.
//!
//! A single operation is a complete commit of its own, without a transaction object. Keys given here are plain bytes
//! under [`TypeTag::Raw`]; facades keep theirs under their own tags.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::fmt;
use std::time::Instant;

use crate::commit::{Engine, check_key, check_value};
use crate::error::{Error, Result};
use crate::options::{Durability, Options, RetryConfig};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
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
    engine: Engine,
    durability: Durability,
}

impl Database {
    /// Returns a builder with the default options.
    pub fn builder() -> DatabaseBuilder {
        DatabaseBuilder {
            options: Options::new(),
        }
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
        let (key, value) = (key.as_ref(), value.as_ref());
        self.engine.check_open()?;
        check_key(key)?;
        check_value(value.len())?;
        Ok(self
            .engine
            .store()
            .put(&Key::new(run.borrow(), TypeTag::Raw, key), value))
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
        self.engine.check_open()?;
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key(key)?;
        check_value(value.len())?;
        let key = Key::new(run.borrow(), TypeTag::Raw, key);
        let swapped = self
            .engine
            .store()
            .compare_and_put(&key, expected, value.len(), |bytes| bytes.copy_from_slice(value));
        swapped.map_err(|actual| Error::VersionMismatch {
            key: Box::new(key),
            expected,
            actual,
        })
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
        self.engine.check_open()?;
        let mut transaction = Transaction::begin(&self.engine, *run.borrow());
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
        self.durability
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

    /// Shuts the database down: every later operation is [`Error::Closed`]. Operations that are running finish. Doing
    /// it twice is fine.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn shutdown(&self) -> Result<()> {
        self.engine.close();
        Ok(())
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
        Ok(self.engine.store().put_with(&Key::new(run, tag, key), length, fill))
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
        Ok(self.engine.store().delete(&Key::new(run, tag, key)).is_some())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("durability", &self.durability)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// Collects options and opens a [`Database`]; made by [`Database::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct DatabaseBuilder {
    options: Options,
}

impl DatabaseBuilder {
    /// Sets what survives a crash.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options = self.options.durability(durability);
        self
    }

    /// Keeps nothing beyond the process.
    pub fn in_memory(mut self) -> Self {
        self.options = self.options.in_memory();
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOptions`], saying which option is wrong and what to set instead.
    pub fn open(self) -> Result<Database> {
        self.options.validate()?;
        Ok(Database {
            engine: Engine::new(),
            durability: self.options.chosen_durability(),
        })
    }
}
