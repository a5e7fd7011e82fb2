//! Our own collector: what a thread retires stays in limbo lists of its own until every thread that was pinned has let
//! go, and is then freed by that same thread into its own pool.
//!
//! Each thread has a turn, a number that grows by one when it pins and by one when it unpins, so it is odd while
//! pinned. A thread collects what it retires in an open batch. When the batch is full it is sealed: the thread reads all
//! turns and notes the odd ones. Once each of those has changed, every thread that could reach something in the batch
//! has unpinned since, and the batch is freed.
//!
//! ```text
//!  turns:    thread A: 6     thread B: 9     thread C: 31       odd: pinned
//!
//!  sealing:  batch { objects, waits for: B at 9, C at 31 }
//!  later:    A: 7, B: 12, C: 31     B has let go, C has not
//!            A: 8, B: 13, C: 33     all have: free it
//! ```
//!
//! There is no global epoch. An epoch would be one word that every thread writes; here a thread writes its own turn and
//! reads the others', so threads that work on different keys share no line that both of them write. And a batch waits
//! for one grace period, not for the two or three that epochs take, so less is in limbo and what comes back to the pool
//! is still in the cache. Turns as grace periods are those of user-level RCU (Desnoyers et al., TPDS 2012), limbo bags
//! per thread those of DEBRA (Brown, PODC 2015).
//!
//! # Invariants
//!
//! 1. A participant's turn is written by its owner alone, is odd exactly while the owner is pinned, and never returns to
//!    an earlier value.
//! 2. A batch's objects were unlinked before the fence of its sealing; the turns are read after it.
//! 3. Participants are never removed before the collector, and one that is added after a sealing pins after it.
//! 4. Batches wait in the order of their sealing. If a thread holds back the first of them by a turn, that turn was odd
//!    already when the later ones were sealed, so it holds those back too: only the first is looked at.
//!
//! # Why nothing is freed too early
//!
//! Let S seal a batch and T pin. Each has a full fence: S between unlinking and reading T's turn, T between writing its
//! turn and reading shared memory.
//!
//! - S's fence comes first. Then T's reads come after the unlinking and find nothing of the batch.
//! - T's fence comes first. Then S reads T's turn as that pin or a later value left it. If it is that pin's, the batch
//!   waits for it to change. If it is later, T has unpinned since, by a release that S acquires, and everything T did is
//!   before the freeing.
//!
//! On x86-64 T's exchange stands for its fence. That is an argument about the processor, whose exchanges hold later loads
//! back, and not one about the language's model, in which the exchange orders less than a fence; everywhere else, under
//! loom and under Miri, the fence itself is there.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | `turn` | `PIN_TURN`, then `LIMBO_PIN` | `LIMBO_SEAL`, then `READ_TURN` | the two fences above |
//! | `turn` | `UNPIN_TURN`, `PIN_TURN` | `READ_TURN` | all accesses of the pin that ended are before the freeing |
//! | `first` | `ADD_RECORD` | `READ_RECORDS` | a participant's fields |
//!
//! # Progress
//!
//! Wait-free but for the adding of participants, which is lock-free. A thread that stalls while pinned holds back what
//! is retired from then on, without bound, as under epochs; [`Totals`] shows how much. A thread that ends hands its
//! batches to whoever seals next.
//!
//! Batches are arrays rather than lists threaded through the retired objects: a reader may still follow every word of a
//! retired version, so a list would cost each version one more, and an array can be freed without a chase.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::pool::Pool;
use super::stack::Stack;
use super::{Counts, Guard, Leave, Reclaim, Retired, Totals};
use crate::sync::{AtomicPtr, AtomicU64, compiler_fence, full_fence, order};

/// Objects in a full batch: enough that reading all turns costs little for each, few enough that two batches of small
/// versions stay in the first-level cache.
const BATCH_OBJECTS: usize = if cfg!(loom) { 1 } else { 64 };

/// Bytes in a full batch: some large values are not held back for the sake of a number.
const BATCH_BYTES: usize = 64 << 10;

