//! The log: which commits survive, in what order they are covered, and who waits for that.
//!
//! A writer appends its record *before* anything of the write can be seen: it reserves a place in the current segment by
//! one addition, copies the record there, and says so. The order of places means nothing; the order of commits is that of
//! their timestamps, which are not known yet. The **flusher** is a reader of the store: it draws a timestamp, the *cut*,
//! asks of every copied place how its write stands, stamps those that committed at or below the cut, appends a marker
//! that says how many these are and what they add up to, and makes it all durable by one sync. So what is durable is
//! exactly what a snapshot at the cut would see, and one sync covers every writer that waits.
//!
//! ```text
//!   writers:   reserve -> copy -> fill side -> link -> PREPARED -> timestamp        (the last three in the store)
//!   flusher:   draw F -> look at places -> stamp -> marker {F, F_prev, count, sum} -> sync -> cut := F
//!   waiters:   cut >= my timestamp?  or run a flush myself  or wait for the one that runs
//! ```
//!
//! # What is promised
//!
//! 1. Once [`Log::wait`] has returned for a timestamp, every commit up to it that has a record survives any crash.
//! 2. What a crash leaves is the state at one cut: all commits with a record up to it, whole, and nothing else.
//! 3. Appending never waits for another thread, nor for the disk unless a segment has to be made because none is ready.
//!    A writer that stops inside of it stops nobody: its place is looked at again at the next flush, and given up when a
//!    whole segment has been filled since.
//! 4. After the first failed sync nothing is acknowledged any more, and nothing is synced again: on Linux a second sync may
//!    report success for pages that the first one has dropped (Rebello et al., ATC 2020). Reads go on.
//!
//! # Fault model
//!
//! What the storage's contract says (`storage/mod.rs`): until a sync returns, any sector of the range may hold any content
//! that it had since the last one, whole. A device that destroys a sector it was writing is not covered: stamps are
//! written into sectors that hold covered records.
//!
//! Files: `record` the bytes; `segment` places and the list of segments; `flusher` cuts and group commit; `reader` what is
//! left after a crash. Reservation by one addition and parallel copying are those of Aether (Johnson et al., VLDB 2010)
//! and ELEDA (Jung et al., VLDB 2017); a cut that makes one sync cover all is group commit (DeWitt et al., SIGMOD 1984).

pub(crate) mod cuts;
#[cfg(all(test, not(loom)))]
pub(crate) mod fixture;
mod flusher;
pub(crate) mod header;
pub(crate) mod reader;
pub(crate) mod record;
mod segment;

use std::sync::{Arc, PoisonError, TryLockError};

use crossbeam_utils::CachePadded;

use crate::error::{Error, Result};
use crate::reclaim::Guard;
use crate::storage::{PAGE_BYTES, Storage};
use crate::sync::pause::{self, Step};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, full_fence, order};
use crate::types::{Enlisted, Fate, Timestamp};

pub use self::flusher::KeptSegment;
use self::flusher::{Flusher, Kept};
use self::header::{HEADER_BYTES, SegmentHeader};
use self::record::{MAX_COMMIT_BYTES, Restart, UNIT_BYTES};
use self::segment::{MARKER_UNITS, Segment, Segments, Spare, Spares};

/// What the log asks of those whose writes it records.
pub trait Pending {
    /// The proof that words read from the log stay good.
    type Pinned<'p>: Pinned
    where
        Self: 'p;

    /// Pins the thread.
    fn pin(&self) -> Self::Pinned<'_>;

    /// Draws the timestamp of a cut: whatever is given a timestamp from now on gets a greater one.
    fn draw_cut(&self) -> Timestamp;

    /// Learns that everything up to `cut` survives; `Timestamp::LATEST` says that nothing will be asked any more.
    fn advance(&self, cut: Timestamp);
}

/// A pinned look at the writes that the log names.
pub trait Pinned {
    /// What holds memory back meanwhile.
    type Guard: Guard;

    /// Returns it: memory that writers may still copy into is retired under it.
    fn guard(&self) -> &Self::Guard;

    /// Says how a write stands, after deciding it if only its timestamp is open. Never helps it otherwise.
    fn settle(&self, what: Enlisted) -> Fate;

    /// Decides a write whose owner does not come back; `abandon` aborts it in any case.
    fn give_up(&self, what: Enlisted, abandon: bool);

    /// Learns that the log will not ask about a write any more.
    fn release(&self, what: Enlisted);
}

/// What a checkpoint makes superfluous.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Covered {
    /// Everything up to this timestamp is in the checkpoint.
    pub cut: Timestamp,
    /// The oldest segment that is needed beside it, as the checkpoint itself says: what is before it may be there or not.
    /// `None` if that is not known; then any beginning will do.
    pub first: Option<u32>,
}

