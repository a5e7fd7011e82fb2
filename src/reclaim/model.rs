//! An ideal collector for loom builds: it frees as early as the contract allows, and catches every breach of it.
//!
//! What is retired is held by exactly the guards that exist at that moment, and is *freed* with the last
//! of them: marked, while its bytes stay readable until the store is dropped. Every dereference checks the mark
//! ([`Tracked::check`](super::Tracked::check)), so a use after free is a failed assertion in the model that allows it,
//! and no model has to be lucky with memory reuse. Retiring twice fails at once. The bytes go back when the store
//! is dropped, and the mark is tracked by `loom::alloc`, so what was never retired shows up as a leak.
//!
//! A pin that follows a retirement comes after it also in the memory order: whoever pins then sees the unlinking. Real
//! collectors see to that with the fence in their pin. Here the fence stands in [`Reclaim::pin`] and [`Guard::retire`],
//! and only once something was retired, since loom's fences order everything and would hide what the engine's own
//! orderings do. It has a name, `MODEL_PIN`, so that a model can be tried without it.
//!
//! What a thread did while it was pinned happens before the expiry of what was retired then or later, as the memory that
//! it read may be freed next: a guard that is dropped releases, and whoever runs an expiry acquires (`MODEL_UNPIN`).
//!
//! Real collectors free later and never earlier; what they need beyond this contract is modelled on its own.
//! Its state sits behind a standard mutex, invisible to loom: loom's threads are coroutines of one real thread, and
//! none is switched away inside.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicUsize;

use super::{Guard, Heap, Leave, Memory, Reclaim, Retired, Totals, Tracked};
use crate::sync::{AtomicPtr, Turn, order, store_load_fence};

/// Lives in [`Tracked`](super::Tracked): linked or unpublished, retired, freed.
const RETIRED: u8 = 1;
pub(super) const FREED: u8 = 2;

/// The collector.
pub struct ModelReclaim {
    state: Mutex<State>,
    turn: Turn,
    /// Counts guards dropped. Only exchanged, so that it needs no turns.
    unpinned: AtomicUsize,
}

#[derive(Default)]
struct State {
    next_guard: u64,
    active: Vec<u64>,
    limbo: Vec<Garbage>,
    freed: Vec<Garbage>,
    totals: Totals,
}

/// A retired object and the guards that hold it.
struct Garbage {
    ptr: *mut (),
    held_by: Vec<u64>,
    /// It asked for one more grace period, and is having it.
    again: bool,
    expire: unsafe fn(*mut ()) -> bool,
    mark_freed: unsafe fn(*mut ()),
    reclaim: unsafe fn(*mut ()),
    bytes: u64,
}

// SAFETY: what it points to is `Send` (`T: Retired`), and the mutex serialises all access.
unsafe impl Send for Garbage {}

impl State {
    /// Takes what no guard holds any more.
    fn take_unheld(&mut self) -> Vec<Garbage> {
        let (unheld, held) = std::mem::take(&mut self.limbo)
            .into_iter()
            .partition(|garbage| garbage.held_by.is_empty());
        self.limbo = held;
        unheld
    }
}

