//! A storage that says it has made durable what it has not: for tests of the checks that must find out.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use unlatched::internals::Storage;

use super::wrapped::wrap;

/// One sync in so many is not made.
const LIES_ONE_IN: u64 = 3;

/// Returns a storage that skips every third sync of a segment.
pub(crate) fn lie(storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
    let syncs = AtomicU64::new(0);
    wrap(
        storage,
        Arc::new(move |_, _, sync| {
            // ORDERING: Relaxed, only the count matters. The first sync, that of a new segment, is made.
            if syncs.fetch_add(1, Ordering::Relaxed) % LIES_ONE_IN == LIES_ONE_IN - 1 {
                Ok(())
            } else {
                sync()
            }
        }),
    )
}
