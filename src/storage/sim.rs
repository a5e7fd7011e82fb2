//! A simulated disk: what a power cut leaves of it, and which of its calls fail, is decided by a seed.
//!
//! [`SimDisk`] is the disk, [`SimStorage`] an opening of it that holds the directory's lock. Two images are kept. The
//! *volatile* one is what calls see: the contents in the page cache and the names in the directory. The *durable* one
//! is what is on the medium.
//!
//! # The fault model
//!
//! **Power.** [`SimDisk::power_off`], or a plan's step, ends a life: from then on every call fails and nothing becomes
//! durable, whatever the threads of that life still store. [`SimDisk::crash`] makes the disk that the next life finds,
//! as often as one likes. Each sector whose volatile content differs from the durable one has survived or not, and
//! so has each change of a name since the directory was synced. Every subset is possible; a caller picks one by a seed,
//! or counts them ([`SimDisk::dirty`]) and goes through all of them by masks. A crash without `power_off` is one that
//! strikes between two calls, and the old disk goes on.
//!
//! **Pages** reach the disk early, in any order, any number of times: [`SimDisk::early_write_back`] copies a random subset
//! of the sectors that differ, so that a later crash finds content that is neither the oldest nor the newest. A sector
//! goes as a whole, but it is copied while threads store into it, word by word, as a device copies a page.
//!
//! **Names.** A directory's entries are written one by one, each of them in order; a rename binds two together. So a
//! change survives if it is chosen and no change before it to one of its names was lost, and a file has one name at most.
//!
//! **Failing calls.** Every call that touches the disk has a number, its step, and a [`FaultPlan`] says by number or by
//! chance which ones fail. A failed sync leaves a random subset of its range durable; the rest of it counts as clean,
//! as a kernel that has dropped the error along with the dirty bit would have it: a second sync of the same content
//! returns successfully and makes nothing durable. Every other failed call has done nothing. A call during which the
//! power fails is half done: a file being made has some length and some of its content.
//!
//! **Space.** A plan may set a capacity; a call that would exceed it fails, and leaves no file.
//!
//! **Stale blocks.** By contract a new file is all zero. A plan may fill new files with sectors of removed ones and
//! with noise instead, as files used again by renaming have them: whoever reads a log must tell such bytes from news.
//!
//! Not simulated: sectors that rot, tear or land elsewhere by themselves. [`SimDisk::overwrite`] and [`SimDisk::cut`] damage a
//! file on purpose.
//!
//! # Invariants
//!
//! 1. Stored before a sync was called and the sync returned successfully: durable. Contents are loaded outside the lock
//!    (loom must be able to switch threads between loads), so two writers of one sector could overtake each other on the
//!    way to the durable image. Each draws a ticket before its first load, and a sector never takes content with a
//!    smaller ticket than it has: what was stored before the earlier ticket was drawn is in the content of the later one.
//! 2. A copy of the volatile image that a crash works on was loaded while no call changed the durable one. Otherwise
//!    what a thread stored after its sync had returned could survive a crash that lost what the sync made durable.
//!    After `power_off` nothing changes any more, and the copy is kept.
//!
//! # Memory ordering
//!
//! Words are loaded [`COUNT`](order::COUNT), relaxed: what must be in a copy was stored before the call, by this thread or
//! one that it has synchronised with, and of what races with it either value will do.
//!
//! # Progress
//!
//! Blocking: all but the words is behind one lock. It is never held while a word is loaded under loom, nor while code
//! of a caller runs.
#![forbid(unsafe_code)]

mod image;
mod plan;
#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{PAGE_BYTES, SECTOR_BYTES, SegmentFile, Storage};
use crate::error::{Error, Result};
use crate::sync::{Word, order};

use self::image::{Dirty, State, Words};
use self::plan::{Call, Random, Verdict};

pub use self::plan::{Fault, FaultPlan, SimTally, Survivors};

/// What messages call the directory.
const DIRECTORY: &str = "simulated-disk";

/// A simulated disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The bytes of a disk are no part of a model, but the order of its calls and crashes is. A disk that a crash has left
    /// has none: nobody else uses it.
    #[cfg(loom)]
    turn: Option<crate::sync::Turn>,
}

