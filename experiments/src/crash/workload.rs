//! What the threads of a life do, made from a seed before it begins.
//!
//! Every value has a number of its own, and its bytes follow from that and from its length: a value that is found says
//! who wrote it, and one that was torn or mixed with another says nothing.
//!
//! Keys are few, so that they are overwritten and deleted often. Deletes return no timestamp, so between threads the
//! order of a delete and another thread's write to the same key could not be told; with several threads each has some
//! keys of its own, and single deletes go to these. A transaction also writes a *receipt*, a key of its thread's own, by
//! which its timestamp can be read off.
#![forbid(unsafe_code)]

use std::time::Duration;

use unlatched::Durability;

use crate::workload::random::{Random, split_mix};

/// Bytes of a value that say its number and its length.
const HEAD_BYTES: usize = 16;

/// A value that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its number, another one for every value.
    pub number: u64,
    /// Its length.
    pub bytes: usize,
}

impl Content {
    /// Returns its bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes + 8);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&(self.bytes as u64).to_le_bytes());
        let mut random = Random::new(split_mix(self.number));
        while bytes.len() < self.bytes {
            bytes.extend_from_slice(&random.next_u64().to_le_bytes());
        }
        bytes.truncate(self.bytes);
        bytes
    }

    /// Returns the content that these bytes are, if they are exactly one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let content = Self {
            number,
            bytes: bytes.len(),
        };
        (content.bytes >= HEAD_BYTES && content.to_bytes() == bytes).then_some(content)
    }
}

/// A key that a transaction writes, and what; `None` deletes.
pub type KeyWrite = (Vec<u8>, Option<Content>);

/// One step of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A put.
    Put(Vec<u8>, Content),
    /// A delete.
    Delete(Vec<u8>),
    /// A compare-and-swap of what is there; or of what is not there, which must fail.
    Swap(Vec<u8>, Content, bool),
    /// A transaction: the receipt first, then the others.
    Transaction(Vec<KeyWrite>),
    /// A flush.
    Flush,
    /// A checkpoint.
    Checkpoint,
}

/// One operation, and its durability if it is not the database's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// With which durability.
    pub durability: Option<Durability>,
}

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The durability of operations that name none.
    pub durability: Durability,
    /// The length of a segment.
    pub segment_bytes: usize,
    /// After how many bytes a checkpoint is taken by itself.
    pub checkpoint_bytes: Option<u64>,
    /// Whether the database has threads of its own.
    pub has_background: bool,
}

/// What a life is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How the database is opened.
    pub settings: Settings,
    /// Most commits that the buffered mode lets wait, whoever asked for it.
    pub most_pending: usize,
    /// What each thread does.
    pub threads: Vec<Vec<Step>>,
}

/// How large a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Threads.
    pub threads: usize,
    /// Keys that all threads share, and keys that each has for itself.
    pub keys: usize,
    /// Operations of each thread.
    pub operations: usize,
    /// Whether there are checkpoints.
    pub checkpoints: bool,
    /// The first value's number.
    pub first_number: u64,
}

impl Workload {
    /// Makes the workload of a seed.
    #[must_use]
    pub fn new(seed: u64, size: &Size) -> Self {
        let mut random = Random::new(split_mix(seed));
        let most_pending = [1, 3, 10, 1_000][random.below(4) as usize];
        // One thread flushes by itself alone, so that its steps are the same every time.
        let is_alone = size.threads == 1;
        let buffered = Durability::Buffered {
            flush_interval: match is_alone {
                true => Duration::from_secs(3_600),
                false => Duration::from_micros(200 << random.below(5)),
            },
            max_pending_writes: most_pending,
        };
        let modes = [Durability::Strict, buffered, Durability::InMemory];
        let settings = Settings {
            durability: modes[[0, 0, 0, 0, 1, 1, 1, 1, 1, 2][random.below(10) as usize]],
            segment_bytes: [8 << 10, 8 << 10, 16 << 10, 64 << 10][random.below(4) as usize],
            checkpoint_bytes: (size.checkpoints && !is_alone && random.below(2) == 0).then_some(32 << 10),
            has_background: !is_alone && random.below(4) > 0,
        };
        let mut makers = Maker {
            random,
            modes,
            size: *size,
            next_number: size.first_number,
        };
        let threads = (0..size.threads).map(|thread| makers.thread(thread)).collect();
        Self {
            settings,
            most_pending,
            threads,
        }
    }

    /// Returns the first number that no value of it has.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        let numbers = self.threads.iter().flatten().flat_map(|step| match &step.operation {
            Operation::Put(_, content) | Operation::Swap(_, content, _) => vec![content.number],
            Operation::Transaction(writes) => {
                let contents = writes.iter().filter_map(|(_, content)| content.as_ref());
                contents.map(|content| content.number).collect()
            }
            Operation::Delete(_) | Operation::Flush | Operation::Checkpoint => Vec::new(),
        });
        numbers.max().map_or(1, |number| number + 1)
    }
}

/// The key of a thread's receipts.
#[must_use]
pub fn receipt_key(thread: usize) -> Vec<u8> {
    format!("receipt {thread}").into_bytes()
}

/// What makes the steps.
struct Maker {
    random: Random,
    modes: [Durability; 3],
    size: Size,
    next_number: u64,
}

