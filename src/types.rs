//! The words that every layer shares: timestamps, runs, type tags and encoded keys.
//!
//! One ordered key space holds every run. An encoded key is the run's 16 bytes, one byte of type tag,
//! then the user's bytes, so that a run is a range, a primitive within a run is a range, and a prefix
//! of user keys is a range. Keys up to [`INLINE_KEY_BYTES`] are stored without a second allocation.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest user key in bytes. Longer ones are refused with [`Error::KeyTooLong`](crate::Error::KeyTooLong).
pub const MAX_KEY_BYTES: usize = 65_519;

/// Longest value in bytes, as encoded. Longer ones are refused with
/// [`Error::ValueTooLarge`](crate::Error::ValueTooLarge).
pub const MAX_VALUE_BYTES: usize = 256 << 20;

/// Encoded keys (16 bytes of run, one of type tag, then the user's) of up to this many bytes are held in place: those of
/// up to 29 bytes of the user's. A longer one is allocated by each operation that is given it.
pub const INLINE_KEY_BYTES: usize = 46;

/// Bytes that precede the user's key in an encoded key: 16 of the run and one of the type tag.
const PREFIX_BYTES: usize = 17;

/// A position in the order of commits.
///
/// A snapshot with read timestamp `r` sees exactly the commits whose timestamp is at most `r`. Timestamps
/// are not times: they only say what came before what. [`Timestamp::ABSENT`] is smaller than every commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp of a key that does not exist; what [`Database::cas`](crate::Database::cas) expects for "absent".
    pub const ABSENT: Self = Self(0);
    /// Greater than every commit; a read at it sees the latest.
    pub(crate) const LATEST: Self = Self(u64::MAX >> 3);

    /// Builds a timestamp from a number obtained by [`get`](Self::get).
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the timestamp as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ts{}", self.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A put or transaction of the memory half that has a record in the log. The log keeps it as one word and knows nothing
/// of what it stands for; only the store that made it can use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enlisted(*mut ());

impl Enlisted {
    /// Wraps an address greater than [`RESERVED`](Self::RESERVED).
    #[inline]
    pub(crate) fn from_ptr(ptr: *mut ()) -> Self {
        debug_assert!(ptr.addr() > Self::RESERVED);
        Self(ptr)
    }

    /// Returns the address.
    #[inline]
    pub(crate) fn as_ptr(self) -> *mut () {
        self.0
    }

    /// Addresses up to this one stand for nothing: a log may use them for marks of its own.
    pub(crate) const RESERVED: usize = 64;
}

/// How a write that has a record in the log stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its timestamp will be drawn later than any that exists.
    Active,
    /// Committed, for good.
    Committed(Timestamp),
    /// It never was.
    Aborted,
}

/// A byte position in the log: the number of a segment in the upper half, the offset in its file in the lower one. No two
/// records ever have the same one, whatever is recycled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Builds the position of a byte of a segment.
    #[must_use]
    pub const fn new(segment: u32, offset: u32) -> Self {
        Self((segment as u64) << 32 | offset as u64)
    }

    /// Builds a position from a number obtained by [`get`](Self::get).
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the position as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the segment's number.
    #[must_use]
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the offset in the segment's file, in bytes.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.segment(), self.offset())
    }
}

/// A run: an independent name space of keys, named by a random UUID (version 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId([u8; 16]);

impl RunId {
    /// Returns a new random run id.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two defaults that differ would surprise")]
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// Builds a run id from its 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses the hyphenated form that [`Display`](fmt::Display) prints; `None` if it is no UUID.
    #[must_use]
    pub fn from_string(text: &str) -> Option<Self> {
        uuid::Uuid::parse_str(text).ok().map(|id| Self(id.into_bytes()))
    }

    /// Returns the 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

/// Which primitive a record belongs to; part of its key, so that two primitives never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum TypeTag {
    /// Plain bytes, written through [`Database`](crate::Database) itself.
    Raw = 0,
    /// A record of [`KVStore`](crate::KVStore).
    KV = 1,
    /// A record of an event log.
    Event = 2,
    /// A record of a state cell.
    State = 3,
    /// A record of a trace store.
    Trace = 4,
    /// A record of a run index.
    Run = 5,
}

