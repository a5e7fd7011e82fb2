//! Unit tests of the hints, small enough for Miri, and stress beside a toy index.
#![forbid(unsafe_code)]

use super::*;
use crate::index::{HintedModel, Mistake};
use crate::reclaim::{EpochReclaim, HyalineReclaim, LimboReclaim, Reclaim};

/// Buckets that a table of `hints` in use has.
fn size_of_table<R: Reclaim>(model: &HintedModel<R>) -> usize {
    model.hint_bytes() / (8 * WAYS)
}

/// Scatters the bits of a number, as a hash does.
fn scatter(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

#[test]
fn ways_keep_tag_and_address_apart() {
    let node = 7_u64;
    for hash in [0, 1, u64::MAX, 0xFFFF << 48, 0x8000 << 48, scatter(3)] {
        let hint = hint_to(std::ptr::NonNull::from(&node), hash).expect("addresses are short");
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
        assert_eq!(model.find_hint(0, &guard), size != 0);
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
        assert!(!model.find_hint(0, &guard), "inserting leaves no hint here");
        assert!(model.get(0, &guard));
        assert!(model.find_hint(0, &guard));
        assert!(!model.find_hint(1, &guard));
        assert!(model.remove(0, &guard));
        assert!(!model.find_hint(0, &guard), "a dead node is no answer");
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

/// Goal: who follows a hint sees the node's fields, with collectors of both kinds of loads, of which the models have one.
/// Method: one thread inserts a key and leaves a hint, another looks for that hint and nothing else, so that only the
/// hint orders the two. Miri reports a data race if STORE_HINT, or READ_HINT or PROTECT_HINT, is relaxed.
#[test]
fn a_hint_shows_its_node_whole() {
    fn check<R: Reclaim>() {
        let model = HintedModel::<R>::new(&[scatter(0)], 1, 1, Mistake::Nothing, false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let local = model.register();
                let guard = model.pin(&local);
                assert!(model.insert(0, &guard));
                assert!(model.search(0, &guard));
            });
            scope.spawn(|| {
                let local = model.register();
                while !model.find_hint(0, &model.pin(&local)) {
                    std::thread::yield_now();
                }
            });
        });
    }
    check::<LimboReclaim>();
    check::<HyalineReclaim>();
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
    let found = (0..keys.len()).filter(|cell| model.find_hint(*cell, &guard)).count();
    (size_of_table(&model), found as f64 / keys.len() as f64)
}

#[test]
fn the_table_grows_with_its_keys() {
    let keys = if cfg!(miri) { 100 } else { 30_000 };
    let (size, found) = load_and_find(keys);
    let ways_per_key = (size * WAYS) as f64 / keys as f64;
    assert!((1.0..=4.0).contains(&ways_per_key), "{size} buckets for {keys} keys");
    // A small table is a little late to grow, since few stores look around.
    assert!(found > 0.8, "{found} found after loading");
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
            *was_found |= model.find_hint(cell, &guard);
            model.get(cell, &guard);
        }
        let found = (0..keys.len()).filter(|cell| model.find_hint(*cell, &guard)).count();
        assert_eq!(found, WAYS, "the bucket stays full");
    }
    let turns = was_found.iter().filter(|found| **found).count();
    assert!(turns == keys.len() || cfg!(miri) && turns > WAYS, "{was_found:?}");
    assert_eq!(size_of_table(&model), 1);
}

#[test]
fn hashes_of_keys_differ_between_indexes() {
    assert_ne!(KeyHash::new().of(b"key"), KeyHash::new().of(b"key"));
}

