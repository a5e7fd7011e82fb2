//! A transaction: one snapshot to read from, one buffer of writes, and reads that see both.
//!
//! Nothing is shared with other threads until the commit. Reads cost what snapshot reads cost; writes are copied into
//! the buffer and become versions at commit. Dropping a transaction that was not committed leaves no trace.
//!
//! Isolation is snapshot isolation: all reads are of one moment, all writes become visible at one moment, and of two
//! transactions that overlap and write a common key the first to commit wins. Two transactions that each read what the
//! other writes may both commit (write skew).
#![forbid(unsafe_code)]

use std::fmt;

use crate::commit::{Engine, check_key, check_value};
use crate::error::{Error, Result};
use crate::mvcc::Writes;
use crate::options::Durability;
use crate::snapshot::Snapshot;
use crate::types::{Key, RunId, Timestamp, TypeTag};
use crate::write_set::WriteSet;

/// An open transaction on one run; made by [`Database::transaction`](crate::Database::transaction).
pub struct Transaction<'db> {
    engine: &'db Engine,
    run: RunId,
    snapshot: Snapshot<'db>,
    writes: WriteSet,
    durability: Durability,
}

impl<'db> Transaction<'db> {
    pub(crate) fn begin(engine: &'db Engine, run: RunId, durability: Durability) -> Self {
        Self {
            engine,
            run,
            snapshot: Snapshot::new(engine),
            writes: WriteSet::new(),
            durability,
        }
    }

    /// Returns the run that the transaction works on.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Returns the timestamp of the snapshot that the transaction reads.
    #[must_use]
    pub fn read_timestamp(&self) -> Timestamp {
        self.snapshot.timestamp()
    }

    /// Returns how many keys the transaction would write.
    #[must_use]
    pub fn write_count(&self) -> usize {
        self.writes.len()
    }

    /// Returns a copy of a key's value, as this transaction wrote it or else as its snapshot shows it.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], or [`Error::Closed`] after shutdown.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_tagged(TypeTag::Raw, key.as_ref(), <[u8]>::to_vec)
    }

    /// Reads a key's value where it lies, as this transaction wrote it or else as its snapshot shows it. No allocation.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    #[inline]
    pub fn get_with<T>(&mut self, key: impl AsRef<[u8]>, read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        self.get_tagged(TypeTag::Raw, key.as_ref(), read)
    }

    /// Says whether a key has a value. Errors as for [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn exists(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_tagged(TypeTag::Raw, key.as_ref(), |_| ())?.is_some())
    }

    /// Writes a value at commit.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], [`Error::ValueTooLarge`], or [`Error::Closed`] after shutdown.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let value = value.as_ref();
        self.put_tagged(TypeTag::Raw, key.as_ref(), value.len(), |bytes| {
            bytes.copy_from_slice(value)
        })
    }

    /// Deletes a key at commit; returns whether the transaction saw it. Deleting what it does not see writes nothing.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.delete_tagged(TypeTag::Raw, key.as_ref())
    }

    /// Writes a value at commit if the snapshot's version of the key is `expected`, [`Timestamp::ABSENT`] being an
    /// absent key. That nobody else changes it before the commit is what the commit itself checks.
    ///
    /// # Errors
    ///
    /// [`Error::VersionMismatch`]; [`Error::InvalidOperation`] for a key that this transaction has written already,
    /// which has no version yet; and as for [`put`](Self::put).
    pub fn cas(&mut self, key: impl AsRef<[u8]>, expected: Timestamp, value: impl AsRef<[u8]>) -> Result<()> {
        let key = key.as_ref();
        let encoded = Key::new(&self.run, TypeTag::Raw, key);
        if self.writes.get(&encoded).is_some() {
            let text = format!("cas on key {encoded}, which this transaction has already written; use put");
            return Err(Error::InvalidOperation(text));
        }
        let found = self
            .snapshot
            .get_tagged(&self.run, TypeTag::Raw, key, |_, timestamp| timestamp)?;
        let actual = found.unwrap_or(Timestamp::ABSENT);
        if actual != expected {
            return Err(Error::VersionMismatch {
                key: Box::new(encoded),
                expected,
                actual,
            });
        }
        self.put(key, value)
    }

    /// Returns the run's records whose keys start with `prefix`, ascending, own writes included.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after shutdown.
    pub fn scan_prefix(&mut self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.scan_tagged(TypeTag::Raw, prefix)
    }

    /// [`get`](Self::get) under a type tag, reading the value where it lies.
    pub(crate) fn get_tagged<T>(
        &mut self,
        tag: TypeTag,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        self.engine.check_open()?;
        check_key(key)?;
        let encoded = Key::new(&self.run, tag, key);
        match self.writes.get(&encoded) {
            Some(own) => Ok(own.map(read)),
            None => {
                let at = self.snapshot.timestamp();
                Ok(self.engine.store().get_at(&encoded, at, |value, _| read(value)))
            }
        }
    }

    /// [`put`](Self::put) under a type tag; `fill` writes the `length` bytes of the value.
    pub(crate) fn put_tagged(
        &mut self,
        tag: TypeTag,
        key: &[u8],
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        self.engine.check_open()?;
        check_key(key)?;
        check_value(length)?;
        self.writes.put(Key::new(&self.run, tag, key), length, fill);
        Ok(())
    }

    /// [`delete`](Self::delete) under a type tag.
    pub(crate) fn delete_tagged(&mut self, tag: TypeTag, key: &[u8]) -> Result<bool> {
        let existed = self.get_tagged(tag, key, |_| ())?.is_some();
        if existed || self.engine.records_all_deletes(self.durability) {
            self.writes.delete(Key::new(&self.run, tag, key));
        }
        Ok(existed)
    }

    /// [`scan_prefix`](Self::scan_prefix) under a type tag.
    pub(crate) fn scan_tagged(&mut self, tag: TypeTag, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.engine.check_open()?;
        let first = Key::new(&self.run, tag, prefix);
        let own = self
            .writes
            .from(&first)
            .take_while(|(key, _)| key.as_bytes().starts_with(first.as_bytes()));
        let mut own = own.map(|(key, value)| (key.user_key(), value)).peekable();
        let mut records = Vec::new();
        for (key, value) in self.snapshot.scan_tagged(&self.run, tag, prefix) {
            while let Some((own_key, own_value)) = own.next_if(|(own_key, _)| *own_key < key.as_slice()) {
                records.extend(own_value.map(|value| (own_key.to_vec(), value.to_vec())));
            }
            match own.next_if(|(own_key, _)| *own_key == key.as_slice()) {
                Some((_, own_value)) => records.extend(own_value.map(|value| (key, value.to_vec()))),
                None => records.push((key, value)),
            }
        }
        for (own_key, own_value) in own {
            records.extend(own_value.map(|value| (own_key.to_vec(), value.to_vec())));
        }
        Ok(records)
    }

    /// Commits: all writes at one timestamp, or none and [`Error::Conflict`].
    pub(crate) fn commit(self) -> Result<()> {
        self.engine.check_open()?;
        if self.writes.len() == 0 {
            return Ok(());
        }
        self.engine
            .commit(self.snapshot.raw(), &self.writes, self.durability)
            .map(drop)
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("run", &self.run)
            .field("read_timestamp", &self.read_timestamp())
            .field("write_count", &self.write_count())
            .finish_non_exhaustive()
    }
}