impl TypeTag {
    /// Returns the tag written as `byte`, if there is one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Raw,
            1 => Self::KV,
            2 => Self::Event,
            3 => Self::State,
            4 => Self::Trace,
            5 => Self::Run,
            _ => return None,
        })
    }
}

/// Returns the user's part of an encoded key.
#[inline]
pub(crate) fn user_key(encoded: &[u8]) -> &[u8] {
    &encoded[PREFIX_BYTES..]
}

/// An encoded key: run, type tag and user key in one string of bytes whose order is the order of the store.
#[derive(Clone)]
pub struct Key(Repr);

/// Short keys lie inside the key, hence inside an index node; long ones behind a pointer.
#[derive(Clone)]
enum Repr {
    Inline(Inline),
    Heap(Box<[u8]>),
}

/// A short key, padded with zeros.
#[derive(Clone)]
struct Inline {
    length: u8,
    bytes: [u8; INLINE_KEY_BYTES],
}

const _: () = assert!(size_of::<Key>() == 48 && INLINE_KEY_BYTES > 40);
// What the documentation of the public types says.
const _: () = assert!(INLINE_KEY_BYTES - PREFIX_BYTES == 29);

impl Inline {
    /// Compares eight bytes at a time. With the padding equal strings of zeros are told apart by their length, and
    /// any other difference is where the unpadded strings differ.
    #[inline]
    fn compare(&self, other: &Self) -> Ordering {
        // The last word overlaps the one before it.
        for start in [0, 8, 16, 24, 32, INLINE_KEY_BYTES - 8] {
            let word = |bytes: &[u8; INLINE_KEY_BYTES]| {
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[start..start + 8]);
                u64::from_be_bytes(word)
            };
            let (mine, others) = (word(&self.bytes), word(&other.bytes));
            if mine != others {
                return mine.cmp(&others);
            }
        }
        self.length.cmp(&other.length)
    }
}

impl Key {
    /// Encodes a key. Lengths are checked at the engine's face, not here.
    #[inline]
    #[must_use]
    pub fn new(run: &RunId, tag: TypeTag, user_key: &[u8]) -> Self {
        let length = PREFIX_BYTES + user_key.len();
        if length <= INLINE_KEY_BYTES {
            let mut bytes = [0; INLINE_KEY_BYTES];
            bytes[..16].copy_from_slice(&run.0);
            bytes[16] = tag as u8;
            bytes[PREFIX_BYTES..length].copy_from_slice(user_key);
            return Self(Repr::Inline(Inline {
                length: length as u8,
                bytes,
            }));
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&run.0);
        bytes.push(tag as u8);
        bytes.extend_from_slice(user_key);
        Self(Repr::Heap(bytes.into_boxed_slice()))
    }

