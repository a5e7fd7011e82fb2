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

    /// Returns a hash of the key, different for each seed.
    #[cfg(not(loom))]
    #[inline]
    pub(super) fn hash(&self, seed: u64) -> u64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ (product >> 64) as u64
        };
        // Odd numbers without a pattern; three products that do not wait for each other.
        let [a, b, c, d, e, f] = self.words;
        let mut hash = fold(a ^ seed, b ^ 0x9e37_79b9_7f4a_7c15)
            ^ fold(c ^ seed.rotate_left(17), d ^ 0xc2b2_ae3d_27d4_eb4f)
            ^ fold(e ^ seed.rotate_left(41), f ^ 0x1656_67b1_9e37_79f9);
        if self.bytes.len() > PADDED {
            for chunk in self.bytes[PADDED..].chunks(8) {
                let mut bytes = [0; 8];
                bytes[..chunk.len()].copy_from_slice(chunk);
                hash = fold(hash ^ u64::from_le_bytes(bytes), seed | 1);
            }
        }
        fold(hash ^ self.bytes.len() as u64, seed ^ 0xff51_afd7_ed55_8ccd)
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
