//! The threads of a database's own: one that flushes by the clock or when a bell rings, one that makes segments ahead of
//! need, and one that takes checkpoints, which may take long: segments are needed meanwhile.
//!
//! Nothing depends on them but time: a writer that finds no segment ready makes one, a strict writer flushes by itself, and
//! one that is too far ahead waits for room, or makes it. So a thread that dies costs speed and never data. What it
//! met is met again by whoever does the same next, who can return the error.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::checkpoint;
use crate::commit::{Bell, Engine};
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, order};

/// How often segments are looked after if nobody asks for one.
const SEGMENTS_TICK: Duration = Duration::from_millis(20);

/// How often it is looked whether a checkpoint is due: some megabytes of log more or less make no difference.
const CHECKPOINT_TICK: Duration = Duration::from_millis(100);

/// How long it is left at that when a checkpoint failed. It was written in vain, and what has no room now will hardly have
/// it at once.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(10);

/// The running threads.
pub(crate) struct Background {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    engine: Arc<Engine>,
    stopped: AtomicBool,
    /// Rung to end the thread that makes segments.
    segments: Bell,
    /// Rung to end the thread that takes checkpoints.
    checkpoints: Bell,
}

impl Background {
    /// Starts the threads of an engine that has a log. After every `checkpoint_bytes` of log a checkpoint is taken.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the operating system gives no more threads.
    pub(crate) fn start(engine: &Arc<Engine>, checkpoint_bytes: Option<u64>) -> Result<Self> {
        let shared = Arc::new(Shared {
            engine: Arc::clone(engine),
            stopped: AtomicBool::new(false),
            segments: Bell::new(),
            checkpoints: Bell::new(),
        });
        let background = Self {
            shared: Arc::clone(&shared),
            threads: Mutex::new(Vec::new()),
        };
        let (flusher, maker) = (Arc::clone(&shared), Arc::clone(&shared));
        background.spawn("unlatched-flush", move || flusher.flush_by_the_clock())?;
        background.spawn("unlatched-segments", move || maker.make_segments())?;
        if let Some(bytes) = checkpoint_bytes {
            background.spawn("unlatched-checkpoints", move || shared.take_checkpoints(bytes))?;
        }
        Ok(background)
    }

    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = spawned.map_err(|source| Error::Io {
            operation: "start thread",
            path: name.to_owned(),
            source,
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Ends the threads, and waits for that. Doing it twice is fine.
    pub(crate) fn stop(&self) {
        // ORDERING: Relaxed; the bells' locks order it.
        self.shared.stopped.store(true, order::COUNT);
        if let Some(durable) = self.shared.engine.durable() {
            durable.bell().ring_now();
        }
        self.shared.segments.ring_now();
        self.shared.checkpoints.ring_now();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // One that panicked has ended all the same.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        // ORDERING: Relaxed, as in `stop`.
        self.stopped.load(order::COUNT)
    }

    fn flush_by_the_clock(&self) {
        let Some(durable) = self.engine.durable() else { return };
        while !self.is_stopped() {
            durable.bell().listen(durable.interval());
            // A poisoned log stays so, and a full disk may not: whoever waits learns of it.
            let _ = durable.log().try_flush(self.engine.store());
        }
    }

    fn make_segments(&self) {
        let Some(durable) = self.engine.durable() else { return };
        while !self.is_stopped() {
            // As above: a writer that needs one meets the same.
            while let Ok(true) = durable.log().make_ready() {
                if self.is_stopped() {
                    return;
                }
            }
            self.segments.listen(SEGMENTS_TICK);
        }
    }

    fn take_checkpoints(&self, bytes: u64) {
        let Some(durable) = self.engine.durable() else { return };
        let mut pause = CHECKPOINT_TICK;
        while !self.is_stopped() {
            self.checkpoints.listen(pause);
            pause = CHECKPOINT_TICK;
            if durable.log().kept_bytes() >= bytes {
                let taken = checkpoint::take_unless(self.engine.store(), durable.log(), &|| self.is_stopped());
                // The log is kept then, and nothing is lost; whoever asks for a checkpoint meets the same.
                if taken.is_err() {
                    pause = CHECKPOINT_RETRY;
                }
            }
        }
    }
}