    /// Takes bytes that were encoded before.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Self {
        if encoded.len() > INLINE_KEY_BYTES {
            return Self(Repr::Heap(encoded.into()));
        }
        let mut bytes = [0; INLINE_KEY_BYTES];
        bytes[..encoded.len()].copy_from_slice(encoded);
        Self(Repr::Inline(Inline {
            length: encoded.len() as u8,
            bytes,
        }))
    }

    /// Returns the encoded bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(inline) => &inline.bytes[..usize::from(inline.length)],
            Repr::Heap(bytes) => bytes,
        }
    }

    /// Returns the first `N` encoded bytes, zeros in place of those that a shorter key lacks.
    #[inline]
    pub(crate) fn padded_prefix<const N: usize>(&self) -> [u8; N] {
        const { assert!(N <= INLINE_KEY_BYTES) }
        let bytes: &[u8] = match &self.0 {
            Repr::Inline(inline) => &inline.bytes,
            Repr::Heap(bytes) => bytes,
        };
        let mut prefix = [0; N];
        prefix.copy_from_slice(&bytes[..N]);
        prefix
    }

    /// Returns how many bytes the key holds beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline(_) => 0,
            Repr::Heap(bytes) => bytes.len(),
        }
    }

    /// Returns the run that the key belongs to.
    ///
    /// # Panics
    ///
    /// Never for a key made by [`Key::new`].
    #[must_use]
    pub fn run(&self) -> RunId {
        let mut run = [0; 16];
        run.copy_from_slice(&self.as_bytes()[..16]);
        RunId(run)
    }

    /// Returns the primitive that the key belongs to; `None` only for bytes no [`Key::new`] made.
    #[must_use]
    pub fn tag(&self) -> Option<TypeTag> {
        TypeTag::from_byte(self.as_bytes()[16])
    }

    /// Returns the user's part.
    #[must_use]
    pub fn user_key(&self) -> &[u8] {
        user_key(self.as_bytes())
    }

    /// Returns the smallest encoded string that is greater than every key starting with these bytes;
    /// `None` if there is none, since all bytes are 255.
    #[must_use]
    pub(crate) fn prefix_end(&self) -> Option<Self> {
        let mut bytes = self.as_bytes().to_vec();
        while let Some(last) = bytes.last_mut() {
            if *last < u8::MAX {
                *last += 1;
                return Some(Self::from_encoded(&bytes));
            }
            bytes.pop();
        }
        None
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Inline(mine), Repr::Inline(others)) => mine.compare(others),
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Key {
    /// The user's key as text where it is text, escaped where it is not, then the run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" of run {}", self.user_key().escape_ascii(), self.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_run_are_a_range() {
        let run = RunId::from_bytes([7; 16]);
        let next = RunId::from_bytes([8; 16]);
        let low = Key::new(&run, TypeTag::Raw, b"");
        let high = Key::new(&run, TypeTag::Run, &[255; 9]);
        let mid = Key::new(&run, TypeTag::KV, b"k");
        assert!(low < mid && mid < high && high < Key::new(&next, TypeTag::Raw, b""));
        assert_eq!(
            (mid.run(), mid.tag(), mid.user_key()),
            (run, Some(TypeTag::KV), &b"k"[..])
        );
    }

    /// Every pair of keys around the inline limit, zeros and 255s included, orders as its bytes do.
    #[test]
    fn keys_order_as_their_bytes_wherever_they_are_stored() {
        let run = RunId::from_bytes([9; 16]);
        let mut user_keys: Vec<Vec<u8>> = Vec::new();
        for length in [0, 1, 2, 7, 22, 23, 24, 28, 29, 30, 31, 60] {
            for fill in [0, 1, 255] {
                let mut user_key = vec![fill; length];
                user_keys.push(user_key.clone());
                if let Some(last) = user_key.last_mut() {
                    *last = 7;
                    user_keys.push(user_key);
                }
            }
        }
        for a in &user_keys {
            for b in &user_keys {
                let (left, right) = (Key::new(&run, TypeTag::KV, a), Key::new(&run, TypeTag::KV, b));
                assert_eq!(left.cmp(&right), a.cmp(b), "{a:?} against {b:?}");
                assert_eq!(left == right, a == b);
                assert_eq!(left.user_key(), a);
            }
        }
    }

    #[test]
    fn prefix_end_bounds_the_prefix_tightly() {
        let run = RunId::from_bytes([0; 16]);
        let end = Key::new(&run, TypeTag::KV, b"a\xff").prefix_end().expect("not all 255");
        assert!(Key::new(&run, TypeTag::KV, b"a\xff\xff\xff") < end);
        assert!(Key::new(&run, TypeTag::KV, b"b") >= end);
        assert_eq!(Key::from_encoded(&[255; 4]).prefix_end(), None);
    }

    #[test]
    fn run_ids_survive_their_text_form() {
        let run = RunId::new();
        assert_eq!(RunId::from_string(&run.to_string()), Some(run));
        assert_eq!(RunId::from_string("not a uuid"), None);
    }
}
