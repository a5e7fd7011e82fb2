//! What both storages in a real directory promise. Every test runs on both where it can; Miri knows no mappings.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::{LOCK_NAME, cannot, cannot_sync, cannot_write};
use crate::error::{Error, Result};
use crate::storage::{FileStorage, PAGE_BYTES, SECTOR_BYTES, SegmentFile, Storage};
use crate::sync::order;

/// A directory of a test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("unlatched-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("there is room for tests");
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Open = fn(&Path) -> Result<Box<dyn Storage>>;

fn open_held(path: &Path) -> Result<Box<dyn Storage>> {
    Ok(Box::new(FileStorage::open(path)?))
}

#[cfg(all(target_os = "linux", not(miri)))]
fn open_mapped(path: &Path) -> Result<Box<dyn Storage>> {
    Ok(Box::new(crate::storage::MmapStorage::open(path)?))
}

#[cfg(all(target_os = "linux", not(miri)))]
const STORAGES: &[(&str, Open)] = &[("held", open_held), ("mapped", open_mapped)];
#[cfg(not(all(target_os = "linux", not(miri))))]
const STORAGES: &[(&str, Open)] = &[("held", open_held)];

/// Runs `claim` on each storage, in a directory of its own.
fn on_each(test: &str, claim: impl Fn(&Path, Open)) {
    for (kind, open) in STORAGES {
        println!("{kind}");
        let scratch = Scratch::new(&format!("{test}-{kind}"));
        claim(&scratch.0, *open);
    }
}

fn store(file: &dyn SegmentFile, word: usize, value: u64) {
    // ORDERING: Relaxed; the same thread syncs, or joins this one first.
    file.words()[word].store(value, order::COUNT);
}

fn load(file: &dyn SegmentFile, word: usize) -> u64 {
    // ORDERING: as in `store`.
    file.words()[word].load(order::COUNT)
}

fn read_word(storage: &dyn Storage, name: &str, word: usize) -> u64 {
    let mut bytes = [0; 8];
    let count = storage
        .read(name, word as u64 * 8, &mut bytes)
        .expect("the file is there");
    assert_eq!(count, 8);
    u64::from_le_bytes(bytes)
}

fn io_kind(result: Result<impl Sized>) -> ErrorKind {
    match result.err() {
        Some(Error::Io { source, .. }) => source.kind(),
        other => panic!("expected Error::Io, got {other:?}"),
    }
}

#[test]
fn what_was_stored_and_synced_is_read_by_another_handle() {
    on_each("synced", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", 2 * PAGE_BYTES).expect("room");
        assert!(file.words().iter().all(|word| word.load(order::COUNT) == 0));
        assert_eq!(file.words().len() * 8, 2 * PAGE_BYTES);
        for word in 0..file.words().len() {
            store(&*file, word, 0x0102_0304_0506_0700 + word as u64);
        }
        file.sync(0..2 * PAGE_BYTES).expect("synced");
        storage.sync_directory().expect("synced");
        let mut first = [0; 8];
        storage.read("a", 8, &mut first).expect("readable");
        assert_eq!(first, [1, 7, 6, 5, 4, 3, 2, 1], "little-endian on the disk");
        drop((file, storage));
        for (_, open) in STORAGES {
            let storage = open(path).expect("unlocked");
            let file = storage.open("a").expect("made before");
            for word in 0..file.words().len() {
                assert_eq!(load(&*file, word), 0x0102_0304_0506_0700 + word as u64);
            }
            storage.sync_file("a").expect("synced");
        }
    });
}

/// A sync reaches every sector that its range touches, wherever in them the range begins and ends.
#[test]
fn a_sync_rounds_its_range_out_to_sectors() {
    on_each("sectors", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", PAGE_BYTES).expect("room");
        let words = SECTOR_BYTES / 8;
        for word in [words, 2 * words - 1, 2 * words, 3 * words - 1] {
            store(&*file, word, 7);
        }
        file.sync(2 * SECTOR_BYTES - 1..2 * SECTOR_BYTES + 1).expect("synced");
        for word in [words, 2 * words - 1, 2 * words, 3 * words - 1] {
            assert_eq!(read_word(&*storage, "a", word), 7);
        }
        file.sync(PAGE_BYTES - 1..PAGE_BYTES).expect("the last byte");
        file.sync(PAGE_BYTES..PAGE_BYTES).expect("nothing");
    });
}

