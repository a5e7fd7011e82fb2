//! Garbage: which versions and dead keys go, when, and how much of that an operation does.
//!
//! A version is garbage when no snapshot, open now or later, can see it. Whether that is so is read off a [`View`]: the
//! clock, then all open snapshots. Each thread keeps its last view. An old view only allows less, so it is renewed
//! only after [`RENEW_AFTER`] operations that could not prune with it.
//!
//! ```text
//!   open snapshots:  20          60           limit 90
//!   chain:   95 -> 80 -> 70 -> 50 -> 40 -> 10 -> 5
//!           new   keep   x    keep   x    keep  cut
//!
//!   95 is younger than the view; 80 is what later snapshots may read; 60 reads 50; 20 reads 10.
//!   No snapshot is in [70, 80) or in [40, 50), so 70 and 40 are unlinked; none is below 10, so 5 is cut off.
//! ```
//!
//! Of two committed neighbours `newer -> older` the older one can go if no open snapshot is in `[older, newer)` and
//! `newer` is within the view's limit, below which no snapshot can appear any more. If moreover every open snapshot is
//! at or above `newer`, everything below `newer` goes in one cut. So a chain holds at most one version per open
//! snapshot, one more, and what is younger than the view ("Steam", Böttcher et al., PVLDB 13(2), prunes between
//! snapshots in the same way).
//!
//! A view may be as old as it likes: a snapshot that it does not show was drawn after its clock was read, and has at
//! least its limit. (Transactions that validate their reads at a later timestamp will need one clause more: the oldest
//! version younger than such a transaction's snapshot must stay, or its validation misses the conflict.)
//!
//! # Who does it
//!
//! - A put or commit looks at the version it wrote and the one below it, without a search. A cut retires all it takes,
//!   so the first write of a key after a long snapshot was closed pays for what that held: amortised O(1).
//! - What had to stay only because the thread's view was old, or because of its own transaction's snapshot, goes at the
//!   thread's next view: it remembers some keys.
//! - What still has to stay then, and dead keys that were not remembered, are found by a sweep: a cursor over the index,
//!   a few chains at a time, moved by the same threads that write, until a whole round finds nothing left behind. Never
//!   a stop. It passes over what was written since the round began, which its writer remembers: else it would take
//!   the garbage of threads at work, and their memory with it. Cursor and debts are each thread's own: what a thread
//!   that ends or only reads has left is found by the next owner of its state, or by an explicit sweep.
//!
//! # With a log
//!
//! A write that has a record is held until the durable cut has passed it, which is a flush away: its writer's next looks at
//! the snapshots would find nothing changed. So its writer remembers nothing. Whoever flushes the log prunes: it
//! has each version in hand when it covers it, with a look whose limit is the cut *before*; the one version of a key right
//! above that cut is met in every flush, and everything below the one under it goes in one cut. A key written however often
//! holds what two flushes cover. What is left is one superfluous version under keys that are not written again, which the
//! sweep comes by for, unhurriedly.
//!
//! # Dead keys
//!
//! A chain is dead when it is empty at a second visit, when its newest version is a tombstone that every snapshot sees
//! and the clock has passed (else a new chain could repeat a timestamp), or when only an aborted version stands above
//! that. It is sealed, and its node removed.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};

use crate::index::{Direction, Index, Node};
use crate::reclaim::{Guard, Reclaim, Retired};
use crate::trace::Layer;
use crate::types::{Key, Timestamp};

use super::chain::{Chain, Head, VersionRef, Word};
use super::clock::Clock;
use super::descriptor::DescriptorRef;
use super::snapshots::View;
use super::status::Status;
use super::{Pin, VersionedStore};

/// Operations that could not prune before a thread renews its view and sweeps a little. Renewing costs a look at each
/// open snapshot, which this spreads thin; garbage of that many operations per thread may wait.
const RENEW_AFTER: u32 = 64;

/// Chains that one piece of a sweep visits: half as many as operations that asked for it, so that a sweep costs less
/// than the writes that cause it and still comes round.
const SWEEP_CHAINS: usize = 32;

