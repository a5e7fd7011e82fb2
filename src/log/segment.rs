//! Segments in memory: places that writers reserve and fill by themselves, and the list in which segments follow each
//! other without stopping anyone.
//!
//! ```text
//!  file:   | header | unit | unit | unit | unit | unit | unit | ... | spare units for markers |
//!             page    64 bytes each; a record takes whole units          ^ limit         ^ units
//!  side:             ptr    -      DONE   -      -      null               one word per unit, in memory only
//!                    '-- record -' '---- record ------' '-- reserved, not copied yet
//!  tail:   records reserved << 40 | units reserved
//! ```
//!
//! A writer takes its place by one addition to `tail`, copies its record there, and then sets the place's side word, which
//! says to the flusher: this is copied, and it belongs to that put or transaction. The order of places means nothing.
//!
//! | side word at a place's first unit | meaning | set by |
//! |---|---|---|
//! | null | not copied, or no place begins here | |
//! | an [`Enlisted`] | copied | the owner |
//! | DONE | nothing more will be written about it | the flusher; the owner of a put that was never linked |
//! | VOID | it must not be used: the owner has to reserve again | the flusher |
//! | END | the rest of the segment is unused | a writer whose record did not fit |
//!
//! # Invariants
//!
//! 1. Units are handed out once: two places never overlap.
//! 2. A side word leaves null once, by a compare-and-swap, and what then names a write changes once more, to DONE.
//! 3. A segment that `current` or the `next` of a live segment leads to is allocated. Only the thread that holds the
//!    flusher's baton unlinks segments, the oldest first, never the current one, and retires them: a writer that got to one
//!    while pinned may still copy into it.
//! 4. Numbers of segments rise by one along the list.
//! 5. Units from `limit` on are reserved by the flusher alone, for markers, so that what is in memory can be covered even
//!    when no room for another segment is left on the device.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | `tail` | `RESERVE` | flusher: `READ_TAIL`, after its draw | F3: a place that the flusher does not see belongs to a write that draws more than the cut |
//! | `side` | `FILL_PLACE` | flusher: `READ_PLACE` | the record is copied, the write's descriptor or version visible; F3 |
//! | `side` | `CLOSE_PLACE` | `READ_PLACE` | what was stamped is before |
//! | `next`, `current` | `LINK_SEGMENT` | `READ_SEGMENT` | the segment's fields; `READ_SEGMENT` after the draw is part of F3 |
//! | `flushed` | flusher: `COUNT` | writers: `COUNT` | nothing: how many records wait is a bound that may be seen late |
//!
//! # Progress
//!
//! Lock-free. A writer that does not fit makes the next segment itself if nobody has.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::error::Result;
use crate::reclaim::{Guard, Memory, Retired, Tracked};
use crate::storage::SegmentFile;
use crate::sync::pause::{self, Step};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Word, order};
use crate::types::{Enlisted, Lsn};

use super::header::HEADER_BYTES;
use super::record::{self, UNIT_BYTES, UNIT_WORDS};

/// The first unit that a record can have. In models the second record is the last one in its sector, so that a crash can
/// part it from the marker after it.
pub(super) const FIRST_UNIT: usize = HEADER_BYTES / UNIT_BYTES + if cfg!(loom) { 6 } else { 0 };

/// Units kept for markers (invariant 5).
pub(super) const MARKER_UNITS: usize = if cfg!(loom) { 1 } else { 4 };

/// Units that a segment has in models, whatever the length of its file: a restart, two commits, a marker, and the marker's
/// spare unit.
const MODEL_UNITS: usize = 5;

/// Bits of `tail` that count units. The least segment has room for one record; no number of failed reservations of the
/// longest record before somebody moves `current` comes near the rest.
const UNIT_BITS: u32 = 40;

const DONE: usize = 8;
const VOID: usize = 16;
const END: usize = 24;

const _: () = assert!(DONE <= Enlisted::RESERVED && VOID <= Enlisted::RESERVED && END <= Enlisted::RESERVED);

