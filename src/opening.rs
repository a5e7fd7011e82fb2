//! From a directory to a running engine: the checkpoint, what the log says after it, and a new segment behind that.
//!
//! Nothing is changed before everything has been read and found good, so opening can be interrupted at any step and begun
//! again, by a crash too: what is removed then is what nobody needs, whether or not the removal survives, and the new
//! segment counts only once its name is durable.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::checkpoint;
use crate::commit::Engine;
use crate::error::Result;
use crate::log::{Beginning, Covered, Log, header};
use crate::mvcc::{DefaultStore, TICK};
use crate::options::Options;
use crate::recovery::{self, Progress};
use crate::storage::Storage;
use crate::types::{Key, Timestamp};

/// Opens the engine that a storage holds: an empty one if it is empty.
///
/// # Errors
///
/// Those of the storage, and [`Error::Corrupt`](crate::Error::Corrupt) if what was durable is damaged.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Engine> {
    let store = DefaultStore::new();
    let restore = |key: &[u8], value: Option<&[u8]>, timestamp: Timestamp| {
        store.restore(&Key::from_encoded(key), value, timestamp);
    };
    let checkpoint = checkpoint::load(storage.as_ref(), &|entries| store.restore_sorted(entries))?;
    let recovered = recovery::recover(storage.as_ref(), TICK, checkpoint, progress, &restore)?;
    store.end_restoration(recovered.clock);
    tidy(storage.as_ref(), checkpoint)?;
    let log = Log::begin(
        Arc::clone(&storage),
        options.chosen_segment_bytes(),
        Beginning {
            log: recovered.log.unwrap_or_else(header::random_number),
            next_segment: recovered.next_segment,
            last: recovered.cut,
            clock: recovered.clock,
            kept: recovered.segments,
        },
    )?;
    Ok(Engine::new(store, Some(log), options.chosen_durability()))
}

/// Removes what crashes have left behind: files that never got their name, checkpoints before the last, and segments that it
/// makes superfluous.
fn tidy(storage: &dyn Storage, checkpoint: Option<Covered>) -> Result<()> {
    // Names that a process which died has changed, and that were read here, may not be durable yet. What follows changes
    // names again, and no such change may survive one that it builds upon.
    storage.sync_directory()?;
    let newest = checkpoint.map(|checkpoint| checkpoint.cut);
    let first = checkpoint.and_then(|checkpoint| checkpoint.first).unwrap_or(0);
    for name in storage.list()? {
        let is_old = header::checkpoint_cut(&name).is_some_and(|cut| Some(cut) != newest);
        let is_superfluous = header::segment_number(&name).is_some_and(|number| number < first);
        if header::is_temporary(&name) || is_old || is_superfluous {
            storage.remove(&name)?;
        }
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
#[path = "opening/tests.rs"]
mod tests;
