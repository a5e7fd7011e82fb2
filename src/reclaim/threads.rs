//! One record per thread and store: found in a few instructions, given back when the thread ends.
//!
//! A record has a part that any thread may read, such as counters, and a part that only its owner touches, such as
//! limbo lists and free memory. A thread that first comes to a store takes over a record that a thread which has ended
//! left behind, or else adds one; records are never removed before the store, so their number is that of the threads
//! that used the store at once.
//!
//! ```text
//!  Threads -> Record -> Record -> Record        append-only list; `taken` says whether a thread owns it
//!               ^
//!  thread:   RECENT[id % 4] = (id, record)      what a lookup reads; `id` names the store, and is never used again
//!            HELD = [(id, record, registry)]    what the thread's end gives back
//! ```
//!
//! # Invariants
//!
//! 1. A record whose `taken` is set belongs to the one thread that set it, until that thread's end clears it.
//! 2. An entry of `RECENT` or `HELD` names a record that this thread owns. The entry's id is compared first, and no id
//!    is given out twice, so an entry of a store that is gone is never followed.
//! 3. A record lives as long as its registry, and the registry as long as the store and, for the length of a call, as a
//!    thread that is just leaving.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair publishes |
//! |---|---|---|---|
//! | `first` | `ADD_RECORD` | `READ_RECORDS` | the new record's fields |
//! | `taken` | `LEAVE_RECORD` | `TAKE_RECORD` | everything the last owner did to its part |
//!
//! # Progress
//!
//! Lock-free. A thread that uses a store while its own thread-local variables are being destroyed may come too late for
//! its end to be noticed. It gets a record too, which nobody gives back before the store is dropped: some kilobytes for
//! each thread that does so.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::{Arc, Weak};

use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, order};

/// Told on a thread's last use of a store.
pub trait Leave {
    /// Hands back what other threads can use: garbage, free memory.
    fn leave(&self);
}

/// What one thread has in one store.
pub(crate) struct Record<S, L> {
    /// Read by any thread.
    pub(crate) shared: S,
    /// Touched by the owner alone.
    pub(crate) local: L,
}

/// The records of one store.
pub(crate) struct Threads<S, L> {
    id: u64,
    registry: Arc<Registry<S, L>>,
}

struct Registry<S, L> {
    first: AtomicPtr<Slot<S, L>>,
}

/// A record in the list, on cache lines of its own.
#[repr(align(128))]
struct Slot<S, L> {
    record: Record<S, L>,
    taken: AtomicBool,
    next: *const Slot<S, L>,
}

// SAFETY: `shared` is read by many threads and is `Sync`; `local` passes from owner to owner (invariant 1) and is
// `Send`; the list is append-only and its links are written before a slot is published.
unsafe impl<S: Send + Sync, L: Send> Send for Registry<S, L> {}
// SAFETY: as above; no method gives access to `local` but to the record's owner.
unsafe impl<S: Send + Sync, L: Send> Sync for Registry<S, L> {}

/// What a thread's end calls, whatever the types of the record.
trait Registered: Send + Sync {
    /// Gives back a record.
    ///
    /// # Safety
    ///
    /// `slot` is of this registry and owned by the calling thread, which does not use it any more.
    unsafe fn leave(&self, slot: *const ());
}

impl<S: Send + Sync, L: Send + Leave> Registered for Registry<S, L> {
    unsafe fn leave(&self, slot: *const ()) {
        // SAFETY: a slot of this registry, by contract, which lives as long as the registry (invariant 3).
        let slot = unsafe { &*slot.cast::<Slot<S, L>>() };
        slot.record.local.leave();
        // ORDERING: Release; pairs with `claim`. INVARIANT 1: from here on another thread may own it.
        slot.taken.store(false, order::LEAVE_RECORD);
    }
}

/// One record that this thread owns.
struct Held {
    id: u64,
    slot: *const (),
    registry: Weak<dyn Registered>,
}

/// The records that this thread owns. Its destructor is the thread's end.
struct HeldRecords(RefCell<Vec<Held>>);

impl Drop for HeldRecords {
    fn drop(&mut self) {
        RECENT.with(|recent| recent.iter().for_each(|entry| entry.set(NOTHING)));
        for held in self.0.get_mut().drain(..) {
            if let Some(registry) = held.registry.upgrade() {
                // SAFETY: this thread owns the record (invariant 2) and is at its end; the registry is alive.
                unsafe { registry.leave(held.slot) };
            }
        }
    }
}

/// Stores whose records a thread finds at once. A thread that goes back and forth between stores whose ids
/// agree modulo this looks through its list each time.
const RECENT_STORES: usize = 4;

const NOTHING: (u64, *const ()) = (0, ptr::null());