/// What a side word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Not copied, or no place begins here.
    Empty,
    /// Copied.
    Copied(Enlisted),
    /// Nothing more is written about it.
    Done,
    /// Not to be used.
    Void,
    /// The rest of the segment is unused.
    End,
}

impl Side {
    fn decode(word: *mut ()) -> Self {
        match word.addr() {
            0 => Self::Empty,
            DONE => Self::Done,
            VOID => Self::Void,
            END => Self::End,
            _ => Self::Copied(Enlisted::from_ptr(word)),
        }
    }
}

/// One segment.
pub(super) struct Segment {
    tail: CachePadded<AtomicU64>,
    /// Records that were reserved here before the last flush, and those of earlier segments that were not flushed when
    /// this one was made, less by them: what a writer subtracts from its own number.
    flushed: CachePadded<AtomicU64>,
    number: u32,
    units: usize,
    next: AtomicPtr<Segment>,
    side: Box<[AtomicPtr<()>]>,
    file: Box<dyn SegmentFile>,
    /// The name that its file was made under. The flusher gives it its own one.
    made_as: String,
    /// Its file has its own name, durably. The flusher's alone.
    named: AtomicBool,
    tracked: Tracked,
}

/// A place that this thread reserved.
#[derive(Clone, Copy)]
pub(super) struct Reserved {
    pub(super) unit: usize,
    /// Records that wait for a flush, this one included, at least.
    pub(super) waiting: u64,
}

impl Segment {
    /// Returns the segment of that number over a file whose header page says so.
    pub(super) fn new(number: u32, file: Box<dyn SegmentFile>, made_as: String, waiting: u64) -> Box<Self> {
        let mut units = file.words().len() / UNIT_WORDS;
        if cfg!(loom) {
            units = units.min(FIRST_UNIT + MODEL_UNITS);
        }
        debug_assert!(units > FIRST_UNIT + MARKER_UNITS);
        Box::new(Self {
            tail: CachePadded::new(AtomicU64::new(FIRST_UNIT as u64)),
            flushed: CachePadded::new(AtomicU64::new(0u64.wrapping_sub(waiting))),
            number,
            units,
            next: AtomicPtr::new(ptr::null_mut()),
            side: (FIRST_UNIT..units).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            file,
            made_as,
            named: AtomicBool::new(false),
            tracked: Tracked::default(),
        })
    }

    /// Returns the side word of a unit.
    #[inline]
    fn side_of(&self, unit: usize) -> &AtomicPtr<()> {
        self.tracked.check();
        &self.side[unit - FIRST_UNIT]
    }

    /// Returns its number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the name that its file was made under.
    pub(super) fn made_as(&self) -> &str {
        &self.made_as
    }

    /// Says whether its file has its own name, durably.
    pub(super) fn is_named(&self) -> bool {
        // ORDERING: Relaxed; holders of the baton alone use it, and the lock around that orders them.
        self.named.load(order::COUNT)
    }

    /// Notes that its file has its own name, durably.
    pub(super) fn set_named(&self) {
        // ORDERING: Relaxed, as above.
        self.named.store(true, order::COUNT);
    }

    /// Takes a segment apart that was never linked.
    pub(super) fn into_spare(self) -> Spare {
        Spare {
            name: self.made_as,
            file: self.file,
        }
    }

    /// Returns its file.
    pub(super) fn file(&self) -> &dyn SegmentFile {
        self.file.as_ref()
    }