/// Keys that a thread remembers because something was left behind there that most likely can go at its next look at the
/// snapshots: a version that its own transaction's snapshot still saw, a tombstone. Their chains are in the cache, which
/// those that a sweep comes by are not. For each that it has no room for, the next piece of the sweep is longer.
const REMEMBERED_KEYS: usize = 2 * RENEW_AFTER as usize;

/// Looks after which a remembered key is left to the sweep: what still holds its versions then is a long snapshot.
const TRIES: u8 = 3;

/// As [`RENEW_AFTER`], for writes that have a record in a log: what they leave behind waits for a flush.
const RENEW_RECORDED_AFTER: u32 = 8 * RENEW_AFTER;

/// Bytes left behind that count as one more operation: large values are not left lying for long.
const BYTES_PER_OPERATION: usize = 4 << 10;

/// Pins after a sweep that let a collector free what it was given, if nobody else is pinned.
const FREEING_PINS: usize = 8;

/// What a thread keeps between its operations.
pub(super) struct Local {
    pub(super) view: View,
    /// Operations since the view was renewed that left something behind.
    owed: u32,
    /// Keys where something was left behind.
    remembered: VecDeque<Remembered>,
    /// Such keys for which there was no room, since the last piece of the sweep.
    forgotten: usize,
    /// Where the sweep goes on; `None` is the start.
    cursor: Option<Key>,
    /// Where the clock was when the present round began.
    round_began: Timestamp,
    /// Something was left behind that a sweep has to come back for.
    sweeping: bool,
    /// The present round has left something behind.
    left_behind: bool,
    /// A tombstone waits only for the clock to pass it.
    wants_tick: bool,
}

/// A key where something was left behind.
struct Remembered {
    key: Key,
    /// The commit that left it there: if there has been another since, that one's thread remembers the key. ABSENT if the
    /// whole chain is to be looked at in any case.
    written: Timestamp,
    /// How often it was looked for since.
    tries: u8,
}

impl Local {
    /// Returns the state of a thread that has done nothing yet and starts from `view`.
    pub(super) fn new(view: View) -> RefCell<Self> {
        RefCell::new(Self {
            view,
            owed: 0,
            remembered: VecDeque::with_capacity(REMEMBERED_KEYS),
            forgotten: 0,
            cursor: None,
            round_began: Timestamp::ABSENT,
            sweeping: false,
            left_behind: false,
            wants_tick: false,
        })
    }
}

impl Local {
    /// Remembers a key where something was left behind.
    fn remember(&mut self, remembered: Remembered) {
        if remembered.tries <= TRIES && self.remembered.len() < REMEMBERED_KEYS {
            self.remembered.push_back(remembered);
        } else {
            self.sweeping = true;
            self.left_behind = true;
            self.forgotten += 1;
        }
    }

    /// Remembers a key whose whole chain is to be looked at, whoever wrote it last: a race was lost there, or something
    /// was linked for a transaction that was decided already.
    pub(super) fn remember_whole(&mut self, key: &Key) {
        let is_known = |known: &Remembered| known.written == Timestamp::ABSENT && known.key == *key;
        if !self.remembered.iter().any(is_known) {
            self.remember(Remembered {
                key: key.clone(),
                written: Timestamp::ABSENT,
                tries: 0,
            });
        }
    }

    /// Says whether anything is to be collected, as far as this thread knows.
    fn has_work(&self) -> bool {
        self.sweeping || !self.remembered.is_empty()
    }
}

/// What a look at a chain found.
#[derive(Clone, Copy, Default)]
pub(super) struct Tidied {
    /// Versions retired.
    pub(super) retired: u64,
    /// Something had to stay that will be garbage later.
    left_behind: bool,
    /// Another pruner was in the way, so that there may be garbage deeper down where no writer looks.
    lost: bool,
    /// A dead key waits only for the clock to pass its tombstone.
    wants_tick: bool,
}

impl<R: Reclaim> Pin<'_, R> {
    /// Counts versions that this thread took out of chains.
    #[inline]
    pub(super) fn count_unlinked(&self, versions: u64) {
        if versions != 0 {
            self.counters().unlinked.add(versions);
        }
    }
}