impl ModelReclaim {
    fn with<T>(&self, call: impl FnOnce(&mut State) -> T) -> T {
        call(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl ModelReclaim {
    /// Marks as freed what no guard holds any more. Expiring runs the engine's own code, outside of the state's lock.
    fn free_unheld(&self) {
        let unheld = self.with(State::take_unheld);
        if !unheld.is_empty() {
            // ORDERING: AcqRel; pairs with the drop of each guard that held some of it.
            self.unpinned.fetch_add(1, order::MODEL_UNPIN.into());
        }
        for mut garbage in unheld {
            // SAFETY: its bytes are still there.
            if !garbage.again && unsafe { (garbage.expire)(garbage.ptr) } {
                garbage.again = true;
                store_load_fence(order::MODEL_PIN);
                self.with(|state| {
                    garbage.held_by.clone_from(&state.active);
                    state.limbo.push(garbage);
                });
                self.free_unheld();
                continue;
            }
            self.with(|state| {
                state.totals.freed += 1;
                state.totals.freed_bytes += garbage.bytes;
                // SAFETY: the bytes are given back only when the collector is dropped.
                unsafe { (garbage.mark_freed)(garbage.ptr) };
                state.freed.push(garbage);
            });
        }
    }
}

/// What the ideal collector keeps for each thread: nothing.
pub struct Nothing;

impl Leave for Nothing {
    fn leave(&self) {}
}

impl Reclaim for ModelReclaim {
    type Local = Nothing;
    type Memory = Heap;
    type Guard<'a> = ModelGuard<'a>;

    fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            turn: Turn::new(),
            unpinned: AtomicUsize::new(0),
        }
    }

    fn register(&self) -> Nothing {
        Nothing
    }

    fn pin<'a>(&'a self, _: &'a Nothing) -> ModelGuard<'a> {
        self.turn.take();
        let (id, anything_retired) = self.with(|state| {
            state.next_guard += 1;
            state.active.push(state.next_guard);
            (state.next_guard, state.totals.retired != 0)
        });
        if anything_retired {
            store_load_fence(order::MODEL_PIN);
        }
        ModelGuard { collector: self, id }
    }

    fn totals(&self) -> Totals {
        self.with(|state| state.totals)
    }
}

impl Drop for ModelReclaim {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for garbage in state.limbo.drain(..).chain(state.freed.drain(..)) {
            // SAFETY: no guard is left, since each borrows the collector; retired once (checked), reclaimed here only.
            unsafe { (garbage.reclaim)(garbage.ptr) };
        }
    }
}

/// A pinned thread.
pub struct ModelGuard<'a> {
    collector: &'a ModelReclaim,
    id: u64,
}

impl Drop for ModelGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failed model unwinds outside of loom.
            return;
        }
        // ORDERING: AcqRel; pairs with `free_unheld`.
        self.collector.unpinned.fetch_add(1, order::MODEL_UNPIN.into());
        if self.collector.with(|state| !state.limbo.is_empty()) {
            self.collector.turn.take();
        }
        self.collector.with(|state| {
            state.active.retain(|id| *id != self.id);
            for garbage in &mut state.limbo {
                garbage.held_by.retain(|id| *id != self.id);
            }
        });
        self.collector.free_unheld();
    }
}

impl Guard for ModelGuard<'_> {
    type Memory = Heap;

    fn memory(&self) -> &Heap {
        &Heap
    }

    unsafe fn retire<T: Retired>(&self, ptr: *mut T) {
        unsafe fn mark_freed<T: Retired>(ptr: *mut ()) {
            // SAFETY: the caller knows that the bytes are still there.
            let object = unsafe { &*ptr.cast::<T>() };
            object.tracked().life.store(FREED, Ordering::Relaxed);
        }
        unsafe fn reclaim<T: Retired>(ptr: *mut ()) {
            // SAFETY: guaranteed by the caller.
            unsafe { T::reclaim(ptr.cast::<T>(), &Heap) };
        }
        unsafe fn expire<T: Retired>(ptr: *mut ()) -> bool {
            // SAFETY: guaranteed by the caller.
            unsafe { T::expire(ptr.cast::<T>()) }
        }
        // SAFETY: valid by contract.
        let object = unsafe { &*ptr };
        assert_eq!(
            object.tracked().life.swap(RETIRED, Ordering::Relaxed),
            0,
            "retired twice"
        );
        let bytes = object.bytes() as u64;
        self.collector.turn.take();
        store_load_fence(order::MODEL_PIN);
        self.collector.with(|state| {
            state.totals.retired += 1;
            state.totals.retired_bytes += bytes;
            let held_by = state.active.clone();
            state.limbo.push(Garbage {
                ptr: ptr.cast(),
                held_by,
                again: false,
                expire: expire::<T>,
                mark_freed: mark_freed::<T>,
                reclaim: reclaim::<T>,
                bytes,
            });
        });
    }
}