/// Batches that one sealing frees at most. More than one, so that a backlog shrinks.
const BATCHES_AT_ONCE: usize = 4;

/// Empty batches that a thread keeps: room for what is retired while another thread is stopped for some milliseconds.
const SPARE_BATCHES: usize = 512;

/// Bit of a garbage's address: it has expired once and is waiting again.
const AGAIN: usize = 1;

/// A store's collector.
pub struct LimboReclaim {
    shared: Arc<Shared>,
}

/// What all threads of a collector share.
struct Shared {
    first: AtomicPtr<Participant>,
    orphans: Stack<Batch>,
}

// SAFETY: participants are published whole and immutable but for their atomics; batches are `Send`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// What other threads read of one thread, on cache lines of its own.
#[repr(align(128))]
struct Participant {
    turn: AtomicU64,
    next: *const Participant,
    counts: Counts,
}

/// What one thread has retired and can use again.
pub struct Limbo {
    me: *const Participant,
    /// Guards of this thread: only the first pins and the last unpins.
    nested: Cell<usize>,
    bags: RefCell<Bags>,
    pool: Pool,
    // Dropped last: `me` lives in it.
    shared: Arc<Shared>,
}

// SAFETY: `me` lives as long as `shared`; everything else is `Send` or garbage, which is `T: Send`. One thread uses it at
// a time.
unsafe impl Send for Limbo {}

/// A thread's batches.
struct Bags {
    open: Batch,
    sealed: VecDeque<Batch>,
    spare: Vec<Batch>,
}

/// Objects that are freed together.
#[derive(Default)]
struct Batch {
    garbage: Vec<Garbage>,
    bytes: usize,
    /// Threads that were pinned at the sealing and have not been seen to let go, and their turns.
    waits_for: SmallVec<[(*const Participant, u64); 8]>,
}

// SAFETY: the objects are `T: Send`, and the participants live as long as the collector, which batches never leave.
unsafe impl Send for Batch {}

/// A retired object, and how it is freed.
struct Garbage {
    /// Its address, and [`AGAIN`].
    object: *mut (),
    free: unsafe fn(*mut (), &Pool, &Counts) -> bool,
}

/// Frees an object into `pool`, or returns false if it asks for one more grace period.
///
/// # Safety
///
/// As for [`Retired::reclaim`] of `T`; the address may carry [`AGAIN`].
unsafe fn free<T: Retired>(object: *mut (), pool: &Pool, counts: &Counts) -> bool {
    let ptr = object.map_addr(|address| address & !AGAIN).cast::<T>();
    // SAFETY: valid until it is freed, by contract.
    if object.addr() & AGAIN == 0 && unsafe { T::expire(ptr) } {
        return false;
    }
    // SAFETY: as above.
    let bytes = unsafe { &*ptr }.bytes();
    // SAFETY: guaranteed by the caller.
    unsafe { T::reclaim(ptr, pool) };
    counts.freed(1, bytes as u64);
    true
}

impl Batch {
    /// Says whether every thread that it waits for has let go.
    fn is_over(&mut self) -> bool {
        self.waits_for.retain(|(participant, turn)| {
            // SAFETY: participants live as long as the collector (invariant 3).
            let participant = unsafe { &**participant };
            // ORDERING: Acquire; pairs with `pin` and `unpin`: what the thread did before is before the freeing.
            participant.turn.load(order::READ_TURN) == *turn
        });
        self.waits_for.is_empty()
    }

    /// Frees all objects, and gives those back that ask for one more grace period.
    ///
    /// # Safety
    ///
    /// No thread can reach the objects any more.
    unsafe fn free(&mut self, pool: &Pool, counts: &Counts, mut again: impl FnMut(Garbage)) {
        self.bytes = 0;
        for garbage in self.garbage.drain(..) {
            // SAFETY: retired once and in one batch, and nobody reaches it, by contract.
            if !unsafe { (garbage.free)(garbage.object, pool, counts) } {
                again(Garbage {
                    object: garbage.object.map_addr(|address| address | AGAIN),
                    free: garbage.free,
                });
            }
        }
    }
}