    /// Returns the length of its file, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.file.words())
    }

    /// Returns the unit behind the last one that a record can have.
    pub(super) fn limit(&self) -> usize {
        self.units - MARKER_UNITS
    }

    /// Returns the words of a place.
    #[inline]
    pub(super) fn place(&self, unit: usize, units: usize) -> &[Word] {
        &self.file.words()[unit * UNIT_WORDS..(unit + units) * UNIT_WORDS]
    }

    /// Returns the position of a unit in the log.
    pub(super) fn lsn(&self, unit: usize) -> Lsn {
        let offset = u32::try_from(unit * UNIT_BYTES).expect("segments are shorter than 4 GiB");
        Lsn::new(self.number, offset)
    }

    /// Takes the next `units` units; `None` if they do not fit, and then the rest of the segment is closed.
    #[inline]
    pub(super) fn reserve(&self, units: usize) -> Option<Reserved> {
        // ORDERING: SeqCst, F3; the partner is `reserved`. INVARIANT 1.
        let tail = self.tail.fetch_add(1 << UNIT_BITS | units as u64, order::RESERVE);
        let unit = (tail & ((1 << UNIT_BITS) - 1)) as usize;
        if unit + units > self.limit() {
            if unit < self.limit() {
                // ORDERING: Release; nothing is published. Failure: the flusher has voided it.
                let end = ptr::without_provenance_mut(END);
                let _ = self
                    .side_of(unit)
                    .compare_exchange(ptr::null_mut(), end, order::FILL_PLACE, order::COUNT);
            }
            return None;
        }
        pause::reached(Step::Reserved);
        // ORDERING: Relaxed; a bound that may be seen late.
        let waiting = ((tail >> UNIT_BITS) + 1).wrapping_sub(self.flushed.load(order::COUNT));
        Some(Reserved { unit, waiting })
    }

    /// Returns how far the segment was reserved at this moment: the unit behind, at most [`limit`](Self::limit), and
    /// how many records that were.
    pub(super) fn reserved(&self) -> (usize, u64) {
        // ORDERING: SeqCst, F3; after the flusher's draw.
        let tail = self.tail.load(order::READ_TAIL);
        let units = (tail & ((1 << UNIT_BITS) - 1)) as usize;
        (units.min(self.limit()), tail >> UNIT_BITS)
    }

    /// Notes that the first so many records, and all of earlier segments, have been looked at.
    pub(super) fn note_flushed(&self, records: u64) {
        // ORDERING: Relaxed; see the essay's table.
        self.flushed.store(records, order::COUNT);
    }

    /// Returns how many records wait for a flush here and before.
    pub(super) fn waiting(&self) -> u64 {
        // ORDERING: Relaxed, both; a bound that may be seen late.
        (self.tail.load(order::COUNT) >> UNIT_BITS).wrapping_sub(self.flushed.load(order::COUNT))
    }

    /// Says that the record of a place is copied, and whose it is. `false` if the place has been voided: reserve another.
    #[inline]
    pub(super) fn fill(&self, unit: usize, what: Enlisted) -> bool {
        // ORDERING: SeqCst, F3; publishes the record's words, and the version or descriptor. INVARIANT 2. Failure: nothing is
        // read through what is there.
        self.side_of(unit)
            .compare_exchange(ptr::null_mut(), what.as_ptr(), order::FILL_PLACE, order::COUNT)
            .is_ok()
    }

    /// Returns a place's side word.
    pub(super) fn side(&self, unit: usize) -> Side {
        // ORDERING: SeqCst, F3; pairs with `fill`.
        Side::decode(self.side_of(unit).load(order::READ_PLACE))
    }

    /// Says that nothing more will be written about a copied place; `true` for the one call that did it.
    pub(super) fn close(&self, unit: usize, what: Enlisted) -> bool {
        let done = ptr::without_provenance_mut(DONE);
        // ORDERING: Release; the stamp is before. INVARIANT 2. Failure: somebody else closed it.
        self.side_of(unit)
            .compare_exchange(what.as_ptr(), done, order::CLOSE_PLACE, order::COUNT)
            .is_ok()
    }

    /// Says that a place holds a marker or restart, of which nobody will ask.
    pub(super) fn close_own(&self, unit: usize) {
        // ORDERING: Release, as above; only the flusher's thread writes this word.
        self.side_of(unit)
            .store(ptr::without_provenance_mut(DONE), order::CLOSE_PLACE);
    }

    /// Voids a unit that nobody has filled; `false` if somebody has meanwhile.
    pub(super) fn void(&self, unit: usize) -> bool {
        let void = ptr::without_provenance_mut(VOID);
        // ORDERING: Release; publishes nothing. INVARIANT 2.
        self.side_of(unit)
            .compare_exchange(ptr::null_mut(), void, order::CLOSE_PLACE, order::COUNT)
            .is_ok()
    }

    /// Returns how many units the copied record at a unit has, and its checksum.
    pub(super) fn header(&self, unit: usize) -> (usize, u32) {
        record::place_header(self.place(unit, 1))
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("number", &self.number)
            .field("units", &self.units)
            .finish_non_exhaustive()
    }
}

