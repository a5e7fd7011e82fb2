//! The log's bytes: what a commit, a marker and a restart look like, and how each is told from anything else. Pure
//! functions over words and bytes; files, threads and the meaning of timestamps are elsewhere.
//!
//! Everything is little-endian. A file is a header of one page (`header.rs`), then units of 64 bytes. A record begins at a unit and
//! takes whole units; a marker or a restart is one unit. Nothing says where the next record begins but the record before
//! it: between two there may be a hole of any number of units, with any bytes in it.
//!
//! ```text
//! record       0  stamp, u64: 0 (EMPTY), or the timestamp that the commit was given
//!              8  LSN, u64: segment's number << 32 | offset in its file
//!             16  checksum, u32                20  kind << 30 | bytes of the payload, u32
//!             24  payload
//!              .  zero, up to a whole number of units
//!
//! commit (1)      as many writes as the payload holds, in any order, one for each key:
//!              0  bytes of the key less one, u16
//!              2  bytes of the value, u32, or 0xffff_ffff for a delete
//!              6  key, encoded; then the value
//! marker (2)   0  F, u64      8  F_prev, u64      16  count, u64      24  sum, u64
//! restart (3)  0  F_last, u64 8  C, u64
//! ```
//!
//! The **checksum** is the CRC-32C of these bytes: LSN xor the log's random number (8), zero (4), the word at 20 (4), the
//! payload, zero up to a whole number of words. What follows up to the unit's end is zero and is compared with it.
//!
//! # Invariants
//!
//! 1. The checksum covers everything but the stamp. The stamp is stored by one aligned word that the flusher alone
//!    writes, later, and what markers add up covers it ([`contribution`]).
//! 2. Bytes pass for a record at exactly one place of exactly one log: the LSN is in the record, compared with the
//!    place, and covered together with the log's random number. The segment's number counts up when a file is used
//!    again, so what an earlier use left behind is never read as news; nor is a value that imitates a record, unless it
//!    guesses the random number.
//! 3. A place shows a valid header only after its stamp was emptied: the empty stamp is stored first and the word with
//!    the checksum last, by a release. A sector that reaches the disk midway holds no valid header with a stale stamp
//!    beside it. Both words are in one unit, hence in one sector.
//! 4. Lengths are checked against what is there before they are followed, and the structure of a payload before anyone
//!    sees a write of it: a walk over the writes of a [`Record`] cannot fail.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair publishes |
//! |---|---|---|---|
//! | a place's words | [`encode_commit`], relaxed; the last by `FINISH_RECORD` | whoever copies words to the disk | invariant 3 |
//! | the stamp | [`stamp`], relaxed | whoever copies words to the disk, after the sync that follows the store | nothing |
//! | word 2 | [`encode_commit`] | [`place_header`], relaxed | nothing: the owner's publication of the place does |
#![forbid(unsafe_code)]

#[allow(
    unused_imports,
    reason = "one door to all bytes of the log, whoever needs which of them"
)]
pub(crate) use super::header::{
    FIRST_SEGMENT, FORMAT_VERSION, HEADER_BYTES, SegmentHeader, checkpoint_cut, checkpoint_name, decode_header,
    encode_header, is_temporary, segment_name, segment_number, temporary_name,
};
use crate::sync::{Word, order};
use crate::types::{Lsn, Timestamp};

/// Places are whole units of this many bytes.
pub(crate) const UNIT_BYTES: usize = 64;

/// Words of a unit.
pub(crate) const UNIT_WORDS: usize = UNIT_BYTES / WORD_BYTES;

/// The longest record of a commit. Its length has 30 bits; and what recovery must hold in memory at once is bounded by it.
pub(crate) const MAX_COMMIT_BYTES: usize = 1 << 30;

/// The longest key, as encoded, that a record can hold.
pub(crate) const MAX_ENCODED_KEY_BYTES: usize = 1 << 16;

/// Bytes of a word, which all stores to a place have.
pub(super) const WORD_BYTES: usize = 8;

