//! A storage that is another one but for the syncs of its segments, which somebody else is asked to make.
//!
//! A segment file costs one more virtual call where its words are asked for, so what is timed in nanoseconds does not
//! run on it; what waits for the device does.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use unlatched::Result;
use unlatched::internals::{SegmentFile, Storage, Word};

/// Is given the number of a file, the range of it that is to be synced, and what syncs it.
pub(super) type MakeSync = dyn Fn(u64, Range<usize>, &dyn Fn() -> Result<()>) -> Result<()> + Send + Sync;

/// Returns `storage`, its segments synced by `make_sync`.
pub(super) fn wrap(storage: Arc<dyn Storage>, make_sync: Arc<MakeSync>) -> Arc<dyn Storage> {
    Arc::new(Wrapped {
        inner: storage,
        make_sync,
        opened: AtomicU64::new(0),
    })
}

struct Wrapped {
    inner: Arc<dyn Storage>,
    make_sync: Arc<MakeSync>,
    /// Numbers the files that are open for writing.
    opened: AtomicU64,
}

struct WrappedFile {
    inner: Box<dyn SegmentFile>,
    make_sync: Arc<MakeSync>,
    number: u64,
}

impl Wrapped {
    fn file(&self, inner: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
        Box::new(WrappedFile {
            inner,
            make_sync: Arc::clone(&self.make_sync),
            // ORDERING: Relaxed; the numbers need only differ.
            number: self.opened.fetch_add(1, Ordering::Relaxed),
        })
    }
}

impl Storage for Wrapped {
    fn create(&self, name: &str, bytes: usize) -> Result<Box<dyn SegmentFile>> {
        self.inner.create(name, bytes).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        self.inner.open(name).map(|file| self.file(file))
    }

    fn write_file(&self, name: &str, parts: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        self.inner.write_file(name, parts)
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.inner.read(name, offset, into)
    }

    fn length(&self, name: &str) -> Result<u64> {
        self.inner.length(name)
    }

    fn list(&self) -> Result<Vec<String>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> Result<()> {
        self.inner.sync_directory()
    }

    fn sync_file(&self, name: &str) -> Result<()> {
        self.inner.sync_file(name)
    }

    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }
}

impl SegmentFile for WrappedFile {
    fn words(&self) -> &[Word] {
        self.inner.words()
    }

    fn sync(&self, bytes: Range<usize>) -> Result<()> {
        (self.make_sync)(self.number, bytes.clone(), &|| self.inner.sync(bytes.clone()))
    }

    fn prepare(&self, bytes: Range<usize>) {
        self.inner.prepare(bytes);
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapped").field(&self.inner).finish()
    }
}

impl fmt::Debug for WrappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WrappedFile").field(&self.inner).finish()
    }
}
