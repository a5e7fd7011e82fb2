//! Checkpoints: the store as of a durable cut, in one file, so that the log before the cut can go and recovery is short.
//!
//! A checkpoint is a scan. It opens a snapshot at the durable cut X and writes every key that has a value there, in the
//! order of the keys, beside running readers and writers. So it holds the newest value at or below X, whether that has a
//! record in the log or not, and never looks below it: a value under a deletion that has no record is gone with the
//! deletion. Commit timestamps are written too, since a compare-and-swap goes by them after a restart as before.
//!
//! ```text
//!   snapshot at X -> write under a temporary name -> rename -> sync the names -> remove what is superfluous
//!                    durable when written                      it counts          older checkpoints, then the segments
//!                                                                                 that it does not need, oldest first
//! ```
//!
//! A crash at any step leaves the checkpoint before, with all of the log after it, or the new one. A file whose name is
//! not temporary is whole and durable, so recovery takes the newest and nothing else: if that is damaged it says so, since
//! the segments that an older one would need may be gone. A checkpoint says itself which segment is the oldest that is
//! needed beside it: what is before that is ignored, there or not, and what is not before it is missed.
//!
//! # The file
//!
//! Everything is little-endian, and nothing is aligned.
//!
//! ```text
//! header   0  magic "UNLATCKP"                 8  format version, u32
//! (40)    12  checksum, u32: CRC-32C of the header's other 36 bytes
//!         16  the log's random number, u64    24  X, u64
//!         32  number of the oldest segment that is needed beside it, u64
//!
//! block    0  checksum, u32                    4  bytes of the entries, u32      8  entries, u32
//! (12 ..) 12  entries, one after the other:
//!              0  bytes of the key less one, u16   2  bytes of the value, u32   6  commit timestamp, u64
//!             14  key, encoded; then the value
//!
//! index    0  where each block begins in the file, u64
//!
//! tail     0  blocks, u64                      8  entries of all blocks, u64
//! (24)    16  checksum of the index, u32      20  checksum, u32
//! ```
//!
//! The header means the same in every version. Blocks follow it without gaps, then the index, then the tail, which ends
//! the file. A block has up to 64 KiB, or one entry if that is longer, and at least one entry; keys ascend through all blocks.
//!
//! Each other **checksum** is the CRC-32C of a seed and of everything in its part behind or, for the tail, before it. The seed
//! is the log's random number, X, the part's offset in the file, and its kind (1 block, 2 index, 3 tail), a u64 each. So a
//! part passes at one place of one checkpoint of one log.
//!
//! # Progress
//!
//! Writers are never waited for and never held up: the scan is pinned for some hundred keys at a time, and its snapshot
//! keeps for each key the version that it is going to write. Memory is a block and eight bytes for each 64 KiB that were
//! written. Of several calls one works; the others wait for the disk, as it does.
//!
//! Here is how a checkpoint is taken and written; `loading` reads it back.
#![forbid(unsafe_code)]

mod loading;

use std::ops::{Bound, ControlFlow, Range};

use crate::error::{Error, Result};
use crate::log::{Log, header};
use crate::mvcc::{DefaultStore, Direction, OpenSnapshot, Scanned};
use crate::storage::Storage;
use crate::types::{Key, Timestamp};

pub(crate) use self::loading::load;

/// Version of the bytes behind the header.
const FORMAT_VERSION: u32 = 1;

/// What a checkpoint begins with.
const MAGIC: [u8; 8] = *b"UNLATCKP";

const HEADER_BYTES: usize = 40;
const BLOCK_HEADER_BYTES: usize = 12;
const ENTRY_HEADER_BYTES: usize = 14;
const INDEX_ENTRY_BYTES: usize = 8;
const TAIL_BYTES: usize = 24;

/// Bytes of a block that holds more than one entry, at most: enough that its header and its place in the index do not
/// matter, few enough to be in the processor's cache from the checksum to the store.
const BLOCK_BYTES: usize = 64 << 10;

/// Keys that a scan looks at while pinned once.
const KEYS_PER_PIN: usize = 1_024;

/// Takes a checkpoint at the durable cut and removes what it makes superfluous. Returns the cut: everything that was durable
/// when this was called is in the checkpoint. A call that waited for another one's end returns that one's cut if it is as
/// good.
///
/// # Errors
///
/// [`Error::Poisoned`], [`Error::DiskFull`], [`Error::Io`] and what else the storage says. What was durable before still is.
pub(crate) fn take(store: &DefaultStore, log: &Log) -> Result<Timestamp> {
    take_unless(store, log, &|| false)
}

