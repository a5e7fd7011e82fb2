//! One life of a store: from its opening to the moment after which nothing of it matters any more.
//!
//! Threads run their steps to the end, failing ones included: a store whose disk is gone, or whose log is poisoned, must go
//! on to answer, and must not acknowledge what it cannot keep. What they did becomes the judge's evidence:
//!
//! * a returned timestamp is exact;
//! * a single delete returns none, and lies between two snapshots around it (only its own thread writes its key); one of an
//!   absent key may have written nothing, and then promises that the delete before it holds;
//! * a transaction's timestamp is that of its receipt;
//! * a write that returned an error may have been committed and perhaps be durable, or not at all. It is looked for: memory
//!   can be read after any failure. One that is not found there was never committed and must not be found after a crash
//!   either, unless another thread may have overwritten it: then nothing is known of it but when it began;
//! * what was acknowledged before a flush began that succeeded is promised, and so is every strict write.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use unlatched::internals::SimDisk;
use unlatched::{Durability, Error};

use super::oracle::{Checkpoint, Contents, Entry, Evidence, When, name};
use super::subject::Subject;
use super::workload::{Content, KeyWrite, Operation, Settings, Step, Workload, receipt_key};

/// What a life leaves to be judged by.
#[derive(Debug, Default)]
pub struct Life {
    /// What was written, and what was promised.
    pub evidence: Evidence,
    /// What went wrong before any crash.
    pub troubles: Vec<String>,
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Operations that returned an error of the device, or of the log that gave up because of one.
    pub failed: u64,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The power goes off, if it has not before.
    PowerOff,
    /// The store is shut down.
    ShutDown,
}

/// Runs a workload on what is on the disk, which holds `base`. The store is gone on return.
pub fn live<S: Subject>(disk: &SimDisk, workload: &Workload, base: &Contents, ending: Ending) -> Life {
    let mut life = Life::default();
    life.evidence.base.clone_from(base);
    let opened = disk.open().and_then(|storage| S::open(storage, &workload.settings));
    let subject = match opened {
        Ok(subject) => subject,
        Err(error) => {
            if !disk.is_off() && disk.tally().faults == 0 {
                life.troubles.push(format!("opening failed without a fault: {error}"));
            }
            disk.power_off();
            return life;
        }
    };
    let clock = AtomicU64::new(0);
    let notes = std::thread::scope(|scope| {
        let threads = workload.threads.iter().enumerate();
        let handles: Vec<_> = threads
            .map(|(number, steps)| {
                let worker = Worker::new(number, workload, &subject, disk, &clock);
                scope.spawn(move || worker.run(steps))
            })
            .collect();
        let joined = handles.into_iter().map(|handle| handle.join());
        joined
            .map(|notes| notes.unwrap_or_else(|panic| Notes::panicked(&*panic)))
            .collect()
    });
    let is_shut_down = match ending {
        Ending::PowerOff => {
            disk.power_off();
            // What is still pending cannot be kept any more, and whoever shuts down wants to know.
            let _lost = subject.shut_down();
            false
        }
        Ending::ShutDown => match subject.shut_down() {
            Ok(()) => true,
            Err(error) => {
                if !disk.is_off() && disk.tally().faults == 0 {
                    life.troubles
                        .push(format!("shutting down failed without a fault: {error}"));
                }
                false
            }
        },
    };
    drop(subject);
    life.add(notes, &workload.settings, is_shut_down);
    life
}