/// Blocks stand behind the whole file as soon as it is made, and when a copy with holes is opened.
#[test]
#[cfg_attr(miri, ignore = "no blocks there")]
fn blocks_stand_behind_every_byte() {
    on_each("blocks", |path, open| {
        let storage = open(path).expect("a new directory");
        let _made = storage.create("made", 16 * PAGE_BYTES).expect("room");
        let sparse = fs::File::create(path.join("sparse")).expect("room");
        sparse.set_len(16 * PAGE_BYTES as u64).expect("a hole");
        let blocks = |name| fs::metadata(path.join(name)).expect("a file").blocks();
        assert_eq!(
            blocks("sparse"),
            0,
            "the file system has holes, or this test shows nothing"
        );
        let _opened = storage.open("sparse").expect("a whole number of pages");
        assert!(blocks("made") * 512 >= 16 * PAGE_BYTES as u64);
        assert!(blocks("sparse") * 512 >= 16 * PAGE_BYTES as u64);
    });
}

/// Threads store while another syncs the same range: no store is lost, and the last sync has them all.
#[test]
fn stores_beside_a_sync_are_kept() {
    let rounds = if cfg!(miri) { 20 } else { 3_000 };
    on_each("beside", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", PAGE_BYTES).expect("room");
        thread::scope(|scope| {
            for word in 0..2 {
                let file = &*file;
                scope.spawn(move || {
                    for value in 1..=rounds {
                        store(file, word, value);
                        assert_eq!(load(file, word), value);
                    }
                });
            }
            for _ in 0..rounds / 100 {
                file.sync(0..SECTOR_BYTES).expect("synced");
            }
        });
        file.sync(0..SECTOR_BYTES).expect("synced");
        for word in 0..2 {
            assert_eq!(load(&*file, word), rounds);
            assert_eq!(read_word(&*storage, "a", word), rounds);
        }
    });
}

/// One thread stores, syncs and looks at the file; another syncs the same sector all the time, and many behind it, so that
/// its copy is long under way. A copy that was taken before the store must not reach the file after the sync.
#[test]
fn a_sync_never_brings_an_older_copy_back() {
    let (rounds, pages) = if cfg!(miri) { (3, 1) } else { (200, 16) };
    on_each("older", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", pages * PAGE_BYTES).expect("room");
        let found = thread::scope(|scope| {
            scope.spawn(|| {
                // Bounded, for the other may fail.
                for _ in 0..100 * rounds {
                    if load(&*file, 1) == 1 {
                        break;
                    }
                    file.sync(0..pages * PAGE_BYTES).expect("synced");
                }
            });
            let found: Vec<u64> = (1..=rounds)
                .map(|value| {
                    store(&*file, 0, value);
                    file.sync(0..8).expect("synced");
                    read_word(&*storage, "a", 0)
                })
                .collect();
            store(&*file, 1, 1);
            found
        });
        assert_eq!(found, (1..=rounds).collect::<Vec<_>>());
    });
}

/// The kernel syncs a mapping by folios of its page cache, so a file is to be cached in folios of one page, whether it was
/// made or read before it is opened. It charges a thread with the bytes of a folio that becomes dirty by its store.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[cfg_attr(miri, ignore = "no mappings there")]
fn a_store_makes_one_page_dirty() {
    const BYTES: usize = 4 << 20;
    let charged = || {
        let text = fs::read_to_string("/proc/thread-self/io").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
        line.parse::<u64>().ok()
    };
    let by_store = |file: &dyn SegmentFile| {
        let before = charged()?;
        store(file, BYTES / 2 / 8, 1);
        Some(charged()? - before)
    };
    let scratch = Scratch::new("folios");
    let storage = crate::storage::MmapStorage::open(&scratch.0).expect("a new directory");
    let made = storage.create("a", BYTES).expect("room");
    match by_store(&*made) {
        None => return println!("skipped: what a thread writes is not to be known here"),
        Some(0) => return println!("skipped: the file system charges nobody, or has no disk"),
        Some(charge) => assert_eq!(charge, PAGE_BYTES as u64),
    }
    made.sync(0..BYTES).expect("synced");
    drop(made);

    let outside = fs::File::open(scratch.join("a")).expect("there");
    rustix::fs::fadvise(&outside, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    storage.read("a", 0, &mut vec![0; BYTES]).expect("readable");
    let unprepared = storage.open("a").expect("made before");
    assert_eq!(
        by_store(&*unprepared),
        Some(PAGE_BYTES as u64),
        "opened after it was read"
    );
    unprepared.sync(0..BYTES).expect("synced");
    drop(unprepared);

    storage.read("a", 0, &mut vec![0; BYTES]).expect("readable");
    let prepared = storage.open("a").expect("made before");
    prepared.prepare(BYTES / 4..BYTES);
    prepared.sync(0..BYTES).expect("synced");
    assert_eq!(by_store(&*prepared), Some(PAGE_BYTES as u64), "prepared and synced");
}

#[test]
fn preparing_changes_nothing() {
    on_each("prepare", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", 4 * PAGE_BYTES).expect("room");
        store(&*file, 5, 5);
        file.prepare(0..4 * PAGE_BYTES);
        file.prepare(3..PAGE_BYTES + 1);
        file.prepare(0..64 * PAGE_BYTES);
        assert_eq!(load(&*file, 5), 5);
        assert_eq!(load(&*file, 6), 0);
    });
}

