//! The one switch between the standard library and loom, and the register of every memory ordering.
//!
//! All other files take atomics, fences and per-thread state from here, so that a build with
//! `--cfg loom` runs the same code under the model checker. `cfg(loom)` alone decides: a separate crate
//! sees the engine without `cfg(test)`.
//!
//! **Orderings have names.** [`order`] declares each ordering that pairs with another, and its partner. In a normal
//! build a name is a plain constant. In a loom build it is looked up at run time, and `UNLATCHED_WEAKEN=NAME`
//! weakens exactly that one by a step (several are separated by commas); `loom-tests/WEAKENING.md` lists what then
//! fails, and what does not and why.
//!
//! **Store-load points.** At three places (F1, F2 and F4 in [`order`]; F3 is kept for a log) two threads must
//! each see the other: both sides write one location and then read another. The accesses named there are `SeqCst`.
//! loom knows only part of what `SeqCst` accesses promise but models fences, so in a loom build these accesses are
//! acquire-release and [`store_load_fence`] stands between the two: a real fence under loom, nothing otherwise.
//!
//! **Per-thread state** of a store is in `reclaim/threads.rs`; [`PerThread`] is for what needs no word of a thread's end,
//! the libraries' collectors and tracing.
#![forbid(unsafe_code)]

#[cfg(all(not(loom), debug_assertions))]
pub mod lines;

#[cfg(all(not(loom), not(debug_assertions)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize};

#[cfg(all(not(loom), debug_assertions))]
pub(crate) use self::lines::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, wrote};

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(loom)]
pub use self::model::Leave;
#[cfg(loom)]
pub(crate) use self::model::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Record, Threads};

#[cfg(not(loom))]
pub(crate) use self::std_impl::{PerThread, compiler_fence, fence_after_draw, full_fence, store_load_fence};

#[cfg(loom)]
pub(crate) use self::model::{PerThread, Turn, compiler_fence, fence_after_draw, full_fence, store_load_fence};

/// Notes which lines a thread writes, in builds that do (`sync/lines.rs`).
#[cfg(any(loom, not(debug_assertions)))]
#[inline(always)]
pub(crate) fn wrote(_address: usize, _bytes: usize) {}

/// A word of a file's bytes, which are shared with the operating system. It is the standard atomic in every build: what
/// orders the bytes of a record is the word beside them that says whose they are, and that one models see.
#[derive(Debug, Default)]
#[repr(transparent)]
#[allow(unreachable_pub, reason = "part of a trait that `internals` shows")]
pub struct Word(std::sync::atomic::AtomicU64);

impl Word {
    /// Returns a word with that content.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(value))
    }

    /// Returns the content.
    #[inline]
    pub fn load(&self, order: impl Into<std::sync::atomic::Ordering>) -> u64 {
        self.0.load(order.into())
    }

    /// Replaces the content.
    #[inline]
    pub fn store(&self, value: u64, order: impl Into<std::sync::atomic::Ordering>) {
        self.0.store(value, order.into());
    }
}

/// A number that one thread adds to and any thread may read. A statistic, never part of a protocol: it stays a
/// standard atomic under loom, where it would only multiply the interleavings.
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    /// Adds to the number. Only the owning thread calls it, so that no read-modify-write is needed.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        // ORDERING: Relaxed; nothing depends on a statistic.
        let now = self.0.load(std::sync::atomic::Ordering::Relaxed);
        wrote(std::ptr::from_ref(self).addr(), size_of::<Self>());
        self.0
            .store(now.wrapping_add(amount), std::sync::atomic::Ordering::Relaxed);
    }

    /// Returns the number.
    pub(crate) fn get(&self) -> u64 {
        // ORDERING: Relaxed; nothing depends on a statistic.
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Since when something is known to last, to about 4 ms: the kernel's coarse clock where there is one. What lasts is a
/// number; another number is something else, and begins when it is first noticed. For ages in statistics, never for
/// measurements: of two threads that notice two things at once one may see a moment that is slightly wrong.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    what: std::sync::atomic::AtomicU64,
    since_ms: std::sync::atomic::AtomicU64,
}

