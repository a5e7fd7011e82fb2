//! What the tests of this folder share: a seeded random number generator and a watchdog.
#![forbid(unsafe_code)]

pub(crate) mod directory;
#[cfg(debug_assertions)]
pub(crate) mod victim;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Environment variable that replaces the fixed seed of every random test.
pub(crate) const SEED_VARIABLE: &str = "UNLATCHED_TEST_SEED";

/// Returns the seed of a random test and prints it, so that a failure can be run again.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x5EED);
    println!("{test}: seed {seed}; set {SEED_VARIABLE} for another");
    seed
}

/// A small generator (SplitMix64), the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    /// Returns the generator number `stream` of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ (stream + 1).wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Makes this thread's operations overlap with others: at every step that the engine names (see `internals::pause`) it
/// goes on, steps back for others, or now and then sleeps, by chance. Builds without debug assertions have no such steps.
pub(crate) fn stumble(seed: u64, stream: u64) {
    #[cfg(debug_assertions)]
    {
        let mut random = Random::new(!seed, stream);
        unlatched::internals::pause::set_hook(Some(Box::new(move |_| match random.below(256) {
            0 => thread::sleep(Duration::from_micros(100)),
            1..24 => thread::yield_now(),
            _ => {}
        })));
    }
    #[cfg(not(debug_assertions))]
    let _ = (seed, stream);
}

/// How long a test may hang before it fails. Far longer than any of them takes: it turns a deadlock into a
/// failure, and measures nothing.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

/// Runs `body` on a thread of its own, and fails, naming `what`, if it does not end.
pub(crate) fn finishes<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let worker = thread::spawn(move || {
        let result = body();
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(WATCHDOG) {
        Ok(result) => {
            worker.join().expect("it has sent its result");
            result
        }
        Err(RecvTimeoutError::Timeout) => panic!("{what}: not finished after {WATCHDOG:?}; somebody waits"),
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it ends without a result only by a panic"),
        },
    }
}
