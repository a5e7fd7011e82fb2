//! The store that models use, and the few words they are written in.
//!
//! Keys are the numbers 0, 1, 2 and values single bytes. Nothing here adds a step to an execution.

use std::ops::Deref;
use std::sync::Arc;

use unlatched::internals::pause::{self, Step};
use unlatched::internals::{Chain, Clock, Conflicting, ModelIndex, ModelReclaim, OpenSnapshot, VersionedStore, Write};
use unlatched::{Key, RunId, Timestamp, TypeTag};

/// The versioned store over the model's index and its ideal collector. Dropping it at the end of an execution gives
/// everything back, so that what was lost shows up as a leak.
pub type ModelStore<C> = VersionedStore<ModelIndex<Chain>, ModelReclaim, C>;

/// A store shared by a model's threads. Its standard `Arc` is counted outside of loom: every model joins its threads.
pub struct Shared<C: Clock>(Option<Arc<ModelStore<C>>>);

impl<C: Clock> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Clock> Deref for Shared<C> {
    type Target = ModelStore<C>;

    fn deref(&self) -> &ModelStore<C> {
        self.0.as_ref().expect("taken when dropped only")
    }
}

impl<C: Clock> Drop for Shared<C> {
    fn drop(&mut self) {
        let store = self.0.take();
        if std::thread::panicking() {
            // A failed model unwinds outside of loom, where the store's atomics cannot be touched. The failure is what
            // is to be reported, not a second panic.
            std::mem::forget(store);
        }
    }
}

/// Returns an empty store.
pub fn new_store<C: Clock>() -> Shared<C> {
    Shared(Some(Arc::new(ModelStore::new())))
}

/// Returns key number `number`, which is below 3.
pub fn key(number: u8) -> Key {
    Key::new(&RunId::from_bytes([0; 16]), TypeTag::Raw, &[number])
}

/// Runs `body` on a loom thread of its own.
pub fn spawn<C: Clock, T: 'static>(
    store: &Shared<C>,
    body: impl FnOnce(&ModelStore<C>) -> T + 'static,
) -> loom::thread::JoinHandle<T> {
    let store = store.clone();
    loom::thread::spawn(move || body(&store))
}

/// Writes a value; returns its timestamp.
pub fn put<C: Clock>(store: &ModelStore<C>, number: u8, value: u8) -> Timestamp {
    store.put(&key(number), &[value])
}

/// Deletes a key; says whether it was there.
pub fn delete<C: Clock>(store: &ModelStore<C>, number: u8) -> bool {
    store.delete(&key(number)).is_some()
}

/// Reads the latest value and its timestamp.
pub fn get<C: Clock>(store: &ModelStore<C>, number: u8) -> Option<(u8, Timestamp)> {
    store.get_with(&key(number), |bytes, ts| (bytes[0], ts))
}

/// Reads the value that a snapshot sees.
pub fn get_at<C: Clock>(store: &ModelStore<C>, number: u8, snapshot: &OpenSnapshot) -> Option<u8> {
    store.get_at(&key(number), snapshot.timestamp(), |bytes, ts| {
        assert!(
            ts <= snapshot.timestamp(),
            "a snapshot sees nothing younger than itself"
        );
        bytes[0]
    })
}

/// Commits a transaction that read from `snapshot`; `None` deletes.
pub fn commit<C: Clock>(
    store: &ModelStore<C>,
    snapshot: &OpenSnapshot,
    writes: &[(u8, Option<u8>)],
) -> Result<Timestamp, Conflicting> {
    let writes = writes.iter().map(|(number, value)| Write {
        key: key(*number),
        value: value.map(|value| Box::from([value])),
    });
    let writes: Vec<Write> = writes.collect();
    store.commit(snapshot, writes.as_slice())
}

/// Looks at the open snapshots and tidies one key with that look; returns how many versions were retired.
pub fn tidy<C: Clock>(store: &ModelStore<C>, number: u8) -> u64 {
    let view = store.look();
    store.tidy_key(&key(number), &view)
}

/// Stops threads at a named step until it is released. If anyone waits for a stopped thread, loom reports a deadlock.
#[derive(Clone)]
pub struct Stop(Arc<loom::sync::Mutex<()>>);

/// Releases what is stopped, when dropped.
pub struct Held<'a>(Option<loom::sync::MutexGuard<'a, ()>>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let held = self.0.take();
        if std::thread::panicking() {
            // As for a store.
            std::mem::forget(held);
        }
    }
}

impl Stop {
    /// Runs `body` with a stop and with what releases it.
    pub fn with<T>(body: impl FnOnce(&Self, Held<'_>) -> T) -> T {
        let stop = Self(Arc::new(loom::sync::Mutex::new(())));
        let held = stop.0.lock().expect("nobody panics while holding it");
        body(&stop, Held(Some(held)))
    }

    /// From now on the calling thread stops when it reaches `step` for the first time, until the release.
    pub fn at(&self, step: Step) {
        let stop = self.clone();
        let mut reached = false;
        pause::set_hook(Some(Box::new(move |now| {
            if now == step && !std::mem::replace(&mut reached, true) {
                drop(stop.0.lock().expect("nobody panics while holding it"));
            }
        })));
    }
}

/// Makes one test of a model that is too large to be explored with both clocks and does not depend on which it is:
/// `one_clock!(file, name, bound);` runs `name::<ReaderDriven>`.
#[macro_export]
macro_rules! one_clock {
    ($file:literal, $name:ident, $bound:literal) => {
        mod $name {
            #[test]
            fn reader_driven() {
                let name = concat!($file, "::", stringify!($name), "::reader_driven");
                $crate::model(name, $bound, super::$name::<unlatched::internals::ReaderDriven>);
            }
        }
    };
}

/// Makes two tests of one model, one for each clock: `both_clocks!(file, name, bound);` runs `name::<ReaderDriven>` and
/// `name::<WriterDriven>`.
#[macro_export]
macro_rules! both_clocks {
    ($file:literal, $name:ident, $bound:literal) => {
        mod $name {
            #[test]
            fn reader_driven() {
                let name = concat!($file, "::", stringify!($name), "::reader_driven");
                $crate::model(name, $bound, super::$name::<unlatched::internals::ReaderDriven>);
            }

            #[test]
            fn writer_driven() {
                let name = concat!($file, "::", stringify!($name), "::writer_driven");
                $crate::model(name, $bound, super::$name::<unlatched::internals::WriterDriven>);
            }
        }
    };
}
