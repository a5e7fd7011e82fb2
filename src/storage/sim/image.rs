//! The two images of a simulated disk: files, their names, and how one image follows the other.
//!
//! Everything here is plain data behind the disk's lock, except [`Words`], the volatile content of a file that has been
//! opened to be written by words. A file that was never opened so has no volatile content of its own.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::plan::{Call, Fault, FaultPlan, Random, SimTally, Survivors, Verdict};
use super::{PAGE_BYTES, SECTOR_BYTES, Word, failed, order, path};
use crate::error::Result;

/// Contents of removed files that are kept to be found again in new ones.
const SCRAPS: usize = 8;

const WORD_BYTES: usize = size_of::<u64>();

const _: () = assert!(SECTOR_BYTES.is_multiple_of(WORD_BYTES));
const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES));

/// The volatile content of an open file.
pub(super) struct Words(Box<[Word]>);

impl Words {
    fn new(content: &[u8]) -> Self {
        let (words, _) = content.as_chunks::<WORD_BYTES>();
        Self(words.iter().map(|word| Word::new(u64::from_le_bytes(*word))).collect())
    }

    pub(super) fn all(&self) -> &[Word] {
        &self.0
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * WORD_BYTES
    }

    /// Loads a range of bytes, and no word beyond it.
    pub(super) fn load(&self, bytes: Range<usize>) -> Vec<u8> {
        let first = bytes.start / WORD_BYTES;
        let words = &self.0[first..bytes.end.div_ceil(WORD_BYTES).max(first)];
        // ORDERING: Relaxed; the module's essay says why nothing depends on it.
        let loaded = words.iter().flat_map(|word| word.load(order::COUNT).to_le_bytes());
        loaded.skip(bytes.start % WORD_BYTES).take(bytes.len()).collect()
    }
}

/// A file.
pub(super) struct File {
    pub(super) durable: Vec<u8>,
    open: Option<Open>,
}

/// What is known of a file that has been opened to be written by words.
struct Open {
    words: Arc<Words>,
    /// Of each sector, the ticket of its durable content.
    tickets: Vec<u64>,
    /// Contents that a failed sync did not make durable and that count as clean since.
    dropped: BTreeMap<usize, Vec<u8>>,
}

impl Open {
    fn new(words: Arc<Words>) -> Self {
        Self {
            tickets: vec![0; words.bytes() / SECTOR_BYTES],
            words,
            dropped: BTreeMap::new(),
        }
    }
}

impl File {
    fn new(durable: Vec<u8>) -> Self {
        Self { durable, open: None }
    }

    pub(super) fn words(&self) -> Option<Arc<Words>> {
        self.open.as_ref().map(|open| Arc::clone(&open.words))
    }

    /// Whether someone besides the disk has the words.
    fn is_in_use(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| Arc::strong_count(&open.words) > 1)
    }

    /// Makes a sector's content durable, unless a later one is.
    fn put(&mut self, sector: usize, content: &[u8], ticket: u64) {
        let Some(open) = &mut self.open else { return };
        // INVARIANT 1.
        if open.tickets[sector] < ticket {
            open.tickets[sector] = ticket;
            open.dropped.remove(&sector);
            self.durable[range(sector)].copy_from_slice(content);
        }
    }
}

/// The bytes of a sector.
fn range(sector: usize) -> Range<usize> {
    sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES
}

/// A sector whose volatile content differs from the durable one.
#[derive(Clone, Debug)]
pub(super) struct Dirty {
    file: u64,
    sector: usize,
    content: Vec<u8>,
}

/// A change of a file's name: made, given another one, or removed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    file: u64,
    from: Option<String>,
    to: Option<String>,
}

impl Change {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.from.as_deref().into_iter().chain(self.to.as_deref())
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.file);
        }
    }
}

/// All of a disk.
#[derive(Default)]
pub(super) struct State {
    files: BTreeMap<u64, File>,
    files_so_far: u64,
    /// The volatile directory.
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// What leads from the durable directory to the volatile one.
    pub(super) changes: Vec<Change>,
    /// Grows with every change of the durable image and of names.
    pub(super) changes_so_far: u64,
    tickets_so_far: u64,
    scraps: Vec<Vec<u8>>,
    pub(super) locked: bool,
    pub(super) is_off: bool,
    /// The volatile contents at the moment of the crash.
    pub(super) frozen: Option<Arc<[Dirty]>>,
    pub(super) plan: FaultPlan,
    pub(super) tally: SimTally,
}

impl State {
    /// Counts a step; returns its number and what the plan says.
    pub(super) fn count(&mut self, call: Call) -> (u64, Verdict) {
        self.tally.steps += 1;
        self.tally.syncs += u64::from(call.syncs_contents());
        let verdict = self.plan.judge(call, self.tally.steps, self.tally.syncs);
        self.tally.faults += u64::from(matches!(verdict, Verdict::Fail(_)));
        (self.tally.steps, verdict)
    }