impl Life {
    /// Puts the notes of all threads together.
    fn add(&mut self, notes: Vec<Notes>, settings: &Settings, is_shut_down: bool) {
        let last_flush = notes.iter().flat_map(|notes| &notes.flushes).max().copied();
        let mut checkpoints = Vec::new();
        for notes in notes {
            for (done_at, mut entry) in notes.entries {
                let is_flushed = last_flush.is_some_and(|flush| done_at < flush);
                let is_kept = entry.is_recorded && entry.is_acknowledged && (is_flushed || is_shut_down);
                entry.is_promised |= is_kept;
                self.evidence.entries.push(entry);
            }
            checkpoints.extend(notes.checkpoints);
            self.troubles.extend(notes.troubles);
            self.acknowledged += notes.acknowledged;
            self.failed += notes.failed;
        }
        checkpoints.sort_unstable_by_key(|(began_at, _)| *began_at);
        self.evidence
            .checkpoints
            .extend(checkpoints.into_iter().map(|(_, checkpoint)| checkpoint));
        if settings.checkpoint_bytes.is_some() {
            // One may have been taken by itself at any time.
            self.evidence.checkpoints.push(Checkpoint {
                when: ANY_TIME,
                is_acknowledged: false,
            });
        }
    }
}

/// Some time in this life.
const ANY_TIME: When = When {
    from: 1,
    to: When::OPEN - 1,
};

/// What one thread noted.
#[derive(Debug, Default)]
struct Notes {
    /// Each with the moment at which it was over, by the clock that all threads share.
    entries: Vec<(u64, Entry)>,
    /// When the flushes began that succeeded.
    flushes: Vec<u64>,
    /// Each with the moment at which it began.
    checkpoints: Vec<(u64, Checkpoint)>,
    troubles: Vec<String>,
    acknowledged: u64,
    failed: u64,
}

impl Notes {
    fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        Self {
            troubles: vec![format!("a thread panicked: {}", panic_text(panic))],
            ..Self::default()
        }
    }
}

/// Returns what a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// A thread at its steps.
struct Worker<'a, S> {
    number: usize,
    workload: &'a Workload,
    subject: &'a S,
    disk: &'a SimDisk,
    clock: &'a AtomicU64,
    /// A timestamp drawn by this thread: what it commits from now on has more.
    since: u64,
    notes: Notes,
}

impl<'a, S: Subject> Worker<'a, S> {
    fn new(number: usize, workload: &'a Workload, subject: &'a S, disk: &'a SimDisk, clock: &'a AtomicU64) -> Self {
        Self {
            number,
            workload,
            subject,
            disk,
            clock,
            since: 0,
            notes: Notes::default(),
        }
    }

    fn run(mut self, steps: &[Step]) -> Notes {
        self.draw();
        for step in steps {
            let durability = step.durability.unwrap_or(self.workload.settings.durability);
            match &step.operation {
                Operation::Put(key, content) => self.put(key, *content, durability),
                Operation::Delete(key) => self.delete(key, durability),
                Operation::Swap(key, content, is_right) => self.swap(key, *content, *is_right, durability),
                Operation::Transaction(writes) => self.transact(writes, durability),
                Operation::Flush => self.flush(),
                Operation::Checkpoint => self.checkpoint(),
            }
        }
        self.notes
    }

    fn put(&mut self, key: &[u8], content: Content, durability: Durability) {
        let result = self.subject.put(key, &content.to_bytes(), durability);
        self.note_write(result, key, content, durability);
    }

    fn swap(&mut self, key: &[u8], content: Content, is_right: bool, durability: Durability) {
        let Some(found) = self.read(key) else { return };
        let actual = found.map_or(0, |(_, timestamp)| timestamp);
        // No commit has the first; the second is over, and timestamps do not come back.
        let wrong = if actual == 0 { 1 } else { actual - 1 };
        let expected = if is_right { actual } else { wrong };
        let result = self.subject.swap(key, expected, &content.to_bytes(), durability);
        match result {
            Ok(_) if !is_right => self.trouble(format!(
                "a swap of {} for version {expected} succeeded over version {actual}",
                name(key)
            )),
            Err(Error::VersionMismatch { .. }) => {
                if is_right && self.is_alone_on(key) {
                    self.trouble(format!("a swap of {} was refused its own version {actual}", name(key)));
                }
            }
            result => self.note_write(result, key, content, durability),
        }
    }

