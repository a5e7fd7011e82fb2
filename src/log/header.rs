//! What a segment's file begins with, and how the files of a log are called.
//!
//! ```text
//! segment      0  magic "UNLATLOG"
//! (4096 bytes) 8  format version, u32          12  the segment's number, u32
//!             16  the log's random number, u64
//!             24  bytes of the segment, u32    28  CRC-32C of bytes 0..28, u32
//!             32  zero
//! ```
//!
//! Little-endian, as everything. Units follow (`record.rs`). A file gets its name, `segment-<number>.log`, when its header
//! is durable, and has a temporary one until then: under the name of a segment there is always a whole header.
#![forbid(unsafe_code)]

use super::record::{UNIT_BYTES, WORD_BYTES, store_words, store_zeros};
use crate::error::{Error, Result};
use crate::sync::Word;
use crate::types::Timestamp;

/// Bytes of a segment's file before its first unit: a page, so that no sector holds both.
pub(crate) const HEADER_BYTES: usize = 4_096;

/// Version of the bytes of segments and records. It changes with any of them.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The number of a log's first segment.
pub(crate) const FIRST_SEGMENT: u32 = 1;

/// What a segment's file begins with.
const MAGIC: [u8; 8] = *b"UNLATLOG";
/// Bytes of a segment's header that mean something; the rest of its page is zero.
const SEGMENT_HEADER_BYTES: usize = 32;
/// Bytes of a segment's header before its checksum.
const SEGMENT_HEADER_COVERED: usize = 28;

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    /// [`FORMAT_VERSION`], in a segment of this build.
    pub(crate) version: u32,
    /// The log's random number, the same in all its segments.
    pub(crate) log: u64,
    /// The segment's number.
    pub(crate) number: u32,
    /// Bytes of the segment, header included; its file may be longer.
    pub(crate) bytes: u32,
}

impl SegmentHeader {
    fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..SEGMENT_HEADER_COVERED]);
        bytes[28..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Writes a segment's first page.
///
/// # Panics
///
/// If there are fewer words than a page's.
pub(crate) fn encode_header(words: &[Word], header: &SegmentHeader) {
    let page = &words[..HEADER_BYTES / WORD_BYTES];
    store_zeros(store_words(page, header.to_bytes().as_chunks().0));
}

/// Reads the beginning of a segment's file; `path` is what errors call it.
///
/// # Errors
///
/// [`Error::Corrupt`] if this is no segment, or a damaged one; [`Error::FormatVersion`] if it is of another version.
pub(crate) fn decode_header(bytes: &[u8], path: &str) -> Result<SegmentHeader> {
    let corrupt = |offset: usize, reason: String| Error::Corrupt {
        segment: path.to_owned(),
        offset: offset as u64,
        reason,
    };
    if !bytes.starts_with(&MAGIC) {
        return Err(corrupt(0, "it is not a segment of a log".to_owned()));
    }
    let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
        return Err(corrupt(bytes.len(), "the file ends in its header".to_owned()));
    };
    let half = |offset: usize| {
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[offset..offset + 4]);
        u32::from_le_bytes(half)
    };
    let header = SegmentHeader {
        version: half(8),
        number: half(12),
        log: u64::from(half(16)) | u64::from(half(20)) << 32,
        bytes: half(24),
    };
    if header.version != FORMAT_VERSION {
        return Err(Error::FormatVersion {
            path: path.to_owned(),
            found: header.version,
            supported: FORMAT_VERSION,
        });
    }
    if crc32c::crc32c(&bytes[..SEGMENT_HEADER_COVERED]) != half(28) {
        return Err(corrupt(28, "the checksum of its header does not hold".to_owned()));
    }
    let length = header.bytes as usize;
    if length <= HEADER_BYTES || !length.is_multiple_of(UNIT_BYTES) {
        return Err(corrupt(24, format!("a segment cannot have {length} bytes")));
    }
    Ok(header)
}

/// Returns a number for a new log.
pub(crate) fn random_number() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

/// Returns the name of a segment's file.
pub(crate) fn segment_name(number: u32) -> String {
    format!("segment-{number:08x}.log")
}