/// The stamp of a record that no cut covers.
const EMPTY: u64 = 0;
/// Bytes of a record before its payload: stamp, LSN, checksum, kind and length.
const RECORD_HEADER_BYTES: usize = 24;
/// Bytes of a write before its key.
const WRITE_HEADER_BYTES: usize = 6;
/// In place of a value's length: the key is deleted.
const DELETED: u32 = u32::MAX;
/// Bits of a payload's length, below the kind's two.
const LENGTH_BITS: u32 = 30;
const COMMIT: u32 = 1;
const MARKER: u32 = 2;
const RESTART: u32 = 3;
const MARKER_PAYLOAD_BYTES: usize = 32;
const RESTART_PAYLOAD_BYTES: usize = 16;

/// Words that gather before they are checksummed and stored, enough for most commits of one write. More would cost
/// every record the time to zero them.
const STAGE_WORDS: usize = 24;
/// Payloads up to this long fit into the stage, behind the seed.
const SHORT_PAYLOAD_BYTES: usize = (STAGE_WORDS - SEED_WORDS) * WORD_BYTES;
/// In records that do not, keys and values longer than this go past the stage: they are worth a checksum of their own.
const STREAMED_FROM_BYTES: usize = 128;
/// Bytes of a long value that are checksummed and then stored before the next ones are looked at: both find them in the
/// nearest cache.
const STREAM_BYTES: usize = 4_096;
/// Words that go into the checksum before the payload.
const SEED_WORDS: usize = 2;

/// The end of a cut: the commits with `previous < timestamp <= cut` are `count`, and `sum` is what [`contribution`]
/// says of them, added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Marker {
    /// F: everything up to here is durable if the rest holds.
    pub(crate) cut: Timestamp,
    /// F_prev: where the cut before ended.
    pub(crate) previous: Timestamp,
    /// Records between the two.
    pub(crate) count: u64,
    /// The wrapping sum of their contributions.
    pub(crate) sum: u64,
}

/// The beginning of a life of the log: stamps and markers with `last < timestamp < clock` are remains of a cut that never
/// became durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Restart {
    /// The cut that recovery restored.
    pub(crate) last: Timestamp,
    /// Where the clock went on.
    pub(crate) clock: Timestamp,
}

/// What a place was found to hold.
#[derive(Clone, Debug)]
pub(crate) enum Record<'a> {
    /// A commit.
    Commit {
        /// Its timestamp, if a cut covered it.
        stamp: Option<Timestamp>,
        /// As stored.
        checksum: u32,
        /// Its length.
        units: usize,
        /// What it wrote.
        writes: Writes<'a>,
    },
    /// The end of a cut; one unit.
    Marker(Marker),
    /// The beginning of a life; one unit.
    Restart(Restart),
}

impl Record<'_> {
    /// Returns the record's length in units.
    pub(crate) fn units(&self) -> usize {
        match self {
            Self::Commit { units, .. } => *units,
            Self::Marker(_) | Self::Restart(_) => 1,
        }
    }
}

/// The writes of a commit: encoded keys with their values, or with none where the key is deleted.
#[derive(Clone, Debug)]
pub(crate) struct Writes<'a> {
    rest: &'a [u8],
}

impl<'a> Writes<'a> {
    /// Returns the writes if `payload` is nothing else.
    fn of(payload: &'a [u8]) -> Option<Self> {
        // INVARIANT 4.
        let mut walk = Self { rest: payload };
        while walk.next().is_some() {}
        walk.rest.is_empty().then_some(Self { rest: payload })
    }
}

impl<'a> Iterator for Writes<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key_bytes, rest) = self.rest.split_first_chunk()?;
        let (value_bytes, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)) + 1)?;
        let (value, rest) = match u32::from_le_bytes(*value_bytes) {
            DELETED => (None, rest),
            bytes => {
                let (value, rest) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
                (Some(value), rest)
            }
        };
        self.rest = rest;
        Some((key, value))
    }
}

