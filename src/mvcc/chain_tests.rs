//! Unit tests of one chain: small enough for Miri, which looks for what a plain run cannot see.
#![forbid(unsafe_code)]

use super::*;
use crate::reclaim::{EpochReclaim, HyalineReclaim, LimboReclaim, Reclaim};
use crate::sync::AtomicBool;

fn ts(number: u64) -> Timestamp {
    Timestamp::from_raw(number)
}

/// Links and commits a version that holds its own timestamp; returns whether the chain took it.
fn commit<G: Guard>(chain: &Chain, number: u64, guard: &G) -> bool {
    let head = chain.head(guard);
    let below = match head {
        Head::Sealed => return false,
        Head::Empty { .. } => None,
        Head::Version(version) => Some(version),
    };
    let version = OwnedVersion::put(
        Birth::Prepared,
        8,
        |bytes| bytes.copy_from_slice(&number.to_le_bytes()),
        guard.memory(),
    );
    version.set_next(below);
    match chain.link(head, false, version, guard) {
        Ok(linked) => linked.decide_put(ts(number)),
        Err(_) => false,
    }
}

fn timestamps<G: Guard>(chain: &Chain, guard: &G) -> Vec<u64> {
    let mut found = Vec::new();
    let Head::Version(mut version) = chain.head(guard) else {
        return found;
    };
    loop {
        let Word::Own(Status::Committed(timestamp)) = version.word(guard) else {
            unreachable!("all are committed")
        };
        let value = version.value().expect("no tombstones here");
        assert_eq!(value, timestamp.get().to_le_bytes(), "a version keeps its value");
        found.push(timestamp.get());
        match version.next(guard) {
            Some(next) => version = next,
            None => return found,
        }
    }
}

fn nth<'g, G: Guard>(chain: &Chain, number: usize, guard: &'g G) -> VersionRef<'g> {
    let Head::Version(mut version) = chain.head(guard) else {
        unreachable!("the chain has versions")
    };
    for _ in 0..number {
        version = version.next(guard).expect("the chain is that long");
    }
    version
}

/// Links, prunes, cuts and seals one chain, and counts what each collector was given.
fn life_of_a_chain<R: Reclaim>() {
    let reclaim = R::new();
    let local = reclaim.register();
    let chain = Chain::default();
    let guard = reclaim.pin(&local);
    assert!((1..=6).all(|number| commit(&chain, number, &guard)));
    assert_eq!(timestamps(&chain, &guard), [6, 5, 4, 3, 2, 1]);
    assert!(nth(&chain, 1, &guard).unlink_next(nth(&chain, 2, &guard), &guard));
    assert_eq!(timestamps(&chain, &guard), [6, 5, 3, 2, 1]);
    assert_eq!(nth(&chain, 2, &guard).cut(&guard), Some(2));
    assert_eq!(timestamps(&chain, &guard), [6, 5, 3]);
    assert_eq!(nth(&chain, 0, &guard).cut(&guard), Some(2));
    assert_eq!(reclaim.totals().retired, 5);
    assert!(
        chain.seal(Head::Empty { visited: false }, &guard).is_none(),
        "the chain is not empty"
    );
    assert_eq!(chain.seal(chain.head(&guard), &guard), Some(1));
    assert!(matches!(chain.head(&guard), Head::Sealed));
    assert!(!commit(&chain, 7, &guard));
}

#[test]
fn a_chain_lives_and_dies_under_epochs() {
    life_of_a_chain::<EpochReclaim>();
}

#[test]
fn a_chain_lives_and_dies_in_limbo() {
    life_of_a_chain::<LimboReclaim>();
}

#[test]
fn a_chain_lives_and_dies_under_hyaline() {
    life_of_a_chain::<HyalineReclaim>();
}

#[test]
fn a_frozen_version_can_neither_be_cut_nor_lose_its_neighbour() {
    let reclaim = EpochReclaim::new();
    let local = reclaim.register();
    let chain = Chain::default();
    let guard = reclaim.pin(&local);
    assert!((1..=4).all(|number| commit(&chain, number, &guard)));
    let (newest, middle, older) = (nth(&chain, 0, &guard), nth(&chain, 1, &guard), nth(&chain, 2, &guard));
    assert!(newest.unlink_next(middle, &guard));
    assert_eq!(middle.cut(&guard), None, "it has left the chain");
    assert!(!middle.unlink_next(older, &guard), "its link is not live");
    assert!(!newest.unlink_next(middle, &guard), "it is unlinked once");
    assert_eq!(timestamps(&chain, &guard), [4, 2, 1]);
}

/// Writers, pruners and readers on one chain: every version is retired exactly once and readers meet none freed.
/// Small enough for Miri, which looks for what a plain run cannot see.
#[test]
fn writers_pruners_and_readers_share_a_chain() {
    fn check<R: Reclaim>() {
        const WRITES: u64 = if cfg!(miri) { 12 } else { 20_000 };
        let reclaim = R::new();
        let chain = Chain::default();
        let done = AtomicBool::new(false);
        let pruned = std::thread::scope(|scope| {
            scope.spawn(|| {
                let local = reclaim.register();
                for number in 1..=WRITES {
                    assert!(commit(&chain, number, &reclaim.pin(&local)), "there is one writer");
                }
                done.store(true, order::CLOSE_SLOT);
            });
            let pruners: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let local = reclaim.register();
                        let mut pruned = 0;
                        while !done.load(order::READ_SLOT) {
                            let guard = reclaim.pin(&local);
                            let Head::Version(head) = chain.head(&guard) else {
                                continue;
                            };
                            let Some(second) = head.next(&guard) else { continue };
                            let Some(third) = second.next(&guard) else { continue };
                            // Only versions below the newest committed one may go, and the head may be undecided.
                            pruned += u64::from(second.unlink_next(third, &guard));
                            pruned += second.cut(&guard).unwrap_or(0);
                        }
                        pruned
                    })
                })
                .collect();
            scope.spawn(|| {
                let local = reclaim.register();
                while !done.load(order::READ_SLOT) {
                    let guard = reclaim.pin(&local);
                    let Head::Version(mut version) = chain.head(&guard) else {
                        continue;
                    };
                    let mut last = u64::MAX;
                    while let Some(next) = version.next(&guard) {
                        let bytes = next
                            .value()
                            .expect("no tombstones here")
                            .try_into()
                            .expect("eight bytes");
                        let number = u64::from_le_bytes(bytes);
                        assert!(number < last, "timestamps decrease");
                        (version, last) = (next, number);
                    }
                }
            });
            pruners
                .into_iter()
                .map(|pruner| pruner.join().expect("no pruner panics"))
                .sum::<u64>()
        });
        let local = reclaim.register();
        let left = timestamps(&chain, &reclaim.pin(&local)).len() as u64;
        assert_eq!(pruned + left, WRITES);
        assert_eq!(reclaim.totals().retired, pruned);
    }
    check::<EpochReclaim>();
    check::<HyalineReclaim>();
    check::<LimboReclaim>();
}