/// A call that may go on, and what the plan says about it.
struct Step {
    verdict: Verdict,
    random: Random,
}

/// An opening of a simulated disk, which nobody else can open until this is dropped.
pub struct SimStorage {
    disk: SimDisk,
}

/// A file of a simulated disk, to be written by words.
struct SimFile {
    disk: SimDisk,
    number: u64,
    name: String,
    words: Arc<Words>,
}

impl SimDisk {
    /// Returns an empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::default()),
            #[cfg(loom)]
            turn: Some(crate::sync::Turn::new()),
        }))
    }

    /// Returns a disk that holds these files, durably.
    #[must_use]
    pub fn with_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut state = State::default();
        for (name, content) in files {
            state.add(&name, content);
        }
        state.sync_names();
        Self::of(state)
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            #[cfg(loom)]
            turn: None,
        }))
    }

    /// Lets loom try both orders of this call or crash and those of other threads.
    #[cfg_attr(loom, track_caller)]
    fn take_turn(&self) {
        #[cfg(loom)]
        if let Some(turn) = &self.0.turn {
            turn.take();
        }
    }

    /// Opens the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if it is open; [`Error::Io`] after [`power_off`](Self::power_off).
    pub fn open(&self) -> Result<SimStorage> {
        let mut state = self.on("open", "")?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(Error::Locked { path: path("") });
        }
        drop(state);
        Ok(SimStorage { disk: self.clone() })
    }

    /// Sets which calls fail from now on, in place of what was set before. Steps are counted from the disk's making.
    pub fn follow(&self, plan: FaultPlan) {
        self.lock().plan = plan;
    }

    /// Returns how many steps there were, what failed in them, and what the crash that made this disk kept and lost.
    #[must_use]
    pub fn tally(&self) -> SimTally {
        self.lock().tally
    }

    /// Returns the number of independent choices that a crash now would have: sectors that differ, in the order of
    /// files and offsets, then changes of names, in their own order. These are the bits of [`Survivors::Mask`].
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.with_volatile(|state, dirty, _| dirty.len() + state.changes.len())
    }

    /// Writes a random subset of the sectors that differ to the disk, as the operating system may at any moment. After
    /// [`power_off`](Self::power_off) it does nothing.
    pub fn early_write_back(&self, seed: u64) {
        self.with_volatile(|state, dirty, ticket| {
            if !state.is_off {
                state.write_back(dirty, ticket, &mut Random::new(seed));
            }
        });
    }

    /// Ends this life: every later call fails, and nothing becomes durable or volatile any more.
    pub fn power_off(&self) {
        self.lock().is_off = true;
        self.freeze();
    }

    /// Says whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// Returns the disk that is found after a crash at this moment, or at that of [`power_off`](Self::power_off). It
    /// shares nothing with this one and has neither a lock nor a plan.
    #[must_use]
    pub fn crash(&self, survivors: &Survivors) -> Self {
        self.take_turn();
        Self::of(self.with_volatile(|state, dirty, _| state.survived(dirty, survivors)))
    }

    /// Returns every disk that may be found after a crash at this moment: one for each subset of the choices.
    ///
    /// # Panics
    ///
    /// If there are more than ten choices.
    #[must_use]
    pub fn crashes(&self) -> Vec<Self> {
        self.take_turn();
        self.with_volatile(|state, dirty, _| {
            let choices = dirty.len() + state.changes.len();
            assert!(choices <= 10, "{choices} choices are too many to try all");
            let masks = 0..1_u64 << choices;
            masks
                .map(|mask| Self::of(state.survived(dirty, &Survivors::Mask(mask))))
                .collect()
        })
    }

    /// Returns the disk that is found after the process was killed at this moment: every store and every name is
    /// there, and no more of them is durable than was before. It shares nothing with this one and has neither a lock
    /// nor a plan.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.take_turn();
        Self::of(self.with_volatile(|state, dirty, _| state.killed(dirty)))
    }

    /// Returns the names of all files, sorted. No step, and never fails.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// Returns what a file holds, durable or not, if there is one. No step, and never fails.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let mut content = vec![0; self.lock().file(name)?.durable.len()];
        let length = self.copy(name, 0, &mut content)?;
        content.truncate(length);
        Some(content)
    }

    /// Cuts a file to `bytes` bytes, durably, and all that it holds with it; returns whether there is one. Its
    /// [`SegmentFile`]s, if any, can be synced no more.
    pub fn cut(&self, name: &str, bytes: usize) -> bool {
        self.damage(name, |content| content.truncate(bytes))
    }

    /// Overwrites bytes of a file, durably, and all that it holds with them; returns whether there is one. What would lie
    /// beyond its end is left out. Its [`SegmentFile`]s, if any, can be synced no more.
    pub fn overwrite(&self, name: &str, offset: usize, bytes: &[u8]) -> bool {
        self.damage(name, |content| {
            for (old, new) in content.iter_mut().skip(offset).zip(bytes) {
                *old = *new;
            }
        })
    }

    fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(mut content) = self.content(name) else {
            return false;
        };
        change(&mut content);
        self.lock().replace(name, content)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that may panic runs under the lock, and what it guards is whole between any two statements.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks, unless the power is off.
    fn on(&self, operation: &'static str, name: &str) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.is_off {
            return Err(crashed(operation, name));
        }
        Ok(state)
    }

    /// Counts a call and asks the plan about it.
    fn step(&self, call: Call, name: &str) -> Result<Step> {
        self.take_turn();
        let mut state = self.on(call.operation(), name)?;
        let (number, verdict) = state.count(call);
        let mut random = state.plan.random(number);
        let early = state.plan.writes_back(&mut random);
        // At the very step, not after it: no other thread gets a later one.
        state.is_off = verdict == Verdict::Crash;
        drop(state);
        if verdict == Verdict::Crash {
            self.freeze();
        } else if early {
            self.early_write_back(random.next());
        }
        Ok(Step { verdict, random })
    }

    /// [`step`](Self::step) for calls that do nothing if they fail, or if the power fails meanwhile.
    fn whole_step(&self, call: Call, name: &str) -> Result<MutexGuard<'_, State>> {
        match self.step(call, name)?.verdict {
            Verdict::Go => self.on(call.operation(), name),
            Verdict::Fail(fault) => Err(fault.error(call, &path(name))),
            Verdict::Crash => Err(crashed(call.operation(), name)),
        }
    }

    /// Keeps the volatile image as it is, once the power is off.
    fn freeze(&self) {
        self.with_volatile(|state, dirty, _| {
            if state.frozen.is_none() {
                state.frozen = Some(dirty.into());
            }
        });
    }

    /// Calls `use_it` with the sectors that differ from the durable image, and a ticket drawn before they were loaded.
    fn with_volatile<T>(&self, use_it: impl FnOnce(&mut State, &[Dirty], u64) -> T) -> T {
        loop {
            let mut state = self.lock();
            let ticket = state.draw_ticket();
            if let Some(dirty) = state.frozen.clone() {
                return use_it(&mut state, &dirty, ticket);
            }
            let changes = state.changes_so_far;
            let open = state.open_files();
            // Elsewhere the lock is kept, so that a disk at work cannot put the copy off for ever.
            let held = (!cfg!(loom)).then_some(state);
            let contents: Vec<(u64, Vec<u8>)> = open
                .iter()
                .map(|(number, words)| (*number, words.load(0..words.bytes())))
                .collect();
            let mut state = held.unwrap_or_else(|| self.lock());
            // INVARIANT 2.
            if state.changes_so_far == changes {
                let dirty = state.differing(&contents);
                return use_it(&mut state, &dirty, ticket);
            }
        }
    }

    /// Copies what a file holds from `offset` on; returns how many bytes.
    fn copy(&self, name: &str, offset: u64, into: &mut [u8]) -> Option<usize> {
        let state = self.lock();
        let file = state.file(name)?;
        let start = usize::try_from(offset).map_or(file.durable.len(), |offset| offset.min(file.durable.len()));
        let end = start.saturating_add(into.len()).min(file.durable.len());
        let into = &mut into[..end - start];
        match file.words() {
            None => into.copy_from_slice(&file.durable[start..end]),
            Some(words) => {
                drop(state);
                into.copy_from_slice(&words.load(start..end));
            }
        }
        Some(end - start)
    }

    /// Opens a file to be written by words, which are there once for all its openings.
    fn open_words(&self, state: &mut State, name: &str) -> Result<SimFile> {
        let bytes = state.file(name).map(|file| file.durable.len());
        check_length("open", name, bytes.ok_or_else(|| not_found("open", name))?)?;
        let (number, words) = state.open(name).ok_or_else(|| not_found("open", name))?;
        Ok(SimFile {
            disk: self.clone(),
            number,
            name: name.to_owned(),
            words,
        })
    }

    /// Makes a range of sectors of an open file durable.
    fn sync(&self, call: Call, file: &SimFile, sectors: Range<usize>) -> Result<()> {
        let Step { verdict, mut random } = self.step(call, &file.name)?;
        if verdict == Verdict::Crash {
            return Err(crashed(call.operation(), &file.name));
        }
        // INVARIANT 1: before the first load.
        let ticket = self.lock().draw_ticket();
        let content = file
            .words
            .load(sectors.start * SECTOR_BYTES..sectors.end * SECTOR_BYTES);
        let mut state = self.on(call.operation(), &file.name)?;
        if !state.is_open(file.number, &file.words) {
            let text = "the file was damaged while it was open";
            return Err(failed(call.operation(), &file.name, io::ErrorKind::Other, text));
        }
        match verdict {
            Verdict::Fail(fault) => {
                state.sync_in_part(file.number, sectors.start, &content, ticket, &mut random);
                Err(fault.error(call, &path(&file.name)))
            }
            Verdict::Go | Verdict::Crash => {
                state.sync(file.number, sectors.start, &content, ticket);
                Ok(())
            }
        }
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("SimDisk")
            .field("names", &state.names)
            .field("is_off", &state.is_off)
            .field("tally", &state.tally)
            .finish_non_exhaustive()
    }
}

