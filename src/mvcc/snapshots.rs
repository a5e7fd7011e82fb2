//! The slots of open snapshots, and what they allow to be pruned.
//!
//! An open snapshot owns one slot, on cache lines of its own. The handle owns the slot's number and may move between
//! threads; closing gives the number to the closing thread, which reuses it for its next snapshot, so opening and
//! closing allocate nothing.
//!
//! ```text
//!  slot:  0                  closed
//!         ts << 2 | PENDING  opening: its timestamp will be at least ts
//!         ts << 2 | EXACT    open at exactly ts
//! ```
//!
//! # Invariants
//!
//! 1. A slot holds a bound *before* its snapshot's timestamp is drawn, and until the snapshot is closed it never holds
//!    more than that timestamp.
//! 2. A view reads the clock *before* the slots. So a snapshot that a view does not show drew its timestamp after that
//!    clock was read, and has at least `Clock::least_snapshot_after` of it. This holds however old the view is: a stale
//!    view only allows less.
//! 3. Slots are never freed before the store.
//! 4. With a log, `durable` is the last durable cut: whoever flushes the log is a reader at it, for whom everything
//!    younger, and of each key the newest that is not, is kept. A view reads it before the slots, and its limit never
//!    exceeds it. A snapshot opened *at* the cut publishes its slot and then looks whether the cut is still that one: a
//!    view that missed the slot read an older cut.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | `word` | `PUBLISH_SLOT`, then a draw that only reads | clock, then `READ_SLOT` | F2: a view misses a slot only if it read the clock before the draw |
//! | `word` | plain, then a draw that writes (`DRAW`) | clock (`READ_CLOCK`), then `READ_SLOT` | the same, by release and acquire |
//! | `durable` | `ADVANCE_DURABLE` | `READ_DURABLE`, then `READ_SLOT` | invariant 4: the slot of a snapshot that found the cut unchanged is seen by views that find it changed |
//! | `used` | `CLAIM_SLOT`, then the slot | clock, then `CLAIM_SLOT` | F2, for slots never used before |
//! | `spare` | `SPARE_SLOT` | `READ_SPARE` | the link of the slot on top |
//! | `word` | `EXACT_SLOT` | `READ_SLOT` | raises the bound, which nothing else depends on |
//! | `word` | `CLOSE_SLOT` | `READ_SLOT` | the snapshot's reads are before the pruning that its end allows |
//!
//! # Progress
//!
//! Lock-free. A stack of spare numbers is touched only when snapshots are closed by other threads than open them.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use once_cell::race::OnceBox;

use crate::sync::pause::{self, Step};
use crate::sync::{AtomicU64, AtomicUsize, Noticed, fence_after_draw, order, store_load_fence};
use crate::types::Timestamp;

use super::clock::Clock;

/// Slots of the first chunk; each further chunk has twice as many as the one before.
const FIRST_CHUNK: usize = if cfg!(loom) { 4 } else { 64 };
/// Chunks, enough for more snapshots than memory holds.
const CHUNKS: usize = 24;
/// Slot numbers that a thread keeps for itself; none under loom, so that all go through the stack.
const KEPT_SLOTS: usize = if cfg!(loom) { 0 } else { 8 };

const KIND_BITS: u32 = 2;
const PENDING: u64 = 1;
const EXACT: u64 = 2;
const CLOSED: u64 = 0;

/// Bits of the stack's word that hold a slot's number plus one; the rest is the tag.
const SPARE_BITS: u32 = 32;
const SPARE_MASK: u64 = (1 << SPARE_BITS) - 1;

/// One snapshot's slot, on two lines of its own.
#[repr(C, align(128))]
struct Slot {
    word: AtomicU64,
    /// While the slot is spare: the number of the next spare slot plus one, or zero.
    next_spare: AtomicU64,
    noticed: OtherLine,
}

/// What lookers write of a slot, away from the line that its owner writes. A snapshot does not read the time: it is
/// noticed by a looker that saw it at its last look already, or by the statistics.
#[derive(Default)]
#[repr(align(64))]
struct OtherLine(Noticed);

