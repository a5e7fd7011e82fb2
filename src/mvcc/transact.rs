//! Commits of transactions: one write is a put that judges what it replaces; several have a descriptor, by which any thread
//! can finish them.
#![forbid(unsafe_code)]

use crate::index::Index;
use crate::reclaim::Reclaim;
use crate::sync::pause::{self, Step};
use crate::sync::{order, store_load_fence};
use crate::trace::Layer;
use crate::types::{Key, Timestamp};

use super::chain::{Chain, OwnedVersion, VersionRef};
use super::clock::Clock;
use super::descriptor::{self, DescriptorRef, Writes};
use super::enlist::{Enlist, Refused, Unlisted};
use super::settle::{For, Linked, Newest};
use super::snapshots::OpenSnapshot;
use super::status::{DROPPED, Status};
use super::write::birth;
use super::{Pin, VersionedStore};

impl<I, R, C> VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Commits a transaction that read from `snapshot`, which stays open until this returns: all of its writes, sorted
    /// by key and not none, become visible at the returned timestamp, or none and the write in conflict is returned.
    #[inline]
    pub fn commit<W: Writes + ?Sized>(&self, snapshot: &OpenSnapshot, writes: &W) -> Result<Timestamp, Conflicting> {
        self.commit_enlisted(snapshot, writes, &mut Unlisted)
            .map_err(|refused| match refused {
                Refused::Judged(conflicting) => conflicting,
                Refused::NoRecord(never) => match never {},
            })
    }

    /// [`commit`](Self::commit), with a record in the log of `enlist`.
    ///
    /// # Errors
    ///
    /// The write in conflict, or that of `enlist`; then nothing was written.
    #[inline]
    pub fn commit_enlisted<W: Writes + ?Sized, E: Enlist>(
        &self,
        snapshot: &OpenSnapshot,
        writes: &W,
        enlist: &mut E,
    ) -> Result<Timestamp, Refused<Conflicting, E::Error>> {
        let guard = self.pin();
        let read_timestamp = snapshot.timestamp();
        if writes.len() == 1
            && let Some((key, value)) = writes.iter().next()
        {
            return self.commit_one(read_timestamp, key, value, enlist, &guard);
        }
        if E::ENLISTS
            && let Some(key) = self.conflict_in_sight(read_timestamp, writes, &guard)
        {
            guard.counters().conflicts.add(1);
            return Err(Refused::Judged(Conflicting { key: key.clone() }));
        }
        let mut transaction = descriptor::new_descriptor(read_timestamp, writes, guard.raw());
        loop {
            if E::ENLISTS {
                self.enlist_transaction(transaction, enlist, &guard)
                    .map_err(Refused::NoRecord)?;
            }
            match self.commit_many(transaction, &guard) {
                Decided::Committed(timestamp) => return Ok(timestamp),
                Decided::Conflict(conflicting) => return Err(Refused::Judged(conflicting)),
                // Whoever reads the log gave it up: with another record, and the same snapshot, again.
                Decided::Dropped => {
                    let again = descriptor::new_descriptor(read_timestamp, &transaction, guard.raw());
                    transaction.release(guard.raw());
                    transaction = again;
                }
            }
        }
    }

    /// Commits a transaction of one write, which is a put that judges what it replaces: nothing newer than the snapshot.
    /// It needs no descriptor, since there is nothing that a helper would have to link.
    #[inline]
    fn commit_one<'g, E: Enlist + 'g>(
        &'g self,
        read_timestamp: Timestamp,
        key: &Key,
        value: Option<&[u8]>,
        enlist: &mut E,
        guard: &'g Pin<'_, R>,
    ) -> Result<Timestamp, Refused<Conflicting, E::Error>> {
        // The first committer wins: what the new version replaces must be what the snapshot saw.
        let is_unchanged = |newest: Option<Newest<'_>>| match newest {
            Some(newest) if newest.timestamp > read_timestamp => Err(()),
            _ => Ok(()),
        };
        let conflicting = |()| {
            guard.counters().conflicts.add(1);
            Refused::Judged(Conflicting { key: key.clone() })
        };
        if E::ENLISTS {
            store_load_fence(order::F4_READER);
            is_unchanged(self.read_at(key, Timestamp::LATEST, guard)).map_err(conflicting)?;
        }
        let version = OwnedVersion::copy(birth::<E>(), value, guard.memory());
        self.write(key, version, is_unchanged, enlist, guard)
            .map_err(|refused| match refused {
                Refused::Judged(()) => conflicting(()),
                Refused::NoRecord(error) => Refused::NoRecord(error),
            })
    }

    /// Returns a key of `writes` that somebody committed after the snapshot, if one can be seen now: such a transaction
    /// needs no record.
    fn conflict_in_sight<'w, W: Writes + ?Sized>(
        &self,
        read_timestamp: Timestamp,
        writes: &'w W,
        guard: &Pin<'_, R>,
    ) -> Option<&'w Key> {
        store_load_fence(order::F4_READER);
        let mut keys = writes.iter().map(|(key, _)| key);
        keys.find(|key| {
            let newest = self.read_at(key, Timestamp::LATEST, guard);
            newest.is_some_and(|newest| newest.timestamp > read_timestamp)
        })
    }

    /// Gives a transaction that nobody has seen yet its record. If it gets none its descriptor is given back.
    fn enlist_transaction<'g, E: Enlist + 'g>(
        &'g self,
        transaction: DescriptorRef<'g>,
        enlist: &mut E,
        guard: &'g Pin<'_, R>,
    ) -> Result<(), E::Error> {
        // The place in the log counts (`enlist.rs`, invariant 2).
        let taken = transaction.take();
        debug_assert!(taken, "its owner holds a reference");
        let writes = transaction.writes().map(|(key, value)| (key.as_bytes(), value));
        match enlist.enlist(transaction.as_enlisted(), writes, guard.raw()) {
            Ok(_) => {
                pause::reached(Step::Enlisted);
                Ok(())
            }
            Err(error) => {
                transaction.release(guard.raw());
                transaction.release(guard.raw());
                Err(error)
            }
        }
    }

    /// Commits a transaction of several writes. Unless it was dropped, its owner's reference is given back.
    fn commit_many<'g>(&'g self, transaction: DescriptorRef<'g>, guard: &'g Pin<'_, R>) -> Decided {
        let mut linked = Linked::new();
        self.install(transaction, 0, guard, Some(&mut linked));
        let decide = self.trace.span(Layer::Decide);
        let decision = self.settle_transaction(transaction, For::Own, guard);
        decide.end();
        pause::reached(Step::Decided);
        let result = match decision {
            Status::Committed(timestamp) => {
                guard.counters().commits.add(1);
                Decided::Committed(timestamp)
            }
            Status::Aborted(DROPPED) => Decided::Dropped,
            Status::Aborted(write) => {
                guard.counters().conflicts.add(1);
                Decided::Conflict(Conflicting {
                    key: transaction.key(write).clone(),
                })
            }
            Status::Active | Status::Prepared => unreachable!("installed and settled"),
        };
        for version in &linked {
            version.resolve_owner(transaction, decision, guard.raw());
        }
        match result {
            Decided::Committed(timestamp) => self.after_commit(transaction, &linked, timestamp, guard),
            Decided::Conflict(_) | Decided::Dropped => self.tidy_after_abort(transaction, guard),
        }
        if !matches!(result, Decided::Dropped) {
            transaction.release(guard.raw());
        }
        result
    }

    /// Prunes below a committed transaction's versions. Those that helpers linked and the owner never saw are searched for,
    /// and reading them copies the decision into them: else they would keep the descriptor.
    fn after_commit<'g>(
        &'g self,
        transaction: DescriptorRef<'g>,
        linked: &[VersionRef<'g>],
        timestamp: Timestamp,
        guard: &'g Pin<'_, R>,
    ) {
        for number in 0..transaction.len() {
            let key = transaction.key(number);
            let version = match linked.get(number) {
                Some(version) => Some(*version),
                None => self
                    .read_at(key, timestamp, guard)
                    .filter(|found| found.timestamp == timestamp)
                    .map(|found| found.version),
            };
            if let Some(version) = version {
                self.prune_after_write(version, timestamp, key, false, guard);
            }
        }
    }
}

/// What became of a transaction.
enum Decided {
    Committed(Timestamp),
    Conflict(Conflicting),
    Dropped,
}

/// A transaction failed because somebody else committed `key` after its snapshot.
#[derive(Debug)]
pub struct Conflicting {
    /// The key that both wrote.
    pub key: Key,
}