#[test]
fn a_directory_has_one_storage_at_a_time() {
    on_each("lock", |path, open| {
        let first = open(path).expect("a new directory");
        for (_, open) in STORAGES {
            let second = open(path).expect_err("it is taken");
            assert!(matches!(&second, Error::Locked { .. }), "{second:?}");
            assert!(second.to_string().contains(path.to_str().expect("text")), "{second}");
        }
        drop(first);
        open(path).expect("it is free again");
    });
}

/// A process of its own meets the lock as well.
#[test]
#[cfg_attr(miri, ignore = "no processes there")]
fn another_process_is_kept_out() {
    on_each("process", |path, open| {
        let take = || {
            let arguments = ["--nonblock", path.join(LOCK_NAME).to_str().expect("text"), "true"].map(str::to_owned);
            Command::new("flock").args(arguments).status()
        };
        let storage = open(path).expect("a new directory");
        match take() {
            Ok(status) => assert!(!status.success(), "the lock was free"),
            Err(error) => return println!("skipped: no program takes a lock here: {error}"),
        }
        drop(storage);
        assert!(take().expect("it ran before").success(), "the lock was held");
    });
}

#[test]
fn a_path_that_cannot_be_opened_is_named() {
    on_each("paths", |path, open| {
        let cases = [
            (path.join("missing").join("child"), ErrorKind::NotFound),
            (path.join("a-file"), ErrorKind::NotADirectory),
            (path.join("a-file").join("child"), ErrorKind::NotADirectory),
            (path.join("dangling"), ErrorKind::NotFound),
        ];
        fs::write(path.join("a-file"), b"untouched").expect("room");
        std::os::unix::fs::symlink(path.join("nowhere"), path.join("dangling")).expect("room");
        for (case, kind) in cases {
            let error = open(&case).expect_err("it is no directory");
            assert!(error.to_string().contains(case.to_str().expect("text")), "{error}");
            assert_eq!(io_kind(Err::<(), _>(error)), kind, "{}", case.display());
        }
        assert_eq!(fs::read(path.join("a-file")).expect("still there"), b"untouched");
    });
}

#[test]
fn a_directory_is_made_where_there_is_none() {
    on_each("made", |path, open| {
        let inner = path.join("inner");
        drop(open(&inner).expect("its parent is there"));
        assert!(inner.is_dir());
        drop(open(&inner).expect("it is there"));
    });
}

#[test]
fn names_come_and_go() {
    on_each("names", |path, open| {
        let storage = open(path).expect("a new directory");
        assert_eq!(storage.list().expect("readable"), Vec::<String>::new());
        let file = storage.create("b", PAGE_BYTES).expect("room");
        storage.create("a", 3 * PAGE_BYTES).expect("room");
        fs::create_dir(path.join("no-file")).expect("room");
        assert_eq!(storage.list().expect("readable"), ["a", "b"]);
        assert_eq!(storage.length("a").expect("there"), 3 * PAGE_BYTES as u64);

        // In place of another; the open file is still the same one.
        storage.rename("b", "a").expect("renamed");
        storage.sync_directory().expect("synced");
        store(&*file, 1, 9);
        file.sync(0..PAGE_BYTES).expect("synced");
        assert_eq!(storage.list().expect("readable"), ["a"]);
        assert_eq!(storage.length("a").expect("there"), PAGE_BYTES as u64);
        assert_eq!(read_word(&*storage, "a", 1), 9);

        // The name goes, the open file stays.
        storage.remove("a").expect("removed");
        store(&*file, 1, 10);
        file.sync(0..PAGE_BYTES).expect("synced");
        assert_eq!(load(&*file, 1), 10);
        assert_eq!(storage.list().expect("readable"), Vec::<String>::new());

        for missing in [
            io_kind(storage.open("a")),
            io_kind(storage.remove("a")),
            io_kind(storage.rename("a", "c")),
            io_kind(storage.length("a")),
            io_kind(storage.sync_file("a")),
            io_kind(storage.read("a", 0, &mut [0])),
        ] {
            assert_eq!(missing, ErrorKind::NotFound);
        }
        assert!(storage.describe("a").ends_with("/a"));
    });
}

