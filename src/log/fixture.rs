//! Logs for tests: built record by record, kept in memory, and damaged at will.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::header::{FORMAT_VERSION, HEADER_BYTES, SegmentHeader, encode_header, segment_name};
use super::record::{self, Marker, Restart, UNIT_BYTES, WORD_BYTES};
use crate::error::{Error, Result};
use crate::storage::{SegmentFile, Storage};
use crate::sync::{Word, order};
use crate::types::{Lsn, Timestamp};

/// The log that [`LogBuilder::new`] builds.
pub(crate) const LOG: u64 = 0x5eed_0000_1234_abcd;

/// Keys with their values; `None` is a delete.
pub(crate) type OwnedWrites = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A directory in memory that can only be read. It notes which files were synced.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) synced: Mutex<BTreeSet<String>>,
    /// Reads of more bytes fail, as of a disk that has gone.
    pub(crate) readable: Option<u64>,
}

impl Memory {
    fn file(&self, name: &str) -> Result<&Vec<u8>> {
        self.files.get(name).ok_or_else(|| Error::Io {
            operation: "find",
            path: name.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    fn refuse<T>(&self, name: &str) -> Result<T> {
        Err(Error::ReadOnly { path: name.to_owned() })
    }
}

impl Storage for Memory {
    fn create(&self, name: &str, _bytes: usize) -> Result<Box<dyn SegmentFile>> {
        self.refuse(name)
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        self.refuse(name)
    }

    fn write_file(&self, name: &str, _parts: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        self.refuse(name)
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize> {
        let file = self.file(name)?;
        if self.readable.is_some_and(|readable| offset >= readable) {
            return Err(Error::Io {
                operation: "read",
                path: name.to_owned(),
                source: std::io::ErrorKind::Other.into(),
            });
        }
        let rest = file.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn length(&self, name: &str) -> Result<u64> {
        Ok(self.file(name)?.len() as u64)
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn rename(&self, from: &str, _to: &str) -> Result<()> {
        self.refuse(from)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.refuse(name)
    }

    fn sync_directory(&self) -> Result<()> {
        Ok(())
    }

    fn sync_file(&self, name: &str) -> Result<()> {
        self.file(name)?;
        self.synced.lock().expect("no test panics here").insert(name.to_owned());
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// Writes a log as a flusher would: records first, then their stamps, then a marker over those of its cut.
#[derive(Clone, Debug)]
pub(crate) struct LogBuilder {
    pub(crate) log: u64,
    /// The segments' bytes, by number.
    pub(crate) segments: BTreeMap<u32, Vec<u8>>,
    /// Where the next record goes.
    pub(crate) at: Lsn,
    /// The cut of the last marker.
    pub(crate) previous: u64,
    count: u64,
    sum: u64,
}

impl LogBuilder {
    /// Returns a log without segments.
    pub(crate) fn new() -> Self {
        Self {
            log: LOG,
            segments: BTreeMap::new(),
            at: Lsn::new(0, 0),
            previous: 0,
            count: 0,
            sum: 0,
        }
    }

    /// Goes on in a new segment with room for so many units.
    pub(crate) fn segment(&mut self, number: u32, units: usize) -> &mut Self {
        let bytes = HEADER_BYTES + units * UNIT_BYTES;
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            log: self.log,
            number,
            bytes: u32::try_from(bytes).expect("a test's segment is small"),
        };
        let words = words(HEADER_BYTES / WORD_BYTES);
        encode_header(&words, &header);
        let mut file = bytes_of(&words);
        file.resize(bytes, 0);
        self.segments.insert(number, file);
        self.at = Lsn::new(number, HEADER_BYTES as u32);
        self
    }

    /// Begins a life.
    pub(crate) fn restart(&mut self, last: u64, clock: u64) -> &mut Self {
        let restart = Restart {
            last: Timestamp::from_raw(last),
            clock: Timestamp::from_raw(clock),
        };
        let words = words(UNIT_BYTES / WORD_BYTES);
        record::encode_restart(&words, self.log, self.at, &restart);
        self.put(&words);
        (self.previous, self.count, self.sum) = (clock - 1, 0, 0);
        self
    }

    /// Appends a commit without a stamp; returns its place.
    pub(crate) fn append(&mut self, writes: &OwnedWrites) -> Lsn {
        let borrowed = || writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        let words = words(record::commit_units(borrowed()) * UNIT_BYTES / WORD_BYTES);
        record::encode_commit(&words, self.log, self.at, borrowed());
        self.put(&words)
    }

    /// Stamps a commit, which the next marker covers.
    pub(crate) fn stamp(&mut self, lsn: Lsn, stamp: u64) -> &mut Self {
        let place = self.bytes_at(lsn);
        place[..8].copy_from_slice(&stamp.to_le_bytes());
        let checksum = u32::from_le_bytes(place[16..20].try_into().expect("four bytes"));
        self.count += 1;
        let contribution = record::contribution(lsn, Timestamp::from_raw(stamp), checksum);
        self.sum = self.sum.wrapping_add(contribution);
        self
    }

    /// Appends a commit and stamps it.
    pub(crate) fn commit(&mut self, stamp: u64, writes: &OwnedWrites) -> Lsn {
        let lsn = self.append(writes);
        self.stamp(lsn, stamp);
        lsn
    }

    /// Ends a cut; returns the marker's place.
    pub(crate) fn marker(&mut self, cut: u64) -> Lsn {
        let marker = Marker {
            cut: Timestamp::from_raw(cut),
            previous: Timestamp::from_raw(self.previous),
            count: self.count,
            sum: self.sum,
        };
        let words = words(UNIT_BYTES / WORD_BYTES);
        record::encode_marker(&words, self.log, self.at, &marker);
        (self.previous, self.count, self.sum) = (cut, 0, 0);
        self.put(&words)
    }

    /// Leaves units out, as a reservation that was never copied.
    pub(crate) fn hole(&mut self, units: u32) -> &mut Self {
        self.at = Lsn::new(self.at.segment(), self.at.offset() + units * UNIT_BYTES as u32);
        self
    }

    /// Returns the bytes from a place to the end of its segment.
    pub(crate) fn bytes_at(&mut self, lsn: Lsn) -> &mut [u8] {
        let segment = self.segments.get_mut(&lsn.segment()).expect("the segment is there");
        &mut segment[lsn.offset() as usize..]
    }

    /// Returns the directory that holds the log.
    pub(crate) fn files(&self) -> Memory {
        let named = |(number, bytes): (&u32, &Vec<u8>)| (segment_name(*number), bytes.clone());
        Memory {
            files: self.segments.iter().map(named).collect(),
            ..Memory::default()
        }
    }

    fn put(&mut self, words: &[Word]) -> Lsn {
        let lsn = self.at;
        let bytes = bytes_of(words);
        self.bytes_at(lsn)[..bytes.len()].copy_from_slice(&bytes);
        self.at = Lsn::new(lsn.segment(), lsn.offset() + bytes.len() as u32);
        lsn
    }
}

/// Returns words with something in them, as those of a file that is used again.
fn words(count: usize) -> Vec<Word> {
    (0..count).map(|_| Word::new(0x7777_7777_7777_7777)).collect()
}

fn bytes_of(words: &[Word]) -> Vec<u8> {
    let bytes = |word: &Word| word.load(order::COUNT).to_le_bytes();
    words.iter().flat_map(bytes).collect()
}