impl Shared {
    /// Goes through all participants.
    fn participants(&self) -> impl Iterator<Item = &Participant> {
        // ORDERING: Acquire; pairs with `register`. The rest of the list was published with its first or before.
        let mut next = self.first.load(order::READ_RECORDS).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: null, or published and never removed (invariant 3).
            let participant = unsafe { next.as_ref() }?;
            next = participant.next;
            Some(participant)
        })
    }
}

impl Shared {
    /// Makes a batch wait for all threads that are pinned now.
    fn note_pinned(&self, batch: &mut Batch) {
        // ORDERING: SeqCst; INVARIANT 2: everything in the batch was unlinked before. Pairs with `pin`.
        full_fence(order::LIMBO_SEAL);
        for participant in self.participants() {
            // ORDERING: Acquire; pairs with `pin` and `unpin`.
            let turn = participant.turn.load(order::READ_TURN);
            if turn % 2 == 1 {
                batch.waits_for.push((participant, turn));
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        // Nobody is pinned or ever will be, so every grace period is over. What expires now is freed at once.
        let (pool, counts) = (Pool::new(), Counts::default());
        self.orphans.take_all(|mut batch| {
            let mut rest = Batch::default();
            // SAFETY: nobody is pinned.
            unsafe { batch.free(&pool, &counts, |garbage| rest.garbage.push(garbage)) };
            // SAFETY: as above.
            unsafe { rest.free(&pool, &counts, |_| {}) };
        });
        // ORDERING: Relaxed; exclusive access.
        let mut next = self.first.load(order::COUNT);
        while !next.is_null() {
            // SAFETY: made by `Box::into_raw` in `register`; the last handle is gone, so nothing names it.
            let participant = unsafe { Box::from_raw(next) };
            next = participant.next.cast_mut();
        }
    }
}

impl Reclaim for LimboReclaim {
    type Local = Limbo;
    type Memory = Pool;
    type Guard<'a> = LimboGuard<'a>;

    fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                first: AtomicPtr::new(ptr::null_mut()),
                orphans: Stack::new(),
            }),
        }
    }

    fn register(&self) -> Limbo {
        let me = Box::into_raw(Box::new(Participant {
            turn: AtomicU64::new(0),
            next: ptr::null(),
            counts: Counts::default(),
        }));
        // ORDERING: Relaxed; the exchange checks it, and `participants` acquires what it follows.
        let mut first = self.shared.first.load(order::COUNT);
        loop {
            // SAFETY: not published yet.
            unsafe { (*me).next = first };
            // ORDERING: Release; publishes the participant. Failure: the list as it is now. INVARIANT 3.
            match self
                .shared
                .first
                .compare_exchange(first, me, order::ADD_RECORD, order::COUNT)
            {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        Limbo {
            me,
            nested: Cell::new(0),
            bags: RefCell::new(Bags {
                open: Batch::default(),
                sealed: VecDeque::new(),
                spare: Vec::new(),
            }),
            pool: Pool::new(),
            shared: Arc::clone(&self.shared),
        }
    }

    #[inline]
    fn pin<'a>(&'a self, local: &'a Limbo) -> LimboGuard<'a> {
        assert!(Arc::ptr_eq(&self.shared, &local.shared), "a guard belongs to one store");
        local.pin();
        LimboGuard { limbo: local }
    }

    fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.shared
            .participants()
            .for_each(|participant| participant.counts.add_to(&mut sum));
        sum
    }
}

impl Limbo {
    #[inline]
    fn me(&self) -> &Participant {
        // SAFETY: lives as long as `shared` (invariant 3).
        unsafe { &*self.me }
    }

