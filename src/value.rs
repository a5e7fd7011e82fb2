//! `Value`, what the typed facades store, and its bytes.
//!
//! Encoding and decoding are pure functions over slices. A value is one tag byte and what the tag calls for;
//! every number is little-endian, and nothing is padded or aligned:
//!
//! ```text
//!   byte   0     1                         9
//!          +-----+
//!   Null   |  0  |
//!          +-----+
//!   Bool   | 1|2 |                                    1 is false, 2 is true
//!          +-----+-------------------------+
//!   I64    |  3  | two's complement, 8     |
//!          +-----+-------------------------+
//!   F64    |  4  | IEEE 754 binary64, 8    |          every bit kept: -0.0 and NaN payloads too
//!          +-----+------------+------------+--- -
//!   String |  5  | length, 4  | UTF-8, `length` bytes
//!          +-----+------------+------------------ -
//!   Bytes  |  6  | length, 4  | `length` bytes
//!          +-----+------------+------------------ -
//!   Array  |  7  | count, 4   | `count` values, one after the other
//!          +-----+------------+------------------ -
//!   Map    |  8  | count, 4   | `count` times: key length, 4; key, UTF-8; value
//!          +-----+------------+------------------ -
//! ```
//!
//! **Invariants**
//!
//! 1. One value, one string of bytes: map entries are written in ascending byte order of their keys. So values
//!    that differ in no bit have equal bytes, whatever order their hash maps iterate in, and two encodings can be
//!    compared or hashed instead of two values. (`0.0 == -0.0`, yet their bits and so their bytes differ.)
//! 2. [`Value::decode`] accepts exactly what [`Value::encode`] writes: keys out of order, a key twice, a length
//!    beyond the end, text that is not UTF-8, an unknown tag, and bytes left over are each refused, by position.
//! 3. Hostile bytes cost no more than honest ones of the same length: a count is believed only as far as the
//!    remaining bytes could hold that many entries, space is set aside for at most [`TRUSTED_COUNT`] entries before
//!    the first is decoded, and nesting ends at [`MAX_VALUE_DEPTH`] levels, well before the stack does.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::error::{Error, Result};

/// How deep arrays and maps may nest: a number or text has depth 1, an array of numbers 2.
///
/// Encoding and decoding recurse once per level; 128 levels need a few tens of kilobytes of stack, which the
/// smallest common thread stacks have.
pub const MAX_VALUE_DEPTH: usize = 128;

/// Entries for which decoding sets space aside on the word of a count alone. Larger arrays and maps grow as
/// their entries prove to be there, so that nested false counts cannot multiply.
const TRUSTED_COUNT: usize = 256;

/// Maps up to this many entries are sorted in place on the stack; larger ones allocate the list that is sorted.
const INLINE_MAP_ENTRIES: usize = 16;

/// A tag byte.
const TAG_BYTES: usize = 1;
/// A tag byte and a number of eight bytes.
const NUMBER_BYTES: usize = TAG_BYTES + 8;
/// A length or count.
const LENGTH_BYTES: usize = 4;
/// The least that a map entry occupies: the length of an empty key and a value without content.
const SMALLEST_ENTRY_BYTES: usize = LENGTH_BYTES + TAG_BYTES;

/// The tag bytes. They are on disk: a tag is never given a second meaning.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const I64: u8 = 3;
    pub(super) const F64: u8 = 4;
    pub(super) const STRING: u8 = 5;
    pub(super) const BYTES: u8 = 6;
    pub(super) const ARRAY: u8 = 7;
    pub(super) const MAP: u8 = 8;
}

/// What the typed facades store: JSON's shapes, with integers and byte strings of their own.
///
/// ```
/// use unlatched::Value;
///
/// let value = Value::from(42);
/// let mut bytes = vec![0; value.encoded_len()];
/// value.encode(&mut bytes);
/// assert_eq!(bytes, [3, 42, 0, 0, 0, 0, 0, 0, 0]);
/// assert_eq!(Value::decode(&bytes)?, value);
/// # Ok::<(), unlatched::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing. A key that holds `Null` exists all the same.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// A floating-point number, kept bit for bit.
    F64(f64),
    /// Text.
    String(String),
    /// Bytes that need not be text.
    Bytes(Vec<u8>),
    /// A list, in order.
    Array(Vec<Value>),
    /// Entries by name, without an order of their own.
    Map(HashMap<String, Value>),
}

