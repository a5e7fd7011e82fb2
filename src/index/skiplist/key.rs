//! A key to search for, prepared once: its beginning as words that order as its bytes do.
//!
//! The beginning is padded with zeros. Where two padded beginnings differ, the keys differ there, or the shorter one has
//! ended and the longer one goes on with something greater than the padding: either way the words order as the keys do.
//! Where they agree, the rest or the lengths decide (`node`).
#![forbid(unsafe_code)]

use crate::types::Key;

/// Bytes of a key that lie in the node's line, zeros behind shorter ones.
pub(super) const PADDED: usize = 44;

/// Where the words begin by which keys are compared; the last overlaps the one before it.
pub(super) const WORDS: [usize; 6] = [0, 8, 16, 24, 32, PADDED - 8];

/// A key to search for, with the words by which it is compared.
#[derive(Clone, Copy)]
pub(super) struct SearchKey<'k> {
    words: [u64; WORDS.len()],
    bytes: &'k [u8],
}

impl<'k> SearchKey<'k> {
    /// Prepares a key.
    #[inline]
    pub(super) fn new(key: &'k Key) -> Self {
        let padded: [u8; PADDED] = key.padded_prefix();
        let mut words = [0; WORDS.len()];
        for (word, start) in words.iter_mut().zip(WORDS) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&padded[start..start + 8]);
            *word = u64::from_be_bytes(bytes);
        }
        Self {
            words,
            bytes: key.as_bytes(),
        }
    }

    /// Puts together what is known of a node's key.
    #[inline]
    pub(super) fn from_parts(words: [u64; WORDS.len()], bytes: &'k [u8]) -> Self {
        Self { words, bytes }
    }

    /// Returns something for the place of a key where nobody looks.
    pub(super) fn of_head() -> Self {
        Self {
            words: [0; WORDS.len()],
            bytes: &[0],
        }
    }

    /// Returns the words by which keys are compared.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u64; WORDS.len()] {
        &self.words
    }

    /// Returns the key.
    #[inline]
    pub(super) fn bytes(&self) -> &'k [u8] {
        self.bytes
    }

    /// Returns the last byte of the key.
    #[cfg(loom)]
    pub(super) fn last_byte(&self) -> u8 {
        self.bytes.last().copied().unwrap_or(0)
    }
}