    #[inline]
    fn pin(&self) {
        let nested = self.nested.get();
        self.nested.set(nested + 1);
        if nested == 0 {
            let turn = &self.me().turn;
            // ORDERING: Relaxed; this thread alone writes it. INVARIANT 1.
            let now = turn.load(order::COUNT) + 1;
            if cfg!(all(target_arch = "x86_64", not(loom), not(miri))) {
                // ORDERING: SeqCst: release as below, and on x86-64 an exchange is also the full fence that pairs with
                // `seal`'s, at half of a fence instruction's cost.
                turn.swap(now, order::LIMBO_PIN);
                // That later loads stay later is the processor's promise; the compiler has to be told.
                compiler_fence(order::LIMBO_PIN);
            } else {
                // ORDERING: Release; the pin before this one stays before it. Pairs with `is_over`.
                turn.store(now, order::PIN_TURN);
                // ORDERING: SeqCst; pairs with `seal`. Reads of shared memory come after it.
                full_fence(order::LIMBO_PIN);
            }
        }
    }

    #[inline]
    fn unpin(&self) {
        let nested = self.nested.get() - 1;
        self.nested.set(nested);
        if nested == 0 {
            let turn = &self.me().turn;
            // ORDERING: Relaxed to load, this thread alone writes it; Release to store, all of the pin's accesses are
            // before the freeing. Pairs with `is_over`. INVARIANT 1.
            turn.store(turn.load(order::COUNT) + 1, order::UNPIN_TURN);
        }
    }

    /// Seals the open batch and frees what can be freed, up to so many batches.
    #[cold]
    fn seal(&self, bags: &mut Bags, at_once: usize) {
        if !bags.open.garbage.is_empty() {
            let mut batch = std::mem::replace(&mut bags.open, bags.spare.pop().unwrap_or_default());
            self.shared.note_pinned(&mut batch);
            bags.sealed.push_back(batch);
        }
        self.shared.orphans.take_all(|batch| bags.sealed.push_back(batch));
        // INVARIANT 4: the first of them decides. An orphan may wait for longer, and holds the others back till then.
        // Some at a time: one operation must not pay for all that a stalled thread held back.
        for _ in 0..at_once {
            if !bags.sealed.front_mut().is_some_and(Batch::is_over) {
                break;
            }
            let mut batch = bags.sealed.pop_front().expect("there is a first");
            let open = &mut bags.open;
            // SAFETY: unlinked before the fence, and every thread pinned then has unpinned since.
            unsafe { batch.free(&self.pool, &self.me().counts, |garbage| open.garbage.push(garbage)) };
            if bags.spare.len() < SPARE_BATCHES {
                bags.spare.push(batch);
            }
        }
    }
}

impl Leave for Limbo {
    fn leave(&self) {
        let mut bags = self.bags.borrow_mut();
        self.seal(&mut bags, BATCHES_AT_ONCE);
        while let Some(batch) = bags.sealed.pop_front() {
            self.shared.orphans.push(batch);
        }
        if !bags.open.garbage.is_empty() {
            // What has expired just now.
            let mut batch = std::mem::take(&mut bags.open);
            self.shared.note_pinned(&mut batch);
            self.shared.orphans.push(batch);
        }
        self.pool.clear();
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        self.leave();
    }
}

/// A pinned thread.
pub struct LimboGuard<'a> {
    limbo: &'a Limbo,
}

impl Drop for LimboGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.limbo.unpin();
    }
}

