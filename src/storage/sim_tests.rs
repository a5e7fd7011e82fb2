//! What a simulated disk claims, claim by claim: what survives, what may survive, and what fails.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::*;
use crate::sync::AtomicBool;

/// Words of a sector.
const SECTOR_WORDS: usize = SECTOR_BYTES / size_of::<u64>();

/// Stores `value` in the first word of a sector.
fn store(file: &dyn SegmentFile, sector: usize, value: u64) {
    file.words()[sector * SECTOR_WORDS].store(value, order::COUNT);
}

/// The first words of a file's first sectors.
fn firsts<const SECTORS: usize>(disk: &SimDisk, name: &str) -> [u64; SECTORS] {
    let content = disk.content(name).expect("the file is there");
    std::array::from_fn(|sector| {
        let at = sector * SECTOR_BYTES;
        u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"))
    })
}

/// A disk with one durable file of one page, opened.
fn one_file() -> (SimDisk, SimStorage, Box<dyn SegmentFile>) {
    let disk = SimDisk::new();
    let storage = disk.open().expect("nobody else has it");
    let file = storage.create("a", PAGE_BYTES).expect("there is room");
    storage.sync_directory().expect("no faults");
    (disk, storage, file)
}

fn parts(parts: &[&[u8]]) -> impl Iterator<Item = Result<Vec<u8>>> {
    parts
        .iter()
        .map(|part| Ok(part.to_vec()))
        .collect::<Vec<_>>()
        .into_iter()
}

fn is_crash(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.to_string() == "crashed")
}

/// All disks that a crash may leave.
fn all_crashes(disk: &SimDisk) -> impl Iterator<Item = SimDisk> {
    let choices = disk.dirty();
    assert!(choices < 16, "too many to try all: {choices}");
    (0..1 << choices).map(|mask| disk.crash(&Survivors::Mask(mask)))
}

#[test]
fn synced_content_survives_every_crash() {
    let (disk, _storage, file) = one_file();
    store(&*file, 0, 1);
    store(&*file, 1, 2);
    file.sync(0..2 * SECTOR_BYTES).expect("no faults");
    assert_eq!(disk.dirty(), 0);
    store(&*file, 0, 3);
    for crashed in all_crashes(&disk) {
        let [first, second] = firsts(&crashed, "a");
        assert!(first == 1 || first == 3, "{first}");
        assert_eq!(second, 2);
    }
}