impl<I, R, C> VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Returns a view of this moment.
    pub(super) fn fresh_view(&self) -> View {
        let mut view = View::nothing();
        self.snapshots.view(&self.clock, &mut view);
        view
    }

    /// Prunes below a version just committed by this thread. O(1) amortised: it searches nothing, and a cut retires all
    /// it takes, each version once.
    #[inline]
    pub(super) fn prune_after_write<'g>(
        &'g self,
        version: VersionRef<'g>,
        timestamp: Timestamp,
        key: &Key,
        has_record: bool,
        guard: &'g Pin<'_, R>,
    ) {
        let span = self.trace.span(Layer::Truncate);
        let mut local = guard.gc();
        let tidied = self.prune_neighbours(version, timestamp, &local.view, guard);
        if local.has_work() {
            local.owed += 1;
            let renew_after = if has_record { RENEW_RECORDED_AFTER } else { RENEW_AFTER };
            if local.owed >= renew_after {
                self.collect_some(&mut local, guard);
            }
        }
        // Not before: the transaction that wrote it still has its snapshot.
        if tidied.lost {
            local.remember_whole(key);
        } else if has_record && version.value().is_some() {
            local.sweeping |= tidied.left_behind;
            local.left_behind |= tidied.left_behind;
        } else if tidied.left_behind || version.value().is_none() {
            local.remember(Remembered {
                key: key.clone(),
                written: timestamp,
                tries: 0,
            });
            local.owed += u32::try_from(version.bytes() / BYTES_PER_OPERATION).unwrap_or(RENEW_AFTER);
        }
        guard.count_unlinked(tidied.retired);
        span.end();
    }

    /// Prunes below a put that the log has just covered, or is about to.
    pub(super) fn prune_covered<'g>(&self, version: VersionRef<'g>, timestamp: Timestamp, guard: &'g Pin<'_, R>) {
        let tidied = self.prune_neighbours(version, timestamp, &guard.gc().view, guard);
        guard.count_unlinked(tidied.retired);
    }

    /// Renews this thread's look at the open snapshots and the durable cut.
    pub(super) fn renew_view(&self, guard: &Pin<'_, R>) {
        self.snapshots.view(&self.clock, &mut guard.gc().view);
    }

    /// Tidies what an aborted transaction has left: versions at heads, and chains that it inserted. O(keys written).
    pub(super) fn tidy_after_abort(&self, transaction: DescriptorRef<'_>, guard: &Pin<'_, R>) {
        let mut local = guard.gc();
        for number in 0..transaction.len() {
            let key = transaction.key(number);
            let Some(node) = self.index.find(key, guard) else {
                continue;
            };
            let tidied = self.tidy(node, &local.view, guard);
            guard.count_unlinked(tidied.retired);
            if tidied.left_behind {
                // Whoever wrote last, the aborted version at the head is this thread's.
                local.remember_whole(key);
                local.owed += 1;
            }
        }
        if local.owed >= RENEW_AFTER {
            self.collect_some(&mut local, guard);
        }
    }

    /// Collects everything that can be collected now. Returns how many versions were retired. O(keys).
    pub(crate) fn sweep(&self) -> u64 {
        // Once more than the clock needs, since an empty chain is sealed at the second visit.
        let mut retired = 0;
        for _ in 0..2 {
            self.clock.pass();
            let view = self.fresh_view();
            let mut cursor = None;
            loop {
                // Pinned anew for each piece, so that a long sweep holds no memory back.
                let guard = self.pin();
                let tidied = self.sweep_piece(&view, Timestamp::LATEST, &mut cursor, RENEW_AFTER as usize, &guard);
                retired += tidied.retired;
                if cursor.is_none() {
                    break;
                }
            }
        }
        // What was just retired is freed once the collector has moved on twice, which pins bring about.
        for _ in 0..FREEING_PINS {
            self.pin().flush();
        }
        retired
    }

    /// Renews the view and does a piece of the sweep.
    #[cold]
    fn collect_some(&self, local: &mut Local, guard: &Pin<'_, R>) {
        local.owed = 0;
        if std::mem::take(&mut local.wants_tick) {
            self.clock.pass();
        }
        self.snapshots.view(&self.clock, &mut local.view);
        for _ in 0..local.remembered.len() {
            let Some(mut remembered) = local.remembered.pop_front() else {
                break;
            };
            let Some(node) = self.index.find(&remembered.key, guard) else {
                continue;
            };
            if remembered.written != Timestamp::ABSENT
                && self.was_written_since(Timestamp::from_raw(remembered.written.get() + 1), node.value(), guard)
            {
                continue;
            }
            let tidied = self.tidy(node, &local.view, guard);
            guard.count_unlinked(tidied.retired);
            local.wants_tick |= tidied.wants_tick;
            if tidied.left_behind {
                remembered.tries += 1;
                local.remember(remembered);
            }
        }
        if local.sweeping {
            if local.cursor.is_none() {
                self.clock.pass();
                local.round_began = self.clock.now();
            }
            let chains = SWEEP_CHAINS + 2 * std::mem::take(&mut local.forgotten);
            let tidied = self.sweep_piece(&local.view, local.round_began, &mut local.cursor, chains, guard);
            local.left_behind |= tidied.left_behind;
            local.wants_tick |= tidied.wants_tick;
            if local.cursor.is_none() {
                // A whole round: go on only if it, or an operation since it began, left something behind.
                local.sweeping = std::mem::take(&mut local.left_behind);
            }
        }
    }

    /// Tidies up to `chains` chains from `cursor` on, but not those written at `hot` or later, and moves the cursor;
    /// `None` when the end was reached.
    fn sweep_piece(
        &self,
        view: &View,
        hot: Timestamp,
        cursor: &mut Option<Key>,
        chains: usize,
        guard: &Pin<'_, R>,
    ) -> Tidied {
        let mut sum = Tidied::default();
        let mut visited = 0;
        let mut last = None;
        let from = cursor.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.index
            .walk((from, Bound::Unbounded), Direction::Ascending, guard, |node| {
                if !self.was_written_since(hot, node.value(), guard) {
                    let tidied = self.tidy(node.clone(), view, guard);
                    sum.retired += tidied.retired;
                    sum.left_behind |= tidied.left_behind;
                    sum.wants_tick |= tidied.wants_tick;
                }
                visited += 1;
                if visited < chains {
                    return ControlFlow::Continue(());
                }
                last = Some(node.key());
                ControlFlow::Break(())
            });
        *cursor = last;
        guard.count_unlinked(sum.retired);
        sum
    }

    /// Says whether a chain has a value committed at `timestamp` or later: its writer looks after it. A tombstone is
    /// written once, and if its key is not written again nobody looks after it for long.
    fn was_written_since(&self, timestamp: Timestamp, chain: &Chain, guard: &Pin<'_, R>) -> bool {
        match chain.head(guard.raw()) {
            Head::Version(version) => {
                version.value().is_some()
                    && matches!(version.word(guard.raw()), Word::Own(Status::Committed(written)) if written >= timestamp)
            }
            Head::Empty { .. } | Head::Sealed => false,
        }
    }

    /// Prunes below `version`, or if that is younger than the view, below the one under it.
    #[inline]
    fn prune_neighbours<'g>(
        &self,
        version: VersionRef<'g>,
        timestamp: Timestamp,
        view: &View,
        guard: &'g Pin<'_, R>,
    ) -> Tidied {
        let Some(older) = version.next(guard.raw()) else {
            return Tidied::default();
        };
        if timestamp <= view.watermark() {
            return match version.cut(guard.raw()) {
                Some(retired) => Tidied {
                    retired,
                    ..Tidied::default()
                },
                None => Tidied {
                    left_behind: true,
                    lost: true,
                    ..Tidied::default()
                },
            };
        }
        let mut tidied = Tidied {
            left_behind: true,
            ..Tidied::default()
        };
        let older_timestamp = self.committed(older, guard);
        if view.hides(older_timestamp, timestamp) {
            tidied.lost = !version.unlink_next(older, guard.raw());
            tidied.retired = u64::from(!tidied.lost);
        } else if older_timestamp <= view.watermark() {
            let cut = older.cut(guard.raw());
            tidied.lost = cut.is_none();
            tidied.retired = cut.unwrap_or(0);
        } else if let Some(oldest) = older.next(guard.raw())
            && view.hides(self.committed(oldest, guard), older_timestamp)
        {
            tidied.lost = !older.unlink_next(oldest, guard.raw());
            tidied.retired = u64::from(!tidied.lost);
        }
        tidied
    }

    /// Prunes one chain, and removes it if it is dead.
    pub(super) fn tidy<'g>(&'g self, node: I::Node<'g>, view: &View, guard: &'g Pin<'_, R>) -> Tidied {
        let chain = node.value();
        let head = chain.head(guard.raw());
        match head {
            Head::Sealed => {
                self.index.remove(node, guard);
                Tidied::default()
            }
            Head::Empty { visited: true } => self.seal(node, head, guard),
            Head::Empty { visited: false } => {
                chain.visit_empty();
                Tidied {
                    left_behind: true,
                    ..Tidied::default()
                }
            }
            Head::Version(version) => self.tidy_versions(node, version, view, guard),
        }
    }

    fn tidy_versions<'g>(
        &'g self,
        node: I::Node<'g>,
        head: VersionRef<'g>,
        view: &View,
        guard: &'g Pin<'_, R>,
    ) -> Tidied {
        let below = head.next(guard.raw());
        let (newest, undecided) = match self.decision(head, guard) {
            Status::Committed(timestamp) => (Some((head, timestamp)), false),
            Status::Aborted(_) => (below.map(|version| (version, self.committed(version, guard))), false),
            Status::Active | Status::Prepared => (below.map(|version| (version, self.committed(version, guard))), true),
        };
        let Some((newest, timestamp)) = newest else {
            // An aborted version alone, or a first one that is not decided.
            return if undecided {
                Tidied::default()
            } else {
                self.seal(node, Head::Version(head), guard)
            };
        };
        let mut tidied = self.prune_chain(newest, timestamp, view, guard);
        let is_dead = !undecided
            && newest.value().is_none()
            && timestamp <= view.watermark()
            && newest.next(guard.raw()).is_none();
        if is_dead {
            if timestamp < self.clock.now() {
                let sealed = self.seal(node, Head::Version(head), guard);
                tidied.retired += sealed.retired;
                tidied.left_behind = sealed.left_behind;
            } else {
                tidied.wants_tick = true;
                tidied.left_behind = true;
            }
        } else if newest.value().is_none() {
            tidied.left_behind = true;
        }
        tidied
    }

    /// Prunes from the newest committed version downwards.
    fn prune_chain<'g>(
        &self,
        newest: VersionRef<'g>,
        timestamp: Timestamp,
        view: &View,
        guard: &'g Pin<'_, R>,
    ) -> Tidied {
        let mut tidied = Tidied::default();
        let (mut newer, mut newer_timestamp) = (newest, timestamp);
        while let Some(older) = newer.next(guard.raw()) {
            if newer_timestamp <= view.watermark() {
                match newer.cut(guard.raw()) {
                    Some(cut) => tidied.retired += cut,
                    None => tidied.left_behind = true,
                }
                break;
            }
            let older_timestamp = self.committed(older, guard);
            if older_timestamp >= newer_timestamp {
                // `newer` was unlinked meanwhile and its successor's place taken: look again another time.
                tidied.left_behind = true;
                break;
            }
            if view.hides(older_timestamp, newer_timestamp) {
                if !newer.unlink_next(older, guard.raw()) {
                    tidied.left_behind = true;
                    break;
                }
                tidied.retired += 1;
            } else {
                tidied.left_behind = true;
                (newer, newer_timestamp) = (older, older_timestamp);
            }
        }
        tidied
    }

    /// Seals a chain judged dead and removes its node.
    fn seal<'g>(&'g self, node: I::Node<'g>, head: Head<'g>, guard: &'g Pin<'_, R>) -> Tidied {
        match node.value().seal(head, guard.raw()) {
            Some(retired) => {
                self.index.remove(node, guard);
                Tidied {
                    retired,
                    ..Tidied::default()
                }
            }
            None => Tidied {
                left_behind: true,
                ..Tidied::default()
            },
        }
    }

    /// Returns where a version stands, without helping it.
    fn decision<'g>(&self, version: VersionRef<'g>, guard: &'g Pin<'_, R>) -> Status {
        match version.word(guard.raw()) {
            Word::Own(status) => status,
            Word::Owner(owner) => {
                let status = owner.status();
                // A decided transaction's descriptor should not live as long as a version that nobody reads.
                if matches!(status, Status::Committed(_) | Status::Aborted(_)) {
                    version.resolve_owner(owner, status, guard.raw());
                }
                status
            }
        }
    }
}