// SAFETY: frees the box that `Segments` made, and runs no user code: dropping a file unmaps and closes it.
unsafe impl Retired for Segment {
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, _memory: &M) {
        // SAFETY: from `Box::into_raw` in `Segments`, and the only call, by contract.
        drop(unsafe { Box::from_raw(ptr) });
    }

    fn bytes(&self) -> usize {
        Layout::for_value(self).size() + self.side.len() * size_of::<AtomicPtr<()>>() + self.units * UNIT_BYTES
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

/// The right to unlink segments and to flush. There is one for each log, and it is inside of a lock.
pub(super) struct Baton(PhantomData<*mut ()>);

// SAFETY: a token without content; the pointer type only keeps it from being made elsewhere by accident.
unsafe impl Send for Baton {}

/// All live segments, from the oldest to the current one.
pub(super) struct Segments {
    current: CachePadded<AtomicPtr<Segment>>,
    first: AtomicPtr<Segment>,
}

impl Segments {
    /// Returns a list of one segment, and its baton.
    pub(super) fn new(only: Box<Segment>) -> (Self, Baton) {
        let only = Box::into_raw(only);
        let segments = Self {
            current: CachePadded::new(AtomicPtr::new(only)),
            first: AtomicPtr::new(only),
        };
        (segments, Baton(PhantomData))
    }

    /// Returns the segment in which places are reserved.
    #[inline]
    pub(super) fn current<'g>(&'g self, _guard: &'g impl Guard) -> &'g Segment {
        // ORDERING: SeqCst, F3 when the flusher calls it; pairs with `append`: the segment's fields.
        let current = self.current.load(order::READ_SEGMENT);
        // SAFETY: live when loaded under this guard (invariant 3).
        let segment = unsafe { &*current };
        segment.tracked.check();
        segment
    }

    /// The same, for whoever holds the baton: no segment goes away meanwhile.
    pub(super) fn current_for<'b>(&'b self, _baton: &'b Baton) -> &'b Segment {
        // ORDERING: as above.
        let current = self.current.load(order::READ_SEGMENT);
        // SAFETY: only the holder of the baton unlinks segments (invariant 3).
        unsafe { &*current }
    }

    /// Returns the oldest live segment.
    pub(super) fn first<'b>(&'b self, _baton: &'b Baton) -> &'b Segment {
        // ORDERING: Relaxed; only holders of the baton write it, and the lock around that orders them.
        let first = self.first.load(order::COUNT);
        // SAFETY: as above.
        unsafe { &*first }
    }

    /// Returns the segment after one.
    pub(super) fn after<'b>(&'b self, segment: &'b Segment, _baton: &'b Baton) -> Option<&'b Segment> {
        // ORDERING: as in `current`.
        let next = segment.next.load(order::READ_SEGMENT);
        // SAFETY: as above; null if there is none.
        unsafe { next.as_ref() }
    }

    /// Makes `current` the segment after `full`, which `make` makes if nobody has. The loser of a race gets back what it
    /// made by `unused`.
    pub(super) fn roll(
        &self,
        full: &Segment,
        make: impl FnOnce() -> Result<Box<Segment>>,
        unused: impl FnOnce(Box<Segment>),
    ) -> Result<()> {
        // ORDERING: as in `current`.
        let mut next = full.next.load(order::READ_SEGMENT);
        if next.is_null() {
            let made = Box::into_raw(make()?);
            // ORDERING: SeqCst; publishes its fields. Failure: the one that somebody else published. INVARIANT 4.
            match full
                .next
                .compare_exchange(ptr::null_mut(), made, order::LINK_SEGMENT, order::READ_SEGMENT)
            {
                Ok(_) => next = made,
                Err(theirs) => {
                    next = theirs;
                    // SAFETY: made above, and never published.
                    unused(unsafe { Box::from_raw(made) });
                }
            }
        }
        pause::reached(Step::SegmentLinked);
        let from = ptr::from_ref(full).cast_mut();
        // ORDERING: SeqCst, F3; pairs with `current`. Failure: somebody else moved it.
        let _ = self
            .current
            .compare_exchange(from, next, order::LINK_SEGMENT, order::COUNT);
        Ok(())
    }

    /// Unlinks the oldest segment and retires it. It is not the current one, and all of its places are closed or void.
    pub(super) fn retire_first(&self, baton: &mut Baton, guard: &impl Guard) {
        let first = ptr::from_ref(self.first(baton)).cast_mut();
        // SAFETY: live (invariant 3).
        let next = unsafe { (*first).next.load(order::READ_SEGMENT) };
        assert!(!next.is_null(), "the current segment is never retired");
        // Whoever linked the next segment may not have come to this yet. ORDERING: as in `roll`.
        let _ = self
            .current
            .compare_exchange(first, next, order::LINK_SEGMENT, order::COUNT);
        // ORDERING: Relaxed, as in `first`.
        self.first.store(next, order::COUNT);
        // SAFETY: from `Box::into_raw`; neither `first` nor `current` leads to it, and nothing else did (invariant 3).
        unsafe { guard.retire(first) };
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        // ORDERING: Relaxed, all; exclusive access.
        let mut segment = NonNull::new(self.first.load(order::COUNT));
        while let Some(live) = segment {
            // SAFETY: from `Box::into_raw`; live segments are linked once, and the log is being dropped.
            let owned = unsafe { Box::from_raw(live.as_ptr()) };
            segment = NonNull::new(owned.next.load(order::COUNT));
        }
    }
}