impl Value {
    /// Returns how many bytes [`encode`](Self::encode) writes.
    ///
    /// # Panics
    ///
    /// If the value nests deeper than [`MAX_VALUE_DEPTH`]; the facades ask with [`measure`](Self::measure) first.
    #[inline]
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.len_within(MAX_VALUE_DEPTH)
            .expect("a value nests at most MAX_VALUE_DEPTH levels deep")
    }

    /// Returns how many bytes [`encode`](Self::encode) writes, if it can encode this value.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOperation`] if the value nests deeper than [`MAX_VALUE_DEPTH`].
    #[inline]
    pub fn measure(&self) -> Result<usize> {
        if let Self::I64(_) = self {
            return Ok(NUMBER_BYTES);
        }
        self.len_within(MAX_VALUE_DEPTH).ok_or_else(|| {
            Error::InvalidOperation(format!(
                "the value nests deeper than {MAX_VALUE_DEPTH} levels; store its inner parts under keys of their own"
            ))
        })
    }

    /// Encodes the value into `out`, which has exactly [`encoded_len`](Self::encoded_len) bytes.
    ///
    /// Allocates nothing, unless a map has more than 16 entries: their order is then worked out on the heap.
    ///
    /// # Panics
    ///
    /// If `out` has another length, if the value nests deeper than [`MAX_VALUE_DEPTH`], or if one of its texts,
    /// byte strings, arrays or maps has more than `u32::MAX` bytes or entries (the engine refuses values that long
    /// before it encodes them).
    #[inline]
    pub fn encode(&self, out: &mut [u8]) {
        if let (Self::I64(number), [first, rest @ ..]) = (self, &mut *out) {
            *first = tag::I64;
            rest.copy_from_slice(&number.to_le_bytes());
            return;
        }
        let mut writer = Writer { out };
        writer.value(self, MAX_VALUE_DEPTH);
        assert!(
            writer.out.is_empty(),
            "the slice to encode into is {} bytes too long",
            writer.out.len()
        );
    }

    /// Decodes a value from exactly the bytes that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] with the place and the reason, if no value has these bytes.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if let [tag::I64, number @ ..] = bytes
            && let Ok(number) = number.try_into()
        {
            return Ok(Self::I64(i64::from_le_bytes(number)));
        }
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.value(MAX_VALUE_DEPTH)?;
        if reader.at < bytes.len() {
            Err(reader.refuse("bytes left over after the value"))
        } else {
            Ok(value)
        }
    }

    /// Says whether this is [`Value::Null`].
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Returns the integer, if it is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::I64(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the floating-point number, if it is one; an integer is not converted.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F64(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the text, if it is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the bytes, if it is a byte string; text is not converted.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the elements, if it is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the entries, if it is a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&HashMap<String, Value>> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The encoded length, or `None` if more than `depth` levels nest.
    fn len_within(&self, depth: usize) -> Option<usize> {
        let inner = depth.checked_sub(1)?;
        Some(match self {
            Self::Null | Self::Bool(_) => TAG_BYTES,
            Self::I64(_) | Self::F64(_) => NUMBER_BYTES,
            Self::String(text) => TAG_BYTES + LENGTH_BYTES + text.len(),
            Self::Bytes(bytes) => TAG_BYTES + LENGTH_BYTES + bytes.len(),
            Self::Array(elements) => {
                let mut len = TAG_BYTES + LENGTH_BYTES;
                for element in elements {
                    len += element.len_within(inner)?;
                }
                len
            }
            Self::Map(entries) => {
                let mut len = TAG_BYTES + LENGTH_BYTES;
                for (key, value) in entries {
                    len += LENGTH_BYTES + key.len() + value.len_within(inner)?;
                }
                len
            }
        })
    }
}

/// Fills a slice from the front; `out` is what is still empty.
struct Writer<'o> {
    out: &'o mut [u8],
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let room = self
            .out
            .split_off_mut(..bytes.len())
            .expect("the slice to encode into has encoded_len bytes");
        room.copy_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).expect("a length in a value is at most u32::MAX");
        self.bytes(&length.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes(text.as_bytes());
    }

    /// Writes a value of at most `depth` levels.
    fn value(&mut self, value: &Value, depth: usize) {
        assert!(depth > 0, "a value nests at most MAX_VALUE_DEPTH levels deep");
        match value {
            Value::Null => self.bytes(&[tag::NULL]),
            Value::Bool(false) => self.bytes(&[tag::FALSE]),
            Value::Bool(true) => self.bytes(&[tag::TRUE]),
            Value::I64(number) => {
                self.bytes(&[tag::I64]);
                self.bytes(&number.to_le_bytes());
            }
            Value::F64(number) => {
                self.bytes(&[tag::F64]);
                self.bytes(&number.to_bits().to_le_bytes());
            }
            Value::String(text) => {
                self.bytes(&[tag::STRING]);
                self.text(text);
            }
            Value::Bytes(bytes) => {
                self.bytes(&[tag::BYTES]);
                self.length(bytes.len());
                self.bytes(bytes);
            }
            Value::Array(elements) => {
                self.bytes(&[tag::ARRAY]);
                self.length(elements.len());
                for element in elements {
                    self.value(element, depth - 1);
                }
            }
            Value::Map(entries) => self.map(entries, depth),
        }
    }

    fn map(&mut self, entries: &HashMap<String, Value>, depth: usize) {
        self.bytes(&[tag::MAP]);
        self.length(entries.len());
        let mut sorted: SmallVec<[(&String, &Value); INLINE_MAP_ENTRIES]> = entries.iter().collect();
        // INVARIANT 1: a map's keys are distinct, so an unstable sort has one result.
        sorted.sort_unstable_by_key(|&(key, _)| key);
        for (key, value) in sorted {
            self.text(key);
            self.value(value, depth - 1);
        }
    }
}