/// Goal: keys fill buckets no worse than random numbers do, whatever they look like. Method: six keys a bucket, of which
/// a Poisson distribution leaves 5 in 100 without a place.
#[test]
fn numbered_keys_spread_over_the_buckets() {
    let buckets = if cfg!(miri) { 64 } else { 8_192 };
    for seed in [0, 12_345, 0xDEAD_BEEF_1234_5678] {
        let hash = KeyHash::with_seed(seed);
        for shape in 0..3 {
            let mut filled = vec![0_u64; buckets];
            let keys = 6 * buckets as u64;
            for number in 0..keys {
                let bytes = match shape {
                    0 => format!("a key with number {number:020}").into_bytes(),
                    1 => number.to_le_bytes().to_vec(),
                    _ => [&[7; 17], &(number << 10).to_be_bytes()[..]].concat(),
                };
                filled[index(hash.of(&bytes), buckets)] += 1;
            }
            let lost: u64 = filled.iter().map(|keys| keys.saturating_sub(8)).sum();
            let lost = lost as f64 / keys as f64;
            assert!(
                lost < if cfg!(miri) { 0.15 } else { 0.06 },
                "shape {shape}, seed {seed}: {lost}"
            );
        }
    }
}

/// What one thread of the stress test does, from a seed.
fn stress<R: Reclaim>(model: &HintedModel<R>, cells: usize, seed: u64, steps: u32) {
    let local = model.register();
    let mut random = seed;
    for _ in 0..steps {
        random = random
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        let cell = (random >> 33) as usize % cells;
        let guard = model.pin(&local);
        match random >> 60 {
            0..3 => drop(model.insert(cell, &guard)),
            3..7 => drop(model.remove(cell, &guard)),
            7..10 => drop(model.search(cell, &guard)),
            10 => model.refresh(cell, &guard),
            11 => guard.flush(),
            // Most other threads go on meanwhile, so that a node may be retired, and worse, in between.
            12 => drop(model.hold_hint(cell, &guard, std::thread::yield_now)),
            _ => drop(model.find_hint(cell, &guard)),
        }
    }
}

/// Runs threads on new tables again and again, each growing from one bucket; says whether one met a freed node.
fn stress_finds<R: Reclaim>(mistake: Mistake, rounds: u64) -> bool {
    let (cells, steps) = if cfg!(miri) { (24, 150) } else { (300, 20_000) };
    let keys: Vec<u64> = (0..cells as u64).map(scatter).collect();
    for round in 0..rounds {
        // Miri sees by itself when memory is used that was given back.
        let model = HintedModel::<R>::new(&keys, 1, 64, mistake, !cfg!(miri));
        let thread = |number: u64| {
            let model = &model;
            move || stress(model, cells, 100 * round + number, steps)
        };
        let found = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=4).map(|number| scope.spawn(thread(number))).collect();
            let failures: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().err()).collect();
            for failure in &failures {
                let message = failure.downcast_ref::<&str>().expect("assertions say what failed");
                assert_eq!(*message, "use after free");
            }
            !failures.is_empty()
        });
        if found {
            return true;
        }
        assert!(cfg!(miri) || size_of_table(&model) > 1, "the table has grown");
    }
    false
}

/// Goal: no hint leads to a freed node, in histories longer than a model's. Method: threads insert, search, remove and
/// follow hints at random; reclaimed nodes stay in memory, marked, and whoever meets the mark panics.
#[test]
fn no_hint_leads_to_a_freed_node() {
    let rounds = if cfg!(miri) { 1 } else { 40 };
    assert!(!stress_finds::<EpochReclaim>(Mistake::Nothing, rounds));
    assert!(!stress_finds::<HyalineReclaim>(Mistake::Nothing, rounds));
}

/// The same threads find the mistakes that do not need a rare interleaving; the models find the others.
#[test]
#[cfg_attr(miri, ignore = "uses memory after it was freed")]
fn stress_would_find_hints_that_stay() {
    assert!(stress_finds::<EpochReclaim>(Mistake::NoForgetting, 1_000));
    assert!(stress_finds::<HyalineReclaim>(Mistake::NoForgetting, 1_000));
}

#[test]
#[cfg_attr(miri, ignore = "uses memory after it was freed")]
fn stress_would_find_one_grace_period() {
    assert!(stress_finds::<EpochReclaim>(Mistake::OneGracePeriod, 1_000));
}
