//! What a device takes for the same bytes without any engine: the floor under a durable commit.
//!
//! [`Bare`] is a file whose blocks are there and have been written, as a segment of the log has them, because a block that
//! is written for the first time costs another write of the file's own structures. Each operation goes on where the one
//! before ended and begins again at the end of its part of the file, as a log does.
//!
//! | way | a write is | a sync is |
//! |---|---|---|
//! | [`Way::WriteAndSync`] | a positioned write | `fdatasync` |
//! | [`Way::StoreAndSync`] | stores into a mapping | `fdatasync` |
//! | [`Way::StoreAndMsync`] | stores into a mapping | `msync` of the pages |
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use memmap2::{MmapOptions, MmapRaw};
use unlatched::internals::{MmapStorage, PAGE_BYTES, SegmentFile, Storage as _};

use super::directory::TemporaryDirectory;
use crate::engines::EngineError;
use crate::harness::threads::Work;

/// The name of the file.
const NAME: &str = "bare";

/// Bytes of a word, in which a mapping is stored to.
const WORD_BYTES: usize = size_of::<u64>();

/// How bytes are written and made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A positioned write and `fdatasync`.
    WriteAndSync,
    /// Stores into a mapping and `fdatasync`.
    StoreAndSync,
    /// Stores into a mapping and `msync`.
    StoreAndMsync,
}

/// A file of prewritten blocks, in a directory of its own.
#[derive(Debug)]
pub struct Bare {
    /// Open for positioned writes.
    file: File,
    /// The same file as words of a mapping.
    segment: Box<dyn SegmentFile>,
    /// Another mapping of it, through which its pages are synced; what is dirty is the file's pages, not the mapping's.
    pages: MmapRaw,
    bytes: usize,
    _directory: TemporaryDirectory,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WriteAndSync, Self::StoreAndSync, Self::StoreAndMsync];

    /// The name that results use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteAndSync => "write+fdatasync",
            Self::StoreAndSync => "store+fdatasync",
            Self::StoreAndMsync => "store+msync",
        }
    }
}

impl Bare {
    /// Makes the file under `parent`.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn new(parent: &Path, bytes: usize) -> Result<Self, EngineError> {
        let directory = TemporaryDirectory::under(parent)?;
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        let storage = MmapStorage::open(directory.path())?;
        let segment = storage.create(NAME, bytes)?;
        storage.sync_directory()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(directory.path().join(NAME))?;
        let pages = MmapOptions::new().len(bytes).map_raw(&file)?;
        Ok(Self {
            file,
            segment,
            pages,
            bytes,
            _directory: directory,
        })
    }

    /// Returns what thread `thread` of `threads` does: `length` bytes at a time, in its own part of the file.
    ///
    /// # Panics
    ///
    /// If `length` does not fit into a thread's part.
    #[must_use]
    pub fn writer(&self, way: Way, length: usize, thread: usize, threads: usize) -> Writer<'_> {
        let part = self.bytes / threads.max(1) / PAGE_BYTES * PAGE_BYTES;
        assert!(
            length <= part,
            "a thread's part of the file holds what it writes at once"
        );
        Writer {
            bare: self,
            way,
            buffer: vec![0; length.next_multiple_of(WORD_BYTES)],
            part: thread * part..(thread + 1) * part,
            at: thread * part,
            operations: 0,
            error: None,
        }
    }
}

/// One thread's writes and syncs.
#[derive(Debug)]
pub struct Writer<'b> {
    bare: &'b Bare,
    way: Way,
    buffer: Vec<u8>,
    /// Its part of the file.
    part: Range<usize>,
    /// Where it goes on.
    at: usize,
    operations: u64,
    error: Option<EngineError>,
}

/// What a [`Writer`] did.
#[derive(Debug)]
pub struct Written {
    /// Writes that are durable.
    pub operations: u64,
    /// The first error; nothing was done after it.
    pub error: Option<EngineError>,
}

