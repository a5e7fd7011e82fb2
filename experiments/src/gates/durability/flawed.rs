//! The checks of durability can fail: engines that break each promise, and what is said of them.
#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use unlatched::{Durability, RunId};

use super::kept::{self, LAZY, Trials, Trouble};
use super::{overrides, without_place};
use crate::disk::lying::lie;
use crate::disk::place::Place;
use crate::engines::broken::Broken;
use crate::engines::bytes::{ByteEngine, Visitor};
use crate::engines::durable::Durable;
use crate::engines::unlatched::{Unlatched, UnlatchedSession, UnlatchedSpace};
use crate::engines::{Engine, EngineError, Operation};
use crate::gates::sheet::Figure;
use crate::workload::KeySet;

/// What an engine makes of the durability that it is asked for.
trait Flaw: Send + Sync + 'static {
    /// What it is opened with instead.
    fn opens(asked: Durability) -> Durability {
        asked
    }

    /// What an operation is done with instead, in a database that was to be opened with `default`.
    fn does(_default: Durability, asked: Durability) -> Durability {
        asked
    }

    /// What it says it opens with.
    const DEFAULT: Durability = Durability::Strict;
}

/// The engine with a flaw.
struct Flawed<F> {
    inner: Unlatched,
    default: Durability,
    flaw: PhantomData<F>,
}

/// Acknowledges before anything is durable.
struct Hasty;

impl Flaw for Hasty {
    fn opens(asked: Durability) -> Durability {
        if asked == Durability::Strict { LAZY } else { asked }
    }

    fn does(_: Durability, asked: Durability) -> Durability {
        Self::opens(asked)
    }
}

/// Does not hear what is asked for one operation.
struct Deaf;

impl Flaw for Deaf {
    fn does(default: Durability, _: Durability) -> Durability {
        default
    }
}

/// Keeps whatever it is told, although it need not.
struct Zealous;

impl Flaw for Zealous {
    fn does(_: Durability, _: Durability) -> Durability {
        Durability::Strict
    }
}

/// Keeps nothing.
struct Forgetful;

impl Flaw for Forgetful {
    fn opens(_: Durability) -> Durability {
        Durability::InMemory
    }

    fn does(_: Durability, _: Durability) -> Durability {
        Durability::InMemory
    }
}

/// Is lax unless told otherwise.
struct Lax;

impl Flaw for Lax {
    const DEFAULT: Durability = Durability::BUFFERED;
}

/// The engine as it is.
struct Sound;

impl Flaw for Sound {}

impl<F: Flaw> Flawed<F> {
    fn new(inner: Unlatched, default: Durability) -> Self {
        Self {
            inner,
            default,
            flaw: PhantomData,
        }
    }

    fn done(&self, asked: Durability) -> Durability {
        F::does(self.default, asked)
    }
}

impl<F: Flaw> Engine for Flawed<F> {
    const NAME: &'static str = "flawed";

    type Space = UnlatchedSpace;

    type Session<'a> = UnlatchedSession<'a>;

    fn open() -> Result<Self, EngineError> {
        Ok(Self::new(Unlatched::open()?, Durability::InMemory))
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> UnlatchedSpace {
        self.inner.space(run, keys)
    }

    fn session<'a>(&'a self, space: &'a UnlatchedSpace) -> Result<UnlatchedSession<'a>, EngineError> {
        self.inner.session(space)
    }

    fn supports(operation: Operation) -> bool {
        Unlatched::supports(operation)
    }
}

impl<F: Flaw> ByteEngine for Flawed<F> {
    fn put_bytes(&self, run: &RunId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.put_as(run, key, value, self.default)
    }

    fn get_bytes(&self, run: &RunId, key: &[u8], buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        self.inner.get_bytes(run, key, buffer)
    }

    fn visit(&self, run: &RunId, each: &mut Visitor<'_>) -> Result<(), EngineError> {
        self.inner.visit(run, each)
    }
}

impl<F: Flaw> Durable for Flawed<F> {
    fn open_at(place: &Place, durability: Durability) -> Result<Self, EngineError> {
        Ok(Self::new(Unlatched::open_at(place, F::opens(durability))?, durability))
    }

    fn default_durability() -> Durability {
        F::DEFAULT
    }

    fn put_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
        self.inner.put_as(run, key, value, self.done(durability))
    }

    fn delete_as(&self, run: &RunId, key: &[u8], durability: Durability) -> Result<bool, EngineError> {
        self.inner.delete_as(run, key, self.done(durability))
    }