/// Returns how many units the record of a commit takes. More than [`MAX_COMMIT_BYTES`] are not possible: the caller
/// refuses them.
#[inline]
pub(crate) fn commit_units<'a>(writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> usize {
    payload_bytes(writes)
        .saturating_add(RECORD_HEADER_BYTES)
        .div_ceil(UNIT_BYTES)
}

#[inline]
fn payload_bytes<'a>(writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> usize {
    let bytes = |(key, value): (&[u8], Option<&[u8]>)| WRITE_HEADER_BYTES + key.len() + value.map_or(0, <[u8]>::len);
    writes.map(bytes).fold(0, usize::saturating_add)
}

/// Writes a commit's record to its place: exactly so many units as [`commit_units`] says.
///
/// # Panics
///
/// If the place has another length, or a key is empty or longer than [`MAX_ENCODED_KEY_BYTES`].
#[inline]
pub(crate) fn encode_commit<'a>(
    place: &[Word],
    log: u64,
    lsn: Lsn,
    writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
) {
    let payload = payload_bytes(writes.clone());
    if payload > SHORT_PAYLOAD_BYTES {
        return encode_long(place, log, lsn, payload, writes);
    }
    encode_short(place, log, lsn, COMMIT, payload, |stage| {
        for (key, value) in writes {
            stage.put_part(write_header(key, value), WRITE_HEADER_BYTES);
            stage.put(key);
            if let Some(value) = value {
                stage.put(value);
            }
        }
    });
}

/// Writes a marker to its place of one unit.
pub(crate) fn encode_marker(place: &[Word], log: u64, lsn: Lsn, marker: &Marker) {
    encode_short(place, log, lsn, MARKER, MARKER_PAYLOAD_BYTES, |stage| {
        for word in [marker.cut.get(), marker.previous.get(), marker.count, marker.sum] {
            stage.put_word(word);
        }
    });
}

/// Writes a restart to its place of one unit.
pub(crate) fn encode_restart(place: &[Word], log: u64, lsn: Lsn, restart: &Restart) {
    encode_short(place, log, lsn, RESTART, RESTART_PAYLOAD_BYTES, |stage| {
        for word in [restart.last.get(), restart.clock.get()] {
            stage.put_word(word);
        }
    });
}

/// Writes a commit's timestamp into its record.
#[inline]
pub(crate) fn stamp(place: &[Word], timestamp: Timestamp) {
    debug_assert!(timestamp != Timestamp::ABSENT);
    // ORDERING: Relaxed; the caller syncs the place afterwards, and until then it may be on the disk or not.
    place[0].store(timestamp.get(), order::COUNT);
}

/// Returns length in units and checksum of a record that this process encoded at the place, which may go on behind it.
#[inline]
pub(crate) fn place_header(place: &[Word]) -> (usize, u32) {
    // ORDERING: Relaxed; the caller has acquired the owner's publication of the place.
    let word = place[2].load(order::COUNT);
    let length = (word >> 32) as usize & ((1 << LENGTH_BITS) - 1);
    ((RECORD_HEADER_BYTES + length).div_ceil(UNIT_BYTES), word as u32)
}

/// Returns what a stamped commit adds to the sum of the marker that covers it: a hash of where it is, when it was and
/// what it says.
#[inline]
pub(crate) fn contribution(lsn: Lsn, timestamp: Timestamp, checksum: u32) -> u64 {
    let place = mixed(lsn.get() ^ 0xa076_1d64_78bd_642f);
    let moment = mixed(timestamp.get() ^ place);
    mixed(u64::from(checksum) ^ moment)
}

/// A bijection of words in which every bit of the argument moves about half of the bits (the finisher of SplitMix64).
#[inline]
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The words that precede the payload in the checksum.
#[inline]
fn seed(log: u64, lsn: Lsn, kind_and_length: u32) -> [u64; SEED_WORDS] {
    // INVARIANT 2.
    [lsn.get() ^ log, u64::from(kind_and_length) << 32]
}