/// The same, given up soon after `is_stopped` says so.
///
/// # Errors
///
/// As for [`take`], and [`Error::Closed`] if it was stopped.
pub(crate) fn take_unless(store: &DefaultStore, log: &Log, is_stopped: &dyn Fn() -> bool) -> Result<Timestamp> {
    log.check_poison()?;
    let wanted = log.durable_cut();
    let mut last = log.last_checkpoint();
    if last.0 >= wanted {
        log.forget(last.1)?;
        return Ok(last.0);
    }
    let storage = log.storage().as_ref();
    remove_all(storage, is_leftover)?;
    let view = View::at_durable_cut(store);
    // A poisoned log has no cut: the snapshot may show what never became durable. What was poisoned before it was opened
    // is seen here.
    log.check_poison()?;
    let cut = view.cut();
    let name = header::checkpoint_name(cut);
    let temporary = header::temporary_name(&name);
    // Before anything goes that it makes superfluous, the checkpoint itself says what that is: recovery ignores what is
    // before this, so that it does not matter which of the removals a crash leaves.
    let first = log.first_needed(cut);
    let seal = Seal {
        log: log.number(),
        cut,
        first,
    };
    let written = storage
        .write_file(&temporary, &mut Pieces::new(&view, seal, is_stopped))
        .and_then(|()| log.check_poison())
        .and_then(|()| storage.rename(&temporary, &name));
    if let Err(error) = written {
        // The first failure is the one to tell; the next call finds what is still there.
        let _ = storage.remove(&temporary);
        return Err(error);
    }
    drop(view);
    storage.sync_directory()?;
    // It counts from here on, whether or not the rest can be removed.
    *last = (cut, first);
    let is_older = |name: &str| header::checkpoint_cut(name).is_some_and(|other| other < cut);
    let removed = remove_all(storage, is_older);
    log.forget(first)?;
    removed?;
    Ok(cut)
}

/// Says whether a file of that name is what is left of a checkpoint that did not get its own name.
fn is_leftover(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    header::is_temporary(name) && header::checkpoint_cut(stem).is_some()
}

fn remove_all(storage: &dyn Storage, is_superfluous: impl Fn(&str) -> bool) -> Result<()> {
    for name in storage.list()? {
        if is_superfluous(&name) {
            storage.remove(&name)?;
        }
    }
    Ok(())
}

/// A store at a durable cut, for as long as this lives.
struct View<'s> {
    store: &'s DefaultStore,
    snapshot: OpenSnapshot,
}

impl<'s> View<'s> {
    fn at_durable_cut(store: &'s DefaultStore) -> Self {
        Self {
            store,
            snapshot: store.open_durable_snapshot(),
        }
    }

    fn cut(&self) -> Timestamp {
        self.snapshot.timestamp()
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.store.close_snapshot(&self.snapshot);
    }
}

/// What every part of a checkpoint is sealed with.
#[derive(Clone, Copy)]
struct Seal {
    log: u64,
    cut: Timestamp,
    /// The oldest segment that is needed beside it.
    first: u32,
}

/// The kinds of parts.
#[derive(Clone, Copy)]
enum Part {
    Block = 1,
    Index = 2,
    Tail = 3,
}

impl Seal {
    /// Returns the checksum of a part that begins at `offset` of the file.
    fn checksum(self, part: Part, offset: u64, bytes: &[u8]) -> u32 {
        let mut seed = [0; 32];
        for (word, place) in [self.log, self.cut.get(), offset, part as u64]
            .iter()
            .zip(seed.chunks_exact_mut(8))
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        crc32c::crc32c_append(crc32c::crc32c(&seed), bytes)
    }

    fn header(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.log.to_le_bytes());
        bytes.extend_from_slice(&self.cut.get().to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.first).to_le_bytes());
        let checksum = header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

