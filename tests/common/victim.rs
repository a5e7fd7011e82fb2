//! A thread that is parked in the middle of an operation, at a step that the engine names. Builds with debug assertions
//! alone have such steps.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use unlatched::Database;
use unlatched::internals::pause::{Step, set_hook};

use super::{WATCHDOG, finishes};

/// A thread in the middle of an operation.
pub(crate) struct Victim<T> {
    thread: JoinHandle<T>,
    parked: Receiver<Step>,
    release: Sender<()>,
}

impl<T: Send + 'static> Victim<T> {
    /// Starts `operation`, to be parked when it reaches its step number `at`.
    pub(crate) fn start(database: &Arc<Database>, at: usize, operation: fn(&Database) -> T) -> Self {
        let (reached, parked) = channel();
        let (release, go_on) = channel::<()>();
        let database = Arc::clone(database);
        let thread = thread::spawn(move || {
            let mut number = 0;
            set_hook(Some(Box::new(move |step| {
                if number == at {
                    let _ = reached.send(step);
                    let _ = go_on.recv();
                }
                number += 1;
            })));
            let result = operation(&database);
            set_hook(None);
            result
        });
        Self {
            thread,
            parked,
            release,
        }
    }

    /// Waits until it is parked.
    pub(crate) fn wait(&self) -> Step {
        self.parked.recv_timeout(WATCHDOG).expect("the victim reaches its step")
    }

    /// Lets it go on, and returns what its operation returned.
    pub(crate) fn release(self) -> T {
        self.release.send(()).expect("the victim is parked");
        let thread = self.thread;
        finishes("the released victim", move || thread.join()).expect("the victim does not panic")
    }
}

/// Returns the steps that `operation` goes through undisturbed.
pub(crate) fn steps_of<T>(database: &Database, operation: fn(&Database) -> T) -> Vec<Step> {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&steps);
    set_hook(Some(Box::new(move |step| log.lock().expect("not poisoned").push(step))));
    operation(database);
    set_hook(None);
    let steps = steps.lock().expect("not poisoned");
    steps.clone()
}