/// Words that gather before they are checksummed and stored, all at once. Bytes become words in a register: no word is
/// read back that several smaller writes made, which would hold the reader up.
///
/// Its methods are inlined in every caller, and the words are elsewhere, so that the counters stay in registers too.
struct Stage<'s> {
    words: &'s mut [[u8; WORD_BYTES]; STAGE_WORDS],
    /// Words that are complete.
    full: usize,
    /// The beginning of the next word: so many bytes, less than eight, the rest zero.
    begun: u64,
    begun_bytes: usize,
}

/// Aligned as words are, so that no checksum has to begin with single bytes.
#[repr(align(64))]
struct StageWords([[u8; WORD_BYTES]; STAGE_WORDS]);

impl StageWords {
    #[inline(always)]
    fn new() -> Self {
        Self([[0; WORD_BYTES]; STAGE_WORDS])
    }
}

impl<'s> Stage<'s> {
    #[inline(always)]
    fn new(words: &'s mut StageWords) -> Self {
        Self {
            words: &mut words.0,
            full: 0,
            begun: 0,
            begun_bytes: 0,
        }
    }

    /// Says how many bytes more surely have room.
    #[inline(always)]
    fn room(&self) -> usize {
        (STAGE_WORDS - 1 - self.full) * WORD_BYTES
    }

    #[inline(always)]
    fn put_word(&mut self, word: u64) {
        self.words[self.full] = word.to_le_bytes();
        self.full += 1;
    }

    /// Appends the first so many bytes of a word, at most eight; its others are zero.
    #[inline(always)]
    fn put_part(&mut self, word: u64, bytes: usize) {
        let shift = 8 * self.begun_bytes as u32;
        let whole = self.begun | word << shift;
        self.begun_bytes += bytes;
        if self.begun_bytes < WORD_BYTES {
            self.begun = whole;
        } else {
            self.begun_bytes -= WORD_BYTES;
            // What the shift pushed out: nothing, if there was no shift.
            self.begun = word >> 1 >> (63 - shift);
            self.put_word(whole);
        }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let (words, last) = bytes.as_chunks();
        for word in words {
            self.put_part(u64::from_le_bytes(*word), WORD_BYTES);
        }
        self.put_part(short_word(last), last.len());
    }

    /// Fills the last word up with zeros.
    #[inline(always)]
    fn complete(&mut self) {
        if self.begun_bytes > 0 {
            self.put_word(self.begun);
            (self.begun, self.begun_bytes) = (0, 0);
        }
    }

    /// Returns the complete words, as words and as bytes.
    #[inline(always)]
    fn words(&self) -> (&[[u8; WORD_BYTES]], &[u8]) {
        let words = &self.words[..self.full];
        (words, words.as_flattened())
    }
}

/// Returns the six bytes that precede a write's key, as the beginning of a word.
#[inline(always)]
fn write_header(key: &[u8], value: Option<&[u8]>) -> u64 {
    assert!(
        (1..=MAX_ENCODED_KEY_BYTES).contains(&key.len()),
        "the caller refuses such keys"
    );
    // A value is shorter than the record, whose length was checked.
    let value_bytes = value.map_or(DELETED, |value| value.len() as u32);
    (key.len() as u64 - 1) | u64::from(value_bytes) << 16
}

/// Empties the stamp of a place that is about to be written; returns kind and length, for its third word.
#[inline(always)]
fn begin(place: &[Word], kind: u32, payload: usize) -> u32 {
    let bytes = payload.saturating_add(RECORD_HEADER_BYTES);
    assert!(bytes <= MAX_COMMIT_BYTES, "the caller refuses longer records");
    assert!(
        place.len() == bytes.div_ceil(UNIT_BYTES) * UNIT_WORDS,
        "the place has another length than the record"
    );
    // INVARIANT 3. ORDERING: Relaxed; the release of the last word comes after it.
    place[0].store(EMPTY, order::COUNT);
    kind << LENGTH_BITS | payload as u32
}

/// Makes a place valid whose payload, all of it up to the end of its last unit, is stored.
#[inline(always)]
fn finish(place: &[Word], lsn: Lsn, kind_and_length: u32, checksum: u32) {
    // ORDERING: Relaxed; the release below comes after it.
    place[1].store(lsn.get(), order::COUNT);
    let word = u64::from(kind_and_length) << 32 | u64::from(checksum);
    // INVARIANT 3. ORDERING: Release, after every other word; pairs with the copying of words to the disk.
    place[2].store(word, order::FINISH_RECORD);
}