thread_local! {
    static RECENT: [Cell<(u64, *const ())>; RECENT_STORES] = const { [const { Cell::new(NOTHING) }; RECENT_STORES] };
    static HELD: HeldRecords = const { HeldRecords(RefCell::new(Vec::new())) };
}

/// The next store's id. Shared by all stores and nothing but a number: 0 is nobody's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl<S: Send + Sync + 'static, L: Send + Leave + 'static> Threads<S, L> {
    /// Returns an empty set.
    pub(crate) fn new() -> Self {
        Self {
            // ORDERING: Relaxed; the numbers need only differ.
            id: NEXT_ID.fetch_add(1, order::COUNT),
            registry: Arc::new(Registry {
                first: AtomicPtr::new(ptr::null_mut()),
            }),
        }
    }

    /// Returns this thread's record, made by `create` if there is none to take over.
    #[inline]
    pub(crate) fn mine(&self, create: impl FnOnce() -> Record<S, L>) -> &Record<S, L> {
        let (id, slot) = RECENT.with(|recent| recent[(self.id % RECENT_STORES as u64) as usize].get());
        if id == self.id {
            // SAFETY: this thread's record of this very store (invariant 2), alive as long as `self` (invariant 3).
            return unsafe { &(*slot.cast::<Slot<S, L>>()).record };
        }
        self.find(create)
    }

    /// Looks the record up in the thread's list, or takes one.
    #[cold]
    fn find(&self, create: impl FnOnce() -> Record<S, L>) -> &Record<S, L> {
        let recent = RECENT.with(|recent| recent.iter().map(Cell::get).find(|entry| entry.0 == self.id));
        if let Some((_, slot)) = recent {
            // SAFETY: as in `mine`.
            return unsafe { &(*slot.cast::<Slot<S, L>>()).record };
        }
        let known = HELD.try_with(|held| {
            let held = held.0.borrow();
            held.iter().find(|held| held.id == self.id).map(|held| held.slot)
        });
        let slot = match known {
            Ok(Some(slot)) => slot,
            // Not while the list is borrowed: `create` may use a store.
            _ => self.claim(create).cast::<()>(),
        };
        let registry: Weak<dyn Registered> = Arc::<Registry<S, L>>::downgrade(&self.registry);
        // At the thread's end the list is gone already, and nobody gives the record back.
        let _ = HELD.try_with(|held| {
            let mut held = held.0.borrow_mut();
            if held.iter().all(|held| held.id != self.id) {
                held.retain(|held| held.registry.strong_count() != 0);
                held.push(Held {
                    id: self.id,
                    slot,
                    registry,
                });
            }
        });
        let is_held = HELD.try_with(|_| ()).is_ok();
        RECENT.with(|recent| {
            let own = &recent[(self.id % RECENT_STORES as u64) as usize];
            // At the thread's end this is the only trace of the record: it takes nobody's place if there is another.
            let free = recent.iter().find(|entry| entry.get() == NOTHING);
            let entry = if is_held { own } else { free.unwrap_or(own) };
            entry.set((self.id, slot));
        });
        // SAFETY: as in `mine`.
        unsafe { &(*slot.cast::<Slot<S, L>>()).record }
    }

    /// Takes over a record that nobody owns, or adds one.
    fn claim(&self, create: impl FnOnce() -> Record<S, L>) -> *const Slot<S, L> {
        for slot in self.slots() {
            // ORDERING: Acquire; pairs with `leave`. Failure: somebody else has it. INVARIANT 1.
            let taken = slot
                .taken
                .compare_exchange(false, true, order::TAKE_RECORD, order::COUNT);
            if taken.is_ok() {
                return slot;
            }
        }
        let slot = Box::into_raw(Box::new(Slot {
            record: create(),
            taken: AtomicBool::new(true),
            next: ptr::null(),
        }));
        // ORDERING: Relaxed; the exchange checks it, and `iter` acquires what it follows.
        let mut first = self.registry.first.load(order::COUNT);
        loop {
            // SAFETY: not published yet.
            unsafe { (*slot).next = first };
            // ORDERING: Release, publishes the record. Failure: load and try again, as above.
            match self
                .registry
                .first
                .compare_exchange(first, slot, order::ADD_RECORD, order::COUNT)
            {
                Ok(_) => return slot,
                Err(now) => first = now,
            }
        }
    }

    /// Goes through the shared parts of all records, whoever owns them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.slots().map(|slot| &slot.record.shared)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<S, L>> {
        // ORDERING: Acquire; pairs with `claim`. The rest of the list was published with its first slot or before.
        let mut next = self.registry.first.load(order::READ_RECORDS).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: null, or a published slot, which lives as long as `self` (invariant 3).
            let slot = unsafe { next.as_ref() }?;
            next = slot.next;
            Some(slot)
        })
    }
}