/// Takes a slice apart from the front; `at` is the first byte not yet taken.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// The error that decoding ends with at the present place.
    #[cold]
    fn refuse(&self, reason: &'static str) -> Error {
        Error::InvalidValue {
            offset: self.at,
            reason,
        }
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, len: usize, missing: &'static str) -> Result<&'b [u8]> {
        if len > self.remaining() {
            return Err(self.refuse(missing));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, missing: &'static str) -> Result<[u8; N]> {
        let taken = self.take(N, missing)?;
        Ok(taken.try_into().expect("take returns as many bytes as were asked for"))
    }

    /// Takes a length or count, and refuses it if that many items of `smallest` bytes cannot follow.
    fn length(&mut self, smallest: usize, too_large: &'static str) -> Result<usize> {
        let start = self.at;
        let length = u32::from_le_bytes(self.array("the bytes end inside a length")?);
        // INVARIANT 3: checked before anything is allocated for it.
        match usize::try_from(length) {
            Ok(length) if length <= self.remaining() / smallest => Ok(length),
            _ => {
                self.at = start;
                Err(self.refuse(too_large))
            }
        }
    }

    fn byte_string(&mut self) -> Result<&'b [u8]> {
        let length = self.length(1, "a length reaches beyond the end")?;
        self.take(length, "a length reaches beyond the end")
    }

    fn text(&mut self) -> Result<&'b str> {
        let start = self.at + LENGTH_BYTES;
        let bytes = self.byte_string()?;
        std::str::from_utf8(bytes).map_err(|error| Error::InvalidValue {
            offset: start + error.valid_up_to(),
            reason: "a text is not UTF-8",
        })
    }

    /// Decodes a value of at most `depth` levels.
    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth == 0 {
            return Err(self.refuse("arrays and maps nest too deep"));
        }
        let [found] = self.array("the bytes end where a value begins")?;
        Ok(match found {
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::I64 => Value::I64(i64::from_le_bytes(self.array("the bytes end inside a number")?)),
            tag::F64 => {
                let bits = u64::from_le_bytes(self.array("the bytes end inside a number")?);
                Value::F64(f64::from_bits(bits))
            }
            tag::STRING => Value::String(self.text()?.to_owned()),
            tag::BYTES => Value::Bytes(self.byte_string()?.to_vec()),
            tag::ARRAY => self.elements(depth)?,
            tag::MAP => self.entries(depth)?,
            _ => {
                self.at -= TAG_BYTES;
                return Err(self.refuse("unknown tag"));
            }
        })
    }

    fn elements(&mut self, depth: usize) -> Result<Value> {
        let count = self.length(TAG_BYTES, "an array counts more elements than the bytes can hold")?;
        let mut elements = Vec::with_capacity(count.min(TRUSTED_COUNT));
        for _ in 0..count {
            elements.push(self.value(depth - 1)?);
        }
        Ok(Value::Array(elements))
    }

    fn entries(&mut self, depth: usize) -> Result<Value> {
        let count = self.length(
            SMALLEST_ENTRY_BYTES,
            "a map counts more entries than the bytes can hold",
        )?;
        let mut entries = HashMap::with_capacity(count.min(TRUSTED_COUNT));
        let mut previous: Option<&str> = None;
        for _ in 0..count {
            let start = self.at;
            let key = self.text()?;
            // INVARIANT 2: strictly ascending, hence sorted and without a key twice.
            if let Some(previous) = previous
                && previous >= key
            {
                self.at = start;
                let reason = if previous == key {
                    "a map has a key twice"
                } else {
                    "a map's keys are out of order"
                };
                return Err(self.refuse(reason));
            }
            previous = Some(key);
            let value = self.value(depth - 1)?;
            entries.insert(key.to_owned(), value);
        }
        Ok(Value::Map(entries))
    }
}