impl Noticed {
    /// Returns for how long `what` is known to last: not at all, if this is the first time that it is noticed.
    pub(crate) fn age(&self, what: u64) -> std::time::Duration {
        use std::sync::atomic::Ordering::Relaxed;
        let now = Self::now_ms();
        // ORDERING: Relaxed, all; a statistic.
        if self.what.load(Relaxed) != what {
            wrote(std::ptr::from_ref(self).addr(), size_of::<Self>());
            self.since_ms.store(now, Relaxed);
            self.what.store(what, Relaxed);
        }
        std::time::Duration::from_millis(now.saturating_sub(self.since_ms.load(Relaxed)))
    }

    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    fn now_ms() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
    }

    #[cfg(any(not(target_os = "linux"), miri, loom))]
    fn now_ms() -> u64 {
        use std::time::Instant;
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_millis() as u64
    }
}

/// Named steps at which a test may stop a thread, to show that nobody waits for it. They exist in builds with debug
/// assertions and under loom; elsewhere `reached` is empty.
pub mod pause {
    /// The steps of a put, a commit, a snapshot and a removal.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Step {
        /// A place in the log is reserved, its record not copied.
        Reserved,
        /// A segment is linked behind a full one, which is still the current one.
        SegmentLinked,
        /// A record is copied to its place, which nobody has been told yet.
        Copied,
        /// A cut is drawn, no place looked at.
        CutDrawn,
        /// A marker is appended, nothing is durable yet.
        MarkerAppended,
        /// A write has its record, and nothing of it is linked.
        Enlisted,
        /// A put's or transaction's version is linked, its timestamp not drawn.
        Linked,
        /// A transaction's versions are all linked, its status still ACTIVE.
        Installed,
        /// A timestamp is drawn, the decision not taken.
        Drawn,
        /// A put or transaction is decided, nothing is cleaned up.
        Decided,
        /// A snapshot's slot holds its bound, no timestamp is drawn.
        SlotPending,
        /// A snapshot is drawn, its slot still holds the bound.
        SnapshotDrawn,
        /// A dead version is frozen, not yet unlinked.
        Frozen,
        /// A dead chain is sealed, still in the index.
        Sealed,
    }

    #[cfg(any(debug_assertions, loom))]
    mod hook {
        use std::cell::RefCell;

        type Hook = Box<dyn FnMut(super::Step)>;

        #[cfg(not(loom))]
        thread_local! {
            static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
        }

        #[cfg(loom)]
        loom::thread_local! {
            static HOOK: RefCell<Option<Hook>> = RefCell::new(None);
        }

        /// Calls `hook` at every step this thread reaches from now on; `None` stops that.
        pub fn set_hook(hook: Option<Hook>) {
            HOOK.with(|slot| *slot.borrow_mut() = hook);
        }

        /// Tells the hook, if there is one, that this thread reached `step`.
        pub(crate) fn reached(step: super::Step) {
            // A thread at its end has no hook any more.
            #[cfg(not(loom))]
            let hook = HOOK.try_with(|slot| slot.borrow_mut().take()).ok().flatten();
            #[cfg(loom)]
            let hook = HOOK.with(|slot| slot.borrow_mut().take());
            if let Some(mut hook) = hook {
                hook(step);
                HOOK.with(|slot| *slot.borrow_mut() = Some(hook));
            }
        }
    }

    #[cfg(any(debug_assertions, loom))]
    pub(crate) use self::hook::reached;
    #[cfg(any(debug_assertions, loom))]
    pub use self::hook::set_hook;

    /// Does nothing in this build.
    #[cfg(not(any(debug_assertions, loom)))]
    #[inline(always)]
    pub(crate) fn reached(_step: Step) {}
}