/// Writes a record whose seed and payload the stage has room for, all of it.
#[inline(always)]
fn encode_short(place: &[Word], log: u64, lsn: Lsn, kind: u32, payload: usize, fill: impl FnOnce(&mut Stage<'_>)) {
    let kind_and_length = begin(place, kind, payload);
    let mut words = StageWords::new();
    let mut stage = Stage::new(&mut words);
    for word in seed(log, lsn, kind_and_length) {
        stage.put_word(word);
    }
    fill(&mut stage);
    stage.complete();
    let (words, bytes) = stage.words();
    let checksum = crc32c::crc32c(bytes);
    store_zeros(store_words(
        &place[RECORD_HEADER_BYTES / WORD_BYTES..],
        &words[SEED_WORDS..],
    ));
    finish(place, lsn, kind_and_length, checksum);
}

/// Writes a commit's record of any length: what is short gathers in the stage, long keys and values go past it.
#[inline(never)]
fn encode_long<'a>(
    place: &[Word],
    log: u64,
    lsn: Lsn,
    payload: usize,
    writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) {
    let kind_and_length = begin(place, COMMIT, payload);
    let seed = seed(log, lsn, kind_and_length).map(u64::to_le_bytes);
    let mut words = StageWords::new();
    let mut filler = Filler {
        rest: &place[RECORD_HEADER_BYTES / WORD_BYTES..],
        checksum: crc32c::crc32c(seed.as_flattened()),
        stage: Stage::new(&mut words),
    };
    for (key, value) in writes {
        let head = write_header(key, value);
        filler.put(&head.to_le_bytes()[..WRITE_HEADER_BYTES]);
        filler.put(key);
        if let Some(value) = value {
            filler.put(value);
        }
    }
    filler.stage.complete();
    filler.empty_stage();
    store_zeros(filler.rest);
    finish(place, lsn, kind_and_length, filler.checksum);
}

/// A long record on its way to its place.
struct Filler<'p, 's> {
    /// The words of the place that are still to be stored.
    rest: &'p [Word],
    /// Of what has left the stage.
    checksum: u32,
    stage: Stage<'s>,
}

impl Filler<'_, '_> {
    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > STREAMED_FROM_BYTES {
            return self.stream(bytes);
        }
        if bytes.len() > self.stage.room() {
            self.empty_stage();
        }
        self.stage.put(bytes);
    }

    /// Completes the word that was begun, then checksums and stores the words of a long value where they are.
    fn stream(&mut self, bytes: &[u8]) {
        self.empty_stage();
        let missing = (WORD_BYTES - self.stage.begun_bytes) % WORD_BYTES;
        let (first, bytes) = bytes.split_at(missing);
        self.stage.put(first);
        self.empty_stage();
        let (words, last) = bytes.split_at(bytes.len() / WORD_BYTES * WORD_BYTES);
        for words in words.chunks(STREAM_BYTES) {
            self.checksum = crc32c::crc32c_append(self.checksum, words);
            self.rest = store_words(self.rest, words.as_chunks().0);
        }
        self.stage.put(last);
    }

    /// Checksums and stores the complete words in the stage.
    fn empty_stage(&mut self) {
        let (words, bytes) = self.stage.words();
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.rest = store_words(self.rest, words);
        self.stage.full = 0;
    }
}

/// Returns less than eight bytes as a word, the rest of which is zero.
#[inline(always)]
fn short_word(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    match (bytes.first_chunk(), bytes.last_chunk()) {
        // The two overlap, and agree where they do.
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (length - 4))
        }
        _ if length == 0 => 0,
        _ => {
            let at = |index: usize| u64::from(bytes[index]) << (8 * index);
            at(0) | at(length / 2) | at(length - 1)
        }
    }
}

