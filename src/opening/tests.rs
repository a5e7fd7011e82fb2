//! Opening what a crash has left of a checkpoint, and of an opening.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::*;
use crate::mvcc::Direction;
use crate::options::Durability;
use crate::storage::{FaultPlan, SimDisk, Survivors};
use crate::types::{RunId, TypeTag};

/// Values and commit timestamps by encoded key.
type Content = BTreeMap<Vec<u8>, (Vec<u8>, Timestamp)>;

fn key(number: usize) -> Key {
    let user_key = format!("key{number:03}");
    Key::new(&RunId::from_bytes([7; 16]), TypeTag::Raw, user_key.as_bytes())
}

/// Segments are so short that some writes fill one.
fn open_disk(disk: &SimDisk) -> Result<Engine> {
    let options = Options::new().segment_bytes(8 << 10);
    open(Arc::new(disk.open()?), &options, &|_| {})
}

fn content(engine: &Engine) -> Content {
    let mut content = Content::new();
    engine.store().scan(
        (Bound::Unbounded, Bound::Unbounded),
        Direction::Ascending,
        Timestamp::LATEST,
        (usize::MAX, None),
        |key, value, timestamp| {
            content.insert(key.to_vec(), (value.to_vec(), timestamp));
            ControlFlow::Continue(())
        },
    );
    content
}

/// Fills some segments, all of it durable.
fn write_some(engine: &Engine, round: usize) {
    for number in 0..50 {
        if number % 5 == round % 5 {
            engine.delete(&key(number), Durability::Strict).expect("delete");
        } else {
            let fill = |bytes: &mut [u8]| bytes.fill(round as u8);
            engine
                .put(&key(number), 300 + number, fill, Durability::BUFFERED)
                .expect("put");
        }
    }
    engine.flush().expect("flush");
}

fn take(engine: &Engine) -> Result<Timestamp> {
    checkpoint::take(engine.store(), engine.durable().expect("it has storage").log())
}

/// Goal: what was acknowledged is there after any crash of a checkpoint, and of the opening after that, and what crashes
/// have left behind goes. Method: a checkpoint is interrupted at each of its steps in turn, by a crash of the machine, of
/// which everything or a part survives, or of the process, after which nothing more is durable than before; the opening
/// that follows is interrupted at each of its steps too, and the next one has to find everything, with its timestamps.
#[test]
fn nothing_is_lost_by_crashes_of_a_checkpoint_and_of_openings() {
    let mut step = 0;
    loop {
        step += 1;
        let disk = SimDisk::new();
        let engine = open_disk(&disk).expect("opens");
        write_some(&engine, 1);
        take(&engine).expect("taken");
        write_some(&engine, 2);
        let expected = content(&engine);
        disk.follow(FaultPlan::new().seed(step).crash_at(disk.tally().steps + step));
        let is_done = take(&engine).is_ok();
        let crashed = [
            disk.kill(),
            disk.crash(&Survivors::Everything),
            disk.crash(&Survivors::Nothing),
            disk.crash(&Survivors::Seed(step)),
        ];
        for (which, crashed) in crashed.into_iter().enumerate() {
            open_with_crashes(&crashed, &expected, &format!("step {step}, crash {which}"));
        }
        if is_done {
            break;
        }
    }
    assert!(step > 8, "all steps were tried");
}

/// Opens copies of a disk, each of them until the power fails at another step, and then what is left.
fn open_with_crashes(disk: &SimDisk, expected: &Content, what: &str) {
    let mut step = 0;
    loop {
        step += 1;
        // A copy of which nothing is durable that was not.
        let disk = disk.kill();
        disk.follow(FaultPlan::new().seed(step).crash_at(step));
        let opened = open_disk(&disk);
        let is_done = opened.is_ok();
        if let Ok(engine) = opened {
            assert!(content(&engine) == *expected, "{what}");
            assert!(names_are_tidy(&disk), "{what}: {:?}", disk.names());
        }
        for survivors in [Survivors::Everything, Survivors::Nothing, Survivors::Seed(step)] {
            let disk = disk.crash(&survivors);
            let engine = open_disk(&disk).unwrap_or_else(|error| panic!("{what}, {step}, {survivors:?}: {error}"));
            assert!(content(&engine) == *expected, "{what}, {step}, {survivors:?}");
            assert!(names_are_tidy(&disk), "{what}, {step}: {:?}", disk.names());
        }
        if is_done {
            break;
        }
    }
}

/// Says whether there is one checkpoint, no file without a name of its own, and no gap between segments.
fn names_are_tidy(disk: &SimDisk) -> bool {
    let names = disk.names();
    let checkpoints = names.iter().filter(|name| header::checkpoint_cut(name).is_some());
    let segments: Vec<u32> = names.iter().filter_map(|name| header::segment_number(name)).collect();
    checkpoints.count() == 1
        && !names.iter().any(|name| header::is_temporary(name))
        && segments.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

/// Goal: a checkpoint and the log after it are one state. Method: writes, checkpoints and openings take turns, and the
/// content is compared each time, with a write that has no record among them, which the checkpoint keeps.
#[test]
fn checkpoints_and_openings_take_turns() {
    let disk = SimDisk::new();
    let mut expected = Content::new();
    for round in 0..8 {
        let disk = disk.clone();
        let engine = open_disk(&disk).expect("opens");
        assert!(content(&engine) == expected, "round {round}");
        write_some(&engine, round);
        if round % 3 > 0 {
            let unlisted = engine.put(&key(900 + round), 3, |bytes| bytes.fill(9), Durability::InMemory);
            assert!(unlisted.is_ok());
            engine.flush().expect("flush");
            take(&engine).expect("taken");
        }
        if round % 3 == 1 {
            write_some(&engine, round + 1);
        }
        expected = content(&engine);
    }
    assert_eq!(
        expected
            .keys()
            .filter(|encoded| **encoded >= key(900).as_bytes().to_vec())
            .count(),
        5
    );
}

/// Goal: an older checkpoint goes only when the newer one's name is durable. Method: a process has died before it synced
/// that name; now the power fails at each step of tidying, and each subset of the changes survives.
#[test]
fn tidying_loses_no_checkpoint() {
    let [old, new] = [5, 9].map(|cut| header::checkpoint_name(Timestamp::from_raw(cut)));
    let mut step = 0;
    loop {
        step += 1;
        let files = [old.as_str(), "spare-3.tmp", "segment-00000001.log"].map(|name| (name.to_owned(), vec![1]));
        let disk = SimDisk::with_files(files);
        let storage = disk.open().expect("opens");
        let temporary = header::temporary_name(&new);
        storage
            .write_file(&temporary, &mut [Ok(vec![2])].into_iter())
            .expect("written");
        storage.rename(&temporary, &new).expect("renamed");
        disk.follow(FaultPlan::new().crash_at(disk.tally().steps + step));
        let is_done = tidy(
            &storage,
            Some(Covered {
                cut: Timestamp::from_raw(9),
                first: Some(1),
            }),
        )
        .is_ok();
        for mask in 0..1 << disk.dirty() {
            let names = disk.crash(&Survivors::Mask(mask)).names();
            assert!(names.contains(&old) || names.contains(&new), "step {step}: {names:?}");
            assert!(names.contains(&"segment-00000001.log".to_owned()));
        }
        if is_done {
            assert_eq!(disk.names(), [new, "segment-00000001.log".to_owned()]);
            break;
        }
    }
    assert_eq!(step, 4, "a sync and two removals");
}