/// Returns the number of the segment that a file of that name is, if it is one.
pub(crate) fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Returns the name of the file of a checkpoint at a cut.
pub(crate) fn checkpoint_name(cut: Timestamp) -> String {
    format!("checkpoint-{:016x}.ckpt", cut.get())
}

/// Returns the cut of the checkpoint that a file of that name is, if it is one.
pub(crate) fn checkpoint_cut(name: &str) -> Option<Timestamp> {
    let digits = name.strip_prefix("checkpoint-")?.strip_suffix(".ckpt")?;
    let cut = Timestamp::from_raw(u64::from_str_radix(digits, 16).ok()?);
    (checkpoint_name(cut) == name).then_some(cut)
}

/// Returns the name of a file until it is complete and durable.
pub(crate) fn temporary_name(name: &str) -> String {
    format!("{name}.tmp")
}

/// Says whether a file of that name never became complete: the remains of a crash, to be removed.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.ends_with(".tmp")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::order;

    const LOG: u64 = 0x0123_4567_89ab_cdef;

    /// Computed from the essay above by a program of its own, with a checksum of its own.
    const GOLDEN: &str = "554e4c41544c4f47010000002a000000efcdab8967452301000000043638f7e0";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_segment_header_has_its_golden_bytes() {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            log: LOG,
            number: 0x2a,
            bytes: 1 << 26,
        };
        let words: Vec<_> = (0..HEADER_BYTES / WORD_BYTES).map(|_| Word::new(7)).collect();
        encode_header(&words, &header);
        let word_bytes = |word: &Word| word.load(order::COUNT).to_le_bytes();
        let bytes: Vec<u8> = words.iter().flat_map(word_bytes).collect();
        assert_eq!(hex(&bytes[..32]), GOLDEN);
        assert!(bytes[32..].iter().all(|&byte| byte == 0));
        assert_eq!(decode_header(&bytes, "segment").expect("valid"), header);
    }

    #[test]
    fn damaged_segment_headers_are_told_apart() {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            log: LOG,
            number: 7,
            bytes: 1 << 20,
        };
        let bytes = header.to_bytes();
        let offset = |bytes: &[u8]| match decode_header(bytes, "name") {
            Err(Error::Corrupt { segment, offset, .. }) if segment == "name" => Some(offset),
            _ => None,
        };
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            match bit / 8 {
                0..8 => assert_eq!(offset(&flipped), Some(0)),
                8..12 => assert!(matches!(
                    decode_header(&flipped, "name"),
                    Err(Error::FormatVersion { found, supported: FORMAT_VERSION, .. }) if found == 1 ^ (1 << (bit - 64))
                )),
                _ => assert_eq!(offset(&flipped), Some(28), "bit {bit}"),
            }
        }
        assert_eq!(offset(&bytes[..31]), Some(31));
        assert_eq!(offset(&[]), Some(0));
        for bytes in [0, 4_096, 4_100] {
            let header = SegmentHeader { bytes, ..header };
            assert_eq!(offset(&header.to_bytes()), Some(24));
        }
    }

    #[test]
    fn names_read_back_and_others_are_refused() {
        for number in [0, 1, 0x2a, u32::MAX] {
            assert_eq!(segment_number(&segment_name(number)), Some(number));
        }
        assert_eq!(segment_name(0x2a), "segment-0000002a.log");
        for other in [
            "segment-2a.log",
            "segment-0000002A.log",
            "segment-+000002a.log",
            "segment-0000002a.log.tmp",
            "lock",
        ] {
            assert_eq!(segment_number(other), None, "{other}");
        }
        let cut = Timestamp::from_raw(0x1ff);
        assert_eq!(checkpoint_name(cut), "checkpoint-00000000000001ff.ckpt");
        assert_eq!(checkpoint_cut(&checkpoint_name(cut)), Some(cut));
        assert_eq!(checkpoint_cut("checkpoint-1ff.ckpt"), None);
        assert!(is_temporary(&temporary_name(&checkpoint_name(cut))));
        assert!(!is_temporary(&segment_name(1)));
    }
}