impl<S, L> Drop for Registry<S, L> {
    fn drop(&mut self) {
        let mut next = *self.first.get_mut();
        while !next.is_null() {
            // SAFETY: made by `Box::into_raw` in `claim`; the last handle of the registry is gone, and with it every
            // borrow.
            let slot = unsafe { Box::from_raw(next) };
            next = slot.next.cast_mut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what happens to it.
    struct Noted {
        number: Cell<u32>,
        left: Arc<AtomicU64>,
    }

    impl Leave for Noted {
        fn leave(&self) {
            self.left.fetch_add(1, order::COUNT);
        }
    }

    impl Drop for Noted {
        fn drop(&mut self) {
            self.left.fetch_add(100, order::COUNT);
        }
    }

    fn record(left: &Arc<AtomicU64>) -> Record<AtomicU64, Noted> {
        Record {
            shared: AtomicU64::new(0),
            local: Noted {
                number: Cell::new(0),
                left: Arc::clone(left),
            },
        }
    }

    #[test]
    fn a_thread_finds_its_own_record_again_in_each_store() {
        let left = Arc::new(AtomicU64::new(0));
        let stores: Vec<Threads<AtomicU64, Noted>> = (0..3 * RECENT_STORES).map(|_| Threads::new()).collect();
        for round in 0..3 {
            for (number, store) in (0..).zip(&stores) {
                let mine = store.mine(|| record(&left));
                assert_eq!(mine.local.number.get(), if round == 0 { 0 } else { number });
                mine.local.number.set(number);
                mine.shared.fetch_add(1, order::COUNT);
            }
        }
        for store in &stores {
            assert_eq!(store.iter().map(|sum| sum.load(order::COUNT)).collect::<Vec<_>>(), [3]);
        }
        drop(stores);
        assert_eq!(left.load(order::COUNT), 100 * 3 * RECENT_STORES as u64);
    }

    #[test]
    fn a_thread_that_ends_leaves_its_record_to_the_next() {
        let left = Arc::new(AtomicU64::new(0));
        let store = Threads::new();
        for round in 1..=4_u64 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mine = store.mine(|| record(&left));
                    assert_eq!(u64::from(mine.local.number.get()), round - 1);
                    mine.local.number.set(round as u32);
                });
            });
            // A scope may end before its thread's destructors have run.
            while left.load(order::COUNT) < round {
                std::thread::yield_now();
            }
        }
        // Two at once need two records. The last thread may still be giving its record back.
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    store.mine(|| record(&left));
                    barrier.wait();
                });
            }
        });
        assert!((2..=3).contains(&store.iter().count()));
    }

    // Goal: who takes a record over sees all that its last owner did to it. Method: no thread ends here, as the counts of
    // a handle that are changed then would order the two as well; nothing but `taken` does. Miri reports a data race if
    // LEAVE_RECORD or TAKE_RECORD is relaxed.
    #[test]
    fn a_record_that_is_left_is_taken_over_whole() {
        let left = Arc::new(AtomicU64::new(0));
        let store = Threads::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let slot = store.claim(|| record(&left));
                // SAFETY: a slot of this store, which is alive.
                unsafe { &*slot }.record.local.number.set(7);
                // SAFETY: claimed by this thread, and not used any more.
                unsafe { store.registry.leave(slot.cast()) };
            });
            scope.spawn(|| {
                // ORDERING: Relaxed, so that waiting orders nothing.
                while store.slots().all(|slot| slot.taken.load(order::COUNT)) {
                    std::thread::yield_now();
                }
                let slot = store.claim(|| unreachable!("there is one to take over"));
                // SAFETY: a slot of this store, which is alive.
                assert_eq!(unsafe { &*slot }.record.local.number.get(), 7);
            });
        });
        assert_eq!(store.iter().count(), 1);
    }

    #[test]
    fn a_store_may_be_gone_before_its_threads() {
        let left = Arc::new(AtomicU64::new(0));
        let store = Arc::new(Threads::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = {
            let (store, left) = (Arc::clone(&store), Arc::clone(&left));
            std::thread::spawn(move || {
                store.mine(|| record(&left));
                drop(store);
                receiver.recv().expect("the sender says when");
            })
        };
        while Arc::strong_count(&store) > 1 {
            std::thread::yield_now();
        }
        drop(store);
        assert_eq!(left.load(order::COUNT), 100, "dropped with the store");
        sender.send(()).expect("the thread waits");
        thread.join().expect("it does not follow the record");
        assert_eq!(left.load(order::COUNT), 100);
    }
}