/// What a log goes on from.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The log's random number.
    pub log: u64,
    /// The number of its next segment.
    pub next_segment: u32,
    /// The last cut that was recovered.
    pub last: Timestamp,
    /// Where the clock starts.
    pub clock: Timestamp,
    /// Segments that are on the disk already, oldest first.
    pub kept: Vec<KeptSegment>,
}

/// The log of one store.
pub struct Log {
    segments: Segments,
    /// Everything up to it is durable. Read by whoever waits, written by the flusher.
    cut: CachePadded<AtomicU64>,
    poisoned: AtomicBool,
    cause: Mutex<Option<Arc<Error>>>,
    /// Held by the thread that flushes.
    flusher: Mutex<Flusher>,
    /// Behind a lock of its own, held for a moment: whoever finds the flusher's taken waits for a flush to end.
    kept: Mutex<Kept>,
    /// The last checkpoint that was taken, and the oldest segment that it needs; held by the thread that takes one.
    checkpoint: Mutex<(Timestamp, u32)>,
    /// Turns with the baton that have ended, for those that wait for the one that lasts.
    rounds: Mutex<u64>,
    ended: Condvar,
    files: Files,
}

/// Where segments come from.
struct Files {
    storage: Arc<dyn Storage>,
    log: u64,
    segment_bytes: usize,
    spares: Spares,
    /// Numbers the names under which files are made.
    made: AtomicU64,
}

/// Where the record of a write is.
pub struct Place<'g> {
    segment: &'g Segment,
    unit: usize,
    waiting: u64,
}

impl Place<'_> {
    /// Returns how many records wait for a flush, this one included: seen late perhaps, but not by more than one flush.
    #[inline]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Takes the record back: its write was aborted by its owner and never linked.
    pub fn withdraw(self, what: Enlisted) {
        self.segment.close(self.unit, what);
    }
}

