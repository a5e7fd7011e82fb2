//! The engine behind the database: the versioned store, what keys and values may be, and whether it is open.
//!
//! This is where the memory half and the disk half will meet. Until the log is built a commit has three steps, all of
//! them in the store: link the versions, draw the timestamp, decide. A single write is the same with one version and no
//! descriptor.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::mvcc::DefaultStore;
use crate::sync::{AtomicBool, order};
use crate::types::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// What a database, its snapshots and its transactions share.
pub(crate) struct Engine {
    store: DefaultStore,
    open: AtomicBool,
}

impl Engine {
    /// Returns an open engine with an empty store.
    pub(crate) fn new() -> Self {
        Self {
            store: DefaultStore::new(),
            open: AtomicBool::new(true),
        }
    }

    /// Returns the versioned store.
    #[inline]
    pub(crate) fn store(&self) -> &DefaultStore {
        &self.store
    }

    /// Refuses work after [`close`](Self::close).
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        // ORDERING: Relaxed; operations that overlap the closing may fall on either side of it.
        if self.open.load(order::COUNT) {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }

    /// Refuses all later work; what is running finishes.
    pub(crate) fn close(&self) {
        // ORDERING: Relaxed, as in `check_open`.
        self.open.store(false, order::COUNT);
    }
}

/// Refuses keys that cannot be.
#[inline]
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(Error::EmptyKey),
        len if len > MAX_KEY_BYTES => Err(Error::KeyTooLong {
            len,
            max: MAX_KEY_BYTES,
        }),
        _ => Ok(()),
    }
}

/// Refuses values that cannot be.
#[inline]
pub(crate) fn check_value(len: usize) -> Result<()> {
    if len > MAX_VALUE_BYTES {
        Err(Error::ValueTooLarge {
            len,
            max: MAX_VALUE_BYTES,
        })
    } else {
        Ok(())
    }
}