    /// Returns a ticket greater than all before.
    pub(super) fn draw_ticket(&mut self) -> u64 {
        self.tickets_so_far += 1;
        self.tickets_so_far
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn file(&self, name: &str) -> Option<&File> {
        self.files.get(&self.number(name)?)
    }

    /// Says whether these are a file's words.
    pub(super) fn is_open(&self, number: u64, words: &Arc<Words>) -> bool {
        let open = self.files.get(&number).and_then(|file| file.open.as_ref());
        open.is_some_and(|open| Arc::ptr_eq(&open.words, words))
    }

    /// Refuses a new file whose name is taken or for which there is no room.
    pub(super) fn check_room(&mut self, call: Call, name: &str, bytes: usize) -> Result<()> {
        if self.names.contains_key(name) {
            let text = "there is a file of that name";
            return Err(failed(call.operation(), name, io::ErrorKind::AlreadyExists, text));
        }
        self.drop_unreachable();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let used = self
            .files
            .iter()
            .filter(|(number, file)| named.contains(number) || file.is_in_use())
            .fold(bytes as u64, |used, (_, file)| {
                used.saturating_add(file.durable.len() as u64)
            });
        if !self.plan.has_room(used) {
            self.tally.faults += 1;
            return Err(Fault::Full.error(call, &path(name)));
        }
        Ok(())
    }

    /// Returns what a new file holds.
    pub(super) fn new_content(&self, bytes: usize, random: &mut Random) -> Vec<u8> {
        let mut content = vec![0; bytes];
        let Some(seed) = self.plan.stale_seed() else {
            return content;
        };
        let mut random = Random::new(seed ^ random.next());
        let scrap = self.scraps.get(random.below(self.scraps.len().max(1)));
        for (sector, bytes) in content.chunks_mut(SECTOR_BYTES).enumerate() {
            let scrap = scrap.and_then(|scrap| scrap.get(range(sector)));
            match (random.below(8), scrap) {
                (0, _) => {}
                (2.., Some(scrap)) => bytes.copy_from_slice(scrap),
                _ => bytes.fill_with(|| random.next() as u8),
            }
        }
        content
    }

    /// Makes a file, whose content is durable and whose name is not.
    pub(super) fn add(&mut self, name: &str, content: Vec<u8>) {
        self.files_so_far += 1;
        let number = self.files_so_far;
        self.files.insert(number, File::new(content));
        self.change_name(number, None, Some(name));
    }

    /// Opens a file to be written by words; returns its number and its words, the same for all openings.
    pub(super) fn open(&mut self, name: &str) -> Option<(u64, Arc<Words>)> {
        let number = self.number(name)?;
        let File { durable, open } = self.files.get_mut(&number)?;
        let open = open.get_or_insert_with(|| Open::new(Arc::new(Words::new(durable))));
        Some((number, Arc::clone(&open.words)))
    }

    /// Gives a file other content, durably; words that are open belong to it no more.
    pub(super) fn replace(&mut self, name: &str, content: Vec<u8>) -> bool {
        let file = self.number(name).and_then(|number| self.files.get_mut(&number));
        let found = file.map(|file| *file = File::new(content)).is_some();
        self.changes_so_far += u64::from(found);
        found
    }

    /// Changes a file's name, in the volatile directory.
    pub(super) fn change_name(&mut self, file: u64, from: Option<&str>, to: Option<&str>) {
        let change = Change {
            file,
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        change.apply(&mut self.names);
        self.changes.push(change);
        self.changes_so_far += 1;
    }

    /// Makes all changes of names durable.
    pub(super) fn sync_names(&mut self) {
        self.durable_names.clone_from(&self.names);
        self.changes.clear();
        self.changes_so_far += 1;
        self.drop_unreachable();
    }

    /// Files that have a name, or would if the changes that a crash chose survived.
    fn reachable(&self) -> BTreeSet<u64> {
        let named = self.names.values().chain(self.durable_names.values()).copied();
        named.chain(self.changes.iter().map(|change| change.file)).collect()
    }

    /// Forgets the files that nobody can reach any more, except for their bytes.
    fn drop_unreachable(&mut self) {
        let reachable = self.reachable();
        let scraps = &mut self.scraps;
        self.files.retain(|number, file| {
            let stays = reachable.contains(number) || file.is_in_use();
            if !stays {
                scraps.push(std::mem::take(&mut file.durable));
            }
            stays
        });
        scraps.drain(..scraps.len().saturating_sub(SCRAPS));
    }

    /// Makes consecutive sectors durable, except for what counts as clean.
    pub(super) fn sync(&mut self, number: u64, first: usize, content: &[u8], ticket: u64) {
        self.changes_so_far += 1;
        let Some(file) = self.files.get_mut(&number) else {
            return;
        };
        for (sector, content) in (first..).zip(content.chunks(SECTOR_BYTES)) {
            let dropped = file.open.as_ref().and_then(|open| open.dropped.get(&sector));
            if dropped.is_none_or(|dropped| dropped != content) {
                file.put(sector, content, ticket);
            }
        }
    }

    /// Makes a random subset of consecutive sectors durable; the rest counts as clean from now on.
    pub(super) fn sync_in_part(&mut self, number: u64, first: usize, content: &[u8], ticket: u64, random: &mut Random) {
        self.changes_so_far += 1;
        let Some(file) = self.files.get_mut(&number) else {
            return;
        };
        for (sector, content) in (first..).zip(content.chunks(SECTOR_BYTES)) {
            if random.one_in(2) {
                file.put(sector, content, ticket);
            } else if let Some(open) = &mut file.open
                && file.durable[range(sector)] != *content
            {
                open.dropped.insert(sector, content.to_vec());
            }
        }
    }

    /// Makes a random subset of these sectors durable.
    pub(super) fn write_back(&mut self, dirty: &[Dirty], ticket: u64, random: &mut Random) {
        self.changes_so_far += 1;
        for dirty in dirty {
            if random.one_in(2)
                && let Some(file) = self.files.get_mut(&dirty.file)
            {
                file.put(dirty.sector, &dirty.content, ticket);
                self.tally.early_sectors += 1;
            }
        }
    }

    /// The files that a crash may leave and that have volatile contents.
    pub(super) fn open_files(&self) -> Vec<(u64, Arc<Words>)> {
        let reachable = self.reachable();
        let files = self.files.iter().filter(|(number, _)| reachable.contains(number));
        files
            .filter_map(|(number, file)| Some((*number, file.words()?)))
            .collect()
    }

    /// The sectors of volatile contents that differ from the durable image.
    pub(super) fn differing(&self, contents: &[(u64, Vec<u8>)]) -> Vec<Dirty> {
        let mut dirty = Vec::new();
        for (number, content) in contents {
            let Some(file) = self.files.get(number) else { continue };
            for (sector, content) in content.chunks(SECTOR_BYTES).enumerate() {
                if file.durable[range(sector)] != *content {
                    dirty.push(Dirty {
                        file: *number,
                        sector,
                        content: content.to_vec(),
                    });
                }
            }
        }
        dirty
    }

    /// The disk after a crash.
    pub(super) fn survived(&self, dirty: &[Dirty], survivors: &Survivors) -> Self {
        let survives = survivors.choose(dirty.len() + self.changes.len());
        let (sectors, changes) = survives.split_at(dirty.len());
        let mut after = Self {
            scraps: self.scraps.clone(),
            files_so_far: self.files_so_far,
            ..Self::default()
        };
        let mut names = self.durable_names.clone();
        let mut lost = BTreeSet::new();
        for (change, survives) in self.changes.iter().zip(changes) {
            if *survives && !change.names().any(|name| lost.contains(name)) {
                change.apply(&mut names);
                after.tally.kept_names += 1;
            } else {
                lost.extend(change.names());
                after.tally.lost_names += 1;
            }
        }
        for (number, file) in &self.files {
            after.files.insert(*number, File::new(file.durable.clone()));
        }
        for (dirty, survives) in dirty.iter().zip(sectors) {
            let file = after.files.get_mut(&dirty.file);
            if let Some(file) = file.filter(|_| *survives) {
                file.durable[range(dirty.sector)].copy_from_slice(&dirty.content);
                after.tally.kept_sectors += 1;
            } else {
                after.tally.lost_sectors += 1;
            }
        }
        after.durable_names.clone_from(&names);
        after.names = names;
        after.drop_unreachable();
        after
    }

    /// The disk after the process was killed: the page cache stays.
    pub(super) fn killed(&self, dirty: &[Dirty]) -> Self {
        let mut after = Self {
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            changes: self.changes.clone(),
            scraps: self.scraps.clone(),
            files_so_far: self.files_so_far,
            ..Self::default()
        };
        for (number, file) in &self.files {
            let mut volatile = file.durable.clone();
            for dirty in dirty.iter().filter(|dirty| dirty.file == *number) {
                volatile[range(dirty.sector)].copy_from_slice(&dirty.content);
            }
            let mut copy = File::new(file.durable.clone());
            copy.open = file.open.as_ref().map(|open| Open {
                dropped: open.dropped.clone(),
                ..Open::new(Arc::new(Words::new(&volatile)))
            });
            after.files.insert(*number, copy);
        }
        after.drop_unreachable();
        after
    }
}