impl Log {
    /// Starts a new segment behind what is there. On return the segment is durable, and so is that timestamps between
    /// `last` and `clock` mean nothing.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn begin(storage: Arc<dyn Storage>, segment_bytes: usize, beginning: Beginning) -> Result<Self> {
        debug_assert!(segment_bytes > PAGE_BYTES);
        let files = Files {
            storage,
            log: beginning.log,
            segment_bytes: segment_bytes.next_multiple_of(PAGE_BYTES),
            spares: Spares::new(),
            made: AtomicU64::new(0),
        };
        let first = files.make(beginning.next_segment, 0, 0)?;
        let reserved = first.reserve(1).expect("a new segment has room");
        let restart = Restart {
            last: beginning.last,
            clock: beginning.clock,
        };
        let lsn = first.lsn(reserved.unit);
        record::encode_restart(first.place(reserved.unit, 1), files.log, lsn, &restart);
        first.close_own(reserved.unit);
        first.note_flushed(1);
        first.file().sync(0..(reserved.unit + 1) * UNIT_BYTES)?;
        files.name(&first)?;
        let (segments, baton) = Segments::new(first);
        // Nothing was acknowledged above it, and whatever is given a timestamp now gets one above the restart's clock.
        let previous = Timestamp::from_raw(beginning.clock.get() - 1);
        Ok(Self {
            segments,
            cut: CachePadded::new(AtomicU64::new(previous.get())),
            poisoned: AtomicBool::new(false),
            cause: Mutex::new(None),
            flusher: Mutex::new(Flusher::new(baton, reserved.unit + 1, previous)),
            kept: Mutex::new(Kept::new(beginning.kept, beginning.next_segment)),
            checkpoint: Mutex::new((Timestamp::ABSENT, 0)),
            rounds: Mutex::new(0),
            ended: Condvar::new(),
            files,
        })
    }

    /// Appends the record of a write: reserves a place, copies it there, and says so. Nothing of the write may be reachable
    /// yet. Lock-free; waits for the disk only if a segment is full and none is ready.
    ///
    /// # Errors
    ///
    /// [`Error::CommitTooLarge`]; [`Error::DiskFull`] or [`Error::Io`] if no segment can be made; [`Error::Poisoned`]. Nothing
    /// of the write is in the log then.
    #[inline]
    pub fn append<'g, 'w>(
        &'g self,
        what: Enlisted,
        writes: impl Iterator<Item = (&'w [u8], Option<&'w [u8]>)> + Clone,
        guard: &'g impl Guard,
    ) -> Result<Place<'g>> {
        let units = record::commit_units(writes.clone());
        if units * UNIT_BYTES > MAX_COMMIT_BYTES {
            return Err(Error::CommitTooLarge {
                bytes: units * UNIT_BYTES,
                max: MAX_COMMIT_BYTES,
            });
        }
        self.check_poison()?;
        loop {
            let segment = self.segments.current(guard);
            let Some(reserved) = segment.reserve(units) else {
                self.roll(segment, units)?;
                continue;
            };
            let place = segment.place(reserved.unit, units);
            record::encode_commit(place, self.files.log, segment.lsn(reserved.unit), writes.clone());
            pause::reached(Step::Copied);
            if !segment.fill(reserved.unit, what) {
                // Voided, because a whole segment was filled meanwhile.
                continue;
            }
            full_fence(order::POISON_FENCE);
            // ORDERING: SeqCst, after the place is filled: either this thread sees the poison, or who poisons sees the place.
            if self.poisoned.load(order::READ_POISON) && segment.close(reserved.unit, what) {
                self.check_poison()?;
            }
            return Ok(Place {
                segment,
                unit: reserved.unit,
                waiting: reserved.waiting,
            });
        }
    }

    /// Makes another segment the current one, with room for a record of `units` units.
    #[cold]
    fn roll(&self, full: &Segment, units: usize) -> Result<()> {
        self.segments.roll(
            full,
            || self.files.make(full.number() + 1, units, full.waiting()),
            |unused| self.files.give_back(unused),
        )
    }

    /// Waits until everything up to `timestamp` is durable: runs a flush if none runs, or waits for the one that does.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`]; [`Error::DiskFull`] if there is no room even for a marker.
    pub fn wait<P: Pending>(&self, timestamp: Timestamp, pending: &P) -> Result<()> {
        self.flush_until(pending, || self.durable_cut() >= timestamp)
    }

    /// Waits until fewer than `most` records wait for a flush, or at least until everything is durable that is committed when
    /// this is called: what then still waits belongs to writers that are stopped, for whom nobody waits.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    #[cold]
    pub fn wait_for_room<P: Pending>(&self, most: u64, pending: &P) -> Result<()> {
        let cut = pending.draw_cut();
        self.flush_until(pending, || {
            let pinned = pending.pin();
            self.segments.current(pinned.guard()).waiting() < most || self.durable_cut() >= cut
        })
    }

    /// Makes everything durable that is committed when this is called.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn flush<P: Pending>(&self, pending: &P) -> Result<()> {
        let cut = pending.draw_cut();
        self.wait(cut, pending)
    }

    /// The loop of all who wait for the disk. Whoever finds the baton free flushes; the others wait for the end of the
    /// flush that runs, and look again. No wake-up is lost: the count of ended turns is read before the baton is tried, so
    /// whoever had it then has not counted its turn yet, and counts it whether or not it flushed.
    fn flush_until<P: Pending>(&self, pending: &P, is_done: impl Fn() -> bool) -> Result<()> {
        loop {
            if is_done() {
                return Ok(());
            }
            self.check_poison()?;
            let round = *self.rounds.lock().expect(NO_PANIC);
            match self.try_turn() {
                Ok(mut turn) => {
                    if is_done() {
                        return Ok(());
                    }
                    self.flush_locked(&mut turn.flusher, pending)?;
                }
                Err(TryLockError::Poisoned(turn)) => return Err(self.poison_after_panic(turn.into_inner(), pending)),
                Err(TryLockError::WouldBlock) => {
                    let mut rounds = self.rounds.lock().expect(NO_PANIC);
                    while *rounds == round {
                        rounds = self.ended.wait(rounds).expect(NO_PANIC);
                    }
                }
            }
        }
    }

    /// A flush that unwound has left its work undone: as after a failed sync, nobody knows how far it came.
    #[cold]
    fn poison_after_panic<P: Pending>(&self, mut turn: Turn<'_>, pending: &P) -> Error {
        if self.check_poison().is_ok() {
            let text = "a flush panicked, which is a defect of this program";
            self.poison(&mut turn.flusher, Error::InvalidOperation(text.to_owned()), pending);
        }
        self.poison_error()
    }

    /// Flushes unless somebody else does. For threads that do so by the clock.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn try_flush<P: Pending>(&self, pending: &P) -> Result<()> {
        self.check_poison()?;
        if let Ok(mut turn) = self.try_turn() {
            self.flush_locked(&mut turn.flusher, pending)?;
        }
        Ok(())
    }

    /// Takes the baton, if it is free; also if somebody unwound with it.
    fn try_turn(&self) -> Result<Turn<'_>, TryLockError<Turn<'_>>> {
        let turn = |flusher| Turn {
            flusher,
            _ending: Ending(self),
        };
        match self.flusher.try_lock() {
            Ok(flusher) => Ok(turn(flusher)),
            Err(TryLockError::Poisoned(held)) => Err(PoisonError::new(turn(held.into_inner())).into()),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }

    /// Makes a segment ready if fewer are than may be. Returns whether it did.
    ///
    /// # Errors
    ///
    /// Those of the storage. A writer that needs a segment will meet them too.
    pub fn make_ready(&self) -> Result<bool> {
        if !self.files.spares.wants_more() {
            return Ok(false);
        }
        let spare = self.files.create(self.files.segment_bytes)?;
        if let Some(unused) = self.files.spares.put(spare) {
            self.files.discard(unused);
        }
        Ok(true)
    }

    /// Returns the last durable cut.
    #[inline]
    pub fn durable_cut(&self) -> Timestamp {
        // ORDERING: Acquire; pairs with the flusher's store.
        Timestamp::from_raw(self.cut.load(order::READ_CUT))
    }

    /// Refuses after the first failed sync.
    #[inline]
    pub fn check_poison(&self) -> Result<()> {
        // ORDERING: SeqCst; see `append`.
        if self.poisoned.load(order::READ_POISON) {
            return Err(self.poison_error());
        }
        Ok(())
    }

    #[cold]
    fn poison_error(&self) -> Error {
        let cause = self.cause.lock().expect(NO_PANIC);
        Error::Poisoned {
            cause: Arc::clone(cause.as_ref().expect("set before the flag")),
        }
    }

    /// Waits until no checkpoint is being taken, and keeps others from taking one. Returns the cut of the last one that this
    /// log has seen, for the caller to change.
    pub(crate) fn last_checkpoint(&self) -> MutexGuard<'_, (Timestamp, u32)> {
        // One that unwound has not changed it.
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the random number.
    pub(crate) fn number(&self) -> u64 {
        self.files.log
    }

    /// Returns the storage.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.files.storage
    }
}