impl Slot {
    fn new() -> Self {
        Self {
            word: AtomicU64::new(CLOSED),
            next_spare: AtomicU64::new(0),
            noticed: OtherLine::default(),
        }
    }
}

/// All slots of a store.
pub(crate) struct Snapshots {
    first: Box<[Slot]>,
    chunks: [OnceBox<Vec<Slot>>; CHUNKS],
    /// Slots ever used: numbers from here on are untouched.
    used: CachePadded<AtomicUsize>,
    /// The last durable cut; [`Timestamp::LATEST`] if nothing is to be kept for a log.
    durable: CachePadded<AtomicU64>,
    /// Slots given back by threads that had enough of them, as a stack: the number of the first plus one, and above it
    /// a tag that grows with every push, so that an exchange fails if the first was taken and given back meanwhile.
    spare: CachePadded<AtomicU64>,
}

/// What a thread keeps between its snapshots.
#[derive(Default)]
pub(crate) struct KeptSlots {
    /// Numbers of closed slots at hand: the first so many.
    numbers: [Cell<usize>; KEPT_SLOTS],
    count: Cell<usize>,
    /// The last timestamp that this thread drew for a snapshot, or [`Timestamp::ABSENT`]. The next one is at least this
    /// one. Using it as the bound saves a read of the clock right before its cache line is written.
    last: Cell<Timestamp>,
}

/// An open snapshot: its timestamp, and the number of its slot, to be closed once.
#[derive(Debug)]
pub struct OpenSnapshot {
    slot: usize,
    timestamp: Timestamp,
}

impl OpenSnapshot {
    /// Returns the read timestamp.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

/// Open snapshots at one moment, and how far the clock was before they were looked at.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// No snapshot beside those in `open` has less than this timestamp, now or later.
    limit: Timestamp,
    /// Timestamps of open snapshots, ascending.
    open: Vec<Timestamp>,
    /// Those of the look before.
    before: Vec<Timestamp>,
}

impl KeptSlots {
    #[inline]
    fn pop(&self) -> Option<usize> {
        let count = self.count.get().checked_sub(1)?;
        self.count.set(count);
        self.numbers.get(count).map(Cell::get)
    }

    /// Keeps a number, if there is room.
    #[inline]
    fn push(&self, number: usize) -> bool {
        let count = self.count.get();
        let Some(room) = self.numbers.get(count) else {
            return false;
        };
        room.set(number);
        self.count.set(count + 1);
        true
    }
}

