//! Single writes: a put, a delete, a compare-and-swap, each a commit of its own without a descriptor.
//!
//! All are one procedure: enlist, if there is a log; link above the newest committed version, if that is what the caller
//! agrees to replace; draw a timestamp; decide. A write without a record is born PREPARED, so that linking is all that
//! precedes its timestamp; one with a record is born ACTIVE, because whoever reads the log could otherwise give it a
//! timestamp before it is linked: the cut would cover what a snapshot at the cut does not see.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::convert::Infallible;

use crate::index::{Index, Node};
use crate::reclaim::Reclaim;
use crate::sync::pause::{self, Step};
use crate::sync::{order, store_load_fence};
use crate::trace::Layer;
use crate::types::{Key, Timestamp};

use super::chain::{Birth, Chain, Head, OwnedVersion, Restored, VersionRef};
use super::clock::Clock;
use super::enlist::{Enlist, Refused, Unlisted};
use super::settle::{For, Newest, Settled};
use super::{Pin, VersionedStore};

impl<I, R, C> VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Writes a value; returns its commit timestamp. O(log n).
    #[inline]
    pub fn put(&self, key: &Key, value: &[u8]) -> Timestamp {
        self.put_with(key, value.len(), |bytes| bytes.copy_from_slice(value))
    }

    /// Writes a value of `length` bytes that `fill` puts where they will stay; returns its commit timestamp. O(log n).
    #[inline]
    pub fn put_with(&self, key: &Key, length: usize, fill: impl FnOnce(&mut [u8])) -> Timestamp {
        match self.put_enlisted(key, length, fill, &mut Unlisted) {
            Ok(timestamp) => timestamp,
            Err(never) => match never {},
        }
    }

    /// [`put_with`](Self::put_with), with a record in the log of `enlist`.
    ///
    /// # Errors
    ///
    /// That of `enlist`; then nothing was written.
    #[inline]
    pub fn put_enlisted<E: Enlist>(
        &self,
        key: &Key,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
        enlist: &mut E,
    ) -> Result<Timestamp, E::Error> {
        let guard = self.pin();
        let version = OwnedVersion::put(birth::<E>(), length, fill, guard.memory());
        match self.write(key, version, |_| Ok::<(), Infallible>(()), enlist, &guard) {
            Ok(timestamp) => Ok(timestamp),
            Err(Refused::NoRecord(error)) => Err(error),
            Err(Refused::Judged(never)) => match never {},
        }
    }

    /// Deletes a key; returns the commit timestamp, or `None` if there was nothing to delete. O(log n).
    pub fn delete(&self, key: &Key) -> Option<Timestamp> {
        match self.delete_enlisted(key, false, &mut Unlisted) {
            Ok(deleted) => deleted.existed.then_some(deleted.timestamp),
            Err(never) => match never {},
        }
    }

    /// Deletes a key, with a record in the log of `enlist`. Where nothing is to be deleted nothing is written, and the
    /// timestamp is that of the delete before, if one is still there: an answer that is to survive has to wait for it.
    /// `always` writes the record nevertheless, for keys whose last write may have none. O(log n).
    ///
    /// # Errors
    ///
    /// That of `enlist`; then nothing was deleted.
    pub fn delete_enlisted<E: Enlist>(&self, key: &Key, always: bool, enlist: &mut E) -> Result<Deleted, E::Error> {
        let existed = Cell::new(false);
        let judge = |newest: Option<Newest<'_>>| {
            let (is_there, timestamp) = match newest {
                Some(newest) => (newest.version.value().is_some(), newest.timestamp),
                None => (false, Timestamp::ABSENT),
            };
            existed.set(is_there);
            if is_there || always { Ok(()) } else { Err(timestamp) }
        };
        let guard = self.pin();
        store_load_fence(order::F4_READER);
        let nothing = |timestamp| Deleted {
            timestamp,
            existed: false,
        };
        // A cheap look first: deleting what is not there writes nothing.
        if let Err(timestamp) = judge(self.read_at(key, Timestamp::LATEST, &guard)) {
            return Ok(nothing(timestamp));
        }
        let version = OwnedVersion::copy(birth::<E>(), None, guard.memory());
        match self.write(key, version, judge, enlist, &guard) {
            Ok(timestamp) => Ok(Deleted {
                timestamp,
                existed: existed.get(),
            }),
            Err(Refused::Judged(timestamp)) => Ok(nothing(timestamp)),
            Err(Refused::NoRecord(error)) => Err(error),
        }
    }

    /// Writes a value if the key's newest commit is `expected`, [`Timestamp::ABSENT`] meaning that there is none.
    /// Returns the new timestamp, or else the one that was found. O(log n).
    pub fn compare_and_put(
        &self,
        key: &Key,
        expected: Timestamp,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Timestamp, Timestamp> {
        self.compare_and_put_enlisted(key, expected, length, fill, &mut Unlisted)
            .map_err(|refused| match refused {
                Refused::Judged(found) => found,
                Refused::NoRecord(never) => match never {},
            })
    }

    /// [`compare_and_put`](Self::compare_and_put), with a record in the log of `enlist`.
    ///
    /// # Errors
    ///
    /// What was found, or that of `enlist`; then nothing was written.
    pub fn compare_and_put_enlisted<E: Enlist>(
        &self,
        key: &Key,
        expected: Timestamp,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
        enlist: &mut E,
    ) -> Result<Timestamp, Refused<Timestamp, E::Error>> {
        let guard = self.pin();
        let judge = |newest: Option<Newest<'_>>| {
            let found = match newest {
                Some(newest) if newest.version.value().is_some() => newest.timestamp,
                _ => Timestamp::ABSENT,
            };
            if found == expected { Ok(()) } else { Err(found) }
        };
        if E::ENLISTS {
            // A cheap look first: what is refused anyway needs no record.
            store_load_fence(order::F4_READER);
            judge(self.read_at(key, Timestamp::LATEST, &guard)).map_err(Refused::Judged)?;
        }
        let version = OwnedVersion::put(birth::<E>(), length, fill, guard.memory());
        self.write(key, version, judge, enlist, &guard)
    }

    /// Enlists `version`, links it above the newest committed version if `judge` agrees to that one, and commits it. A
    /// verdict against it is that of the moment when the judged version was the newest.
    #[inline]
    pub(super) fn write<'g, J, E: Enlist + 'g>(
        &'g self,
        key: &Key,
        mut version: OwnedVersion<'g, R::Memory>,
        judge: impl Fn(Option<Newest<'_>>) -> Result<(), J>,
        enlist: &mut E,
        guard: &'g Pin<'_, R>,
    ) -> Result<Timestamp, Refused<J, E::Error>> {
        loop {
            let (linked, predecessor) = self.enlist_and_link(key, version, &judge, enlist, guard)?;
            let decide = self.trace.span(Layer::Decide);
            store_load_fence(order::F1_WRITER);
            // PREPARED and linked, so that a timestamp may be drawn: above that of the version below.
            let drawn = self.clock.draw_commit(predecessor);
            pause::reached(Step::Drawn);
            let timestamp = if linked.decide_put(drawn) {
                drawn
            } else {
                // Somebody else was first.
                match self.settle(linked, For::Own, guard) {
                    Settled::Committed(timestamp) => timestamp,
                    // Whoever reads the log gave it up before it was known to be linked: with another record, again.
                    Settled::Aborted if E::ENLISTS => {
                        decide.end();
                        version = OwnedVersion::copy(Birth::Active, linked.value(), guard.memory());
                        continue;
                    }
                    _ => unreachable!("a put that is linked and has no record is never aborted"),
                }
            };
            decide.end();
            pause::reached(Step::Decided);
            guard.counters().commits.add(1);
            self.prune_after_write(linked, timestamp, key, E::ENLISTS, guard);
            return Ok(timestamp);
        }
    }

    /// The steps of [`write`](Self::write) before the timestamp. Returns the version, which is not ACTIVE, and the
    /// timestamp of the one that it was linked above.
    #[inline]
    fn enlist_and_link<'g, J, E: Enlist + 'g>(
        &'g self,
        key: &Key,
        mut version: OwnedVersion<'g, R::Memory>,
        judge: &impl Fn(Option<Newest<'_>>) -> Result<(), J>,
        enlist: &mut E,
        guard: &'g Pin<'_, R>,
    ) -> Result<(VersionRef<'g>, Timestamp), Refused<J, E::Error>> {
        // Before it is linked: whatever can be reached from a chain has its record copied.
        let place = if E::ENLISTS {
            let write = std::iter::once((key.as_bytes(), version.value()));
            let place = enlist.enlist(version.as_enlisted(), write, guard.raw());
            let place = match place {
                Ok(place) => place,
                Err(error) => {
                    // Whoever poisons the log may have read the place just before it was taken back, and is pinned.
                    version.abort();
                    version.set_enlisted();
                    version.retire_withdrawn(guard.raw());
                    return Err(Refused::NoRecord(error));
                }
            };
            version.set_enlisted();
            pause::reached(Step::Enlisted);
            Some(place)
        } else {
            None
        };
        match self.link_judged(key, version, judge, guard) {
            Ok((linked, predecessor)) => {
                if E::ENLISTS {
                    linked.prepare_put();
                }
                Ok((linked, predecessor))
            }
            Err((refused, version)) => {
                if let Some(place) = place {
                    version.abort();
                    enlist.withdraw(version.as_enlisted(), place);
                    version.retire_withdrawn(guard.raw());
                }
                Err(Refused::Judged(refused))
            }
        }
    }

    /// Links `version` above the newest committed version, if `judge` agrees to that one; gives it back if not.
    #[inline]
    #[expect(clippy::type_complexity, reason = "what came of it, or why and what for")]
    fn link_judged<'g, J>(
        &'g self,
        key: &Key,
        mut version: OwnedVersion<'g, R::Memory>,
        judge: &impl Fn(Option<Newest<'_>>) -> Result<(), J>,
        guard: &'g Pin<'_, R>,
    ) -> Result<(VersionRef<'g>, Timestamp), (J, OwnedVersion<'g, R::Memory>)> {
        store_load_fence(order::F4_READER);
        loop {
            let search = self.trace.span(Layer::IndexSearch);
            // What may be written where nothing is needs one search, and what may not inserts no chain.
            let node = match judge(None) {
                Ok(()) => self.index.find_or_insert(key, guard),
                Err(refused) => match self.index.find(key, guard) {
                    Some(node) => node,
                    None => return Err((refused, version)),
                },
            };
            search.end();
            let chain = node.value();
            let head = chain.head(guard.raw());
            if let Head::Sealed = head {
                // Helping to remove it is required: a stopped remover must not block the key.
                self.index.remove(node, guard);
                continue;
            }
            let newest = self.newest_below(head, key, guard);
            if let Err(refused) = judge(newest) {
                return Err((refused, version));
            }
            version.set_next(newest.map(|newest| newest.version));
            match self.link(chain, head, newest, version, guard) {
                Ok(linked) => return Ok((linked, newest.map_or(Timestamp::ABSENT, |newest| newest.timestamp))),
                Err(back) => version = back,
            }
        }
    }

    /// Puts back a write that was committed at `timestamp` before this store existed, unless the key has a younger one.
    /// Safe beside other calls of this method and of [`restore_sorted`](Self::restore_sorted), and nothing else.
    pub fn restore(&self, key: &Key, value: Option<&[u8]>, timestamp: Timestamp) {
        let guard = self.pin();
        let node = self.index.find_or_insert(key, &guard);
        Self::restore_in(&node, value, timestamp, &guard);
    }

    /// [`restore`](Self::restore) of many writes, whose encoded keys are sorted: with some hundred at a time, in less than
    /// half of the time. Pinned all the while.
    pub fn restore_sorted<'r>(&self, writes: impl IntoIterator<Item = (&'r [u8], Option<&'r [u8]>, Timestamp)>) {
        let guard = self.pin();
        let items = writes
            .into_iter()
            .map(|(key, value, timestamp)| (Key::from_encoded(key), (value, timestamp)));
        self.index
            .insert_sorted(items, guard.raw(), |node, (value, timestamp)| {
                Self::restore_in(&node, value, timestamp, &guard);
            });
    }

    fn restore_in<'g>(node: &I::Node<'g>, value: Option<&[u8]>, timestamp: Timestamp, guard: &'g Pin<'_, R>) {
        let version = OwnedVersion::restored(value, timestamp, guard.memory());
        match node.value().restore(timestamp, version, guard.raw()) {
            Restored::First => guard.counters().linked.add(1),
            Restored::InPlace => {
                guard.counters().linked.add(1);
                guard.count_unlinked(1);
            }
            Restored::Older => {}
        }
    }

    /// Ends a restoration: starts the clock at `now`, which is above every timestamp restored, and removes the keys that
    /// were deleted last. Before the store is shared.
    pub fn end_restoration(&self, now: Timestamp) {
        self.clock.start_at(now);
        self.sweep();
    }
}

/// How a version that brings `E` is born.
#[inline]
pub(super) fn birth<E: Enlist>() -> Birth {
    if E::ENLISTS { Birth::Active } else { Birth::Prepared }
}

/// What a delete did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// Its commit timestamp, or that of the commit by which the key was absent already, if that is known.
    pub timestamp: Timestamp,
    /// Whether the key had a value.
    pub existed: bool,
}
