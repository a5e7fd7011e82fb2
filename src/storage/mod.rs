//! Where the log and its checkpoints live: one directory of named files, and what a sync of it promises.
//!
//! | variant | a segment's bytes are | a sync is | what an experiment compares |
//! |---|---|---|---|
//! | [`MmapStorage`] (default) | a shared mapping of the file | `msync` of its pages | is a mapping right for a log? |
//! | [`FileStorage`] | memory of its own | a positioned write, then `fdatasync` | what mapping saves, and what it costs |
//! | [`SimStorage`] | memory of its own | a copy into the durable image of a disk that crashes, tears and fails | nothing: tests, fuzzing and crash campaigns run on it |
//!
//! The log writes a segment's bytes from many threads at once, so they are words with atomic access; everything else
//! is reached by calls, one system call's worth of work each. That is why these traits are objects: no call
//! through them is on a path that does not wait for the disk anyway.
//!
//! # The contract
//!
//! 1. What was stored in a segment's words before [`SegmentFile::sync`] of their range was called is there after any crash,
//!    once it has returned. Until then each sector of 512 bytes may hold its old content or any later one, whole, in any
//!    combination with other sectors. A sector is copied while it is stored to: of stores that overlap a sync, the copy has
//!    some and lacks others, in no order, but each word whole. If the process alone dies, what was stored in a mapping is
//!    there nevertheless, and what was stored in memory of the process's own and not synced is not.
//! 2. A file made by [`Storage::create`] or [`Storage::write_file`] has its length and content after any crash once the call
//!    has returned; its *name*, as any change of names, is there once [`Storage::sync_directory`] has returned. Until then
//!    each change of a name may or may not survive, except that a rename is never half done.
//! 3. Real blocks stand behind every byte of a file made by `create`, so that storing a word never fails and never
//!    raises a signal: a full disk is an error of `create`. Turning blocks into written ones can still fail when
//!    syncing; that is an error of `sync`, after which the content of the range is unknown and must not be synced again.
//! 4. One process holds a directory at a time: opening a storage takes a lock on it.

mod directory;
mod file;
#[cfg(all(target_os = "linux", not(loom)))]
mod mmap;
mod read_only;
mod sim;

pub use self::directory::DirectoryStorage;
pub use self::file::FileStorage;
#[cfg(all(target_os = "linux", not(loom)))]
pub use self::mmap::MmapStorage;

use std::fmt;
use std::ops::Range;

use crate::error::Result;
use crate::sync::Word;

pub use self::read_only::ReadOnlyStorage;
pub use self::sim::{Fault, FaultPlan, SimDisk, SimStorage, SimTally, Survivors};

/// Bytes that reach the disk together or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Lengths of files made by [`Storage::create`] are multiples of this many bytes.
pub const PAGE_BYTES: usize = 4_096;

/// A directory of files.
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Makes a file of `bytes` bytes, all zero, ready to be written by words. Its content is durable on return, its name
    /// after [`sync_directory`](Self::sync_directory).
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`](crate::Error::DiskFull) or [`Error::ReadOnly`](crate::Error::ReadOnly), and then no file is left;
    /// [`Error::Io`](crate::Error::Io), also if the name is taken or the length is not a multiple of a page.
    fn create(&self, name: &str, bytes: usize) -> Result<Box<dyn SegmentFile>>;

    /// Opens a file made by [`create`](Self::create) to be written by words again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there is none, or it is not as long as a multiple of a page;
    /// [`Error::ReadOnly`](crate::Error::ReadOnly); [`Error::DiskFull`](crate::Error::DiskFull) if it is a copy with holes.
    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>>;

    /// Makes a file of what `parts` yields, piece by piece. Its content is durable on return, its name after
    /// [`sync_directory`](Self::sync_directory). An error of a part ends the writing and removes the file.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create), and what a part yields.
    fn write_file(&self, name: &str, parts: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()>;

    /// Reads from `offset` on until `into` is full or the file ends; returns how many bytes were read. Never through a
    /// mapping: a file cut short meanwhile is a short read and no signal.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize>;

    /// Returns a file's length in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    fn length(&self, name: &str) -> Result<u64>;

    /// Returns the names of all files, sorted; the lock's is not among them, and folders are none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    fn list(&self) -> Result<Vec<String>>;

    /// Gives a file another name, in place of whatever had it. A [`SegmentFile`] that is open stays valid.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) or [`Error::ReadOnly`](crate::Error::ReadOnly).
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes a file's name. A [`SegmentFile`] that is open stays valid.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) or [`Error::ReadOnly`](crate::Error::ReadOnly).
    fn remove(&self, name: &str) -> Result<()>;

    /// Makes all changes of names so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    fn sync_directory(&self) -> Result<()>;

    /// Makes a whole file durable, whoever wrote it: what a process read after another one's crash may be in the page
    /// cache alone.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    fn sync_file(&self, name: &str) -> Result<()>;

    /// Returns what messages call a file of that name.
    fn describe(&self, name: &str) -> String;
}

/// A file of a fixed length whose bytes are written as words, little-endian, by any number of threads.
pub trait SegmentFile: Send + Sync + fmt::Debug + 'static {
    /// Returns the words of the whole file.
    fn words(&self) -> &[Word];

    /// Makes a range of bytes durable. Threads may go on storing in it meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`](crate::Error::DiskFull) or [`Error::Io`](crate::Error::Io); then what is on the disk is unknown.
    fn sync(&self, bytes: Range<usize>) -> Result<()>;

    /// Asks for a range of bytes to be made ready for writing, so that the first store does not have to. For what will be
    /// stored soon: being ready does not last for ever and is not free.
    fn prepare(&self, _bytes: Range<usize>) {}
}