    /// Notes a write of one value.
    fn note_write(&mut self, result: Result<u64, Error>, key: &[u8], content: Content, durability: Durability) {
        let writes = || vec![(key.to_vec(), Some(content.number))];
        match result {
            Ok(timestamp) => self.note(When::at(timestamp), writes(), durability, true),
            Err(error) => {
                self.note_error("a write", &error);
                if let Some(when) = self.look_for(key, content.number) {
                    self.note(when, writes(), durability, false);
                }
            }
        }
    }

    fn delete(&mut self, key: &[u8], durability: Durability) {
        self.draw();
        let from = self.since.saturating_add(1);
        let result = self.subject.delete(key, durability);
        self.draw();
        let writes = || vec![(key.to_vec(), None)];
        match result {
            Ok(true) => self.note(When { from, to: self.since }, writes(), durability, true),
            Ok(false) => self.note_absent(key, from, durability),
            Err(error) => {
                self.note_error("a delete", &error);
                // If the key is absent, perhaps it was so before.
                if let Some(None) = self.read(key) {
                    let when = When { from, to: When::OPEN };
                    self.note(when, writes(), durability, false);
                }
            }
        }
    }

    /// Notes a delete of what was absent. It may have written nothing; then its promise is one about the delete before.
    fn note_absent(&mut self, key: &[u8], from: u64, durability: Durability) {
        self.notes.acknowledged += 1;
        let of_key = |(_, entry): &&mut (u64, Entry)| entry.writes.iter().any(|(written, _)| written == key);
        let is_recorded = durability != Durability::InMemory;
        let (to, is_promised) = match self.notes.entries.iter_mut().rev().find(of_key) {
            Some((_, before)) if before.is_recorded => {
                before.is_promised |= durability == Durability::Strict && before.when.to != When::OPEN;
                (When::OPEN, false)
            }
            // Only a record can keep absent what was deleted without one.
            Some(_) => (self.since, durability == Durability::Strict),
            None => return,
        };
        let entry = Entry {
            when: When { from, to },
            writes: vec![(key.to_vec(), None)],
            is_recorded,
            is_acknowledged: to != When::OPEN,
            is_promised,
        };
        let done_at = self.tick();
        self.notes.entries.push((done_at, entry));
    }

    fn transact(&mut self, writes: &[KeyWrite], durability: Durability) {
        let bytes: Vec<(Vec<u8>, Option<Vec<u8>>)> = writes
            .iter()
            .map(|(key, content)| (key.clone(), content.map(Content::to_bytes)))
            .collect();
        let result = self.subject.transact(&bytes, durability);
        let receipt = writes[0].1.map_or(0, |content| content.number);
        let (existed, is_acknowledged) = match result {
            Ok(existed) => (existed, true),
            Err(error @ Error::Conflict { .. }) => {
                if self.workload.threads.len() == 1 {
                    self.trouble(format!("a transaction had a conflict with nobody: {error}"));
                }
                return;
            }
            Err(error) => {
                self.note_error("a transaction", &error);
                (vec![false; writes.len()], false)
            }
        };
        let Some(when) = self.look_for(&receipt_key(self.number), receipt) else {
            if is_acknowledged {
                self.trouble(format!("value {receipt} of a committed transaction is not there"));
            }
            return;
        };
        // Deleting what its snapshot does not show writes nothing, and another thread may have put it since.
        let (sure, vague): (Vec<_>, Vec<_>) = writes
            .iter()
            .zip(existed)
            .partition(|((key, content), existed)| content.is_some() || *existed || self.is_alone_on(key));
        let named = |writes: Vec<(&KeyWrite, bool)>| {
            let numbers = writes
                .into_iter()
                .map(|((key, content), _)| (key.clone(), content.map(|content| content.number)));
            numbers.collect::<Vec<_>>()
        };
        self.note(when, named(sure), durability, is_acknowledged);
        let perhaps = When {
            from: when.from,
            to: When::OPEN,
        };
        for write in named(vague) {
            self.note_quietly(perhaps, vec![write], durability, false);
        }
    }

