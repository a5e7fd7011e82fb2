//! Segment files whose words are memory of the process, written to the file when they are synced.
//!
//! A sync copies the words of its range, rounded out to whole sectors, writes the copy at its place in the file, and asks
//! for the data to be made durable. Compared with a mapping: a store never meets the kernel, every byte is copied once
//! more, the memory cannot be reclaimed by the kernel, and what was stored but not synced is lost with the process and
//! not only with the machine.
//!
//! # Invariants
//!
//! 1. A file is the words in little-endian order, whatever the machine's is.
//! 2. Copies of one sector reach the file in the order in which they were taken: copying and writing happen under one
//!    lock. Otherwise an older copy could replace a newer one whose sync has returned.
//!
//! # Memory ordering
//!
//! Words are copied by relaxed loads, each one whole. What a caller wants durable was stored before it called: by itself,
//! or by threads that it has synchronized with. Such a store happens before the load, so the load sees it or a later one;
//! anything else may be seen or not, as the contract says.
//!
//! # Progress
//!
//! Threads that store never wait. Threads that sync one file wait for each other's copy and write, not for the disk.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use super::directory::{Content, DirectoryStorage, OpenFile, read_at};
use super::{SECTOR_BYTES, SegmentFile};
use crate::error::Result;
use crate::sync::{Word, order};

/// A directory whose segment files are kept in memory and written when they are synced.
pub type FileStorage = DirectoryStorage<HeldFile>;

/// Bytes that are copied and written at a time: a whole number of sectors, and more than most syncs have.
const COPY_BYTES: usize = 64 * 1024;

const WORD_BYTES: usize = size_of::<u64>();

const _: () = assert!(COPY_BYTES.is_multiple_of(SECTOR_BYTES) && SECTOR_BYTES.is_multiple_of(WORD_BYTES));

/// An open segment file and its words.
pub struct HeldFile {
    words: Box<[Word]>,
    file: OpenFile,
    /// Where copies are made.
    copy: Mutex<Box<[u8]>>,
}

impl Content for HeldFile {
    fn attach(file: OpenFile) -> Result<Self> {
        let mut copy = vec![0; COPY_BYTES.min(file.bytes())].into_boxed_slice();
        let mut words = Vec::with_capacity(file.bytes() / WORD_BYTES);
        for offset in (0..file.bytes()).step_by(copy.len()) {
            let part = &mut copy[..COPY_BYTES.min(file.bytes() - offset)];
            let count = read_at(file.file(), offset as u64, part).map_err(|error| file.cannot("read", error))?;
            if count < part.len() {
                return Err(file.cannot("read", io::ErrorKind::UnexpectedEof.into()));
            }
            words.extend(part.chunks_exact(WORD_BYTES).map(|bytes| {
                // INVARIANT 1.
                let bytes = bytes.try_into().expect("a chunk has the bytes of a word");
                Word::new(u64::from_le_bytes(bytes))
            }));
        }
        Ok(Self {
            words: words.into_boxed_slice(),
            file,
            copy: Mutex::new(copy),
        })
    }
}

impl HeldFile {
    /// Writes a range of whole sectors.
    fn write(&self, sectors: Range<usize>) -> io::Result<()> {
        // INVARIANT 2. What a thread that panicked left in the copy is overwritten.
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        for offset in sectors.clone().step_by(COPY_BYTES) {
            let part = &mut copy[..COPY_BYTES.min(sectors.end - offset)];
            let words = &self.words[offset / WORD_BYTES..][..part.len() / WORD_BYTES];
            for (bytes, word) in part.chunks_exact_mut(WORD_BYTES).zip(words) {
                // ORDERING: Relaxed; see the essay. INVARIANT 1.
                bytes.copy_from_slice(&word.load(order::COUNT).to_le_bytes());
            }
            self.file.file().write_all_at(part, offset as u64)?;
        }
        Ok(())
    }
}

impl SegmentFile for HeldFile {
    fn words(&self) -> &[Word] {
        &self.words
    }

    fn sync(&self, bytes: Range<usize>) -> Result<()> {
        assert!(bytes.end <= self.file.bytes(), "a range lies inside its file");
        // Files are whole pages, so the last sector is inside as well.
        let sectors = bytes.start / SECTOR_BYTES * SECTOR_BYTES..bytes.end.next_multiple_of(SECTOR_BYTES);
        self.write(sectors)
            .and_then(|()| self.file.file().sync_data())
            .map_err(|error| self.file.cannot_sync(error))
    }
}

impl fmt::Debug for HeldFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldFile").field("file", &self.file).finish()
    }
}