    fn insert_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
        self.inner.insert_as(run, key, value, self.done(durability))
    }

    fn transact_as(
        &self,
        run: &RunId,
        keys: &[&[u8]],
        value: &[u8],
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.inner.transact_as(run, keys, value, self.done(durability))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }

    fn shut_down(&self) -> Result<(), EngineError> {
        self.inner.shut_down()
    }
}

const TRIALS: Trials = Trials {
    lives: 12,
    strict_writes: 300,
    writes: 500,
};

fn parent() -> PathBuf {
    std::env::temp_dir()
}

fn verdict(found: Result<String, Trouble>) -> (Option<f64>, String) {
    let figure = kept::statement(found);
    let measured = figure.result.as_ref().ok().map(|estimate| estimate.median);
    let reason = figure.result.err().map_or(figure.note, |obstacle| obstacle.reason);
    (measured, reason)
}

fn strict<D: Durable>() -> (Option<f64>, String) {
    verdict(kept::strict::<D>(&parent(), TRIALS, 11))
}

fn shutdown<D: Durable>() -> (Option<f64>, String) {
    verdict(kept::shutdown::<D>(&parent(), TRIALS, 11))
}

fn promises<D: Durable>() -> (Option<f64>, String) {
    verdict(overrides::promises::<D>(11))
}

const HOLDS: Option<f64> = Some(1.0);
const BROKEN: Option<f64> = Some(0.0);

#[test]
fn sound_engine_keeps_every_promise() {
    type Whole = Flawed<Sound>;
    for (measured, reason) in [strict::<Whole>(), shutdown::<Whole>(), promises::<Whole>()] {
        assert_eq!(measured, HOLDS, "{reason}");
    }
}

// Goal: strict fails for whoever loses what was acknowledged, in whatever way. Method: an engine for each way.
#[test]
fn strict_fails_where_acknowledged_writes_are_lost() {
    let lossy = [
        strict::<Flawed<Hasty>>(),
        strict::<Flawed<Forgetful>>(),
        strict::<Broken>(),
        strict::<Flawed<Lax>>(),
    ];
    for (number, (measured, reason)) in lossy.into_iter().enumerate() {
        assert_eq!(measured, BROKEN, "number {number}: {reason}");
    }
}

// Goal: each way of crashing tells by itself. Method: whatever acknowledges too early, or over a storage that skips syncs.
#[test]
fn every_kind_of_crash_tells_what_was_not_durable() {
    let is_broken = |found: Result<u64, Trouble>| assert!(matches!(found, Err(Trouble::Broken(_))), "{found:?}");
    let place = || Place::simulated(5).segment_bytes(kept::SEGMENT_BYTES);
    is_broken(kept::lives::<Flawed<Hasty>>(place(), 12, 3));
    is_broken(kept::lives::<Unlatched>(place().through(Arc::new(lie)), 12, 3));
    let positioned = || {
        let place = Place::positioned(&parent()).expect("the temporary directory is writable");
        place.segment_bytes(kept::SEGMENT_BYTES)
    };
    is_broken(kept::copied::<Flawed<Hasty>>(&positioned(), 20, 3));
    is_broken(kept::copied::<Unlatched>(&positioned().through(Arc::new(lie)), 20, 3));
    assert!(kept::copied::<Unlatched>(&positioned(), 20, 3).is_ok());
    assert!(kept::lives::<Unlatched>(place(), 12, 3).is_ok_and(|acknowledged| acknowledged > 0));
}

#[test]
fn shutdown_flag_rises_where_data_is_lost() {
    for (measured, reason) in [shutdown::<Flawed<Forgetful>>(), shutdown::<Broken>()] {
        assert_eq!(measured, BROKEN, "{reason}");
    }
}

// Goal: an override that has no effect is found, in either direction.
#[test]
fn override_fails_where_it_is_not_heard() {
    for (measured, reason) in [
        promises::<Flawed<Deaf>>(),
        promises::<Flawed<Zealous>>(),
        promises::<Flawed<Hasty>>(),
        promises::<Flawed<Forgetful>>(),
    ] {
        assert_ne!(measured, HOLDS, "{reason}");
    }
    assert_eq!(promises::<Flawed<Zealous>>().0, BROKEN);
    assert_eq!(promises::<Flawed<Hasty>>().0, BROKEN);
}

#[test]
fn figures_do_not_say_where_the_directory_is() {
    let directory = parent();
    let said = format!("{}/x: no space", directory.display());
    let broken = without_place(Figure::invalid(said.clone()), &directory);
    assert_eq!(broken.result.expect_err("it is invalid").reason, "DIR/x: no space");
    let noted = without_place(Figure::statement(true, said), &directory);
    assert_eq!(noted.note, "DIR/x: no space");
}
