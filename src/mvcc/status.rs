//! The status of a put or transaction in one word, and the transitions it may make.
//!
//! ```text
//!   63                              3 2   0
//!  +---------------------------------+-----+
//!  | timestamp, write number, address| tag |
//!  +---------------------------------+-----+
//!
//!  ACTIVE ----> PREPARED ----> COMMITTED(ts)
//!     |
//!     +-------> ABORTED(write)                       transactions, and puts that have a record in a log
//! ```
//!
//! A put is born PREPARED; one that has a record in a log is born ACTIVE, and becomes PREPARED once it is linked. A
//! version's word holds either a status (puts) or OWNER and the address of the
//! transaction's descriptor, whose status then counts; addresses are multiples of 8, so three bits are free for the
//! tag. COMMITTED and ABORTED are final. PREPARED is never aborted: once everything is linked only the timestamp is
//! open. ABORTED carries the number of the write at which the conflict was found, so that the error can name its key
//! whoever found it. Tag 2 is kept for validation at a drawn timestamp.
#![forbid(unsafe_code)]

use crate::types::Timestamp;

const _: () = assert!(
    usize::BITS == 64,
    "status words hold 61-bit timestamps beside addresses"
);

/// Width of the tag.
const TAG_BITS: u32 = 3;
/// Selects the tag.
pub(super) const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
/// Versions are being linked.
const ACTIVE: u64 = 0;
/// All versions are linked; a timestamp may be drawn.
const PREPARED: u64 = 1;
/// Final.
const COMMITTED: u64 = 3;
/// Final.
const ABORTED: u64 = 4;
/// In a version's word only: the rest is the address of a descriptor.
pub(super) const OWNER: u64 = 5;

/// Instead of a write's number: whoever reads the log gave the put or transaction up, and its owner tries again.
pub(super) const DROPPED: usize = (1 << (64 - TAG_BITS)) - 1;

/// Where a put or transaction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// Versions are being linked. Its timestamp will be drawn later than any that exists.
    Active,
    /// Everything is linked. Anyone may draw its timestamp and decide it.
    Prepared,
    /// Decided.
    Committed(Timestamp),
    /// Decided; a conflict was found at the write of this number, or it was given up ([`DROPPED`]).
    Aborted(usize),
}

impl Status {
    /// Packs the status into a word.
    #[inline]
    pub(super) const fn encode(self) -> u64 {
        match self {
            Self::Active => ACTIVE,
            Self::Prepared => PREPARED,
            Self::Committed(ts) => ts.get() << TAG_BITS | COMMITTED,
            Self::Aborted(write) => (write as u64) << TAG_BITS | ABORTED,
        }
    }

    /// Unpacks a word that holds a status.
    #[inline]
    pub(super) fn decode(word: u64) -> Self {
        let rest = word >> TAG_BITS;
        match word & TAG_MASK {
            ACTIVE => Self::Active,
            PREPARED => Self::Prepared,
            COMMITTED => Self::Committed(Timestamp::from_raw(rest)),
            ABORTED => Self::Aborted(rest as usize),
            tag => unreachable!("status words have no tag {tag}"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_status_survives_its_word() {
        let statuses = [
            Status::Active,
            Status::Prepared,
            Status::Committed(Timestamp::LATEST),
            Status::Committed(Timestamp::from_raw(1)),
            Status::Aborted(0),
            Status::Aborted(70_000),
            Status::Aborted(DROPPED),
        ];
        for status in statuses {
            assert_eq!(Status::decode(status.encode()), status);
            assert_ne!(status.encode() & TAG_MASK, OWNER);
        }
    }
}