impl SimStorage {
    /// Returns the disk below.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }
}

impl Drop for SimStorage {
    fn drop(&mut self) {
        self.disk.lock().locked = false;
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimStorage").field(&self.disk).finish()
    }
}

impl Storage for SimStorage {
    fn create(&self, name: &str, bytes: usize) -> Result<Box<dyn SegmentFile>> {
        check_length("create", name, bytes)?;
        let Step { verdict, mut random } = self.disk.step(Call::Create, name)?;
        if let Verdict::Fail(fault) = verdict {
            return Err(fault.error(Call::Create, &path(name)));
        }
        if verdict == Verdict::Crash {
            let mut state = self.disk.lock();
            if state.check_room(Call::Create, name, bytes).is_ok() {
                let made = random.below(bytes / SECTOR_BYTES + 1) * SECTOR_BYTES;
                let content = state.new_content(made, &mut random);
                state.add(name, content);
            }
            return Err(crashed("create", name));
        }
        let mut state = self.disk.on("create", name)?;
        state.check_room(Call::Create, name, bytes)?;
        let content = state.new_content(bytes, &mut random);
        state.add(name, content);
        Ok(Box::new(self.disk.open_words(&mut state, name)?))
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let mut state = self.disk.on("open", name)?;
        Ok(Box::new(self.disk.open_words(&mut state, name)?))
    }