#[test]
fn a_taken_name_is_left_alone() {
    on_each("taken", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", PAGE_BYTES).expect("room");
        store(&*file, 0, 3);
        file.sync(0..8).expect("synced");
        assert_eq!(io_kind(storage.create("a", 2 * PAGE_BYTES)), ErrorKind::AlreadyExists);
        let content = storage.write_file("a", &mut std::iter::once(Ok(vec![1])));
        assert_eq!(io_kind(content), ErrorKind::AlreadyExists);
        assert_eq!(read_word(&*storage, "a", 0), 3);
        assert_eq!(storage.length("a").expect("there"), PAGE_BYTES as u64);
    });
}

#[test]
fn a_segment_file_is_whole_pages() {
    on_each("pages", |path, open| {
        let storage = open(path).expect("a new directory");
        for bytes in [0, 1, PAGE_BYTES - 1, PAGE_BYTES + 8] {
            assert_eq!(io_kind(storage.create("a", bytes)), ErrorKind::InvalidData);
            fs::write(path.join("b"), vec![0; bytes]).expect("room");
            assert_eq!(io_kind(storage.open("b")), ErrorKind::InvalidData);
            assert_eq!(storage.list().expect("readable"), ["b"], "nothing of `a` stays");
        }
    });
}

#[test]
fn a_name_is_one_part_of_a_path() {
    on_each("plain", |path, open| {
        let storage = open(path).expect("a new directory");
        for name in ["", ".", "..", "a/b", "/a", "../a", LOCK_NAME] {
            assert_eq!(
                io_kind(storage.create(name, PAGE_BYTES)),
                ErrorKind::InvalidInput,
                "{name}"
            );
            assert_eq!(io_kind(storage.remove(name)), ErrorKind::InvalidInput, "{name}");
        }
    });
}

#[test]
fn a_written_file_is_its_parts() {
    on_each("parts", |path, open| {
        let storage = open(path).expect("a new directory");
        let parts = [vec![1; 3], vec![], vec![2; 2_000_000], vec![3]];
        let mut content = parts.clone().into_iter().map(Ok);
        storage.write_file("a", &mut content).expect("room");
        assert_eq!(fs::read(path.join("a")).expect("there"), parts.concat());
        assert_eq!(storage.length("a").expect("there"), 2_000_004);

        storage.write_file("empty", &mut std::iter::empty()).expect("room");
        assert_eq!(storage.length("empty").expect("there"), 0);
    });
}

#[test]
fn a_failed_part_removes_the_file() {
    on_each("failed", |path, open| {
        let storage = open(path).expect("a new directory");
        let mut content = [Ok(vec![1]), Err(Error::Closed), Ok(vec![2])].into_iter();
        let error = storage.write_file("a", &mut content).expect_err("a part failed");
        assert!(matches!(error, Error::Closed));
        assert_eq!(content.len(), 1, "nothing is asked for after a failure");
        assert_eq!(storage.list().expect("readable"), Vec::<String>::new());
    });
}

/// A file cut short, before it is read or while it is open, is a short read.
#[test]
fn a_file_that_ends_early_is_a_short_read() {
    on_each("short", |path, open| {
        let storage = open(path).expect("a new directory");
        let file = storage.create("a", 2 * PAGE_BYTES).expect("room");
        let mut into = vec![1; 2 * PAGE_BYTES];
        assert_eq!(storage.read("a", 0, &mut into).expect("readable"), 2 * PAGE_BYTES);
        assert_eq!(
            storage.read("a", PAGE_BYTES as u64 + 6, &mut into).expect("readable"),
            PAGE_BYTES - 6
        );
        assert_eq!(
            storage.read("a", 2 * PAGE_BYTES as u64, &mut into).expect("readable"),
            0
        );
        assert_eq!(
            storage.read("a", 3 * PAGE_BYTES as u64, &mut into).expect("readable"),
            0
        );
        let outside = fs::OpenOptions::new().write(true).open(path.join("a")).expect("there");
        outside.set_len(100).expect("cut");
        assert_eq!(storage.read("a", 0, &mut into).expect("readable"), 100);
        assert_eq!(storage.read("a", 90, &mut into).expect("readable"), 10);
        drop(file);
        assert_eq!(io_kind(storage.open("a")), ErrorKind::InvalidData);
    });
}