/// How many segments are kept ready.
const READY: usize = 2;

/// A file that is ready to become a segment.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) file: Box<dyn SegmentFile>,
}

/// Files made ahead of need. Taking one waits for nobody.
pub(super) struct Spares([AtomicPtr<Spare>; READY]);

impl Spares {
    /// Returns none.
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())))
    }

    /// Takes one.
    pub(super) fn take(&self) -> Option<Spare> {
        self.0.iter().find_map(|slot| {
            // ORDERING: AcqRel; pairs with `put`: the file's fields.
            let taken = NonNull::new(slot.swap(ptr::null_mut(), order::TAKE_SPARE))?;
            // SAFETY: from `Box::into_raw` in `put`, and taken by this exchange alone.
            Some(*unsafe { Box::from_raw(taken.as_ptr()) })
        })
    }

    /// Keeps one for later; gives it back if there are enough.
    pub(super) fn put(&self, spare: Spare) -> Option<Spare> {
        let spare = Box::into_raw(Box::new(spare));
        for slot in &self.0 {
            // ORDERING: AcqRel; publishes the file's fields.
            if slot
                .compare_exchange(ptr::null_mut(), spare, order::TAKE_SPARE, order::COUNT)
                .is_ok()
            {
                return None;
            }
        }
        // SAFETY: made above, and never published.
        Some(*unsafe { Box::from_raw(spare) })
    }

    /// Says whether another one is wanted.
    pub(super) fn wants_more(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.0.iter().any(|slot| slot.load(order::COUNT).is_null())
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}