impl Snapshots {
    pub(crate) fn new() -> Self {
        Self {
            first: (0..FIRST_CHUNK).map(|_| Slot::new()).collect(),
            chunks: [const { OnceBox::new() }; CHUNKS],
            used: CachePadded::new(AtomicUsize::new(0)),
            durable: CachePadded::new(AtomicU64::new(Timestamp::LATEST.get())),
            spare: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Opens a snapshot: publishes its bound, then draws its timestamp. O(1), no allocation once `kept` has a number.
    #[inline]
    pub(crate) fn open<C: Clock>(&self, clock: &C, kept: &KeptSlots) -> OpenSnapshot {
        let number = kept.pop().unwrap_or_else(|| self.claim());
        let slot = self.slot(number);
        let bound = match kept.last.get() {
            Timestamp::ABSENT => C::least_snapshot_after(clock.now()),
            last => last,
        };
        let pending = bound.get() << KIND_BITS | PENDING;
        // INVARIANT 1: before the draw.
        if C::SNAPSHOTS_WRITE {
            // ORDERING: Release, as when it was closed: a view that reads this and not that must know as much. Its own
            // bound is published by the draw's release: a view that misses it read the clock before the draw.
            slot.word.store(pending, order::CLOSE_SLOT);
        } else {
            // ORDERING: SeqCst, F2; pairs with `view`.
            slot.word.store(pending, order::PUBLISH_SLOT);
            store_load_fence(order::F2_SNAPSHOT);
        }
        pause::reached(Step::SlotPending);
        let timestamp = clock.draw_snapshot();
        debug_assert!(bound <= timestamp);
        kept.last.set(timestamp);
        pause::reached(Step::SnapshotDrawn);
        // ORDERING: Release; a view that still sees the bound allows less.
        slot.word.store(timestamp.get() << KIND_BITS | EXACT, order::EXACT_SLOT);
        // F1: from here on the snapshot's thread reads the index, heads and statuses. Heads and statuses are read
        // SeqCst; an index may read with less, and on x86-64 the draw itself holds later loads back.
        store_load_fence(order::F1_READER);
        fence_after_draw();
        OpenSnapshot {
            slot: number,
            timestamp,
        }
    }

    /// Returns the last durable cut; [`Timestamp::LATEST`] if there is none.
    #[inline]
    pub(crate) fn durable(&self) -> Timestamp {
        // ORDERING: SeqCst; the partner is `advance_durable`.
        Timestamp::from_raw(self.durable.load(order::READ_DURABLE))
    }

    /// Moves the durable cut. From here on what only the older cut could see may be pruned.
    pub(crate) fn advance_durable(&self, cut: Timestamp) {
        // ORDERING: SeqCst, invariant 4; pairs with `durable`.
        self.durable.store(cut.get(), order::ADVANCE_DURABLE);
    }

    /// Opens a snapshot at the durable cut; `None` if there is none. Lock-free: it tries again only if the cut has moved.
    pub(crate) fn open_durable(&self, kept: &KeptSlots) -> Option<OpenSnapshot> {
        let mut cut = self.durable();
        if cut == Timestamp::LATEST {
            return None;
        }
        let number = kept.pop().unwrap_or_else(|| self.claim());
        loop {
            let word = cut.get() << KIND_BITS | EXACT;
            // ORDERING: SeqCst, F2; before the cut is read again. Pairs with `view`.
            self.slot(number).word.store(word, order::PUBLISH_SLOT);
            store_load_fence(order::F2_SNAPSHOT);
            let now = self.durable();
            // INVARIANT 4.
            if now == cut {
                break;
            }
            if now == Timestamp::LATEST {
                self.close(
                    &OpenSnapshot {
                        slot: number,
                        timestamp: cut,
                    },
                    kept,
                );
                return None;
            }
            cut = now;
        }
        fence_after_draw();
        Some(OpenSnapshot {
            slot: number,
            timestamp: cut,
        })
    }

    /// Closes a snapshot and gives its slot's number to the calling thread.
    #[inline]
    pub(crate) fn close(&self, snapshot: &OpenSnapshot, kept: &KeptSlots) {
        // ORDERING: Release; the snapshot's reads are before the pruning that this allows. Pairs with `view`.
        self.slot(snapshot.slot).word.store(CLOSED, order::CLOSE_SLOT);
        if !kept.push(snapshot.slot) {
            self.push_spare(snapshot.slot);
        }
    }

    /// Looks at the clock, then at all slots. O(slots ever used).
    pub(crate) fn view<C: Clock>(&self, clock: &C, view: &mut View) {
        // INVARIANT 2: the clock first.
        view.limit = C::least_snapshot_after(clock.now());
        let durable = self.durable();
        view.limit = view.limit.min(durable);
        if !C::SNAPSHOTS_WRITE || durable != Timestamp::LATEST {
            store_load_fence(order::F2_PRUNER);
        }
        std::mem::swap(&mut view.open, &mut view.before);
        view.open.clear();
        // ORDERING: SeqCst, F2; pairs with `claim`.
        for number in 0..self.used.load(order::CLAIM_SLOT) {
            // ORDERING: SeqCst, F2; pairs with `open` and `close`.
            let slot = self.slot(number);
            let word = slot.word.load(order::READ_SLOT);
            let timestamp = Timestamp::from_raw(word >> KIND_BITS);
            match word & ((1 << KIND_BITS) - 1) {
                PENDING => view.limit = view.limit.min(timestamp),
                EXACT => {
                    view.open.push(timestamp);
                    if view.before.binary_search(&timestamp).is_ok() {
                        slot.noticed.0.age(word);
                    }
                }
                _ => {}
            }
        }
        view.open.sort_unstable();
        view.open.dedup();
    }

    /// Returns how many snapshots are open, and the age of the oldest.
    pub(crate) fn open_now(&self) -> (u64, Option<Duration>) {
        let mut count = 0;
        let mut oldest = None;
        // ORDERING: as in `view`; a statistic.
        for number in 0..self.used.load(order::CLAIM_SLOT) {
            let slot = self.slot(number);
            let word = slot.word.load(order::READ_SLOT);
            if word != CLOSED {
                count += 1;
                oldest = oldest.max(Some(slot.noticed.0.age(word)));
            }
        }
        (count, oldest)
    }

    /// Returns the number of a slot that nobody uses.
    #[cold]
    fn claim(&self) -> usize {
        // ORDERING: SeqCst, F2; before the slot's bound is stored. Pairs with `view`.
        self.pop_spare()
            .unwrap_or_else(|| self.used.fetch_add(1, order::CLAIM_SLOT))
    }

    /// Gives a closed slot to whichever thread asks next.
    #[cold]
    fn push_spare(&self, number: usize) {
        let slot = self.slot(number);
        // ORDERING: Acquire; pairs with the exchanges.
        let mut top = self.spare.load(order::READ_SPARE);
        loop {
            // ORDERING: Relaxed; the exchange publishes it.
            slot.next_spare.store(top & SPARE_MASK, order::COUNT);
            let new = ((top >> SPARE_BITS) + 1) << SPARE_BITS | (number as u64 + 1);
            // ORDERING: AcqRel; publishes `next_spare`. Failure: the top as it is now.
            match self
                .spare
                .compare_exchange(top, new, order::SPARE_SLOT, order::READ_SPARE)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes a spare slot.
    fn pop_spare(&self) -> Option<usize> {
        // ORDERING: AcqRel throughout; pairs with `push_spare`. Slots are never freed, so that reading the link of one
        // that was taken meanwhile is harmless, and the tag makes the exchange fail then.
        let mut top = self.spare.load(order::READ_SPARE);
        loop {
            let number = usize::try_from((top & SPARE_MASK).checked_sub(1)?).expect("slot numbers are indices");
            let next = self.slot(number).next_spare.load(order::COUNT);
            let new = top & !SPARE_MASK | next;
            match self
                .spare
                .compare_exchange(top, new, order::SPARE_SLOT, order::READ_SPARE)
            {
                Ok(_) => return Some(number),
                Err(now) => top = now,
            }
        }
    }

    #[inline]
    fn slot(&self, number: usize) -> &Slot {
        match self.first.get(number) {
            Some(slot) => slot,
            None => self.later_slot(number),
        }
    }

    #[cold]
    fn later_slot(&self, number: usize) -> &Slot {
        let chunk = (number / FIRST_CHUNK + 1).ilog2() as usize;
        let start = FIRST_CHUNK * ((1 << chunk) - 1);
        let slots =
            self.chunks[chunk - 1].get_or_init(|| Box::new((0..FIRST_CHUNK << chunk).map(|_| Slot::new()).collect()));
        &slots[number - start]
    }
}

impl View {
    /// Returns a view that allows nothing to be pruned.
    pub(crate) fn nothing() -> Self {
        Self {
            limit: Timestamp::ABSENT,
            open: Vec::new(),
            before: Vec::new(),
        }
    }

    /// Returns the greatest timestamp at which every present and future snapshot can be said to be known.
    pub(crate) fn limit(&self) -> Timestamp {
        self.limit
    }

    /// Returns the timestamp at or below which, of each key, only the newest version can be seen.
    pub(crate) fn watermark(&self) -> Timestamp {
        self.open.first().map_or(self.limit, |oldest| self.limit.min(*oldest))
    }

    /// Says whether a version committed at `older` is invisible to every present and future snapshot, given that
    /// the version above it is committed at `newer`.
    #[inline]
    pub(crate) fn hides(&self, older: Timestamp, newer: Timestamp) -> bool {
        debug_assert!(older < newer);
        newer <= self.limit && {
            let first_not_before = self.open.partition_point(|snapshot| *snapshot < older);
            self.open
                .get(first_not_before)
                .is_none_or(|snapshot| *snapshot >= newer)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mvcc::clock::{ReaderDriven, WriterDriven};

    #[test]
    fn a_view_knows_the_open_snapshots_and_bounds_the_rest() {
        fn check<C: Clock>() {
            let (snapshots, clock, kept) = (Snapshots::new(), C::new(), KeptSlots::default());
            let old = clock.draw_commit(Timestamp::ABSENT);
            let snapshot = snapshots.open(&clock, &kept);
            let new = clock.draw_commit(old);
            assert!(old <= snapshot.timestamp() && snapshot.timestamp() < new);
            clock.pass();
            let mut view = View::nothing();
            snapshots.view(&clock, &mut view);
            assert_eq!(view.watermark(), snapshot.timestamp());
            assert!(!view.hides(old, new), "the snapshot sees the older version");
            assert_eq!(snapshots.open_now().0, 1);
            snapshots.close(&snapshot, &kept);
            snapshots.view(&clock, &mut view);
            assert!(view.hides(old, new));
            assert!(view.watermark() >= new);
            assert_eq!(snapshots.open_now(), (0, None));
        }
        check::<ReaderDriven>();
        check::<WriterDriven>();
    }

    /// A slot that is used again is another snapshot, whose age begins anew.
    #[test]
    fn ages_are_those_of_snapshots_and_not_of_slots() {
        let (snapshots, clock, kept) = (Snapshots::new(), ReaderDriven::new(), KeptSlots::default());
        let pause = Duration::from_millis(30);
        for _ in 0..2 {
            let snapshot = snapshots.open(&clock, &kept);
            let (_, first) = snapshots.open_now();
            assert!(first < Some(pause), "just noticed");
            std::thread::sleep(pause);
            let (_, second) = snapshots.open_now();
            assert!(second >= Some(pause / 2), "known for a while");
            snapshots.close(&snapshot, &kept);
        }
    }

    #[test]
    fn versions_between_two_snapshots_are_hidden() {
        let view = View {
            limit: Timestamp::from_raw(100),
            open: [10, 20].map(Timestamp::from_raw).to_vec(),
            before: Vec::new(),
        };
        let hides = |older, newer| view.hides(Timestamp::from_raw(older), Timestamp::from_raw(newer));
        assert!(hides(11, 19) && hides(11, 20) && hides(21, 100) && hides(1, 10));
        assert!(!hides(10, 11) && !hides(9, 11) && !hides(15, 21) && !hides(20, 21));
        assert!(!hides(50, 101), "a later snapshot may still be drawn below 101");
    }

    #[test]
    fn many_snapshots_get_slots_of_their_own() {
        let (snapshots, clock, kept) = (Snapshots::new(), ReaderDriven::new(), KeptSlots::default());
        let open: Vec<_> = (0..5 * FIRST_CHUNK).map(|_| snapshots.open(&clock, &kept)).collect();
        let mut view = View::nothing();
        snapshots.view(&clock, &mut view);
        assert_eq!(view.open.len(), open.len());
        for snapshot in &open {
            snapshots.close(snapshot, &kept);
        }
        assert_eq!(kept.count.get(), KEPT_SLOTS);
        let again: Vec<_> = (0..open.len()).map(|_| snapshots.open(&clock, &kept)).collect();
        let greatest = again.iter().map(|snapshot| snapshot.slot).max();
        assert!(greatest < Some(open.len()), "closed slots are used again");
    }
}