/// Implements `From` for types that one variant holds, after a conversion that loses nothing.
macro_rules! value_from {
    ($($source:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$source> for Value {
            #[inline]
            fn from(source: $source) -> Self {
                Self::$variant(source.into())
            }
        }
    )+};
}

value_from! {
    bool => Bool,
    i64 => I64,
    i32 => I64,
    u32 => I64,
    f64 => F64,
    f32 => F64,
    String => String,
    &str => String,
    Vec<u8> => Bytes,
    &[u8] => Bytes,
    Vec<Value> => Array,
    HashMap<String, Value> => Map,
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    /// `None` becomes [`Value::Null`].
    fn from(source: Option<T>) -> Self {
        source.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = vec![0xAA; value.encoded_len()];
        value.encode(&mut bytes);
        bytes
    }

    fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// Asserts that `bytes` are no value, since `reason`, at `offset`.
    #[track_caller]
    fn refused(bytes: &[u8], offset: usize, reason: &str) {
        match Value::decode(bytes) {
            Err(Error::InvalidValue {
                offset: at,
                reason: why,
            }) => {
                assert_eq!(at, offset, "{why}");
                assert!(why.contains(reason), "{why}");
            }
            other => panic!("{bytes:?} should be no value, but gave {other:?}"),
        }
    }

    /// An array in an array in an array, `depth` levels in all, with `Null` innermost.
    fn nested(depth: usize) -> Value {
        (1..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    /// The bytes of every variant, written out by hand: what is on disk must stay readable.
    #[test]
    fn golden_bytes() {
        let golden: [(Value, &[u8]); 12] = [
            (Value::Null, &[0]),
            (Value::Bool(false), &[1]),
            (Value::Bool(true), &[2]),
            (Value::I64(-2), &[3, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (Value::I64(0x0102_0304_0506_0708), &[3, 8, 7, 6, 5, 4, 3, 2, 1]),
            (Value::F64(1.0), &[4, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F]),
            (Value::F64(-0.0), &[4, 0, 0, 0, 0, 0, 0, 0, 0x80]),
            (Value::from("hé"), &[5, 3, 0, 0, 0, b'h', 0xC3, 0xA9]),
            (Value::from(vec![0xFF_u8, 0]), &[6, 2, 0, 0, 0, 0xFF, 0]),
            (
                Value::Array(vec![Value::Null, Value::Array(vec![])]),
                &[7, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0],
            ),
            (Value::Map(HashMap::new()), &[8, 0, 0, 0, 0]),
            (
                map([("b", Value::Bool(true)), ("", Value::Null), ("aa", Value::from("x"))]),
                &[
                    8, 3, 0, 0, 0, // three entries, "" first
                    0, 0, 0, 0, 0, //
                    2, 0, 0, 0, b'a', b'a', 5, 1, 0, 0, 0, b'x', //
                    1, 0, 0, 0, b'b', 2,
                ],
            ),
        ];
        for (value, bytes) in golden {
            assert_eq!(encoded(&value), bytes, "{value:?}");
            assert_eq!(Value::decode(bytes).expect("golden bytes decode"), value);
            assert_eq!(value.measure().expect("shallow"), bytes.len());
        }
    }

    #[test]
    fn malformed_bytes_are_refused_at_their_place() {
        refused(&[], 0, "end where a value begins");
        refused(&[9], 0, "unknown tag");
        refused(&[0, 0], 1, "left over");
        refused(&[3, 1, 2, 3], 1, "inside a number");
        refused(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 7], 9, "left over");
        refused(&[5, 1, 0, 0], 1, "inside a length");
        refused(&[5, 2, 0, 0, 0, b'x'], 1, "beyond the end");
        refused(&[5, 2, 0, 0, 0, b'x', 0xFF], 6, "not UTF-8");
        refused(&[6, 255, 255, 255, 255], 1, "beyond the end");
        refused(&[7, 255, 255, 255, 255, 0], 1, "more elements");
        refused(&[8, 1, 0, 0, 0, 0, 0, 0, 0], 1, "more entries");
        let twice = [8, 2, 0, 0, 0, 1, 0, 0, 0, b'a', 0, 1, 0, 0, 0, b'a', 0];
        refused(&twice, 11, "twice");
        let unsorted = [8, 2, 0, 0, 0, 1, 0, 0, 0, b'b', 0, 1, 0, 0, 0, b'a', 0];
        refused(&unsorted, 11, "out of order");
    }

    #[test]
    fn nesting_is_bounded_both_ways() {
        let deepest = nested(MAX_VALUE_DEPTH);
        assert_eq!(Value::decode(&encoded(&deepest)).expect("at the limit"), deepest);

        let error = nested(MAX_VALUE_DEPTH + 1).measure().expect_err("beyond the limit");
        assert!(error.to_string().contains("nests deeper"), "{error}");

        // A million opening arrays, each of one element: decoding must stop long before the stack does.
        let hostile = [tag::ARRAY, 1, 0, 0, 0].repeat(1_000_000);
        refused(&hostile, 5 * MAX_VALUE_DEPTH, "nest too deep");
    }

    /// Each level claims as many elements as the remaining bytes could hold; the claims must not add up to memory.
    #[test]
    fn false_counts_reserve_little() {
        let mut hostile = Vec::new();
        for _ in 0..MAX_VALUE_DEPTH {
            hostile.push(tag::ARRAY);
            hostile.extend_from_slice(&900_000_u32.to_le_bytes());
        }
        hostile.resize(1_000_000, 0xEE);
        refused(&hostile, 5 * MAX_VALUE_DEPTH, "nest too deep");
    }

    #[test]
    fn equal_maps_have_equal_bytes() {
        let names: Vec<String> = (0..100).map(|number| format!("name {number}")).collect();
        let entry = |name: &String| (name.clone(), Value::from(name.as_str()));
        let forwards: HashMap<_, _> = names.iter().map(entry).collect();
        let backwards: HashMap<_, _> = names.iter().rev().map(entry).collect();
        assert_eq!(encoded(&Value::Map(forwards)), encoded(&Value::Map(backwards)));
    }

    #[test]
    fn not_a_number_keeps_its_bits() {
        let bits = 0x7FF8_0000_DEAD_BEEF;
        let decoded = Value::decode(&encoded(&Value::F64(f64::from_bits(bits)))).expect("a number");
        assert_eq!(decoded.as_f64().map(f64::to_bits), Some(bits));
    }

    #[test]
    #[should_panic(expected = "too long")]
    fn a_slice_too_long_is_a_caller_bug() {
        Value::Null.encode(&mut [0; 2]);
    }

    #[test]
    #[should_panic(expected = "encoded_len bytes")]
    fn a_slice_too_short_is_a_caller_bug() {
        Value::from("text").encode(&mut [0; 6]);
    }

    #[test]
    fn conversions_choose_the_obvious_variant() {
        assert_eq!(Value::from(7), Value::I64(7));
        assert_eq!(Value::from("a"), Value::String("a".to_owned()));
        assert_eq!(Value::from(&b"a"[..]), Value::Bytes(b"a".to_vec()));
        assert_eq!(Value::from(None::<i64>), Value::Null);
        assert_eq!(Value::from(Some(true)), Value::Bool(true));
    }
}
