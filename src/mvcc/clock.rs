//! The commit clock: one shared word from which snapshots and commits draw their timestamps.
//!
//! Two variants answer one question: who writes the word that everybody reads?
//!
//! - [`ReaderDriven`] (the default): snapshots move the clock by [`TICK`], commits only read it. While it shows
//!   `c`, commits take timestamps in `c .. c + TICK`, and a snapshot takes `c + TICK - 1` and moves the clock past
//!   them. Disjoint writers then share a cache line that nobody writes. A key overwritten `TICK` times within one
//!   tick raises the clock by itself.
//! - [`WriterDriven`]: commits move the clock by one, snapshots only read it, as most multi-version engines do.
//!
//! # Invariants
//!
//! 1. A timestamp is drawn for a transaction only after its status was seen to be PREPARED.
//! 2. A commit's timestamp exceeds that of every version below it in its chain: `draw_commit` starts
//!    above `predecessor`.
//! 3. A commit that draws after a snapshot has drawn `r` gets more than `r`: in the reader-driven clock the snapshot
//!    has moved the clock past `r`, in the writer-driven one every draw exceeds what was ever read.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | `clock` | snapshot: `DRAW` | commit: `READ_CLOCK` | F1: a snapshot that missed a version gave its commit a later timestamp |
//! | `clock` | commit: `DRAW` (writer-driven) | snapshot: `READ_CLOCK` | F1, the same |
//! | `clock` | commit: `RAISE_CLOCK` | commit: `READ_CLOCK` | timestamps above the tick are drawn only once the clock shows them |
//!
//! The fences that loom needs stand at the callers, between the access here and the access elsewhere.
//!
//! # Progress
//!
//! Lock-free. The loop of the reader-driven `draw_commit` runs again only when the clock moved.
//!
//! A timestamp drawn from a clock that only readers advance follows the versioned pointers of Wei et al., PPoPP 2021.
#![forbid(unsafe_code)]

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, order};
use crate::types::Timestamp;

/// Timestamps per tick of the reader-driven clock: how often one key can be overwritten before a writer, not
/// a snapshot, has to move the shared word. 256 makes that word's share of a hot key's cost unmeasurable.
/// Two under loom, so that a model can use a tick up.
pub const TICK: u64 = if cfg!(loom) { 2 } else { 256 };

/// Where commit and read timestamps come from.
pub trait Clock: Send + Sync + 'static {
    /// Whether drawing a snapshot writes the clock. If so, whoever sees the clock moved also sees what the drawing
    /// thread wrote before; if not, that takes a store-load fence (F2).
    const SNAPSHOTS_WRITE: bool;

    /// Returns a clock at its start.
    fn new() -> Self;

    /// Returns what the clock shows, without moving it.
    fn now(&self) -> Timestamp;

    /// Returns the least timestamp that any snapshot drawn after `now` was read can have.
    fn least_snapshot_after(now: Timestamp) -> Timestamp;

    /// Draws a read timestamp.
    fn draw_snapshot(&self) -> Timestamp;

    /// Draws a commit timestamp greater than `predecessor`.
    fn draw_commit(&self, predecessor: Timestamp) -> Timestamp;

    /// Makes every timestamp drawn so far smaller than what the clock shows.
    fn pass(&self);

    /// Starts the clock at `now`, a multiple of [`TICK`], before anything is drawn from it.
    fn start_at(&self, now: Timestamp);
}

/// Snapshots write the clock, commits only read it.
pub struct ReaderDriven {
    clock: CachePadded<AtomicU64>,
}

impl Clock for ReaderDriven {
    const SNAPSHOTS_WRITE: bool = true;

    fn new() -> Self {
        Self {
            clock: CachePadded::new(AtomicU64::new(TICK)),
        }
    }

    #[inline]
    fn now(&self) -> Timestamp {
        // ORDERING: SeqCst, F1 and F2; the partner is `draw_snapshot`.
        Timestamp::from_raw(self.clock.load(order::READ_CLOCK))
    }

