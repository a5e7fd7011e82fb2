//! What any thread may do for another's put or transaction: settle it, install it, finish it.
//!
//! A thread that meets something undecided never waits for its owner. PREPARED means that only the timestamp is open,
//! so whoever meets it draws one and decides; the owner then finds the decision made. ACTIVE means that versions are
//! still being linked: readers may pass it, since its timestamp will be later than theirs, and writers link the rest
//! themselves.
//!
//! # Invariants
//!
//! 1. A timestamp is drawn for a put or transaction only after its status was seen to be PREPARED.
//! 2. `install` loads a head, and its word, *before* it checks that the transaction is still ACTIVE, and links only
//!    over that head. After the check the head can no longer change unnoticed. So a late link succeeds only for an
//!    aborted transaction, and such a version is skipped.
//! 3. Helping recurses to strictly greater keys: a helped transaction already has its version at the key where it
//!    was met, and keys are installed in order. So there is no cycle, and the depth is at most the number of open
//!    transactions. (It is the stack's depth: some thousands of transactions, each stopped half installed over the
//!    next one, would exhaust it.)
//! 4. Nobody but the transaction itself can be aborted, and only because a version newer than its snapshot is
//!    committed.
//!
//! # Progress
//!
//! Lock-free. Each retry follows another thread's successful exchange; helping one transaction takes a bounded number
//! of steps beyond that.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use crate::index::{Index, Node};
use crate::reclaim::Reclaim;
use crate::sync::pause::{self, Step};
use crate::sync::{order, store_load_fence};
use crate::trace::Layer;
use crate::types::{Enlisted, Key, Timestamp};

use super::chain::{Chain, Found, Head, OwnedVersion, VersionRef, Word, find_enlisted};
use super::clock::Clock;
use super::descriptor::DescriptorRef;
use super::enlist::Fate;
use super::status::Status;
use super::{Pin, VersionedStore};

/// The decision on a version, as far as there is one.
#[derive(Clone, Copy)]
pub(crate) enum Settled<'g> {
    /// Final.
    Committed(Timestamp),
    /// Final: skip it.
    Aborted,
    /// Its transaction is still linking versions.
    Active(DescriptorRef<'g>),
    /// A put that has a record in a log, and of which nobody has said yet that it is linked.
    ActivePut,
}

/// The newest committed version of a chain.
#[derive(Clone, Copy)]
pub(crate) struct Newest<'g> {
    pub(crate) version: VersionRef<'g>,
    pub(crate) timestamp: Timestamp,
}

/// A transaction's versions that its owner has seen linked.
pub(crate) type Linked<'g> = SmallVec<[VersionRef<'g>; 8]>;

/// Whose work it is; only the statistics care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// The caller's own.
    Own,
    /// Somebody else's.
    Other,
}

