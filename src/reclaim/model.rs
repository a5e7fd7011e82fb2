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
//! Real collectors free later and never earlier; what they need beyond this contract is modelled on its own.
//! Its state sits behind a standard mutex, invisible to loom: loom's threads are coroutines of one real thread, and
//! none is switched away inside.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::{Guard, Heap, Leave, Reclaim, Retired, Totals};
use crate::sync::{Turn, order, store_load_fence};

/// Lives in [`Tracked`](super::Tracked): linked or unpublished, retired, freed.
const RETIRED: u8 = 1;
pub(super) const FREED: u8 = 2;

/// The collector.
pub struct ModelReclaim {
    state: Mutex<State>,
    turn: Turn,
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
        for mut garbage in self.with(State::take_unheld) {
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