    fn write_file(&self, name: &str, parts: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        let Step { verdict, mut random } = self.disk.step(Call::Write, name)?;
        if let Verdict::Fail(fault) = verdict {
            return Err(fault.error(Call::Write, &path(name)));
        }
        let mut content = Vec::new();
        for part in parts {
            content.extend_from_slice(&part?);
            self.disk.lock().check_room(Call::Write, name, content.len())?;
        }
        if verdict == Verdict::Crash {
            content.truncate(random.below(content.len() + 1));
            for sector in content.chunks_mut(SECTOR_BYTES) {
                if random.one_in(2) {
                    sector.fill(0);
                }
            }
            let mut state = self.disk.lock();
            if state.file(name).is_none() {
                state.add(name, content);
            }
            return Err(crashed("write", name));
        }
        let mut state = self.disk.on("write", name)?;
        state.check_room(Call::Write, name, content.len())?;
        state.add(name, content);
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize> {
        drop(self.disk.whole_step(Call::Read, name)?);
        self.disk
            .copy(name, offset, into)
            .ok_or_else(|| not_found("read", name))
    }

    fn length(&self, name: &str) -> Result<u64> {
        let state = self.disk.on("read the length of", name)?;
        let file = state.file(name).ok_or_else(|| not_found("read the length of", name))?;
        Ok(file.durable.len() as u64)
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.disk.on("list", "")?.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.change_name(Call::Rename, from, Some(to))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.change_name(Call::Remove, name, None)
    }

    fn sync_directory(&self) -> Result<()> {
        self.disk.whole_step(Call::SyncDirectory, "")?.sync_names();
        Ok(())
    }

    fn sync_file(&self, name: &str) -> Result<()> {
        let open = {
            let state = self.disk.on("sync", name)?;
            let number = state.number(name).ok_or_else(|| not_found("sync", name))?;
            state.file(name).and_then(|file| file.words()).map(|words| SimFile {
                disk: self.disk.clone(),
                number,
                name: name.to_owned(),
                words,
            })
        };
        match open {
            Some(file) => {
                let sectors = 0..file.words.bytes() / SECTOR_BYTES;
                self.disk.sync(Call::SyncFile, &file, sectors)
            }
            // Nobody has written it by words: what it holds is durable.
            None => self.disk.whole_step(Call::SyncFile, name).map(drop),
        }
    }

    fn describe(&self, name: &str) -> String {
        path(name)
    }
}

impl SimStorage {
    /// Renames, or removes if there is no new name. A change during which the power fails has been made, and may survive.
    fn change_name(&self, call: Call, from: &str, to: Option<&str>) -> Result<()> {
        let verdict = self.disk.step(call, from)?.verdict;
        if let Verdict::Fail(fault) = verdict {
            return Err(fault.error(call, &path(from)));
        }
        let mut state = self.disk.lock();
        if verdict == Verdict::Go && state.is_off {
            return Err(crashed(call.operation(), from));
        }
        let number = state.number(from).ok_or_else(|| not_found(call.operation(), from))?;
        if to != Some(from) {
            state.change_name(number, Some(from), to);
        }
        match verdict {
            Verdict::Crash => Err(crashed(call.operation(), from)),
            Verdict::Go | Verdict::Fail(_) => Ok(()),
        }
    }
}

impl SegmentFile for SimFile {
    fn words(&self) -> &[Word] {
        self.words.all()
    }