impl Writer<'_> {
    fn write_once(&mut self) -> Result<(), EngineError> {
        let number = self.operations + 1;
        // Other bytes each time: a device may know those that it has already.
        for word in self.buffer.chunks_exact_mut(WORD_BYTES) {
            word.copy_from_slice(&number.to_le_bytes());
        }
        if self.at + self.buffer.len() > self.part.end {
            self.at = self.part.start;
        }
        let range = self.at..self.at + self.buffer.len();
        self.at = range.end;
        match self.way {
            Way::WriteAndSync => {
                self.bare.file.write_all_at(&self.buffer, range.start as u64)?;
                self.bare.file.sync_data()?;
            }
            Way::StoreAndSync => {
                self.store(&range, number);
                self.bare.segment.sync(range)?;
            }
            Way::StoreAndMsync => {
                self.store(&range, number);
                let first = range.start / PAGE_BYTES * PAGE_BYTES;
                self.bare.pages.flush_range(first, range.end - first)?;
            }
        }
        self.operations = number;
        Ok(())
    }

    fn store(&self, range: &Range<usize>, number: u64) {
        for word in &self.bare.segment.words()[range.start / WORD_BYTES..range.end / WORD_BYTES] {
            // ORDERING: Relaxed; nobody reads it but the device.
            word.store(number.to_le(), Ordering::Relaxed);
        }
    }
}

impl Work for Writer<'_> {
    type Report = Written;

    fn run(&mut self, operations: u64) {
        for _ in 0..operations {
            if self.error.is_some() {
                return;
            }
            self.error = self.write_once().err();
        }
    }

    fn finish(self) -> Written {
        Written {
            operations: self.operations,
            error: self.error,
        }
    }
}

/// Reads `bytes` of the files at `paths`, in order, as recovery reads them: by positioned reads of `piece` bytes. Returns
/// how many bytes there were.
///
/// # Errors
///
/// What the file system says.
pub fn read_all(paths: &[std::path::PathBuf], piece: usize) -> io::Result<u64> {
    let mut buffer = vec![0; piece];
    let mut total = 0;
    for path in paths {
        let file = File::open(path)?;
        let mut offset = 0;
        loop {
            let count = file.read_at(&mut buffer, offset)?;
            if count == 0 {
                break;
            }
            offset += count as u64;
        }
        total += offset;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::num::NonZeroUsize;

    use super::*;
    use crate::harness::threads::{Plan, run};

    // Goal: every way writes where it says, round and round, and no thread into another one's part. Method: two threads,
    // more operations than their parts have room for, and the file's content afterwards.
    #[test]
    fn every_way_writes_its_own_part_and_begins_again() {
        let parent = std::env::temp_dir();
        for way in Way::ALL {
            let bare = Bare::new(&parent, 2 * PAGE_BYTES).expect("there is room");
            let (length, operations) = (1_000, 11_u64);
            let Ok(outcome) = run(
                &Plan::counted(operations),
                NonZeroUsize::MIN.saturating_add(1),
                |thread| Ok::<_, Infallible>(bare.writer(way, length, thread, 2)),
            );
            for thread in &outcome.threads {
                assert!(thread.report.error.is_none(), "{way:?}: {:?}", thread.report.error);
                assert_eq!(thread.report.operations, operations);
            }
            let mut content = vec![0; 2 * PAGE_BYTES];
            let mut path = bare._directory.path().to_path_buf();
            path.push(NAME);
            File::open(&path)
                .and_then(|file| file.read_exact_at(&mut content, 0))
                .expect("it is there");
            for part in content.chunks(PAGE_BYTES) {
                let word = |at: usize| u64::from_le_bytes(part[at..at + 8].try_into().expect("eight bytes"));
                // Four fit into a page: the last round wrote 9, 10 and 11 over 5, 6 and 7.
                let found = [0, 1_000, 2_000, 3_000, 4_000].map(word);
                assert_eq!(found, [9, 10, 11, 8, 0], "{way:?}");
            }
            assert_eq!(read_all(&[path], 1_000).expect("it is there"), 2 * PAGE_BYTES as u64);
        }
    }
}