impl<I, R, C> VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Decides a version's put or transaction if it is PREPARED, and returns where it stands.
    #[inline]
    pub(super) fn settle<'g>(&self, version: VersionRef<'g>, whose: For, guard: &'g Pin<'_, R>) -> Settled<'g> {
        loop {
            match version.word(guard.raw()) {
                Word::Own(Status::Committed(ts)) => return Settled::Committed(ts),
                Word::Own(Status::Aborted(_)) => return Settled::Aborted,
                // INVARIANT 1: seen PREPARED.
                Word::Own(Status::Prepared) => self.decide_put(version, whose, guard),
                Word::Own(Status::Active) => return Settled::ActivePut,
                Word::Owner(owner) => match self.settle_transaction(owner, whose, guard) {
                    Status::Committed(ts) => {
                        version.resolve_owner(owner, Status::Committed(ts), guard.raw());
                        return Settled::Committed(ts);
                    }
                    Status::Aborted(write) => {
                        version.resolve_owner(owner, Status::Aborted(write), guard.raw());
                        return Settled::Aborted;
                    }
                    Status::Active | Status::Prepared => return Settled::Active(owner),
                },
            }
        }
    }

    /// Draws a timestamp for a put seen PREPARED, and tries to decide it.
    #[inline]
    fn decide_put<'g>(&self, version: VersionRef<'g>, whose: For, guard: &'g Pin<'_, R>) {
        // What hangs below an undecided put is committed, and stays until the put is decided. A late helper may find
        // it gone; its exchange fails.
        let predecessor = match version.next(guard.raw()).map(|older| older.word(guard.raw())) {
            None => Timestamp::ABSENT,
            Some(Word::Own(Status::Committed(ts))) => ts,
            Some(Word::Owner(owner)) => match owner.status() {
                Status::Committed(ts) => ts,
                _ => Timestamp::ABSENT,
            },
            Some(Word::Own(_)) => Timestamp::ABSENT,
        };
        store_load_fence(order::F1_WRITER);
        let ts = self.clock.draw_commit(predecessor);
        pause::reached(Step::Drawn);
        if version.decide_put(ts) && whose == For::Other {
            guard.counters().helped.add(1);
        }
    }

    /// Says how an enlisted write stands, after deciding it if it is PREPARED. Never helps one that is ACTIVE: met through
    /// the log, a put may not be linked yet.
    ///
    /// `enlisted` was read, under `guard`, from a place of the log that was not done (`enlist.rs`, invariant 3).
    pub(super) fn settle_enlisted<'g>(&'g self, enlisted: Enlisted, guard: &'g Pin<'_, R>) -> Fate {
        match find_enlisted(enlisted, guard.raw()) {
            Found::Transaction(owner) => match self.settle_transaction(owner, For::Other, guard) {
                Status::Committed(timestamp) => Fate::Committed(timestamp),
                Status::Aborted(_) => Fate::Aborted,
                Status::Active | Status::Prepared => Fate::Active,
            },
            Found::Put(version) => match self.settle(version, For::Other, guard) {
                Settled::Committed(timestamp) => {
                    self.prune_covered(version, timestamp, guard);
                    Fate::Committed(timestamp)
                }
                Settled::Aborted => Fate::Aborted,
                Settled::Active(_) | Settled::ActivePut => Fate::Active,
            },
        }
    }

    /// Decides an enlisted write whose owner does not come back: a transaction is installed as any helper would, a put is
    /// aborted and its owner, should it come back, makes another. `abandon` aborts transactions too.
    ///
    /// As for [`settle_enlisted`](Self::settle_enlisted).
    pub(super) fn give_up_enlisted<'g>(&'g self, enlisted: Enlisted, abandon: bool, guard: &'g Pin<'_, R>) {
        match find_enlisted(enlisted, guard.raw()) {
            Found::Transaction(owner) if abandon => owner.give_up(),
            Found::Transaction(owner) => self.install(owner, 0, guard, None),
            Found::Put(version) => version.drop_put(),
        }
    }

    /// Gives back the log's reference, when the place is done.
    ///
    /// As for [`settle_enlisted`](Self::settle_enlisted), and called once for each place.
    pub(super) fn release_enlisted<'g>(&'g self, enlisted: Enlisted, guard: &'g Pin<'_, R>) {
        if let Found::Transaction(owner) = find_enlisted(enlisted, guard.raw()) {
            owner.release(guard.raw());
        }
    }

    /// Decides a transaction if it is PREPARED, and returns its status.
    #[inline]
    pub(super) fn settle_transaction(&self, owner: DescriptorRef<'_>, whose: For, guard: &Pin<'_, R>) -> Status {
        loop {
            let status = owner.status();
            // INVARIANT 1: seen PREPARED. No predecessor is needed: all have at most the transaction's read timestamp,
            // and the clock has passed that.
            if status != Status::Prepared {
                return status;
            }
            store_load_fence(order::F1_WRITER);
            let ts = self.clock.draw_commit(owner.read_timestamp());
            pause::reached(Step::Drawn);
            if owner.decide(ts) && whose == For::Other {
                guard.counters().helped.add(1);
            }
        }
    }

    /// Brings whatever put or transaction `version` belongs to, found at `key`, to its decision. Never waits.
    #[inline]
    pub(super) fn finish<'g>(&'g self, version: VersionRef<'g>, key: &Key, guard: &'g Pin<'_, R>) -> Settled<'g> {
        loop {
            match self.settle(version, For::Other, guard) {
                // INVARIANT 3: the owner's version at `key` is linked, so installing goes on above it.
                Settled::Active(owner) => self.install(owner, owner.position(key), guard, None),
                // Met in a chain, so it is linked, and its record was copied before that.
                Settled::ActivePut => version.prepare_put(),
                decided => return decided,
            }
        }
    }

    /// Returns the newest committed version at or below `head`, after finishing whatever stands at the head.
    #[inline]
    pub(super) fn newest_below<'g>(&'g self, head: Head<'g>, key: &Key, guard: &'g Pin<'_, R>) -> Option<Newest<'g>> {
        let Head::Version(version) = head else { return None };
        // `next` before the word: see `read_at`.
        let next = version.next(guard.raw());
        match self.finish(version, key, guard) {
            Settled::Committed(timestamp) => Some(Newest { version, timestamp }),
            // Only the head may be aborted, so what hangs below it is committed.
            _ => next.map(|version| Newest {
                version,
                timestamp: self.committed(version, guard),
            }),
        }
    }

    /// Returns the timestamp of a version that is not the head of its chain.
    #[inline]
    pub(super) fn committed<'g>(&self, version: VersionRef<'g>, guard: &'g Pin<'_, R>) -> Timestamp {
        match self.settle(version, For::Other, guard) {
            Settled::Committed(ts) => ts,
            Settled::Aborted | Settled::Active(_) | Settled::ActivePut => {
                unreachable!("every version below a head is committed")
            }
        }
    }

    /// Links a transaction's versions from write number `from` on, then prepares it. Run by the owner, and by any
    /// number of helpers. Afterwards the transaction is not ACTIVE. The owner passes `linked` and finds there what it
    /// saw linked.
    pub(super) fn install<'g>(
        &'g self,
        transaction: DescriptorRef<'g>,
        from: usize,
        guard: &'g Pin<'_, R>,
        mut linked: Option<&mut Linked<'g>>,
    ) {
        for number in from..transaction.len() {
            match self.install_one(transaction, number, guard) {
                Some(version) => {
                    if let Some(linked) = &mut linked {
                        linked.push(version);
                    }
                }
                None => return,
            }
        }
        pause::reached(Step::Installed);
        transaction.prepare();
    }

    /// Links the version of one write, unless somebody has. `None` means that the transaction is not ACTIVE any more.
    fn install_one<'g>(
        &'g self,
        transaction: DescriptorRef<'g>,
        number: usize,
        guard: &'g Pin<'_, R>,
    ) -> Option<VersionRef<'g>> {
        let key = transaction.key(number);
        let mut unlinked = None;
        loop {
            let search = self.trace.span(Layer::IndexSearch);
            // An empty chain is inserted, never a filled one: "absent" is the one expected value that can come back,
            // and a stalled helper must not bring a deleted key back to life with it.
            let node = self.index.find_or_insert(key, guard);
            search.end();
            let chain = node.value();
            let head = chain.head(guard.raw());
            // INVARIANT 2: head and word before the check.
            let word = match head {
                Head::Sealed => {
                    self.index.remove(node, guard);
                    continue;
                }
                Head::Empty { .. } => None,
                Head::Version(version) => Some((version, version.word(guard.raw()))),
            };
            if transaction.status() != Status::Active {
                // It was aborted, or is decided and all is linked. What this thread may just have inserted for it is
                // nobody's now.
                if word.is_none() {
                    guard.gc().remember_whole(key);
                }
                return None;
            }
            if let Some((version, Word::Owner(owner))) = word
                && owner.is(transaction)
            {
                return Some(version);
            }
            let newest = self.newest_below(head, key, guard);
            if newest.is_some_and(|newest| newest.timestamp > transaction.read_timestamp()) {
                transaction.abort(number);
                return None;
            }
            let version = unlinked
                .take()
                .unwrap_or_else(|| OwnedVersion::owned_by(transaction, transaction.value(number), guard.memory()));
            version.set_next(newest.map(|newest| newest.version));
            if !transaction.take() {
                return None;
            }
            match self.link(chain, head, newest, version, guard) {
                Ok(version) => {
                    if matches!(transaction.status(), Status::Aborted(_)) {
                        // Aborted meanwhile. The owner tidies up after itself, but it may be stopped, or have looked
                        // here before.
                        guard.gc().remember_whole(key);
                    }
                    return Some(version);
                }
                Err(version) => {
                    transaction.release(guard.raw());
                    unlinked = Some(version);
                }
            }
        }
    }

    /// Links `version` over `head`, whose newest committed version is `newest`.
    #[inline]
    pub(super) fn link<'g>(
        &self,
        chain: &Chain,
        head: Head<'g>,
        newest: Option<Newest<'g>>,
        version: OwnedVersion<'g, R::Memory>,
        guard: &'g Pin<'_, R>,
    ) -> Result<VersionRef<'g>, OwnedVersion<'g, R::Memory>> {
        let install = self.trace.span(Layer::Install);
        let bypassed = match head {
            Head::Version(head) => !newest.is_some_and(|newest| newest.version.is(head)),
            Head::Empty { .. } | Head::Sealed => false,
        };
        let version = chain.link(head, bypassed, version, guard.raw())?;
        install.end();
        pause::reached(Step::Linked);
        let mine = guard.counters();
        mine.linked.add(1);
        if bypassed {
            mine.unlinked.add(1);
        }
        Ok(version)
    }
}

// The steps at which threads are stopped exist in builds with debug assertions alone.
#[cfg(all(test, debug_assertions, not(loom)))]
#[path = "settle_tests.rs"]
mod tests;