    fn sync(&self, bytes: Range<usize>) -> Result<()> {
        if bytes.start > bytes.end || bytes.end > self.words.bytes() {
            let text = format!("bytes {bytes:?} are not in a file of {}", self.words.bytes());
            return Err(failed("sync", &self.name, io::ErrorKind::InvalidInput, text));
        }
        let sectors = bytes.start / SECTOR_BYTES..bytes.end.div_ceil(SECTOR_BYTES);
        self.disk.sync(Call::Sync, self, sectors)
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("name", &self.name)
            .field("bytes", &self.words.bytes())
            .finish_non_exhaustive()
    }
}

/// Refuses lengths that the contract does not have.
fn check_length(operation: &'static str, name: &str, bytes: usize) -> Result<()> {
    if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) {
        let text = format!("{bytes} bytes are no whole pages of {PAGE_BYTES}");
        return Err(failed(operation, name, io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn path(name: &str) -> String {
    if name.is_empty() {
        DIRECTORY.to_owned()
    } else {
        format!("{DIRECTORY}/{name}")
    }
}

fn failed(operation: &'static str, name: &str, kind: io::ErrorKind, text: impl Into<String>) -> Error {
    Error::Io {
        operation,
        path: path(name),
        source: io::Error::new(kind, text.into()),
    }
}

fn crashed(operation: &'static str, name: &str) -> Error {
    failed(operation, name, io::ErrorKind::Other, "crashed")
}

fn not_found(operation: &'static str, name: &str) -> Error {
    failed(operation, name, io::ErrorKind::NotFound, "there is no such file")
}