/// Declares named orderings: constants in a normal build, looked up by name under loom.
macro_rules! orderings {
    ($($(#[$doc:meta])* $name:ident = $strong:ident, weaker $weak:ident;)*) => {
        /// Every ordering that pairs with another, by name. Each entry says who pairs with it, what travels
        /// over the edge; `loom-tests/WEAKENING.md` says which model fails without it, or why none does.
        #[allow(unreachable_pub, reason = "part of it is shown through `internals`")]
        pub mod order {
            #[cfg(not(loom))]
            use std::sync::atomic::Ordering;
            #[cfg(loom)]
            use super::model::Named;

            $(
                $(#[$doc])*
                #[cfg(not(loom))]
                #[allow(dead_code, reason = "some are used in loom builds alone")]
                pub(crate) const $name: Ordering = Ordering::$strong;
                $(#[$doc])*
                #[cfg(loom)]
                #[allow(dead_code, reason = "some are used in other builds alone")]
                pub(crate) const $name: Named = Named {
                    name: stringify!($name),
                    strong: std::sync::atomic::Ordering::$strong,
                    weak: std::sync::atomic::Ordering::$weak,
                };
            )*

            /// Name, ordering and weakened ordering of every entry, for the tools that go through them all.
            pub const REGISTRY: &[(&str, &str, &str)] = &[
                $((stringify!($name), stringify!($strong), stringify!($weak)),)*
            ];
        }
    };
}

orderings! {
    // ---- the model's index (index/model.rs) ----
    /// Loads a node of the model's index. Pairs with [`LINK_NODE`].
    READ_NODE = Acquire, weaker Relaxed;
    /// Links or unlinks a node of the model's index; publishes its fields. Pairs with [`READ_NODE`].
    LINK_NODE = AcqRel, weaker Relaxed;
    // ---- the skiplist (index/skiplist.rs) ----
    /// Loads a link of the skiplist. Pairs with [`LINK_BASE`], [`LINK_TOWER`] and [`UNLINK_NODE`]: the next node's fields
    /// are visible; and with [`MARK_LINK`]: so are the marks above.
    READ_LINK = Acquire, weaker Relaxed;
    /// Loads a link for a collector that orders every protected load. As [`READ_LINK`].
    PROTECT_LINK = SeqCst, weaker Relaxed;
    /// Links a node at level 0; publishes its fields. Pairs with [`READ_LINK`].
    LINK_BASE = Release, weaker Relaxed;
    /// Links a node at a level above, or gives its own link there another target; publishes fields of the node or of the
    /// target. Pairs with [`READ_LINK`].
    LINK_TOWER = Release, weaker Relaxed;
    /// Marks a link. Release: the marks above are visible with it. Acquire: so are those that it finds.
    MARK_LINK = AcqRel, weaker Relaxed;
    /// Links past a marked node. Release: the fields of the node behind it, acquired before, stay published.
    UNLINK_NODE = Release, weaker Relaxed;
    /// Loads a node's flags. Pairs with [`RAISE_FLAG`]: the whole tower is linked.
    READ_FLAGS = Acquire, weaker Relaxed;
    /// Sets BUILT or GONE. Release: the inserter's links, or the remover's marks, are done; acquire: whoever is second
    /// sees what the first did, and unlinks the node everywhere.
    RAISE_FLAG = AcqRel, weaker Relaxed;
    // ---- hints (index/hints.rs) ----
    /// Loads a hint that is to be followed. Pairs with [`STORE_HINT`]: the node's fields are visible.
    READ_HINT = Acquire, weaker Relaxed;
    /// Loads a hint for a collector that orders every protected load. As [`READ_HINT`].
    PROTECT_HINT = SeqCst, weaker Relaxed;
    /// Stores a hint, or moves one to another bucket. Release: the reader that follows it has not met the node's
    /// creation, and this thread has. Pairs with [`READ_HINT`].
    STORE_HINT = Release, weaker Relaxed;
    /// Takes a hint away. What orders it is the collector alone: the second grace period begins after it.
    CLEAR_HINT = Relaxed, weaker Relaxed;
    /// Loads or changes the table's size, or the next bucket to be split: numbers, every value of which is safe to use.
    TABLE_SIZE = Relaxed, weaker Relaxed;
    // ---- version chains (mvcc/chain.rs) ----
    /// Loads a chain's head. Pairs with [`LINK_VERSION`]: the version's fields are visible. `SeqCst`: the reading
    /// side of F1, after the draw of a snapshot.
    READ_HEAD = SeqCst, weaker Relaxed;
    /// Links a version at the head. Pairs with [`READ_HEAD`]: publishes the version's fields. `SeqCst`: the writing
    /// side of F1, before the clock is read.
    LINK_VERSION = SeqCst, weaker Relaxed;
    /// Seals a dead chain; acquires the version judged dead, publishes nothing but the seal.
    SEAL_CHAIN = AcqRel, weaker Acquire;
    /// Loads `next`. Pairs with [`CUT_NEXT`] and [`UNLINK_NEXT`], and, being an acquire, stays before the load of the
    /// status that follows it.
    READ_NEXT = Acquire, weaker Relaxed;
    /// Loads `next` for a collector that orders every protected load. As [`READ_NEXT`].
    PROTECT_NEXT = SeqCst, weaker Relaxed;
    /// Takes the link below a kept version. Release: what was judged stays before the cut.
    CUT_NEXT = AcqRel, weaker Relaxed;
    /// Marks a version's link dead, which freezes it.
    FREEZE_NEXT = AcqRel, weaker Relaxed;
    /// Links past a frozen version. Release: publishes nothing new but keeps the successor's fields visible.
    UNLINK_NEXT = AcqRel, weaker Relaxed;
    // ---- status words (mvcc/chain.rs, mvcc/descriptor.rs) ----
    /// Loads a version's word. Pairs with [`DECIDE`] and [`RESOLVE_OWNER`]; `SeqCst`: the reading side of F1.
    READ_WORD = SeqCst, weaker Relaxed;
    /// Decides a put: PREPARED to COMMITTED. Release: the draw of the timestamp is visible with it, so that a later
    /// writer of the key draws more.
    DECIDE = AcqRel, weaker Relaxed;
    /// Replaces a decided owner by its final status in a version's word; the winner drops a reference.
    RESOLVE_OWNER = AcqRel, weaker Relaxed;
    /// Loads a transaction's status. Pairs with [`PREPARE`] and [`DECIDE_TX`]; `SeqCst`: the reading side of F1 and F4.
    READ_STATUS = SeqCst, weaker Relaxed;
    /// ACTIVE to PREPARED. Release: all versions are linked before it. `SeqCst`: the writing side of F1 and F4.
    PREPARE = SeqCst, weaker Relaxed;
    /// PREPARED to COMMITTED. As [`DECIDE`].
    DECIDE_TX = AcqRel, weaker Relaxed;
    /// ACTIVE to ABORTED. Release: whoever sees it sees the version that caused it.
    ABORT_TX = AcqRel, weaker Relaxed;
    /// Takes a reference to a descriptor before a version is linked; pairs with [`DROP_OWNER`].
    TAKE_OWNER = Acquire, weaker Relaxed;
    /// Gives a reference back. Release: all use of the descriptor is before its retirement.
    DROP_OWNER = AcqRel, weaker Relaxed;
    /// Nothing is ordered by it; the place says why.
    COUNT = Relaxed, weaker Relaxed;
    // ---- clock (mvcc/clock.rs) ----
    /// Reads the clock: a writer before it decides (F1, F4), a pruner before it reads the slots (F2).
    READ_CLOCK = SeqCst, weaker Relaxed;
    /// Moves the clock: a snapshot's draw in the reader-driven clock, a commit's in the writer-driven one (F1, F2, F4).
    DRAW = SeqCst, weaker Relaxed;
    /// Starts the clock of a store that is not shared yet.
    START_CLOCK = SeqCst, weaker Relaxed;
    /// Raises the clock by one tick when a single key used the whole tick up.
    RAISE_CLOCK = AcqRel, weaker Relaxed;
    // ---- snapshot slots (mvcc/snapshots.rs) ----
    /// Publishes a slot's lower bound, before the draw of its timestamp. The writing side of F2.
    PUBLISH_SLOT = SeqCst, weaker Relaxed;
    /// Replaces the bound by the exact timestamp; it only raises what a pruner may do.
    EXACT_SLOT = Release, weaker Relaxed;
    /// Closes a slot. Release: the snapshot's reads are before the pruning that follows.
    CLOSE_SLOT = Release, weaker Relaxed;
    /// Reads a slot, after the clock. The reading side of F2; pairs with [`CLOSE_SLOT`].
    READ_SLOT = SeqCst, weaker Relaxed;
    /// Loads the top of the spare slots. Pairs with [`SPARE_SLOT`]: the slot's link is visible.
    READ_SPARE = Acquire, weaker Relaxed;
    /// Pushes or pops a spare slot; publishes its link. Pairs with [`READ_SPARE`].
    SPARE_SLOT = AcqRel, weaker Relaxed;
    /// Reads the durable cut: a pruner before it reads the slots, a snapshot at the cut after it published its own (F2).
    READ_DURABLE = SeqCst, weaker Relaxed;
    /// Moves the durable cut. Release: what was settled for it is before. `SeqCst`: against snapshots at the cut (F2).
    ADVANCE_DURABLE = SeqCst, weaker Relaxed;
    /// Claims a slot never used before, before its bound is published (F2).
    CLAIM_SLOT = SeqCst, weaker Relaxed;
    // ---- records of threads (reclaim/threads.rs, reclaim/limbo.rs) ----
    /// Adds a thread's record to the list; publishes its fields. Pairs with [`READ_RECORDS`].
    ADD_RECORD = Release, weaker Relaxed;
    /// Loads the list of records. Pairs with [`ADD_RECORD`].
    READ_RECORDS = Acquire, weaker Relaxed;
    /// Gives a record up at its thread's end. Pairs with [`TAKE_RECORD`].
    LEAVE_RECORD = Release, weaker Relaxed;
    /// Takes over a record whose thread has ended. Pairs with [`LEAVE_RECORD`].
    TAKE_RECORD = Acquire, weaker Relaxed;
    // ---- the collector with limbo lists (reclaim/limbo.rs) ----
    /// Pins a thread. Pairs with [`READ_TURN`]: the accesses of the pin before stay before it.
    PIN_TURN = Release, weaker Relaxed;
    /// Unpins a thread. Pairs with [`READ_TURN`]: all accesses of the pin are before the freeing.
    UNPIN_TURN = Release, weaker Relaxed;
    /// Reads another thread's turn. Pairs with [`UNPIN_TURN`] and [`PIN_TURN`].
    READ_TURN = Acquire, weaker Relaxed;
    // ---- garbage that changes hands (reclaim/stack.rs) ----
    /// Pushes to a stack of orphans; publishes the item. Pairs with [`TAKE_ORPHANS`].
    PUSH_ORPHAN = Release, weaker Relaxed;
    /// Takes a whole stack of orphans. Pairs with [`PUSH_ORPHAN`].
    TAKE_ORPHANS = Acquire, weaker Relaxed;
    // ---- the log's bytes (log/record.rs) ----
    /// Stores the word that makes a record valid. Release: the record's other words, its empty stamp among them, are seen
    /// by whoever sees this one, so that a copy of the place on its way to the disk never combines it with a stale stamp.
    FINISH_RECORD = Release, weaker Relaxed;
    // ---- the log's segments (log/segment.rs) ----
    /// Reserves a place, before a commit timestamp is drawn. The writing side of F3.
    RESERVE = SeqCst, weaker Relaxed;
    /// Reads how far a segment is reserved, after the cut is drawn. The reading side of F3.
    READ_TAIL = SeqCst, weaker Relaxed;
    /// Says that a place is copied; publishes its record and its owner. The writing side of F3. Pairs with [`READ_PLACE`].
    FILL_PLACE = SeqCst, weaker Relaxed;
    /// Reads whether a place is copied, after the cut is drawn. The reading side of F3. Pairs with [`FILL_PLACE`].
    READ_PLACE = SeqCst, weaker Relaxed;
    /// Says that a place is done; the stamp is before it.
    CLOSE_PLACE = Release, weaker Relaxed;
    /// Links a segment or makes it the current one; publishes its fields. The writing side of F3. Pairs with
    /// [`READ_SEGMENT`].
    LINK_SEGMENT = SeqCst, weaker Relaxed;
    /// Loads a segment, by the flusher after the cut is drawn. The reading side of F3. Pairs with [`LINK_SEGMENT`].
    READ_SEGMENT = SeqCst, weaker Relaxed;
    /// Takes or leaves a file made ahead of need; publishes its fields.
    TAKE_SPARE = AcqRel, weaker Relaxed;
    // ---- the flusher (log/flusher.rs, log/mod.rs) ----
    /// Moves the durable cut that writers wait for. Release: the sync is before the acknowledgement.
    ADVANCE_CUT = Release, weaker Relaxed;
    /// Reads the durable cut. Pairs with [`ADVANCE_CUT`].
    READ_CUT = Acquire, weaker Relaxed;
    /// Poisons the log, before its places are given up; publishes the cause.
    POISON = SeqCst, weaker Relaxed;
    /// Reads whether the log is poisoned: a writer after its place is filled. Pairs with [`POISON`].
    READ_POISON = SeqCst, weaker Relaxed;
    // ---- the store-load points, as fences under loom ----
    /// F1, writing side: version linked or transaction prepared, then the clock read.
    F1_WRITER = SeqCst, weaker Relaxed;
    /// F1, reading side: snapshot drawn, then heads and statuses read.
    F1_READER = SeqCst, weaker Relaxed;
    /// F2, snapshot's side: slot published, then the timestamp drawn.
    F2_SNAPSHOT = SeqCst, weaker Relaxed;
    /// F2, pruner's side: clock read, then the slots.
    F2_PRUNER = SeqCst, weaker Relaxed;
    /// F3, flusher's side: cut drawn, then segments, tails, places and statuses read. (The writing side is [`F1_WRITER`].)
    F3_FLUSHER = SeqCst, weaker Relaxed;
    /// The poisoned log's side: flag raised, then the places looked at; the writer's: place filled, then the flag read.
    POISON_FENCE = SeqCst, weaker Relaxed;
    /// F4, reading side: a thread that has seen a later clock then reads a status.
    F4_READER = SeqCst, weaker Relaxed;
    /// The pin's side of a grace period: turn stored, then shared memory read.
    LIMBO_PIN = SeqCst, weaker Relaxed;
    /// The retiring side of a grace period: unlinked, then the turns read.
    LIMBO_SEAL = SeqCst, weaker Relaxed;
    /// The model's collector: a pin comes after every retirement before it, which real collectors bring about by
    /// a fence of their own (reclaim/model.rs).
    MODEL_PIN = SeqCst, weaker Relaxed;
    /// The model's collector: what a thread did while pinned happens before the expiry of what was retired until then or
    /// later, which real collectors bring about by the release in their unpin (reclaim/model.rs).
    MODEL_UNPIN = AcqRel, weaker Relaxed;
}

#[cfg(not(loom))]
mod std_impl {
    use thread_local::ThreadLocal;

    /// Orders the write before it against the read after it where loom needs to be told; see the module's essay.
    ///
    /// Where a store may become visible to some processors before others, `SeqCst` accesses alone leave one gap: a
    /// reader that has seen the clock move goes through an index that asks for less. There it is a fence.
    #[inline(always)]
    pub(crate) fn store_load_fence(point: std::sync::atomic::Ordering) {
        if cfg!(not(any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        ))) {
            std::sync::atomic::fence(point);
        }
    }

    /// Keeps the compiler from moving accesses over this point.
    #[inline(always)]
    pub(crate) fn compiler_fence(point: std::sync::atomic::Ordering) {
        std::sync::atomic::compiler_fence(point);
    }

    /// A fence that every build has, where the accesses around it are no part of F1 to F4.
    #[inline(always)]
    pub(crate) fn full_fence(point: std::sync::atomic::Ordering) {
        std::sync::atomic::fence(point);
    }

    /// Keeps reads after the draw of a snapshot from passing it, also those of a library that asks for less than this
    /// crate's own accesses do. On x86-64 the draw holds them back by itself.
    #[inline(always)]
    pub(crate) fn fence_after_draw() {
        if cfg!(not(target_arch = "x86_64")) {
            // ORDERING: SeqCst, F1.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }

    /// One `T` for each thread that asked for it, owned by one store.
    pub(crate) struct PerThread<T: Send>(ThreadLocal<T>);

    impl<T: Send> PerThread<T> {
        /// Returns an empty set.
        pub(crate) fn new() -> Self {
            Self(ThreadLocal::new())
        }

        /// Returns this thread's value, made by `create` at the first call.
        #[inline]
        pub(crate) fn get_or(&self, create: impl FnOnce() -> T) -> &T {
            self.0.get_or(create)
        }

        /// Goes through the values of all threads.
        pub(crate) fn iter(&self) -> impl Iterator<Item = &T>
        where
            T: Sync,
        {
            self.0.iter()
        }
    }

    impl<T: Send> Default for PerThread<T> {
        fn default() -> Self {
            Self::new()
        }
    }
}

#[cfg(loom)]
mod model {
    use std::cell::{OnceCell, RefCell};
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;

    use thread_local::ThreadLocal;

    /// An ordering that `UNLATCHED_WEAKEN` may weaken.
    #[derive(Clone, Copy)]
    pub(crate) struct Named {
        pub(super) name: &'static str,
        pub(super) strong: Ordering,
        pub(super) weak: Ordering,
    }

    impl Named {
        fn is_weakened(self) -> bool {
            static WEAKENED: OnceLock<Vec<String>> = OnceLock::new();
            WEAKENED
                .get_or_init(|| {
                    let names = std::env::var("UNLATCHED_WEAKEN").unwrap_or_default();
                    let names: Vec<String> = names
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect();
                    for name in &names {
                        assert!(
                            super::order::REGISTRY.iter().any(|entry| entry.0 == name),
                            "UNLATCHED_WEAKEN names no ordering: {name}"
                        );
                    }
                    names
                })
                .iter()
                .any(|name| name == self.name)
        }
    }

    impl From<Named> for Ordering {
        fn from(named: Named) -> Self {
            match named.strong {
                _ if named.is_weakened() => named.weak,
                // loom half knows `SeqCst` accesses. The models rely on the fences instead, and on nothing else.
                Ordering::SeqCst => Ordering::AcqRel,
                strong => strong,
            }
        }
    }

    /// Nothing: under loom [`store_load_fence`] stands at the same place.
    pub(crate) fn fence_after_draw() {}

    /// The real fence that stands in for `SeqCst` accesses under loom.
    pub(crate) fn store_load_fence(point: Named) {
        if !point.is_weakened() {
            loom::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    /// Nothing: loom runs what the compiler made.
    pub(crate) fn compiler_fence(_point: Named) {}

    /// The same, for [`super::order::LIMBO_PIN`] and its partner.
    pub(crate) fn full_fence(point: Named) {
        store_load_fence(point);
    }

    /// Lets loom try both orders of two accesses to one location.
    ///
    /// loom compares an access with the last one to its location alone. A thread that loads and then exchanges, as
    /// every loop here does, hides by its own load the load that another thread made before, and loom never tries that
    /// load after the exchange. So each location has a second word, on which every access, loads included, first makes
    /// an exchange that fails: it writes nothing and orders nothing, but loom takes it for a conflict.
    #[derive(Debug)]
    pub(crate) struct Turn(loom::sync::atomic::AtomicUsize);

    impl Turn {
        pub(crate) fn new() -> Self {
            Self(loom::sync::atomic::AtomicUsize::new(0))
        }

        #[track_caller]
        pub(crate) fn take(&self) {
            // ORDERING: Relaxed; it must not order anything.
            let _ = self.0.compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    macro_rules! wrap_atomic {
        ($name:ident $(<$param:ident>)?, $inner:ty, $value:ty) => {
            /// loom's atomic of that name, taking named orderings.
            #[derive(Debug)]
            pub(crate) struct $name $(<$param>)? {
                value: $inner,
                turn: Turn,
            }

            impl $(<$param>)? $name $(<$param>)? {
                pub(crate) fn new(value: $value) -> Self {
                    Self { value: <$inner>::new(value), turn: Turn::new() }
                }
                #[track_caller]
                pub(crate) fn load(&self, order: impl Into<Ordering>) -> $value {
                    self.turn.take();
                    self.value.load(load_part(order.into()))
                }
                #[allow(dead_code, reason = "not every atomic is stored to")]
                #[track_caller]
                pub(crate) fn store(&self, value: $value, order: impl Into<Ordering>) {
                    self.turn.take();
                    self.value.store(value, store_part(order.into()));
                }
                #[allow(dead_code, reason = "not every atomic is swapped")]
                #[track_caller]
                pub(crate) fn swap(&self, value: $value, order: impl Into<Ordering>) -> $value {
                    self.turn.take();
                    self.value.swap(value, order.into())
                }
                #[allow(dead_code, reason = "not every atomic is exchanged")]
                #[track_caller]
                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: impl Into<Ordering>,
                    failure: impl Into<Ordering>,
                ) -> Result<$value, $value> {
                    self.turn.take();
                    self.value.compare_exchange(current, new, success.into(), load_part(failure.into()))
                }
            }
        };
    }

    fn load_part(order: Ordering) -> Ordering {
        match order {
            Ordering::AcqRel | Ordering::Release => Ordering::Acquire,
            other => other,
        }
    }

    fn store_part(order: Ordering) -> Ordering {
        match order {
            Ordering::AcqRel | Ordering::Acquire => Ordering::Release,
            other => other,
        }
    }

    wrap_atomic!(AtomicU8, loom::sync::atomic::AtomicU8, u8);
    wrap_atomic!(AtomicU64, loom::sync::atomic::AtomicU64, u64);
    wrap_atomic!(AtomicUsize, loom::sync::atomic::AtomicUsize, usize);
    wrap_atomic!(AtomicBool, loom::sync::atomic::AtomicBool, bool);
    wrap_atomic!(AtomicPtr<T>, loom::sync::atomic::AtomicPtr<T>, *mut T);

    impl AtomicU8 {
        #[track_caller]
        pub(crate) fn fetch_or(&self, value: u8, order: impl Into<Ordering>) -> u8 {
            self.turn.take();
            self.value.fetch_or(value, order.into())
        }
    }

    macro_rules! wrap_add {
        ($name:ident, $value:ty) => {
            impl $name {
                #[allow(dead_code, reason = "not every counter does both")]
                #[track_caller]
                pub(crate) fn fetch_add(&self, value: $value, order: impl Into<Ordering>) -> $value {
                    self.turn.take();
                    self.value.fetch_add(value, order.into())
                }
                #[allow(dead_code, reason = "not every counter does both")]
                #[track_caller]
                pub(crate) fn fetch_sub(&self, value: $value, order: impl Into<Ordering>) -> $value {
                    self.turn.take();
                    self.value.fetch_sub(value, order.into())
                }
            }
        };
    }
    wrap_add!(AtomicU64, u64);
    wrap_add!(AtomicUsize, usize);

    /// Threads that one loom execution may have, the main one included (loom's own limit).
    const MODEL_THREADS: usize = 5;

    /// One `T` for each loom thread. loom runs its threads as coroutines of one real thread, so a real thread's
    /// storage with one cell per loom thread needs no lock and adds no interleaving. A store is made, used and dropped
    /// on one real thread, that of its model.
    pub(crate) struct PerThread<T: Send>(ThreadLocal<Cells<T>>);

    /// The values of one execution's threads, in the order of their first call.
    struct Cells<T> {
        ids: RefCell<Vec<loom::thread::ThreadId>>,
        values: [OnceCell<T>; MODEL_THREADS],
    }

    impl<T: Send> PerThread<T> {
        pub(crate) fn new() -> Self {
            Self(ThreadLocal::new())
        }

        pub(crate) fn get_or(&self, create: impl FnOnce() -> T) -> &T {
            let cells = self.0.get_or(|| Cells {
                ids: RefCell::new(Vec::new()),
                values: [const { OnceCell::new() }; MODEL_THREADS],
            });
            let id = loom::thread::current().id();
            let index = {
                let mut ids = cells.ids.borrow_mut();
                ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                    ids.push(id);
                    ids.len() - 1
                })
            };
            cells.values[index].get_or_init(create)
        }

        pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
            self.0
                .get()
                .into_iter()
                .flat_map(|cells| cells.values.iter().filter_map(OnceCell::get))
        }
    }

    impl<T: Send> Default for PerThread<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    /// As `reclaim::Leave`; a model calls it where a thread is to leave.
    pub trait Leave {
        /// Hands back what other threads can use: garbage, free memory.
        fn leave(&self);
    }

    /// As `reclaim::Record`.
    pub(crate) struct Record<S, L> {
        pub(crate) shared: S,
        pub(crate) local: L,
    }

    /// As `reclaim::Threads`: one record for each loom thread.
    pub(crate) struct Threads<S: Send, L: Send>(PerThread<Record<S, L>>);

    impl<S: Send, L: Send> Threads<S, L> {
        pub(crate) fn new() -> Self {
            Self(PerThread::new())
        }

        pub(crate) fn mine(&self, create: impl FnOnce() -> Record<S, L>) -> &Record<S, L> {
            self.0.get_or(create)
        }

        pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
            self.0.iter().map(|record| &record.shared)
        }
    }
}