    #[inline]
    fn least_snapshot_after(now: Timestamp) -> Timestamp {
        Timestamp::from_raw(now.get() + TICK - 1)
    }

    #[inline]
    fn draw_snapshot(&self) -> Timestamp {
        // ORDERING: SeqCst, F1 and F2; the partner is `now`. INVARIANT 3: the clock is past the result.
        Timestamp::from_raw(self.clock.fetch_add(TICK, order::DRAW) + TICK - 1)
    }

    #[inline]
    fn draw_commit(&self, predecessor: Timestamp) -> Timestamp {
        loop {
            // ORDERING: SeqCst, F1; the partner is `draw_snapshot`.
            let clock = self.clock.load(order::READ_CLOCK);
            // INVARIANT 2.
            let ts = clock.max(predecessor.get() + 1);
            if ts < clock + TICK {
                return Timestamp::from_raw(ts);
            }
            // The key used the tick up. Whoever raises the clock raises it for all.
            // ORDERING: AcqRel; failure only means that somebody else moved it, and the loop loads again.
            let _ = self
                .clock
                .compare_exchange(clock, clock + TICK, order::RAISE_CLOCK, order::READ_CLOCK);
        }
    }

    fn pass(&self) {
        self.draw_snapshot();
    }

    fn start_at(&self, now: Timestamp) {
        debug_assert!(now.get().is_multiple_of(TICK));
        // ORDERING: SeqCst, as all of its accesses; the store is not shared yet.
        self.clock.store(now.get(), order::START_CLOCK);
    }
}

/// Commits write the clock, snapshots only read it.
pub struct WriterDriven {
    clock: CachePadded<AtomicU64>,
}

impl Clock for WriterDriven {
    const SNAPSHOTS_WRITE: bool = false;

    fn new() -> Self {
        Self {
            clock: CachePadded::new(AtomicU64::new(1)),
        }
    }

    #[inline]
    fn now(&self) -> Timestamp {
        // ORDERING: SeqCst, F1 and F2; the partner is `draw_commit`.
        Timestamp::from_raw(self.clock.load(order::READ_CLOCK))
    }

    #[inline]
    fn least_snapshot_after(now: Timestamp) -> Timestamp {
        now
    }

    #[inline]
    fn draw_snapshot(&self) -> Timestamp {
        self.now()
    }

    #[inline]
    fn draw_commit(&self, predecessor: Timestamp) -> Timestamp {
        // ORDERING: SeqCst, F1; the partner is `now`. INVARIANT 2 holds since the predecessor was drawn here
        // before it was seen committed.
        let ts = Timestamp::from_raw(self.clock.fetch_add(1, order::DRAW) + 1);
        debug_assert!(ts > predecessor);
        ts
    }

    fn pass(&self) {
        // ORDERING: as in `draw_commit`.
        self.clock.fetch_add(1, order::DRAW);
    }

    fn start_at(&self, now: Timestamp) {
        // ORDERING: SeqCst, as all of its accesses; the store is not shared yet.
        self.clock.store(now.get(), order::START_CLOCK);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_uses_up_a_tick_raises_the_clock() {
        let clock = ReaderDriven::new();
        let start = clock.now();
        let mut last = Timestamp::ABSENT;
        for _ in 0..=TICK {
            let ts = clock.draw_commit(last);
            assert!(ts > last);
            last = ts;
        }
        assert_eq!(clock.now().get(), start.get() + TICK);
        assert!(clock.draw_snapshot() >= last);
    }

    #[test]
    fn commits_after_a_snapshot_get_more_than_it() {
        fn check<C: Clock>() {
            let clock = C::new();
            let early = clock.draw_commit(Timestamp::ABSENT);
            let bound = C::least_snapshot_after(clock.now());
            let read = clock.draw_snapshot();
            assert!(early <= read);
            assert!(bound <= read);
            assert!(clock.draw_commit(Timestamp::ABSENT) > read);
            let before = clock.draw_commit(read);
            clock.pass();
            assert!(before < clock.now());
        }
        check::<ReaderDriven>();
        check::<WriterDriven>();
    }
}