    fn flush(&mut self) {
        let began_at = self.tick();
        match self.subject.flush() {
            Ok(()) => self.notes.flushes.push(began_at),
            Err(error) => self.note_error("a flush", &error),
        }
    }

    fn checkpoint(&mut self) {
        if !S::CHECKPOINTS {
            return self.flush();
        }
        let began_at = self.tick();
        let (when, is_acknowledged) = match self.subject.checkpoint() {
            Ok(timestamp) => (When::at(timestamp), true),
            Err(error) => {
                self.note_error("a checkpoint", &error);
                (ANY_TIME, false)
            }
        };
        let checkpoint = Checkpoint { when, is_acknowledged };
        self.notes.checkpoints.push((began_at, checkpoint));
    }

    fn note(&mut self, when: When, writes: Vec<(Vec<u8>, Option<u64>)>, durability: Durability, is_acknowledged: bool) {
        self.notes.acknowledged += u64::from(is_acknowledged);
        self.note_quietly(when, writes, durability, is_acknowledged);
    }

    fn note_quietly(
        &mut self,
        when: When,
        writes: Vec<(Vec<u8>, Option<u64>)>,
        durability: Durability,
        is_acknowledged: bool,
    ) {
        let entry = Entry {
            when,
            writes,
            is_recorded: durability != Durability::InMemory,
            is_acknowledged,
            is_promised: is_acknowledged && durability == Durability::Strict,
        };
        let done_at = self.tick();
        self.notes.entries.push((done_at, entry));
    }

    /// Counts an error that a device may cause, and wonders at others.
    fn note_error(&mut self, what: &str, error: &Error) {
        self.notes.failed += 1;
        let is_of_a_device = matches!(
            error,
            Error::Poisoned { .. } | Error::Io { .. } | Error::DiskFull { .. }
        );
        let has_reason = self.disk.is_off() || self.disk.tally().faults > 0;
        if !is_of_a_device || !has_reason {
            self.trouble(format!("{what} failed for no reason: {error}"));
        }
    }

    /// Says when a write was committed that returned an error: `None` if it was not.
    fn look_for(&mut self, key: &[u8], number: u64) -> Option<When> {
        match self.read(key)? {
            Some((found, timestamp)) if found == number => Some(When::at(timestamp)),
            _ if self.is_alone_on(key) => None,
            _ => Some(When {
                from: self.since.saturating_add(1),
                to: When::OPEN,
            }),
        }
    }

    /// Reads a key, which never fails.
    fn read(&mut self, key: &[u8]) -> Option<Option<(u64, u64)>> {
        match self.subject.get(key) {
            Ok(None) => Some(None),
            Ok(Some((bytes, timestamp))) => match Content::from_bytes(&bytes) {
                Some(content) => Some(Some((content.number, timestamp))),
                None => {
                    self.trouble(format!("memory holds no whole value under {}", name(key)));
                    None
                }
            },
            Err(error) => {
                self.trouble(format!("reading {} failed: {error}", name(key)));
                None
            }
        }
    }

    fn draw(&mut self) {
        match self.subject.now() {
            Ok(now) => self.since = now,
            Err(error) => self.trouble(format!("a snapshot failed: {error}")),
        }
    }

    fn is_alone_on(&self, key: &[u8]) -> bool {
        self.workload.threads.len() == 1
            || key == receipt_key(self.number)
            || key.starts_with(format!("own {} ", self.number).as_bytes())
    }

    fn trouble(&mut self, text: String) {
        self.notes.troubles.push(text);
    }

    fn tick(&self) -> u64 {
        // Moments of different threads are compared, and whatever happened before one must be before it.
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}