impl Guard for LimboGuard<'_> {
    type Memory = Pool;

    #[inline]
    fn memory(&self) -> &Pool {
        &self.limbo.pool
    }

    #[inline]
    unsafe fn retire<T: Retired>(&self, ptr: *mut T) {
        const { assert!(align_of::<T>() > AGAIN, "the address has room for a bit") };
        // SAFETY: `ptr` is valid by contract.
        let bytes = unsafe { &*ptr }.bytes();
        self.limbo.me().counts.retired(bytes);
        let mut bags = self.limbo.bags.borrow_mut();
        bags.open.bytes += bytes;
        bags.open.garbage.push(Garbage {
            object: ptr.cast(),
            free: free::<T>,
        });
        if bags.open.garbage.len() >= BATCH_OBJECTS || bags.open.bytes >= BATCH_BYTES {
            self.limbo.seal(&mut bags, BATCHES_AT_ONCE);
        }
    }

    fn flush(&self) {
        self.limbo.seal(&mut self.limbo.bags.borrow_mut(), usize::MAX);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::Tracked;
    use super::*;
    use std::alloc::Layout;
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicU64 as Sum, Ordering};

    use super::super::Memory;

    /// Counts how often it expires and is freed.
    struct Object {
        expired: Arc<Sum>,
        freed: Arc<Sum>,
        asks_again: bool,
        tracked: Tracked,
    }

    // SAFETY: frees what `Counted::object` allocated; neither function panics.
    unsafe impl Retired for Object {
        unsafe fn expire(ptr: *mut Self) -> bool {
            // SAFETY: valid by contract.
            let object = unsafe { &*ptr };
            object.expired.fetch_add(1, Ordering::Relaxed);
            object.asks_again
        }

        unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M) {
            // SAFETY: valid by contract.
            unsafe { &*ptr }.freed.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as above, and the only call.
            unsafe { ptr.drop_in_place() };
            let block = NonNull::new(ptr.cast()).expect("an object is somewhere");
            // SAFETY: allocated with this layout.
            unsafe { memory.free(block, Layout::new::<Self>()) };
        }

        fn bytes(&self) -> usize {
            size_of::<Self>()
        }

        fn tracked(&self) -> &Tracked {
            &self.tracked
        }
    }

    #[derive(Default)]
    struct Counted {
        expired: Arc<Sum>,
        freed: Arc<Sum>,
    }

    impl Counted {
        fn retire(&self, asks_again: bool, guard: &LimboGuard<'_>) {
            let object = guard.memory().allocate(Layout::new::<Object>()).cast::<Object>();
            let value = Object {
                expired: Arc::clone(&self.expired),
                freed: Arc::clone(&self.freed),
                asks_again,
                tracked: Tracked::default(),
            };
            // SAFETY: just allocated for it.
            unsafe { object.write(value) };
            // SAFETY: nobody reaches it, and it is retired once.
            unsafe { guard.retire(object.as_ptr()) };
        }

        fn freed(&self) -> u64 {
            self.freed.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_pinned_thread_holds_back_what_is_retired_after_its_pin_and_no_more() {
        let (reclaim, counted) = (LimboReclaim::new(), Counted::default());
        let (mine, others) = (reclaim.register(), reclaim.register());
        counted.retire(false, &reclaim.pin(&mine));
        reclaim.pin(&mine).flush();
        let held = reclaim.pin(&others);
        reclaim.pin(&mine).flush();
        assert_eq!(counted.freed(), 1, "sealed before the other pinned");
        for _ in 0..3 * BATCH_OBJECTS {
            counted.retire(false, &reclaim.pin(&mine));
        }
        let nested = reclaim.pin(&others);
        drop(held);
        for _ in 0..4 {
            reclaim.pin(&mine).flush();
        }
        assert_eq!(counted.freed(), 1, "a nested guard keeps the thread pinned");
        drop(nested);
        for _ in 0..2 {
            reclaim.pin(&mine).flush();
        }
        assert_eq!(counted.freed(), 1 + 3 * BATCH_OBJECTS as u64);
        let totals = reclaim.totals();
        assert_eq!((totals.retired, totals.freed), (counted.freed(), counted.freed()));
        assert_eq!(totals.retired_bytes, totals.freed_bytes);
        assert!(mine.pool.bytes() > 0, "what was freed is at hand");
    }

    #[test]
    fn what_asks_for_it_waits_for_a_second_grace_period() {
        let (reclaim, counted) = (LimboReclaim::new(), Counted::default());
        let (mine, others) = (reclaim.register(), reclaim.register());
        counted.retire(true, &reclaim.pin(&mine));
        reclaim.pin(&mine).flush();
        reclaim.pin(&mine).flush();
        assert_eq!((counted.expired.load(Ordering::Relaxed), counted.freed()), (1, 0));
        // Pinned after the first period and before the second is sealed.
        let held = reclaim.pin(&others);
        for _ in 0..4 {
            reclaim.pin(&mine).flush();
        }
        assert_eq!(counted.freed(), 0);
        drop(held);
        reclaim.pin(&mine).flush();
        assert_eq!((counted.expired.load(Ordering::Relaxed), counted.freed()), (1, 1));
    }

    #[test]
    fn a_thread_that_leaves_hands_its_garbage_over() {
        let (reclaim, counted) = (LimboReclaim::new(), Counted::default());
        let mine = reclaim.register();
        let held = reclaim.pin(&mine);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let local = reclaim.register();
                for again in [false, true] {
                    counted.retire(again, &reclaim.pin(&local));
                }
            });
        });
        held.flush();
        assert_eq!(counted.freed(), 0);
        drop(held);
        for _ in 0..4 {
            reclaim.pin(&mine).flush();
        }
        assert_eq!(counted.freed(), 2);
        counted.retire(true, &reclaim.pin(&mine));
        drop(mine);
        assert_eq!(counted.freed(), 2);
        drop(reclaim);
        assert_eq!(counted.freed(), 3, "the collector frees what is left");
    }

    /// Goal: no reader meets a freed object. Method: one slot whose object is replaced and retired all the time by two
    /// threads, while two read it; a freed block's first word is overwritten by the pool, and Miri sees the rest.
    #[test]
    fn readers_of_a_slot_meet_no_freed_object() {
        const ROUNDS: u64 = if cfg!(miri) { 30 } else { 50_000 };
        const MARK: u64 = 0x5EED_CAFE_F00D_D00D;
        struct Marked {
            first: u64,
            tracked: Tracked,
        }
        // SAFETY: frees what was allocated below.
        unsafe impl Retired for Marked {
            unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M) {
                let block = NonNull::new(ptr.cast()).expect("an object is somewhere");
                // SAFETY: guaranteed by the caller; allocated with this layout.
                unsafe { memory.free(block, Layout::new::<Self>()) };
            }
            fn bytes(&self) -> usize {
                size_of::<Self>()
            }
            fn tracked(&self) -> &Tracked {
                &self.tracked
            }
        }
        let reclaim = LimboReclaim::new();
        let slot = AtomicPtr::<Marked>::new(ptr::null_mut());
        let replace = |guard: &LimboGuard<'_>, new: *mut Marked| {
            let old = slot.swap(new, order::LINK_NODE);
            if !old.is_null() {
                // SAFETY: the swap took the only way to it.
                unsafe { guard.retire(old) };
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let local = reclaim.register();
                    for _ in 0..ROUNDS {
                        let guard = reclaim.pin(&local);
                        let new = guard.memory().allocate(Layout::new::<Marked>()).cast::<Marked>();
                        let marked = Marked {
                            first: MARK,
                            tracked: Tracked::default(),
                        };
                        // SAFETY: just allocated for it.
                        unsafe { new.write(marked) };
                        replace(&guard, new.as_ptr());
                    }
                });
                scope.spawn(|| {
                    let local = reclaim.register();
                    for _ in 0..ROUNDS {
                        let _guard = reclaim.pin(&local);
                        // SAFETY: null, or in the slot under a guard.
                        if let Some(marked) = unsafe { slot.load(order::READ_NODE).as_ref() } {
                            assert_eq!(marked.first, MARK);
                        }
                    }
                });
            }
        });
        let local = reclaim.register();
        replace(&reclaim.pin(&local), ptr::null_mut());
        for _ in 0..3 {
            reclaim.pin(&local).flush();
        }
        let totals = reclaim.totals();
        assert_eq!((totals.retired, totals.freed), (2 * ROUNDS, 2 * ROUNDS));
    }
}