/// Three sectors differ: eight disks, each another one. Nothing and everything are among them.
#[test]
fn unsynced_sectors_survive_in_every_subset() {
    let (disk, _storage, file) = one_file();
    for sector in [0, 3, 7] {
        store(&*file, sector, 1);
    }
    assert_eq!(disk.dirty(), 3);
    let images: BTreeSet<[u64; 8]> = all_crashes(&disk).map(|disk| firsts(&disk, "a")).collect();
    assert_eq!(images.len(), 8);
    let nothing = disk.crash(&Survivors::Nothing);
    assert_eq!(firsts::<8>(&nothing, "a"), [0; 8]);
    assert_eq!(nothing.tally().lost_sectors, 3);
    let everything = disk.crash(&Survivors::Everything);
    assert_eq!(firsts::<8>(&everything, "a"), [1, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(everything.tally().kept_sectors, 3);
}

#[test]
fn a_sync_covers_the_sectors_that_it_touches_and_no_others() {
    let (disk, _storage, file) = one_file();
    for sector in 0..8 {
        store(&*file, sector, 1);
    }
    file.sync(SECTOR_BYTES + 511..2 * SECTOR_BYTES + 1).expect("no faults");
    let crashed = disk.crash(&Survivors::Nothing);
    assert_eq!(firsts::<8>(&crashed, "a"), [0, 1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn early_write_back_leaves_content_between_old_and_new() {
    let (disk, _storage, file) = one_file();
    for sector in 0..8 {
        store(&*file, sector, 1);
    }
    disk.early_write_back(5);
    for sector in 0..8 {
        store(&*file, sector, 2);
    }
    let oldest = firsts::<8>(&disk.crash(&Survivors::Nothing), "a");
    let written = oldest.iter().filter(|value| **value == 1).count();
    assert!(oldest.contains(&0) && written > 0, "{oldest:?}");
    assert_eq!(disk.tally().early_sectors, written as u64);
    assert_eq!(firsts::<8>(&disk.crash(&Survivors::Everything), "a"), [2; 8]);
}

#[test]
fn a_plan_writes_back_before_steps() {
    let (disk, storage, file) = one_file();
    disk.follow(FaultPlan::new().seed(1).write_back_one_in(1));
    for sector in 0..8 {
        store(&*file, sector, 1);
    }
    storage.read("a", 0, &mut [0; 8]).expect("no faults");
    assert!(disk.tally().early_sectors > 0);
    assert_eq!(disk.dirty() as u64 + disk.tally().early_sectors, 8);
}

/// An early write-back before a sync must not outdo the sync, whose content is newer.
#[test]
fn a_sync_after_an_early_write_back_is_durable() {
    let (disk, _storage, file) = one_file();
    disk.follow(FaultPlan::new().seed(3).write_back_one_in(1));
    for value in 1..20 {
        for sector in 0..8 {
            store(&*file, sector, value);
        }
        file.sync(0..PAGE_BYTES).expect("no faults");
        assert_eq!(firsts::<8>(&disk.crash(&Survivors::Nothing), "a"), [value; 8]);
    }
}

#[test]
fn the_old_disk_goes_on_without_effect_on_the_new() {
    let (disk, storage, file) = one_file();
    store(&*file, 0, 1);
    let crashed = disk.crash(&Survivors::Everything);
    store(&*file, 0, 2);
    file.sync(0..PAGE_BYTES).expect("the old disk works");
    storage.rename("a", "b").expect("the old disk works");
    storage.sync_directory().expect("the old disk works");
    assert_eq!(crashed.names(), ["a"]);
    assert_eq!(firsts::<1>(&crashed, "a"), [1]);
    // The lock stayed with the old one.
    drop(crashed.open().expect("nobody has it"));
}

#[test]
fn what_is_stored_after_the_power_is_off_does_not_survive() {
    let (disk, storage, file) = one_file();
    store(&*file, 0, 1);
    disk.power_off();
    store(&*file, 0, 2);
    store(&*file, 1, 2);
    assert!(is_crash(&file.sync(0..PAGE_BYTES).expect_err("the power is off")));
    assert!(is_crash(&storage.list().expect_err("the power is off")));
    assert!(disk.open().is_err());
    disk.early_write_back(1);
    for survivors in [Survivors::Everything, Survivors::Everything, Survivors::Nothing] {
        let [first, second] = firsts(&disk.crash(&survivors), "a");
        assert_eq!(first, u64::from(survivors == Survivors::Everything));
        assert_eq!(second, 0);
    }
}

#[test]
fn a_new_file_is_durable_and_its_name_is_not() {
    let disk = SimDisk::new();
    let storage = disk.open().expect("nobody else has it");
    let file = storage.create("a", 2 * PAGE_BYTES).expect("there is room");
    assert_eq!(file.words().len(), 2 * PAGE_BYTES / 8);
    storage
        .write_file("b", &mut parts(&[b"one ", b"two"]))
        .expect("there is room");
    assert_eq!(disk.dirty(), 2);
    let found: Vec<Vec<String>> = all_crashes(&disk).map(|disk| disk.names()).collect();
    let expected: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];
    assert_eq!(found, expected);
    let crashed = disk.crash(&Survivors::Everything);
    assert_eq!(crashed.content("a"), Some(vec![0; 2 * PAGE_BYTES]));
    assert_eq!(crashed.content("b").as_deref(), Some(&b"one two"[..]));
    storage.sync_directory().expect("no faults");
    assert_eq!(disk.dirty(), 0);
    assert_eq!(disk.crash(&Survivors::Nothing).names(), ["a", "b"]);
}

#[test]
fn a_rename_is_never_half_done() {
    let disk = SimDisk::with_files([("old".to_owned(), vec![1]), ("new".to_owned(), vec![2])]);
    let storage = disk.open().expect("nobody else has it");
    storage.rename("old", "new").expect("no faults");
    let found: Vec<_> = all_crashes(&disk)
        .map(|disk| (disk.content("old"), disk.content("new")))
        .collect();
    assert_eq!(found, [(Some(vec![1]), Some(vec![2])), (None, Some(vec![1]))]);
}

/// Whatever survives of two renames in a row, the file has one name.
#[test]
fn a_file_renamed_twice_has_one_name() {
    let disk = SimDisk::with_files([("a".to_owned(), vec![1])]);
    let storage = disk.open().expect("nobody else has it");
    storage.rename("a", "b").expect("no faults");
    storage.rename("b", "c").expect("no faults");
    let found: BTreeSet<Vec<String>> = all_crashes(&disk).map(|disk| disk.names()).collect();
    let expected = ["a", "b", "c"].map(|name| vec![name.to_owned()]);
    assert_eq!(found, expected.into());
}

#[test]
fn a_name_given_again_holds_the_old_file_none_or_the_new() {
    let disk = SimDisk::with_files([("a".to_owned(), vec![1])]);
    let storage = disk.open().expect("nobody else has it");
    storage.remove("a").expect("no faults");
    storage.write_file("a", &mut parts(&[&[2]])).expect("there is room");
    let found: BTreeSet<Option<Vec<u8>>> = all_crashes(&disk).map(|disk| disk.content("a")).collect();
    assert_eq!(found, [Some(vec![1]), None, Some(vec![2])].into());
}

#[test]
fn an_open_file_stays_valid_under_another_name_and_under_none() {
    let (disk, storage, file) = one_file();
    storage.rename("a", "b").expect("no faults");
    store(&*file, 0, 7);
    file.sync(0..SECTOR_BYTES).expect("no faults");
    assert_eq!(firsts::<1>(&disk, "b"), [7]);
    storage.remove("b").expect("no faults");
    storage.sync_directory().expect("no faults");
    store(&*file, 0, 8);
    file.sync(0..SECTOR_BYTES).expect("the file is there without a name");
    assert_eq!(disk.names(), [""; 0]);
}

#[test]
fn openings_of_a_file_share_its_words() {
    let (disk, storage, file) = one_file();
    store(&*file, 0, 1);
    let again = storage.open("a").expect("it is there");
    assert_eq!(again.words()[0].load(order::COUNT), 1);
    store(&*again, 1, 2);
    file.sync(0..PAGE_BYTES).expect("no faults");
    assert_eq!(firsts::<2>(&disk.crash(&Survivors::Nothing), "a"), [1, 2]);
}

#[test]
fn reads_see_unsynced_words_and_end_with_the_file() {
    let (_disk, storage, file) = one_file();
    file.words()[1].store(0x0807_0605_0403_0201, order::COUNT);
    let mut bytes = [9; 6];
    assert_eq!(storage.read("a", 9, &mut bytes).expect("no faults"), 6);
    assert_eq!(bytes, [2, 3, 4, 5, 6, 7]);
    let end = PAGE_BYTES as u64 - 2;
    assert_eq!(storage.read("a", end, &mut bytes).expect("no faults"), 2);
    assert_eq!(storage.read("a", u64::MAX, &mut bytes).expect("no faults"), 0);
    assert_eq!(storage.length("a").expect("it is there"), PAGE_BYTES as u64);
}

#[test]
fn calls_that_make_no_sense_are_errors() {
    let (_disk, storage, file) = one_file();
    assert!(matches!(storage.create("a", PAGE_BYTES), Err(Error::Io { .. })));
    assert!(storage.write_file("a", &mut parts(&[])).is_err());
    assert!(storage.create("b", PAGE_BYTES + 1).is_err());
    assert!(storage.create("b", 0).is_err());
    for error in [
        storage.open("b").err(),
        storage.read("b", 0, &mut [0]).err(),
        storage.length("b").err(),
        storage.rename("b", "c").err(),
        storage.remove("b").err(),
        storage.sync_file("b").err(),
    ] {
        let text = error.expect("there is no such file").to_string();
        assert!(text.contains("simulated-disk/b"), "{text}");
    }
    assert!(file.sync(0..PAGE_BYTES + 1).is_err());
    assert_eq!(storage.list().expect("no faults"), ["a"]);
}

#[test]
fn an_error_of_a_part_leaves_no_file() {
    let (disk, storage, _file) = one_file();
    let mut parts = [Ok(vec![1]), Err(Error::EmptyKey), Ok(vec![2])].into_iter();
    assert!(matches!(storage.write_file("b", &mut parts), Err(Error::EmptyKey)));
    assert_eq!(parts.count(), 1, "the error ends the writing");
    assert_eq!(disk.names(), ["a"]);
    assert_eq!(disk.dirty(), 0);
}

#[test]
fn a_full_disk_refuses_new_files_and_keeps_the_old_ones() {
    let (disk, storage, file) = one_file();
    disk.follow(FaultPlan::new().capacity(2 * PAGE_BYTES as u64));
    assert!(matches!(
        storage.create("b", 2 * PAGE_BYTES),
        Err(Error::DiskFull { .. })
    ));
    let page: &[u8] = &[7; PAGE_BYTES];
    // Endless, were it not for the capacity.
    let mut endless = std::iter::repeat_with(|| Ok(page.to_vec()));
    assert!(matches!(
        storage.write_file("b", &mut endless),
        Err(Error::DiskFull { .. })
    ));
    assert_eq!(disk.tally().faults, 2);
    assert_eq!(disk.names(), ["a"]);
    store(&*file, 0, 1);
    file.sync(0..PAGE_BYTES).expect("blocks stand behind every byte");
    storage
        .write_file("b", &mut parts(&[page]))
        .expect("there is room for one page");
    storage.remove("b").expect("no faults");
    drop(storage.create("c", PAGE_BYTES).expect("there is room again"));
}

/// A removed file that is open keeps its blocks.
#[test]
fn an_open_file_without_a_name_takes_room() {
    let (disk, storage, file) = one_file();
    disk.follow(FaultPlan::new().capacity(PAGE_BYTES as u64));
    storage.remove("a").expect("no faults");
    assert!(storage.create("b", PAGE_BYTES).is_err());
    drop(file);
    drop(storage.create("b", PAGE_BYTES).expect("there is room now"));
}

/// Of eight sectors some are durable and some are not, and a second sync of the same content does not help. Content
/// stored since is synced again.
#[test]
fn a_failed_sync_is_not_repaired_by_another_one() {
    let (disk, _storage, file) = one_file();
    disk.follow(FaultPlan::new().seed(2).fail_sync(1, Fault::Io));
    for sector in 0..8 {
        store(&*file, sector, 1);
    }
    assert!(matches!(file.sync(0..PAGE_BYTES), Err(Error::Io { .. })));
    let found = firsts::<8>(&disk.crash(&Survivors::Nothing), "a");
    assert!(found.contains(&0) && found.contains(&1), "{found:?}");
    file.sync(0..PAGE_BYTES).expect("it has forgotten the error");
    assert_eq!(firsts::<8>(&disk.crash(&Survivors::Nothing), "a"), found);
    assert_eq!(firsts::<8>(&disk.crash(&Survivors::Everything), "a"), [1; 8]);
    for sector in 0..8 {
        store(&*file, sector, 2);
    }
    file.sync(0..PAGE_BYTES).expect("no faults");
    assert_eq!(firsts::<8>(&disk.crash(&Survivors::Nothing), "a"), [2; 8]);
}

#[test]
fn a_failed_call_has_done_nothing() {
    let steps = |fault| {
        let (disk, storage, _file) = one_file();
        let first = disk.tally().steps + 1;
        let plan = (first..first + 7).fold(FaultPlan::new(), |plan, step| plan.fail_at(step, fault));
        disk.follow(plan);
        let full: [bool; 7] = [
            storage.create("b", PAGE_BYTES).map(drop),
            storage.write_file("b", &mut parts(&[b"b"])),
            storage.read("a", 0, &mut [0; 8]).map(drop),
            storage.rename("a", "b"),
            storage.remove("a"),
            storage.sync_directory(),
            storage.sync_file("a"),
        ]
        .map(|result| matches!(result.expect_err("the plan says so"), Error::DiskFull { .. }));
        assert_eq!(disk.tally().faults, 7);
        assert_eq!(disk.names(), ["a"]);
        assert_eq!(disk.dirty(), 0);
        full
    };
    assert_eq!(steps(Fault::Io), [false; 7]);
    assert_eq!(steps(Fault::Full), [true, true, false, false, false, false, true]);
}

/// Runs every kind of call until one fails; returns how many steps there were.
fn every_call(disk: &SimDisk) -> Result<u64> {
    let storage = disk.open()?;
    let file = storage.create("a", PAGE_BYTES)?;
    store(&*file, 0, 1);
    file.sync(0..SECTOR_BYTES)?;
    storage.sync_directory()?;
    storage.write_file("b", &mut parts(&[&[3; 2_000]]))?;
    storage.sync_directory()?;
    store(&*file, 1, 1);
    storage.rename("a", "c")?;
    storage.sync_file("c")?;
    storage.read("c", 0, &mut [0; 8])?;
    storage.remove("b")?;
    storage.sync_directory()?;
    Ok(disk.tally().steps)
}

/// The power fails at each step in turn. All that was done before it holds, and the call itself is done, half done or not
/// begun; every call after it fails, as does the step itself.
#[test]
fn the_power_fails_at_any_step() {
    let steps = every_call(&SimDisk::new()).expect("no faults");
    assert_eq!(steps, 10);
    for step in 1..=steps {
        let mut lengths = BTreeSet::new();
        for seed in 0..20 {
            let disk = SimDisk::new();
            disk.follow(FaultPlan::new().seed(seed).crash_at(step));
            assert!(is_crash(&every_call(&disk).expect_err("the power is off")));
            assert!(disk.is_off());
            assert!(is_crash(&disk.open().expect_err("the power is off")));
            assert_eq!(disk.tally().steps, step);
            for crashed in all_crashes(&disk) {
                let has = |name: &str| crashed.content(name).is_some();
                assert!(step <= 3 || has("a") || has("c"), "step {step}");
                assert!(!(has("a") && has("c")), "step {step}");
                assert!(step != 1 || !has("b"), "step {step}");
                if step > 2 && (has("a") || has("c")) {
                    let name = if has("a") { "a" } else { "c" };
                    assert_eq!(firsts::<1>(&crashed, name), [1], "step {step}");
                }
                if step > 7 {
                    let name = if has("a") { "a" } else { "c" };
                    assert_eq!(firsts::<2>(&crashed, name), [1, 1], "step {step}");
                }
                lengths.extend(
                    crashed
                        .names()
                        .iter()
                        .map(|name| (name.clone(), length(&crashed, name))),
                );
            }
        }
        // Half done files have many lengths.
        let half_done = lengths.len() > 5;
        assert_eq!(half_done, step == 1 || step == 4, "step {step}: {lengths:?}");
    }
}

fn length(disk: &SimDisk, name: &str) -> usize {
    disk.content(name).expect("it is listed").len()
}

#[test]
fn new_files_hold_stale_bytes_if_the_plan_says_so() {
    let disk = SimDisk::with_files([("old".to_owned(), vec![0xA5; PAGE_BYTES])]);
    let storage = disk.open().expect("nobody else has it");
    storage.remove("old").expect("no faults");
    storage.sync_directory().expect("no faults");
    drop(storage.create("zero", PAGE_BYTES).expect("there is room"));
    assert_eq!(disk.content("zero"), Some(vec![0; PAGE_BYTES]));

    disk.follow(FaultPlan::new().stale_bytes(1));
    let file = storage.create("stale", 16 * PAGE_BYTES).expect("there is room");
    let content = disk.content("stale").expect("it was made");
    let is_all = |byte: u8| {
        content
            .chunks(SECTOR_BYTES)
            .any(|sector| sector.iter().all(|found| *found == byte))
    };
    assert!(is_all(0xA5), "sectors of the removed file");
    assert!(is_all(0), "sectors never written");
    assert!(content.iter().collect::<BTreeSet<_>>().len() > 200, "noise");
    assert_eq!(file.words()[0].load(order::COUNT).to_le_bytes(), content[..8]);
    storage.sync_directory().expect("no faults");
    assert_eq!(disk.crash(&Survivors::Nothing).content("stale"), Some(content));
}

#[test]
fn a_directory_is_held_by_one_opening_at_a_time() {
    let disk = SimDisk::new();
    let storage = disk.open().expect("nobody else has it");
    assert!(matches!(disk.clone().open(), Err(Error::Locked { path }) if path == "simulated-disk"));
    drop(storage);
    drop(disk.open().expect("it was released"));
}

/// The page cache outlives a process, and a later loss of power takes it, unless the next process syncs it.
#[test]
fn a_killed_process_leaves_what_only_the_power_can_take() {
    let (disk, _storage, file) = one_file();
    store(&*file, 0, 1);
    let killed = disk.kill();
    store(&*file, 0, 2);
    let next = killed.open().expect("the lock died with the process");
    assert_eq!(firsts::<1>(&killed, "a"), [1]);
    assert_eq!(killed.dirty(), 1);
    assert_eq!(firsts::<1>(&killed.crash(&Survivors::Nothing), "a"), [0]);
    next.sync_file("a").expect("no faults");
    assert_eq!(firsts::<1>(&killed.crash(&Survivors::Nothing), "a"), [1]);
}

#[test]
fn a_closed_disk_opens_as_it_was_left() {
    let (disk, storage, file) = one_file();
    store(&*file, 0, 1);
    drop((storage, file));
    let storage = disk.open().expect("it was released");
    let file = storage.open("a").expect("it is there");
    assert_eq!(file.words()[0].load(order::COUNT), 1);
    assert_eq!(disk.dirty(), 1);
}

#[test]
fn a_seed_chooses_the_same_survivors_every_time() {
    let (disk, _storage, file) = one_file();
    for sector in 0..8 {
        store(&*file, sector, 1);
    }
    let mut images = BTreeSet::new();
    for seed in 0..100 {
        let once = firsts::<8>(&disk.crash(&Survivors::Seed(seed)), "a");
        assert_eq!(once, firsts::<8>(&disk.crash(&Survivors::Seed(seed)), "a"));
        images.insert(once);
    }
    assert!(images.len() > 40, "{}", images.len());
    let kept: BTreeSet<u64> = images.iter().map(|image| image.iter().sum()).collect();
    assert!(kept.contains(&8) && kept.contains(&0), "{kept:?}");
}

#[test]
fn faults_by_chance_come_from_the_seed() {
    let faults = |seed| {
        let (disk, storage, _file) = one_file();
        disk.follow(FaultPlan::new().seed(seed).fail_one_in(4));
        let results: Vec<bool> = (0..200).map(|_| storage.read("a", 0, &mut [0]).is_ok()).collect();
        let failed = results.iter().filter(|went_well| !**went_well).count();
        assert_eq!(disk.tally().faults, failed as u64);
        assert!((25..=80).contains(&failed), "{failed}");
        results
    };
    assert_eq!(faults(1), faults(1));
    assert_ne!(faults(1), faults(2));
}

#[test]
fn a_damaged_file_is_damaged_for_good() {
    let (disk, storage, file) = one_file();
    store(&*file, 0, 1);
    assert!(disk.overwrite("a", 1, &[9]));
    assert_eq!(firsts::<1>(&disk.crash(&Survivors::Nothing), "a"), [0x0901]);
    assert!(disk.cut("a", 700));
    assert!(!disk.cut("b", 0) && !disk.overwrite("b", 0, &[1]));
    assert_eq!(storage.length("a").expect("it is there"), 700);
    assert!(
        disk.overwrite("a", 699, &[1, 2]),
        "what lies beyond the end is left out"
    );
    assert_eq!(length(&disk, "a"), 700);
    assert!(storage.open("a").is_err(), "no whole pages");
    assert!(file.sync(0..SECTOR_BYTES).is_err(), "it is another file now");
}

/// A sync that loaded its content and was then overtaken by a later one must not undo it.
#[test]
fn a_sync_that_was_overtaken_changes_nothing() {
    let (disk, _storage, file) = one_file();
    store(&*file, 0, 1);
    let words = disk.lock().file("a").and_then(|file| file.words()).expect("it is open");
    let number = disk.lock().number("a").expect("it is there");
    let ticket = disk.lock().draw_ticket();
    let content = words.load(0..SECTOR_BYTES);
    store(&*file, 0, 2);
    file.sync(0..SECTOR_BYTES).expect("no faults");
    disk.lock().sync(number, 0, &content, ticket);
    assert_eq!(firsts::<1>(&disk.crash(&Survivors::Nothing), "a"), [2]);
}

/// Threads with a word each in one sector store, sync, and find what they stored durable: whichever sync is the last to
/// reach the disk has it.
#[test]
fn overlapping_syncs_lose_nothing() {
    let rounds = if cfg!(miri) { 20 } else { 300 };
    let (disk, _storage, file) = one_file();
    disk.follow(FaultPlan::new().write_back_one_in(3));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (disk, file) = (&disk, &file);
            scope.spawn(move || {
                for round in 1..=rounds {
                    file.words()[thread].store(round, order::COUNT);
                    file.sync(0..SECTOR_BYTES).expect("no faults");
                    let content = disk.crash(&Survivors::Nothing).content("a").expect("it is there");
                    assert_eq!(content[thread * 8..][..8], round.to_le_bytes());
                }
            });
        }
    });
}

/// A thread stores a number in the first sector, syncs it, then stores it in the last one. However the crash falls between its
/// calls, the last sector is never ahead of the first. The file is long, so that its copy takes long.
#[test]
fn a_crash_keeps_the_order_of_a_sync_and_a_later_store() {
    let (crashes, pages) = if cfg!(miri) { (20, 1) } else { (1_000, 16) };
    let disk = SimDisk::new();
    let storage = disk.open().expect("nobody else has it");
    let file = storage.create("a", pages * PAGE_BYTES).expect("there is room");
    storage.sync_directory().expect("no faults");
    let last = pages * PAGE_BYTES / SECTOR_BYTES - 1;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !is_over.load(order::COUNT) {
                round += 1;
                store(&*file, 0, round);
                file.sync(0..SECTOR_BYTES).expect("no faults");
                store(&*file, last, round);
            }
        });
        let words: Vec<(u64, u64)> = (0..crashes)
            .map(|seed| {
                let content = disk.crash(&Survivors::Seed(seed)).content("a").expect("it is there");
                let word = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
                (word(0), word(last * SECTOR_BYTES))
            })
            .collect();
        is_over.store(true, order::COUNT);
        for (first, second) in words {
            assert!(first >= second, "{first} and then {second}");
        }
    });
}