fn header_checksum(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// A block that is being filled.
struct Block {
    /// Its bytes; the header is filled in at the end.
    bytes: Vec<u8>,
    entries: u32,
    /// Where the last key is in them.
    last_key: Range<usize>,
}

impl Block {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.resize(BLOCK_HEADER_BYTES, 0);
        Self {
            bytes,
            entries: 0,
            last_key: 0..0,
        }
    }

    /// Adds an entry, if there is room.
    fn push(&mut self, key: &[u8], value: &[u8], timestamp: Timestamp) -> bool {
        let bytes = ENTRY_HEADER_BYTES + key.len() + value.len();
        if self.entries > 0 && self.bytes.len() + bytes > BLOCK_BYTES {
            return false;
        }
        let key_bytes = u16::try_from(key.len() - 1).expect("keys have 1 to 65,536 bytes");
        let value_bytes = u32::try_from(value.len()).expect("values are shorter");
        self.bytes.extend_from_slice(&key_bytes.to_le_bytes());
        self.bytes.extend_from_slice(&value_bytes.to_le_bytes());
        self.bytes.extend_from_slice(&timestamp.get().to_le_bytes());
        self.last_key = self.bytes.len()..self.bytes.len() + key.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.entries += 1;
        true
    }

    fn finish(mut self, seal: Seal, offset: u64) -> Vec<u8> {
        let bytes = u32::try_from(self.bytes.len() - BLOCK_HEADER_BYTES).expect("one entry is shorter");
        self.bytes[4..8].copy_from_slice(&bytes.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&self.entries.to_le_bytes());
        let checksum = seal.checksum(Part::Block, offset, &self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        self.bytes
    }
}

/// The bytes of a checkpoint, part by part: what is scanned is what is asked for.
struct Pieces<'v> {
    view: &'v View<'v>,
    seal: Seal,
    is_stopped: &'v dyn Fn() -> bool,
    next: Stage,
    /// Where the scan goes on.
    from: Bound<Key>,
    is_scanned: bool,
    /// Bytes so far.
    offset: u64,
    /// Where each block begins.
    starts: Vec<u64>,
    entries: u64,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Stage {
    Header,
    Block,
    Nothing,
}

impl<'v> Pieces<'v> {
    fn new(view: &'v View<'v>, seal: Seal, is_stopped: &'v dyn Fn() -> bool) -> Self {
        Self {
            view,
            seal,
            is_stopped,
            next: Stage::Header,
            from: Bound::Unbounded,
            is_scanned: false,
            offset: 0,
            starts: Vec::new(),
            entries: 0,
        }
    }

    /// Scans until a block is full or the end is reached. Pinned for [`KEYS_PER_PIN`] keys at a time, or as many as fit.
    fn scan(&mut self) -> Result<Block> {
        let mut block = Block::new();
        while !self.is_scanned {
            if (self.is_stopped)() {
                return Err(Error::Closed);
            }
            let before = block.entries;
            let scanned = self.view.store.scan(
                (self.from.as_ref(), Bound::Unbounded),
                Direction::Ascending,
                self.view.cut(),
                (KEYS_PER_PIN, Some(KEYS_PER_PIN)),
                |key, value, timestamp| match block.push(key, value, timestamp) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                },
            );
            match scanned {
                Scanned::Everything => self.is_scanned = true,
                Scanned::UpTo(key) => self.from = Bound::Excluded(key),
                Scanned::UntilBreak => {
                    if block.entries > before {
                        self.from = Bound::Excluded(Key::from_encoded(&block.bytes[block.last_key.clone()]));
                    }
                    break;
                }
            }
        }
        Ok(block)
    }

    /// Returns the index and the tail.
    fn end(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.starts.len() * INDEX_ENTRY_BYTES + TAIL_BYTES);
        for start in &self.starts {
            bytes.extend_from_slice(&start.to_le_bytes());
        }
        let index = self.seal.checksum(Part::Index, self.offset, &bytes);
        let tail = bytes.len();
        bytes.extend_from_slice(&(self.starts.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.entries.to_le_bytes());
        bytes.extend_from_slice(&index.to_le_bytes());
        let checksum = self
            .seal
            .checksum(Part::Tail, self.offset + tail as u64, &bytes[tail..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        match std::mem::replace(&mut self.next, Stage::Nothing) {
            Stage::Header => {
                self.next = Stage::Block;
                Ok(Some(self.seal.header()))
            }
            Stage::Block => {
                let block = self.scan()?;
                if block.entries == 0 {
                    return Ok(Some(self.end()));
                }
                self.next = Stage::Block;
                self.starts.push(self.offset);
                self.entries += u64::from(block.entries);
                Ok(Some(block.finish(self.seal, self.offset)))
            }
            Stage::Nothing => Ok(None),
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.piece().transpose()?;
        if let Ok(piece) = &piece {
            self.offset += piece.len() as u64;
        }
        Some(piece)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "checkpoint/tests.rs"]
mod tests;