impl Maker {
    fn thread(&mut self, thread: usize) -> Vec<Step> {
        (0..self.size.operations).map(|_| self.step(thread)).collect()
    }

    fn step(&mut self, thread: usize) -> Step {
        let operation = match self.random.below(100) {
            0..38 => Operation::Put(self.key(thread), self.content()),
            38..50 => Operation::Delete(self.own_key(thread)),
            50..62 => {
                let is_right = self.random.below(5) > 0;
                Operation::Swap(self.key(thread), self.content(), is_right)
            }
            62..88 => Operation::Transaction(self.writes(thread)),
            88..96 => Operation::Flush,
            _ if self.size.checkpoints => Operation::Checkpoint,
            _ => Operation::Flush,
        };
        let has_durability = !matches!(operation, Operation::Flush | Operation::Checkpoint);
        let overrides = has_durability && self.random.below(3) == 0;
        Step {
            operation,
            durability: overrides.then(|| self.modes[self.random.below(3) as usize]),
        }
    }

    fn writes(&mut self, thread: usize) -> Vec<KeyWrite> {
        let mut writes = vec![(receipt_key(thread), Some(self.content()))];
        for _ in 0..=self.random.below(4) {
            let key = self.key(thread);
            if writes.iter().all(|(other, _)| *other != key) {
                let content = (self.random.below(4) > 0).then(|| self.content());
                writes.push((key, content));
            }
        }
        writes
    }

    fn key(&mut self, thread: usize) -> Vec<u8> {
        if self.size.threads > 1 && self.random.below(3) == 0 {
            return self.own_key(thread);
        }
        let number = self.random.below(self.size.keys as u64);
        format!("key {number}").into_bytes()
    }

    /// A key that no other thread writes.
    fn own_key(&mut self, thread: usize) -> Vec<u8> {
        let number = self.random.below(self.size.keys as u64);
        match self.size.threads {
            1 => format!("key {number}").into_bytes(),
            _ => format!("own {thread} {number}").into_bytes(),
        }
    }

    /// Mostly short, some longer than sectors, few longer than a segment.
    fn content(&mut self) -> Content {
        let number = self.next_number;
        self.next_number += 1;
        let longest = match self.random.below(60) {
            0 => 20_000,
            1..6 => 3_000,
            6..20 => 600,
            _ => 60,
        };
        Content {
            number,
            bytes: HEAD_BYTES + self.random.below(longest) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SIZE: Size = Size {
        threads: 2,
        keys: 5,
        operations: 400,
        checkpoints: true,
        first_number: 100,
    };

    #[test]
    fn a_seed_makes_one_workload() {
        assert_eq!(Workload::new(1, &SIZE), Workload::new(1, &SIZE));
        assert_ne!(Workload::new(1, &SIZE), Workload::new(2, &SIZE));
    }

    #[test]
    fn bytes_are_a_content_or_nothing() {
        for bytes in [16, 17, 600, 20_016] {
            let content = Content { number: 7, bytes };
            let mut made = content.to_bytes();
            assert_eq!(made.len(), bytes);
            assert_eq!(Content::from_bytes(&made), Some(content));
            assert_eq!(Content::from_bytes(&made[..bytes - 1]), None);
            made[bytes - 1] ^= 1;
            assert_eq!(Content::from_bytes(&made), None);
        }
        assert_eq!(Content::from_bytes(&[]), None);
    }

    /// Numbers are never used twice, deletes stay with their thread, and every kind of step with every mode occurs.
    #[test]
    fn steps_are_as_the_judge_needs_them() {
        let workload = Workload::new(3, &SIZE);
        let mut numbers = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        for (thread, steps) in workload.threads.iter().enumerate() {
            for step in steps {
                let durability = step.durability.map(|durability| format!("{durability:?}"));
                let contents: Vec<Content> = match &step.operation {
                    Operation::Put(_, content) | Operation::Swap(_, content, _) => vec![*content],
                    Operation::Transaction(writes) => {
                        assert_eq!(writes[0].0, receipt_key(thread));
                        let keys: BTreeSet<&Vec<u8>> = writes.iter().map(|write| &write.0).collect();
                        assert_eq!(keys.len(), writes.len());
                        writes.iter().filter_map(|write| write.1).collect()
                    }
                    Operation::Delete(key) => {
                        assert!(key.starts_with(format!("own {thread} ").as_bytes()));
                        Vec::new()
                    }
                    Operation::Flush | Operation::Checkpoint => Vec::new(),
                };
                for content in contents {
                    assert!(content.number >= 100 && content.number < workload.next_number());
                    assert!(numbers.insert(content.number), "{} twice", content.number);
                }
                kinds.insert((std::mem::discriminant(&step.operation).hash_text(), durability));
            }
        }
        // Four kinds with four choices each, and two without any.
        assert_eq!(kinds.len(), 18, "{kinds:?}");
    }

    trait HashText {
        fn hash_text(&self) -> String;
    }

    impl HashText for std::mem::Discriminant<Operation> {
        fn hash_text(&self) -> String {
            format!("{self:?}")
        }
    }

    #[test]
    fn a_single_thread_has_a_database_without_threads() {
        for seed in 0..50 {
            let workload = Workload::new(seed, &Size { threads: 1, ..SIZE });
            assert!(!workload.settings.has_background);
            assert_eq!(workload.settings.checkpoint_bytes, None);
        }
    }
}