/// What each error of the operating system becomes, by its number: few of them can be provoked everywhere.
#[test]
#[cfg(target_os = "linux")]
fn errors_of_the_system_have_types() {
    use rustix::io::Errno;
    let path = Path::new("/data/store");
    let system = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        for error in [
            cannot_write("create", path, system(errno)),
            cannot_sync("sync", path, system(errno)),
        ] {
            assert!(matches!(&error, Error::DiskFull { .. }), "{error:?}");
            assert!(error.to_string().contains("/data/store"), "{error}");
        }
        assert!(matches!(cannot("read", path, system(errno)), Error::Io { .. }));
    }
    for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
        let error = cannot_write("create", path, system(errno));
        assert!(matches!(&error, Error::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("/data/store"), "{error}");
        assert!(matches!(cannot_sync("sync", path, system(errno)), Error::Io { .. }));
    }
    let error = cannot_write("create", path, system(Errno::IO));
    assert!(
        matches!(
            &error,
            Error::Io {
                operation: "create",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("create /data/store"), "{error}");
}

/// Set for a process that runs one of the tests below, to the directory that it is about.
#[cfg(target_os = "linux")]
const PLACE: &str = "UNLATCHED_TEST_PLACE";

/// Runs an ignored test of this file in a process that has a small file system of its own, mounted with `options` after
/// `before` was run in it. Where that is not possible, says so and returns.
#[cfg(target_os = "linux")]
fn on_own_file_system(options: &str, test: &str) {
    let scratch = Scratch::new(test);
    let script = "mount -t tmpfs -o \"$1\" none \"$2\" || exit 77; shift 2; exec \"$@\"";
    let place = scratch.0.to_str().expect("text");
    let this = std::env::current_exe().expect("a test has a program");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh", options, place])
        .arg(this)
        .args([
            "--exact",
            &format!("storage::directory::tests::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env(PLACE, place)
        .output();
    let skip = |why: String| println!("skipped `{test}`: no file system of its own: {why}");
    let output = match output {
        Ok(output) => output,
        Err(error) => return skip(format!("unshare: {error}")),
    };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.code() {
        Some(0) => assert!(text.contains("1 passed"), "the test ran:\n{text}"),
        // Both mean that the test was not reached: 77 is the script's, 1 comes from `unshare` with a line of its own.
        Some(77) => skip(text),
        Some(1) if text.starts_with("unshare:") => skip(text),
        _ => panic!("{text}"),
    }
}

#[cfg(target_os = "linux")]
fn place() -> Option<PathBuf> {
    let place = std::env::var_os(PLACE);
    if place.is_none() {
        println!("skipped: it needs the file system that another test makes for it");
    }
    place.map(PathBuf::from)
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "no processes there")]
fn a_full_disk_leaves_nothing_behind() {
    on_own_file_system("size=2m", "full_disk");
}

/// On two MiB: a file that does not fit is an error and no file, whichever way it is made; one that fits still can be.
#[test]
#[ignore = "run by `a_full_disk_leaves_nothing_behind`"]
#[cfg(target_os = "linux")]
fn full_disk() {
    let Some(place) = place() else { return };
    for (kind, open) in STORAGES {
        let storage = open(&place.join(kind)).expect("there is room for a directory");
        for attempt in 0..3 {
            let error = storage.create("large", 4 << 20).expect_err("it does not fit");
            assert!(matches!(&error, Error::DiskFull { .. }), "{attempt}: {error:?}");
            let mut content = (0..4).map(|_| Ok(vec![7; 1 << 20]));
            let error = storage
                .write_file("written", &mut content)
                .expect_err("it does not fit");
            assert!(matches!(&error, Error::DiskFull { .. }), "{attempt}: {error:?}");
            assert_eq!(storage.list().expect("readable"), Vec::<String>::new());
        }
        let file = storage.create("small", 1 << 20).expect("it fits");
        for word in 0..file.words().len() {
            store(&*file, word, 1);
        }
        file.sync(0..1 << 20).expect("synced");
        storage.remove("small").expect("removed");
    }
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "no processes there")]
fn a_read_only_directory_says_so() {
    on_own_file_system("ro", "read_only");
}

#[test]
#[ignore = "run by `a_read_only_directory_says_so`"]
#[cfg(target_os = "linux")]
fn read_only() {
    let Some(place) = place() else { return };
    for (_, open) in STORAGES {
        for path in [place.clone(), place.join("missing")] {
            let error = open(&path).expect_err("nothing can be written");
            assert!(matches!(&error, Error::ReadOnly { .. }), "{error:?}");
            assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
        }
    }
}
