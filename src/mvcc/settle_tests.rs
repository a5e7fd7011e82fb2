//! What a helper leaves behind that comes too late, and who collects it.
//!
//! Each test stops threads at named steps, so that a helper is overtaken at one exact place, and then looks whether the
//! index still has the node that nobody uses. The only writes after that are the helper's own, to another key.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::*;
use crate::index::SkipList;
use crate::mvcc::{ReaderDriven, Write, WriterDriven};
use crate::reclaim::LimboReclaim;
use crate::sync::pause::set_hook;
use crate::types::{RunId, TypeTag};

type Store<C> = VersionedStore<SkipList<Chain>, LimboReclaim, C>;

/// How long a thread is waited for that is to stop: far longer than it takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes in which a thread collects what it remembers twice, and more.
const WRITES: usize = 150;

fn key(name: &str) -> Key {
    Key::new(&RunId::from_bytes([0; 16]), TypeTag::Raw, name.as_bytes())
}

fn writes(names: &[&str]) -> Vec<Write> {
    let write = |name: &&str| Write {
        key: key(name),
        value: Some((*b"transaction").into()),
    };
    names.iter().map(write).collect()
}

fn has_node<C: Clock>(store: &Store<C>, name: &str) -> bool {
    let guard = store.pin();
    Index::<Chain, LimboReclaim>::find(&store.index, &key(name), &guard).is_some()
}

/// A thread that stops once, at the first version that it links, and goes on when it is told.
struct Stopped<T> {
    thread: JoinHandle<T>,
    goes_on: Sender<()>,
}

impl<T: Send + 'static> Stopped<T> {
    /// Starts a thread and waits until it has stopped.
    fn start<C: Clock>(store: &Arc<Store<C>>, body: impl FnOnce(&Store<C>) -> T + Send + 'static) -> Self {
        let (stops, stopped) = channel();
        let (goes_on, told) = channel();
        let store = Arc::clone(store);
        let thread = thread::spawn(move || {
            stop_at_first_link(stops, told);
            body(&store)
        });
        stopped.recv_timeout(PATIENCE).expect("the thread links a version");
        Self { thread, goes_on }
    }

    /// Lets it go on, and returns what it returned.
    fn go_on(self) -> T {
        self.goes_on.send(()).expect("the thread waits");
        self.thread.join().expect("the thread does not panic")
    }
}

/// Stops the calling thread at the next version that it links, until it is told to go on.
fn stop_at_first_link(stops: Sender<()>, told: Receiver<()>) {
    let mut is_first = true;
    set_hook(Some(Box::new(move |step| {
        if step == Step::Linked && std::mem::take(&mut is_first) {
            stops.send(()).expect("the test waits for this");
            // Without a limit: should the test fail, its end is gone.
            told.recv().expect("the test says when to go on");
        }
    })));
}

/// What a late helper finds of a key: whether it has a node after its operation, and after many others elsewhere.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    right_after: bool,
    in_the_end: bool,
}

/// Writes `a`, and thereby helps whoever has `a` locked up in a transaction. Then writes `a` alone, many times.
fn help_and_go_on<C: Clock>(store: &Store<C>, looks_at: &str) -> Seen {
    store.put(&key("a"), b"helper");
    let right_after = has_node(store, looks_at);
    for _ in 0..WRITES {
        store.put(&key("a"), b"helper");
    }
    Seen {
        right_after,
        in_the_end: has_node(store, looks_at),
    }
}

// Goal: a chain that a helper inserts for a transaction that is decided already is collected by that thread's own
// writes. Method: the helper stops after it has linked `b`; meanwhile the owner commits `a`, `b` and `c`, and `c` is
// deleted and removed. The helper goes on with `c`, where it finds nothing, inserts a node, and sees that it is too late.
// Regression: the node stayed until somebody swept.
#[test]
fn a_chain_inserted_too_late_is_collected_by_its_thread() {
    fn check<C: Clock>() {
        let store = Arc::new(Store::<C>::new());
        let owner = Stopped::start(&store, |store| {
            let snapshot = store.open_snapshot();
            let result = store.commit(&snapshot, &*writes(&["a", "b", "c"]));
            store.close_snapshot(&snapshot);
            result.is_ok()
        });
        let helper = Stopped::start(&store, |store| help_and_go_on(store, "c"));
        assert!(owner.go_on(), "nobody is in its way");
        assert!(store.delete(&key("c")).is_some());
        store.sweep();
        assert!(!has_node(&store, "c"));

        let seen = helper.go_on();
        let wanted = Seen {
            right_after: true,
            in_the_end: false,
        };
        assert_eq!(seen, wanted);
    }
    check::<ReaderDriven>();
    // The same to Miri, which takes minutes for either.
    if !cfg!(miri) {
        check::<WriterDriven>();
    }
}

// Goal: a version that a helper linked for a transaction that was then aborted is collected by that thread's own writes,
// though the owner, who tidies up after itself, is stopped. Method: the helper stops when it has linked `b`; another
// one goes on to `c`, finds it written since the owner's snapshot, and aborts. Only then does the first one look.
#[test]
fn a_version_linked_for_an_aborted_transaction_is_collected_by_its_thread() {
    fn check<C: Clock>() {
        let store = Arc::new(Store::<C>::new());
        let snapshot = store.open_snapshot();
        store.put(&key("c"), b"newer than the snapshot");
        let owner = Stopped::start(&store, move |store| {
            let result = store.commit(&snapshot, &*writes(&["a", "b", "c"]));
            store.close_snapshot(&snapshot);
            result.map_err(|conflict| conflict.key)
        });
        let helper = Stopped::start(&store, |store| help_and_go_on(store, "b"));
        store.put(&key("a"), b"aborts the transaction");
        assert_eq!(store.get_with(&key("b"), |_, _| ()), None, "aborted");

        let seen = helper.go_on();
        let wanted = Seen {
            right_after: true,
            in_the_end: false,
        };
        assert_eq!(seen, wanted);
        assert_eq!(owner.go_on(), Err(key("c")));
    }
    check::<ReaderDriven>();
    // The same to Miri, which takes minutes for either.
    if !cfg!(miri) {
        check::<WriterDriven>();
    }
}