/// One slot whose object is replaced and retired, over any collector: what the models of a real collector need. The
/// objects stay allocated until the slot is dropped; reclaiming one only marks it, as an access that must not overlap
/// a reader's.
pub struct ModelSlot {
    slot: AtomicPtr<Marked>,
    objects: Mutex<Vec<usize>>,
}

/// An object of a [`ModelSlot`].
struct Marked {
    /// Read by readers, written when it is reclaimed: loom reports if the one does not happen before the other.
    life: loom::cell::UnsafeCell<bool>,
    asks_again: bool,
    expired: std::sync::atomic::AtomicBool,
    tracked: Tracked,
}

// SAFETY: readers only read `life`; it is written by `reclaim`, whose contract is that nobody reaches the object.
unsafe impl Send for Marked {}
// SAFETY: as above.
unsafe impl Sync for Marked {}

// SAFETY: `reclaim` marks, and frees nothing.
unsafe impl Retired for Marked {
    unsafe fn expire(ptr: *mut Self) -> bool {
        // SAFETY: still allocated.
        let marked = unsafe { &*ptr };
        assert!(!marked.expired.swap(true, Ordering::Relaxed), "expired twice");
        marked.asks_again
    }

    unsafe fn reclaim<M: Memory>(ptr: *mut Self, _memory: &M) {
        // SAFETY: the bytes stay until the slot is dropped.
        let marked = unsafe { &*ptr };
        // SAFETY: nobody else reaches the object, as loom checks.
        let was = marked
            .life
            .with_mut(|life| std::mem::replace(unsafe { &mut *life }, true));
        assert!(!was, "freed twice");
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

impl ModelSlot {
    /// Returns a slot with an object in it.
    #[must_use]
    pub fn new() -> Self {
        let slot = Self {
            slot: AtomicPtr::new(std::ptr::null_mut()),
            objects: Mutex::new(Vec::new()),
        };
        slot.slot.store(slot.object(false), order::LINK_NODE);
        slot
    }

    fn object(&self, asks_again: bool) -> *mut Marked {
        let object = Box::into_raw(Box::new(Marked {
            life: loom::cell::UnsafeCell::new(false),
            asks_again,
            expired: std::sync::atomic::AtomicBool::new(false),
            tracked: Tracked::default(),
        }));
        let mut objects = self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        objects.push(object.expose_provenance());
        object
    }

    /// Reads the slot's object under a guard of its own.
    ///
    /// # Panics
    ///
    /// If the object was freed.
    pub fn read<R: Reclaim>(&self, reclaim: &R, local: &R::Local) {
        let _guard = reclaim.pin(local);
        // SAFETY: in the slot, and allocated until the slot is dropped.
        let marked = unsafe { &*self.slot.load(order::READ_NODE) };
        // SAFETY: written by `reclaim` alone.
        let freed = marked.life.with(|life| unsafe { *life });
        assert!(!freed, "use after free");
    }

    /// Replaces the slot's object by another, and retires it.
    pub fn replace<R: Reclaim>(&self, asks_again: bool, reclaim: &R, local: &R::Local) {
        let guard = reclaim.pin(local);
        let old = self.slot.swap(self.object(asks_again), order::LINK_NODE);
        // SAFETY: the swap took the only way to it, once.
        unsafe { guard.retire(old) };
    }

    /// Lets the collector move on, unpinned before and after.
    pub fn flush<R: Reclaim>(&self, reclaim: &R, local: &R::Local) {
        reclaim.pin(local).flush();
    }
}

impl Default for ModelSlot {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ModelSlot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let objects = self
            .objects
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for object in objects.drain(..) {
            // SAFETY: made by `Box::into_raw` in `object`, and the collector is gone.
            drop(unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<Marked>(object)) });
        }
    }
}
