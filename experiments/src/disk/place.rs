//! Where an engine keeps what it is told, and what its next life finds there after a crash.
//!
//! | place | an engine's files are | a crash leaves |
//! |---|---|---|
//! | [`Place::mapped`] | mapped files in a directory, the engine's default | a copy of the directory: every store is there |
//! | [`Place::positioned`] | files written when they are synced | a copy of the directory: what was synced, and no more |
//! | [`Place::simulated`] | on a simulated disk | what the disk chooses by a seed, of what was not synced |
//!
//! A crash takes nothing from the engine that is open: it goes on where it is, and what is left of it at this moment is a
//! place of its own. A copy of a directory is not made at one moment, so call it only when no thread writes or flushes; a
//! simulated disk may crash at any time.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use unlatched::internals::{FaultPlan, FileStorage, MmapStorage, SimDisk, Storage, Survivors};
use unlatched::{Database, DatabaseBuilder};

use super::directory::{TemporaryDirectory, copy};
use crate::engines::EngineError;
use crate::workload::random::split_mix;

/// Puts another storage in front of one.
pub type Wrap = Arc<dyn Fn(Arc<dyn Storage>) -> Arc<dyn Storage> + Send + Sync>;

/// A place for the databases of an engine, each under a name of its own.
pub struct Place {
    ground: Ground,
    segment_bytes: Option<usize>,
    wrap: Option<Wrap>,
}

enum Ground {
    Mapped(TemporaryDirectory),
    Positioned(TemporaryDirectory),
    /// By name; `seed` decides what the disks write back early.
    Simulated {
        disks: Mutex<BTreeMap<String, SimDisk>>,
        seed: u64,
    },
}

/// One call in so many makes a simulated disk write sectors back early.
const EARLY_ONE_IN: u64 = 4;

impl Place {
    /// A new directory under `parent`, whose segments are mapped.
    ///
    /// # Errors
    ///
    /// [`EngineError::Disk`].
    pub fn mapped(parent: &Path) -> Result<Self, EngineError> {
        Ok(Self::on(Ground::Mapped(TemporaryDirectory::under(parent)?)))
    }

    /// A new directory under `parent`, whose segments are in memory until they are synced.
    ///
    /// # Errors
    ///
    /// [`EngineError::Disk`].
    pub fn positioned(parent: &Path) -> Result<Self, EngineError> {
        Ok(Self::on(Ground::Positioned(TemporaryDirectory::under(parent)?)))
    }

    /// A simulated disk.
    #[must_use]
    pub fn simulated(seed: u64) -> Self {
        Self::on(Ground::Simulated {
            disks: Mutex::default(),
            seed,
        })
    }

    fn on(ground: Ground) -> Self {
        Self {
            ground,
            segment_bytes: None,
            wrap: None,
        }
    }

    /// Sets the length of segments.
    #[must_use]
    pub fn segment_bytes(mut self, segment_bytes: usize) -> Self {
        self.segment_bytes = Some(segment_bytes);
        self
    }

    /// Puts another storage in front of each database's.
    #[must_use]
    pub fn through(mut self, wrap: Wrap) -> Self {
        self.wrap = Some(wrap);
        self
    }