/// The baton in one thread's hands. Those that wait for it are woken after it was given back, also if a flush unwinds, or
/// was not needed: fields are dropped in this order.
struct Turn<'l> {
    flusher: MutexGuard<'l, Flusher>,
    _ending: Ending<'l>,
}

/// Counts a turn as ended and wakes those that wait for it.
struct Ending<'l>(&'l Log);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Ok(mut rounds) = self.0.rounds.lock() {
            *rounds += 1;
        }
        self.0.ended.notify_all();
    }
}

/// Why a lock is never poisoned.
const NO_PANIC: &str = "nobody panics while holding it";

impl Files {
    /// Returns a segment with room for a record of `units` units, under a temporary name.
    fn make(&self, number: u32, units: usize, waiting: u64) -> Result<Box<Segment>> {
        let needed = HEADER_BYTES + (units + MARKER_UNITS) * UNIT_BYTES;
        let spare = if needed <= self.segment_bytes {
            match self.spares.take() {
                Some(spare) => spare,
                None => self.create(self.segment_bytes)?,
            }
        } else {
            self.create(needed.next_multiple_of(PAGE_BYTES))?
        };
        let words = spare.file.words();
        let bytes = u32::try_from(words.len() * size_of::<u64>()).expect("segments are shorter than 4 GiB");
        let header = SegmentHeader {
            version: header::FORMAT_VERSION,
            log: self.log,
            number,
            bytes,
        };
        header::encode_header(words, &header);
        Ok(Segment::new(number, spare.file, spare.name, waiting))
    }

    /// Makes a file under a name that says nothing yet.
    fn create(&self, bytes: usize) -> Result<Spare> {
        // ORDERING: Relaxed; the numbers need only differ.
        let made = self.made.fetch_add(1, order::COUNT);
        let name = header::temporary_name(&format!("spare-{made}"));
        let file = self.storage.create(&name, bytes)?;
        Ok(Spare { name, file })
    }

    /// Gives a segment's file its own name, durably. The file's header is durable already.
    fn name(&self, segment: &Segment) -> Result<()> {
        self.storage
            .rename(segment.made_as(), &header::segment_name(segment.number()))?;
        self.storage.sync_directory()?;
        segment.set_named();
        Ok(())
    }

    /// Takes back a segment that was never linked.
    fn give_back(&self, unused: Box<Segment>) {
        let spare = unused.into_spare();
        if spare.file.words().len() * size_of::<u64>() != self.segment_bytes {
            return self.discard(spare);
        }
        if let Some(unused) = self.spares.put(spare) {
            self.discard(unused);
        }
    }

    /// Removes a file that nobody needs. That it may stay there is harmless: its name is temporary.
    fn discard(&self, unused: Spare) {
        let _ = self.storage.remove(&unused.name);
    }
}
