//! Unit tests of the hints: small enough for Miri, but for the last ones.
#![forbid(unsafe_code)]

use super::*;
use crate::index::{HintedModel, Mistake};
use crate::reclaim::{EpochReclaim, HyalineReclaim, Reclaim};

/// Buckets that a table of `hints` in use has.
fn size_of_table<R: Reclaim>(model: &HintedModel<R>) -> usize {
    model.hint_bytes() / 64
}

/// Scatters the bits of a number, as a hash does.
fn scatter(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

#[test]
fn ways_keep_tag_and_address_apart() {
    let node = 7_u64;
    for hash in [0, 1, u64::MAX, 0xFFFF << 48, 0x8000 << 48, scatter(3)] {
        let hint = hint_to(&node, hash).expect("addresses are short");
        assert!(ptr::eq(node_of(hint), &node));
        assert_eq!(hint.addr() & !ADDRESS, tag(hash));
        assert_ne!(tag(hash), 0);
    }
    let high = ptr::without_provenance::<u64>(ADDRESS & !7);
    assert_eq!(node_of(high.cast_mut()), high);
}

#[test]
fn a_table_that_is_off_holds_nothing() {
    fn check(most: usize, size: usize) {
        let model = HintedModel::<EpochReclaim>::new(&[5], 1, most, Mistake::Nothing, false);
        let local = model.register();
        let guard = model.pin(&local);
        assert_eq!(size_of_table(&model), size);
        model.insert(0, &guard);
        assert!(model.search(0, &guard));
        assert_eq!(model.find_hint(0, &guard, || {}), size != 0);
        model.remove(0, &guard);
        assert!(!model.get(0, &guard));
    }
    check(0, 0);
    check(4, 1);
}

fn a_hint_follows_its_node<R: Reclaim>() {
    let model = HintedModel::<R>::new(&[scatter(0), scatter(1)], 1, 4, Mistake::Nothing, false);
    let local = model.register();
    for _ in 0..3 {
        let guard = model.pin(&local);
        assert!(!model.get(0, &guard));
        assert!(model.insert(0, &guard));
        assert!(!model.find_hint(0, &guard, || {}), "inserting leaves no hint here");
        assert!(model.get(0, &guard));
        assert!(model.find_hint(0, &guard, || {}));
        assert!(!model.find_hint(1, &guard, || {}));
        assert!(model.remove(0, &guard));
        assert!(!model.find_hint(0, &guard, || {}), "a dead node is no answer");
        guard.flush();
    }
}

#[test]
fn a_hint_follows_its_node_with_epochs() {
    a_hint_follows_its_node::<EpochReclaim>();
}

#[test]
fn a_hint_follows_its_node_with_hyaline() {
    a_hint_follows_its_node::<HyalineReclaim>();
}

/// Nothing that is removed is kept by a hint: all of it is freed once the threads have pinned often enough.
#[test]
fn removed_nodes_are_freed() {
    let keys: Vec<u64> = (0..20).map(scatter).collect();
    let model = HintedModel::<EpochReclaim>::new(&keys, 1, 8, Mistake::Nothing, false);
    let local = model.register();
    for cell in 0..keys.len() {
        let guard = model.pin(&local);
        model.insert(cell, &guard);
        model.search(cell, &guard);
        model.remove(cell, &guard);
    }
    for _ in 0..20 {
        model.pin(&local).flush();
    }
    let totals = model.totals();
    assert_eq!((totals.retired, totals.freed), (20, 20));
}

/// All keys are loaded, then looked for: the table has grown to hold them, and nearly all are found at once.
fn load_and_find(keys: u64) -> (usize, f64) {
    let keys: Vec<u64> = (0..keys).map(scatter).collect();
    let model = HintedModel::<EpochReclaim>::new(&keys, 1, 1 << 16, Mistake::Nothing, false);
    let local = model.register();
    for cell in 0..keys.len() {
        let guard = model.pin(&local);
        model.insert(cell, &guard);
        model.search(cell, &guard);
    }
    let guard = model.pin(&local);
    let found = (0..keys.len())
        .filter(|cell| model.find_hint(*cell, &guard, || {}))
        .count();
    (size_of_table(&model), found as f64 / keys.len() as f64)
}

#[test]
fn the_table_grows_with_its_keys() {
    let keys = if cfg!(miri) { 100 } else { 30_000 };
    let (size, found) = load_and_find(keys);
    let ways_per_key = (size * WAYS) as f64 / keys as f64;
    assert!((1.0..=4.0).contains(&ways_per_key), "{size} buckets for {keys} keys");
    assert!(found > 0.9, "{found} found after loading");
}

/// A table that may not grow is of use to some keys, and which they are changes.
#[test]
fn keys_take_turns_in_a_full_table() {
    let keys: Vec<u64> = (0..24).map(scatter).collect();
    let model = HintedModel::<EpochReclaim>::new(&keys, 1, 1, Mistake::Nothing, false);
    let local = model.register();
    let guard = model.pin(&local);
    let mut was_found = vec![false; keys.len()];
    for cell in 0..keys.len() {
        model.insert(cell, &guard);
    }
    for _ in 0..if cfg!(miri) { 40 } else { 200 } {
        for (cell, was_found) in was_found.iter_mut().enumerate() {
            *was_found |= model.find_hint(cell, &guard, || {});
            model.get(cell, &guard);
        }
        let found = (0..keys.len())
            .filter(|cell| model.find_hint(*cell, &guard, || {}))
            .count();
        assert_eq!(found, WAYS, "the bucket stays full");
    }
    assert!(was_found.iter().all(|found| *found), "{was_found:?}");
    assert_eq!(size_of_table(&model), 1);
}

#[test]
fn hashes_of_keys_differ_between_indexes_and_use_all_bits() {
    let (one, other) = (KeyHash::new(), KeyHash::new());
    assert_ne!(one.of(b"key"), other.of(b"key"));
    let (mut ones, mut zeros) = (0, 0);
    for key in 0..64_u64 {
        let hash = one.of(&key.to_le_bytes());
        ones |= hash;
        zeros |= !hash;
    }
    assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
}
