//! Models of the collector with limbo lists: what is retired is freed, and never under a reader.
//!
//! The collector is the real one, with batches of one object. The objects it frees stay allocated and are only marked,
//! by an access that loom compares with the readers': a free that is too early is either seen as a mark or reported as
//! an access that nothing orders.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use std::sync::Arc;

use loom::thread;
use loom_tests::model;
use unlatched::internals::{Leave, LimboReclaim, ModelSlot, Reclaim};

/// A collector and a slot, shared by a model's threads. The collector is dropped first.
struct World {
    reclaim: LimboReclaim,
    slot: ModelSlot,
}

fn world() -> Arc<World> {
    Arc::new(World {
        reclaim: LimboReclaim::new(),
        slot: ModelSlot::new(),
    })
}

fn spawn(world: &Arc<World>, body: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || body(&world))
}

/// Drops the last handle of a world after a model's threads; if the model failed, loom is gone and nothing can be
/// dropped.
fn finish(world: Arc<World>) {
    if std::thread::panicking() {
        std::mem::forget(world);
    }
}

// Two threads: read, read | replace, flush, flush.
// No reader meets a freed object. Fails when LIMBO_PIN, LIMBO_SEAL, PIN_TURN, UNPIN_TURN or READ_TURN is weakened.
#[test]
fn readers_meet_no_freed_object() {
    model("limbo::readers_meet_no_freed_object", 3, || {
        let world = world();
        let writer = spawn(&world, |world| {
            let local = world.reclaim.register();
            world.slot.replace(false, &world.reclaim, &local);
            world.slot.flush(&world.reclaim, &local);
            world.slot.flush(&world.reclaim, &local);
        });
        let local = world.reclaim.register();
        world.slot.read(&world.reclaim, &local);
        world.slot.read(&world.reclaim, &local);
        writer.join().unwrap();
        drop(local);
        finish(world);
    });
}

// Two threads: read | replace what asks for a second grace period, flush three times.
// It expires once and is freed once, after both.
#[test]
fn second_grace_period_follows_the_first() {
    model("limbo::second_grace_period_follows_the_first", 3, || {
        let world = world();
        let writer = spawn(&world, |world| {
            let local = world.reclaim.register();
            world.slot.replace(true, &world.reclaim, &local);
            world.slot.replace(true, &world.reclaim, &local);
            for _ in 0..3 {
                world.slot.flush(&world.reclaim, &local);
            }
            let totals = world.reclaim.totals();
            assert!(totals.freed <= totals.retired);
        });
        let local = world.reclaim.register();
        world.slot.read(&world.reclaim, &local);
        writer.join().unwrap();
        drop(local);
        finish(world);
    });
}

// Three threads: read | replace, leave | flush twice.
// What a thread that leaves had retired is freed by another, and never under a reader. Fails when PUSH_ORPHAN or
// TAKE_ORPHANS is weakened.
#[test]
fn orphans_are_adopted() {
    model("limbo::orphans_are_adopted", 2, || {
        let world = world();
        let leaver = spawn(&world, |world| {
            let local = world.reclaim.register();
            world.slot.replace(false, &world.reclaim, &local);
            local.leave();
        });
        let reader = spawn(&world, |world| {
            let local = world.reclaim.register();
            world.slot.read(&world.reclaim, &local);
        });
        let local = world.reclaim.register();
        world.slot.flush(&world.reclaim, &local);
        world.slot.flush(&world.reclaim, &local);
        leaver.join().unwrap();
        reader.join().unwrap();
        world.slot.flush(&world.reclaim, &local);
        world.slot.flush(&world.reclaim, &local);
        let totals = world.reclaim.totals();
        assert_eq!((totals.retired, totals.freed), (1, 1), "nobody is pinned any more");
        drop(local);
        finish(world);
    });
}

// Two threads: replace, flush | replace, flush.
// Two threads that retire at once free each other's reads as well as their own, and lose nothing.
#[test]
fn two_retirers_free_all() {
    model("limbo::two_retirers_free_all", 3, || {
        let world = world();
        let other = spawn(&world, |world| {
            let local = world.reclaim.register();
            world.slot.replace(false, &world.reclaim, &local);
            world.slot.flush(&world.reclaim, &local);
        });
        let local = world.reclaim.register();
        world.slot.replace(false, &world.reclaim, &local);
        world.slot.read(&world.reclaim, &local);
        other.join().unwrap();
        for _ in 0..2 {
            world.slot.flush(&world.reclaim, &local);
        }
        let totals = world.reclaim.totals();
        assert_eq!((totals.retired, totals.freed), (2, 2));
        drop(local);
        finish(world);
    });
}