/// Stores words; returns the place behind them.
#[inline(always)]
pub(super) fn store_words<'p>(place: &'p [Word], words: &[[u8; WORD_BYTES]]) -> &'p [Word] {
    let (now, later) = place.split_at(words.len());
    for (word, bytes) in now.iter().zip(words) {
        // ORDERING: Relaxed; `finish` releases them, or what publishes a segment.
        word.store(u64::from_le_bytes(*bytes), order::COUNT);
    }
    later
}

#[inline(always)]
pub(super) fn store_zeros(place: &[Word]) {
    for word in place {
        // ORDERING: as in `store_words`.
        word.store(0, order::COUNT);
    }
}

/// Reads the word at `offset`, if it is there.
#[inline]
fn word_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// Says whether what is at a place was written as a record of this very place, whole or not.
#[inline]
pub(crate) fn claims_place(bytes: &[u8], lsn: Lsn) -> bool {
    word_at(bytes, 8) == Some(lsn.get())
}

/// Returns how many units the record at a place claims to have; `None` if there is none, or its header is not there
/// in whole. Nothing is verified but that the record says it belongs here: a reader learns how much to read.
#[inline]
pub(crate) fn claimed_units(bytes: &[u8], lsn: Lsn) -> Option<usize> {
    if !claims_place(bytes, lsn) {
        return None;
    }
    let (_, length) = kind_and_length(word_at(bytes, 16)?)?;
    Some((RECORD_HEADER_BYTES + length).div_ceil(UNIT_BYTES))
}

/// Takes kind and payload length out of a record's third word.
#[inline]
fn kind_and_length(word: u64) -> Option<(u32, usize)> {
    let upper = (word >> 32) as u32;
    let length = (upper & ((1 << LENGTH_BITS) - 1)) as usize;
    let possible = match upper >> LENGTH_BITS {
        COMMIT => RECORD_HEADER_BYTES + length <= MAX_COMMIT_BYTES,
        MARKER => length == MARKER_PAYLOAD_BYTES,
        RESTART => length == RESTART_PAYLOAD_BYTES,
        _ => false,
    };
    possible.then_some((upper >> LENGTH_BITS, length))
}

/// Reads what is at a place, given its bytes and whatever follows; `None` if that is no record of this log at this LSN, or
/// is not there in whole. O(bytes of the record).
pub(crate) fn decode(bytes: &[u8], log: u64, lsn: Lsn) -> Option<Record<'_>> {
    let units = claimed_units(bytes, lsn)?;
    let bytes = bytes.get(..units * UNIT_BYTES)?;
    let (stamp, third) = (word_at(bytes, 0)?, word_at(bytes, 16)?);
    let (kind, length) = kind_and_length(third)?;
    let checksum = third as u32;
    let content = bytes.get(RECORD_HEADER_BYTES..)?;
    let (covered, _) = content.split_at_checked(length.next_multiple_of(WORD_BYTES))?;
    let (payload, padding) = content.split_at_checked(length)?;
    let seed = seed(log, lsn, (third >> 32) as u32).map(u64::to_le_bytes);
    let seeded = crc32c::crc32c(seed.as_flattened());
    // INVARIANT 1 and 2.
    if crc32c::crc32c_append(seeded, covered) != checksum || padding.iter().fold(0, |all, byte| all | byte) != 0 {
        return None;
    }
    let timestamp = |offset| word_at(payload, offset).map(Timestamp::from_raw);
    match kind {
        COMMIT => Some(Record::Commit {
            stamp: (stamp != EMPTY).then_some(Timestamp::from_raw(stamp)),
            checksum,
            units,
            writes: Writes::of(payload)?,
        }),
        _ if stamp != EMPTY => None,
        MARKER => Some(Record::Marker(Marker {
            cut: timestamp(0)?,
            previous: timestamp(8)?,
            count: word_at(payload, 16)?,
            sum: word_at(payload, 24)?,
        })),
        _ => Some(Record::Restart(Restart {
            last: timestamp(0)?,
            clock: timestamp(8)?,
        })),
    }
}

#[cfg(all(test, not(loom)))]
#[path = "record_tests.rs"]
mod tests;
