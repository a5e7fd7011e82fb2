//! What the models of `loom-tests` reach in a store beyond its methods: one look at the open snapshots, the pruning of
//! one key with a given, possibly old, look, and a check of a chain's invariants when everything is over.
//!
//! A whole sweep has far too many steps to explore; these are its pieces, run by the code that the sweep runs.
#![forbid(unsafe_code)]

use crate::index::{Index, Node};
use crate::reclaim::Reclaim;
use crate::types::{Key, Timestamp};

use super::VersionedStore;
use super::chain::{Chain, Head};
use super::clock::Clock;
use super::settle::{For, Settled};
use super::snapshots::View;

/// A look at the clock and the open snapshots, as old as a model wants it to be.
#[derive(Clone, Debug)]
pub struct ModelView(View);

impl<I, R, C> VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Looks at the clock and the open snapshots.
    pub fn look(&self) -> ModelView {
        let mut view = View::nothing();
        self.snapshots.view(&self.clock, &mut view);
        ModelView(view)
    }

    /// Gives the calling thread that look for the pruning after its writes.
    pub fn use_view(&self, view: &ModelView) {
        self.here().local.gc.borrow_mut().view = view.0.clone();
    }

    /// Prunes one key, and removes it if it is dead. Returns how many versions were retired.
    pub fn tidy_key(&self, key: &Key, view: &ModelView) -> u64 {
        let guard = self.pin();
        let Some(node) = self.index.find(key, &guard) else {
            return 0;
        };
        let tidied = self.tidy(node, &view.0, &guard);
        guard.count_unlinked(tidied.retired);
        tidied.retired
    }

    /// Moves the clock past every timestamp drawn so far.
    pub fn pass_clock(&self) {
        self.clock.pass();
    }

    /// Returns the timestamps of a key's committed versions, newest first, after checking the invariants of its chain.
    /// For the end of a model, when no other thread runs.
    ///
    /// # Panics
    ///
    /// If a version below the head is not committed, or timestamps do not strictly decrease.
    pub fn timestamps(&self, key: &Key) -> Vec<Timestamp> {
        let guard = self.pin();
        let mut timestamps: Vec<Timestamp> = Vec::new();
        let Some(node) = self.index.find(key, &guard) else {
            return timestamps;
        };
        let Head::Version(head) = node.value().head(guard.raw()) else {
            return timestamps;
        };
        let mut next = Some(head);
        while let Some(version) = next {
            next = version.next(guard.raw());
            match self.settle(version, For::Other, &guard) {
                Settled::Committed(timestamp) => {
                    assert!(
                        timestamps.last().is_none_or(|newer| timestamp < *newer),
                        "timestamps decrease from newest to oldest"
                    );
                    timestamps.push(timestamp);
                }
                Settled::Aborted | Settled::Active(_) | Settled::ActivePut => {
                    assert!(version.is(head), "only the head may be undecided or aborted");
                }
            }
        }
        timestamps
    }

    /// Says whether a key has a node in the index.
    pub fn has_node(&self, key: &Key) -> bool {
        self.index.find(key, &self.pin()).is_some()
    }
}
