//! Recorded block traces: CloudPhysics' lines to requests, and what a request writes.
//!
//! A line is `version,time,op,size,lbn`: version is 1, the time is in seconds, the operation a SCSI opcode in
//! hexadecimal (28 reads, 2a writes), the size is in bytes and the logical block number is the key. The first line
//! may be that heading. Anything else is refused with the number of its line, since a replay of half a trace would
//! look like a replay of the whole.
//!
//! What a put writes is not in a trace. [`Contents`] derives it from a seed and the request's number, as a slice
//! of one premade block of random bytes, so that no time is spent on making it and any byte can be checked later.
#![forbid(unsafe_code)]

use unlatched::MAX_VALUE_BYTES;

use super::random::{Random, split_mix};

/// The first line of a trace, optional.
const HEADING: &[u8] = b"version,time,op,size,lbn";

/// Over how many bytes the beginnings of contents are spread: two requests of one size write the same by a chance of
/// one in so many.
const SPREAD_BYTES: usize = 1 << 20;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Reads the value of a key.
    Get,
    /// Overwrites a key with so many bytes.
    Put,
}

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it does.
    pub kind: RequestKind,
    /// Its key, a logical block number.
    pub key: u64,
    /// How many bytes a put writes; of a get, how many were read when the trace was recorded.
    pub size: u32,
}

/// Why a trace can't be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A line is no request.
    #[error("line {line}: {reason}; expected \"version,time,op,size,lbn\", such as \"1,5633898,2a,512,42932745\"")]
    Malformed {
        /// Its number, from one.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A line has an operation that a replay has no meaning for.
    #[error("line {line}: unknown operation \"{operation}\"; known are 28 (read) and 2a (write)")]
    UnknownOperation {
        /// Its number, from one.
        line: usize,
        /// The operation as written.
        operation: String,
    },
    /// There is no request at all.
    #[error("the trace holds no request")]
    Empty,
}

/// Reads a CloudPhysics trace.
///
/// # Errors
///
/// Returns the first line that is no request, or [`TraceError::Empty`].
pub fn parse_cloudphysics(text: &[u8]) -> Result<Vec<Request>, TraceError> {
    let mut requests = Vec::new();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Err(TraceError::Empty);
    }
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if index == 0 && line == HEADING {
            continue;
        }
        requests.push(parse_line(index + 1, line)?);
    }
    if requests.is_empty() {
        Err(TraceError::Empty)
    } else {
        Ok(requests)
    }
}

fn parse_line(number: usize, line: &[u8]) -> Result<Request, TraceError> {
    let malformed = |reason: String| TraceError::Malformed { line: number, reason };
    let text = std::str::from_utf8(line).map_err(|_| malformed("not text".to_owned()))?;
    let fields: Vec<&str> = text.split(',').collect();
    let &[version, time, operation, size, key] = fields.as_slice() else {
        return Err(malformed(format!("{} fields instead of 5", fields.len())));
    };
    if version != "1" {
        return Err(malformed(format!("version \"{version}\" instead of 1")));
    }
    let whole = |name: &str, field: &str| -> Result<u64, TraceError> {
        field
            .parse()
            .map_err(|_| malformed(format!("{name} \"{field}\" is no whole number")))
    };
    whole("time", time)?;
    let kind = match operation {
        "28" => RequestKind::Get,
        "2a" | "2A" => RequestKind::Put,
        other => {
            return Err(TraceError::UnknownOperation {
                line: number,
                operation: other.to_owned(),
            });
        }
    };
    let bytes = whole("size", size)?;
    let size = match u32::try_from(bytes) {
        Ok(size) if size as usize <= MAX_VALUE_BYTES => size,
        _ => {
            return Err(malformed(format!(
                "size {bytes} is more than the {MAX_VALUE_BYTES} bytes a value may have"
            )));
        }
    };
    Ok(Request {
        kind,
        key: whole("lbn", key)?,
        size,
    })
}

/// What the puts of a replay write.
#[derive(Debug)]
pub struct Contents {
    seed: u64,
    block: Vec<u8>,
}

impl Contents {
    /// Makes contents for values of up to `largest` bytes.
    #[must_use]
    pub fn new(seed: u64, largest: usize) -> Self {
        let mut random = Random::new(seed);
        let words = (SPREAD_BYTES + largest).div_ceil(8);
        let block = (0..words).flat_map(|_| random.next_u64().to_le_bytes()).collect();
        Self { seed, block }
    }

    /// Returns what request number `number` writes, `size` bytes.
    ///
    /// # Panics
    ///
    /// If `size` is more than the contents were made for.
    #[inline]
    #[must_use]
    pub fn of(&self, number: usize, size: u32) -> &[u8] {
        let from = split_mix(self.seed ^ split_mix(number as u64)) as usize % SPREAD_BYTES;
        &self.block[from..from + size as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> TraceError {
        parse_cloudphysics(text.as_bytes()).expect_err("malformed")
    }

    #[test]
    fn lines_become_requests_with_and_without_heading() {
        let put = Request {
            kind: RequestKind::Put,
            key: 42_932_745,
            size: 512,
        };
        let get = Request {
            kind: RequestKind::Get,
            key: 7,
            size: 4_096,
        };
        let text = "version,time,op,size,lbn\n1,5633898,2a,512,42932745\r\n1,5633899,28,4096,7";
        assert_eq!(parse_cloudphysics(text.as_bytes()), Ok(vec![put, get]));
        assert_eq!(parse_cloudphysics(b"1,0,28,4096,7\n"), Ok(vec![get]));
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number() {
        let heading = "version,time,op,size,lbn\n1,1,28,1,1\n";
        for (line, complaint) in [
            ("1,2,28,512", "4 fields"),
            ("1,2,28,512,9,", "6 fields"),
            ("2,2,28,512,9", "version \"2\""),
            ("1,x,28,512,9", "time \"x\""),
            ("1,2,28,-5,9", "size \"-5\""),
            ("1,2,28,512,0x9", "lbn \"0x9\""),
            ("1,2,28,999999999999,9", "more than"),
            ("", "1 fields"),
            ("version,time,op,size,lbn", "version \"version\""),
        ] {
            let found = error(&format!("{heading}{line}\n1,1,28,1,1\n"));
            assert!(
                matches!(found, TraceError::Malformed { line: 3, .. }),
                "{line}: {found:?}"
            );
            assert!(found.to_string().contains(complaint), "{line}: {found}");
        }
        let binary = parse_cloudphysics(b"1,1,28,1,1\n\xff\xfe\n").expect_err("no text");
        assert!(matches!(binary, TraceError::Malformed { line: 2, .. }));
    }

    #[test]
    fn unknown_operations_and_empty_traces_are_refused() {
        assert_eq!(
            error("1,1,35,512,9\n"),
            TraceError::UnknownOperation {
                line: 1,
                operation: "35".to_owned()
            }
        );
        assert_eq!(error(""), TraceError::Empty);
        assert_eq!(error("version,time,op,size,lbn\n"), TraceError::Empty);
    }

    #[test]
    fn contents_follow_from_seed_and_number() {
        let (contents, other) = (Contents::new(3, 100), Contents::new(4, 100));
        assert_eq!(contents.of(9, 100), Contents::new(3, 100).of(9, 100));
        assert_ne!(contents.of(9, 100), contents.of(10, 100));
        assert_ne!(contents.of(9, 100), other.of(9, 100));
        assert!(contents.of(9, 0).is_empty());
        assert!((0..10_000).all(|number| contents.of(number, 100).len() == 100));
    }
}