    /// What results call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.ground {
            Ground::Mapped(_) => "mapped files",
            Ground::Positioned(_) => "files written when synced",
            Ground::Simulated { .. } => "a simulated disk",
        }
    }

    /// Returns the directory, if it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.ground {
            Ground::Mapped(directory) | Ground::Positioned(directory) => Some(directory.path()),
            Ground::Simulated { .. } => None,
        }
    }

    /// Returns a builder of the database of that name, which is opened if it is there and made if not.
    ///
    /// # Errors
    ///
    /// What the storage says: the database may be open already.
    pub fn builder(&self, name: &str) -> Result<DatabaseBuilder, EngineError> {
        let storage = self.storage(name)?;
        let storage = match &self.wrap {
            Some(wrap) => wrap(storage),
            None => storage,
        };
        let builder = Database::builder().storage(storage);
        Ok(match self.segment_bytes {
            Some(bytes) => builder.segment_bytes(bytes),
            None => builder,
        })
    }

    fn storage(&self, name: &str) -> Result<Arc<dyn Storage>, EngineError> {
        Ok(match &self.ground {
            Ground::Mapped(directory) => Arc::new(MmapStorage::open(&directory.path().join(name))?),
            Ground::Positioned(directory) => Arc::new(FileStorage::open(&directory.path().join(name))?),
            Ground::Simulated { disks, seed } => {
                let mut disks = disks.lock().unwrap_or_else(PoisonError::into_inner);
                let disk = disks.entry(name.to_owned()).or_default();
                disk.follow(FaultPlan::new().seed(*seed).write_back_one_in(EARLY_ONE_IN));
                Arc::new(disk.open()?)
            }
        })
    }

    /// Returns what a crash at this moment leaves. Of a simulated disk an even seed leaves only what was made durable,
    /// an odd one also what it chooses.
    ///
    /// # Errors
    ///
    /// [`EngineError::Disk`] if a directory can't be copied.
    pub fn crash(&self, seed: u64) -> Result<Self, EngineError> {
        let copied = |directory: &TemporaryDirectory| {
            let parent = directory.path().parent().unwrap_or(Path::new("."));
            let left = TemporaryDirectory::under(parent)?;
            copy(directory.path(), left.path())?;
            Ok::<_, EngineError>(left)
        };
        let ground = match &self.ground {
            Ground::Mapped(directory) => Ground::Mapped(copied(directory)?),
            Ground::Positioned(directory) => Ground::Positioned(copied(directory)?),
            Ground::Simulated { disks, .. } => {
                let disks = disks.lock().unwrap_or_else(PoisonError::into_inner);
                let survivors = if seed.is_multiple_of(2) {
                    Survivors::Nothing
                } else {
                    Survivors::Seed(seed)
                };
                let crashed = disks.iter().map(|(name, disk)| (name.clone(), disk.crash(&survivors)));
                Ground::Simulated {
                    disks: Mutex::new(crashed.collect()),
                    seed: split_mix(seed),
                }
            }
        };
        Ok(Self {
            ground,
            segment_bytes: self.segment_bytes,
            wrap: self.wrap.clone(),
        })
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use unlatched::{Durability, RunId};

    use super::*;

    const RUN: RunId = RunId::from_bytes([3; 16]);

    // Goal: a crash takes nothing from the open database, and each place leaves what it says. Method: a strict put, and one
    // that nobody flushes, then two crashes while the database is open.
    #[test]
    fn a_crash_leaves_what_was_synced_and_the_database_goes_on() {
        let parent = std::env::temp_dir();
        let places = [
            Place::mapped(&parent).expect("the temporary directory is writable"),
            Place::positioned(&parent).expect("the temporary directory is writable"),
            Place::simulated(1),
        ];
        for place in places.map(|place| place.segment_bytes(64 << 10)) {
            let name = place.name();
            let open = |place: &Place| {
                let builder = place.builder("one").expect("nobody has it open").background(false);
                builder.open().expect(name)
            };
            let database = open(&place);
            database.put(RUN, "strict", "value").expect(name);
            let lazily = Durability::BUFFERED;
            database
                .put_with_durability(RUN, "buffered", "value", lazily)
                .expect(name);
            for seed in [2, 3] {
                let left = open(&place.crash(seed).expect(name));
                assert!(left.get(RUN, "strict").expect(name).is_some(), "{name}");
                assert!(
                    left.get(RUN, "buffered").expect(name).is_none(),
                    "{name}: no marker covers it"
                );
            }
            database.put(RUN, "after", "value").expect(name);
            drop(database);
            assert!(open(&place).get(RUN, "after").expect(name).is_some(), "{name}");
        }
    }
}
