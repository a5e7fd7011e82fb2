//! The versioned store's combinations of index, collector and clock: the one list of them, which every question uses.
//!
//! To compare another, add a line to the table at the end of this file:
//!
//! ```text
//! "skiplist+hints+limbo" => VersionedStore<SkipList<Chain>, LimboReclaim, ReaderDriven>,
//! ```
//!
//! A name is what `--only` takes, so it has neither blank nor comma. The first line is what the database is built on.
#![forbid(unsafe_code)]

use unlatched::internals::{
    Chain, CrossbeamIndex, EpochReclaim, HyalineReclaim, LimboReclaim, OpenSnapshot, ReaderDriven, SkipList,
    VersionedStore, Write, WriterDriven,
};
use unlatched::{Key, Stats};

/// A versioned store over an index, a collector and a clock of choice.
pub trait Combination: Send + Sync + Sized + 'static {
    /// The name it goes by everywhere.
    const NAME: &'static str;

    /// Returns an empty store.
    fn open() -> Self;

    /// Writes a value.
    fn put(&self, key: &Key, value: &[u8]);

    /// Reads the latest value of a key under a guard, which `read` holds until it returns.
    fn get_with<T>(&self, key: &Key, read: impl FnOnce(&[u8]) -> T) -> Option<T>;

    /// Opens a snapshot; it must be [closed](Self::close).
    fn snapshot(&self) -> OpenSnapshot;

    /// Reads what an open snapshot sees of a key.
    fn get_at<T>(&self, key: &Key, snapshot: &OpenSnapshot, read: impl FnOnce(&[u8]) -> T) -> Option<T>;

    /// Commits writes of one value each; returns whether there was no conflict.
    fn commit(&self, snapshot: &OpenSnapshot, writes: &[Write]) -> bool;

    /// Closes a snapshot, once.
    fn close(&self, snapshot: &OpenSnapshot);

    /// Returns what it counts.
    fn stats(&self) -> Stats;

    /// Collects everything that can be collected now.
    fn collect_garbage(&self);
}

/// Is shown every combination, one type after the other.
pub trait Visitor {
    /// What stops the tour.
    type Error;

    /// Looks at one.
    ///
    /// # Errors
    ///
    /// Whatever is to stop the tour.
    fn visit<C: Combination>(&mut self) -> Result<(), Self::Error>;
}

/// Implements [`Combination`] for each store, and names and tours them in the order given.
macro_rules! combinations {
    ($($name:literal => $store:ty),+ $(,)?) => {
        /// The names, in the order of tables.
        pub const NAMES: &[&str] = &[$($name),+];

        /// Shows `visitor` every combination, in the order of tables.
        ///
        /// # Errors
        ///
        /// Returns the visitor's first error.
        pub fn tour<V: Visitor>(visitor: &mut V) -> Result<(), V::Error> {
            $(visitor.visit::<$store>()?;)+
            Ok(())
        }

        $(impl Combination for $store {
            const NAME: &'static str = $name;

            fn open() -> Self {
                Self::new()
            }

            #[inline]
            fn put(&self, key: &Key, value: &[u8]) {
                Self::put(self, key, value);
            }

            #[inline]
            fn get_with<T>(&self, key: &Key, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
                Self::get_with(self, key, |bytes, _| read(bytes))
            }

            #[inline]
            fn snapshot(&self) -> OpenSnapshot {
                self.open_snapshot()
            }

            #[inline]
            fn get_at<T>(&self, key: &Key, snapshot: &OpenSnapshot, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
                Self::get_at(self, key, snapshot.timestamp(), |bytes, _| read(bytes))
            }

            #[inline]
            fn commit(&self, snapshot: &OpenSnapshot, writes: &[Write]) -> bool {
                Self::commit(self, snapshot, writes).is_ok()
            }

            #[inline]
            fn close(&self, snapshot: &OpenSnapshot) {
                self.close_snapshot(snapshot);
            }

            fn stats(&self) -> Stats {
                Self::stats(self)
            }

            fn collect_garbage(&self) {
                let _retired = Self::collect_garbage(self);
            }
        })+
    };
}

combinations! {
    "skiplist+hints+limbo" => VersionedStore<SkipList<Chain>, LimboReclaim, ReaderDriven>,
    "skiplist+limbo" => VersionedStore<SkipList<Chain, false>, LimboReclaim, ReaderDriven>,
    "skiplist+hints+epoch" => VersionedStore<SkipList<Chain>, EpochReclaim, ReaderDriven>,
    "skiplist+hints+hyaline" => VersionedStore<SkipList<Chain>, HyalineReclaim, ReaderDriven>,
    "skiplist+hints+limbo+writer-clock" => VersionedStore<SkipList<Chain>, LimboReclaim, WriterDriven>,
    "crossbeam+epoch" => VersionedStore<CrossbeamIndex<Chain>, EpochReclaim, ReaderDriven>,
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use unlatched::{RunId, TypeTag};

    use super::*;

    #[test]
    fn names_can_be_given_on_the_command_line() {
        for (number, name) in NAMES.iter().enumerate() {
            assert!(!name.contains([' ', ',']), "{name}");
            assert!(!NAMES[..number].contains(name), "{name} is there twice");
        }
    }

    struct Check {
        seen: Vec<&'static str>,
    }

    impl Visitor for Check {
        type Error = Infallible;

        fn visit<C: Combination>(&mut self) -> Result<(), Infallible> {
            self.seen.push(C::NAME);
            let store = C::open();
            let key = Key::new(&RunId::from_bytes([1; 16]), TypeTag::Raw, b"k");
            let write = |value: u8| {
                let write = Write {
                    key: key.clone(),
                    value: Some(Box::new([value])),
                };
                [write]
            };
            store.put(&key, &[1]);
            let first = store.snapshot();
            assert!(store.commit(&first, &write(2)));
            assert!(!store.commit(&first, &write(3)), "the first committer wins");
            assert_eq!(store.get_at(&key, &first, <[u8]>::to_vec), Some(vec![1]));
            store.close(&first);
            assert_eq!(store.get_with(&key, <[u8]>::to_vec), Some(vec![2]));
            store.collect_garbage();
            assert_eq!(store.stats().open_snapshots, 0);
            Ok(())
        }
    }

    #[test]
    fn tour_shows_every_combination_and_each_keeps_snapshots() {
        let mut check = Check { seen: Vec::new() };
        let Ok(()) = tour(&mut check);
        assert_eq!(check.seen, NAMES);
    }
}
