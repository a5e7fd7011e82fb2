//! `bf-tree`: a concurrent B-tree with small buffered pages in front of its leaves, here with both in memory.
//!
//! Its buffer is made large enough that no page of the workload is evicted. A scan reads leaf by leaf and not one
//! moment. The library has no way to free one tree's buffer before the tree is dropped, so its memory is not compared.
#![forbid(unsafe_code)]

use ::bf_tree::{BfTree, Config, LeafInsertResult, LeafReadResult, ScanReturnField};

use super::crossbeam::arrays;
use super::{Contender, Operation, Scanned, Session, no_transactions, number};
use crate::engines::EngineError;
use crate::workload::{KEY_BYTES, KeySet};

/// Bytes of a record: a key and a number.
const RECORD_BYTES: usize = KEY_BYTES + size_of::<u64>();

/// Buffer per record: four times the record, since pages are not full and a record may be in two of them.
const BUFFER_PER_RECORD: usize = 4 * RECORD_BYTES;

/// Smallest buffer; the library's own default.
const MIN_BUFFER_BYTES: usize = 32 << 20;

/// The tree.
pub struct BfTreeSide {
    tree: BfTree,
}

impl std::fmt::Debug for BfTreeSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BfTreeSide").finish_non_exhaustive()
    }
}

fn refused(message: String) -> EngineError {
    EngineError::Foreign {
        engine: BfTreeSide::NAME,
        message,
    }
}

impl Contender for BfTreeSide {
    const NAME: &'static str = "bf-tree";

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = BfTreeSession<'a>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(capacity: usize) -> Result<Self, EngineError> {
        let buffer = (capacity * BUFFER_PER_RECORD).max(MIN_BUFFER_BYTES).next_power_of_two();
        let mut config = Config::new(":memory:", buffer);
        config.cb_min_record_size(RECORD_BYTES);
        config.cb_max_key_len(KEY_BYTES).max_fence_len(2 * KEY_BYTES);
        let tree = BfTree::with_config(config, None).map_err(|error| refused(format!("{error:?}")))?;
        Ok(Self { tree })
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<BfTreeSession<'a>, EngineError> {
        Ok(BfTreeSession { tree: &self.tree, keys })
    }

    fn can(operation: Operation) -> bool {
        !matches!(operation, Operation::ReadWrite | Operation::Contended)
    }
}

/// One thread's use of the tree.
pub struct BfTreeSession<'a> {
    tree: &'a BfTree,
    keys: &'a [[u8; KEY_BYTES]],
}

impl std::fmt::Debug for BfTreeSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BfTreeSession").finish_non_exhaustive()
    }
}

impl Session for BfTreeSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let mut buffer = [0; size_of::<u64>()];
        match self.tree.read(&self.keys[key], &mut buffer) {
            LeafReadResult::Found(length) => number(&buffer[..length as usize]).map(Some),
            LeafReadResult::NotFound | LeafReadResult::Deleted => Ok(None),
            LeafReadResult::InvalidKey => Err(refused(format!("refused to look for key {key}"))),
        }
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        match self.tree.insert(&self.keys[key], &value.to_le_bytes()) {
            LeafInsertResult::Success => Ok(()),
            LeafInsertResult::InvalidKV(reason) => Err(refused(reason)),
        }
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let mut scanned = Scanned::default();
        let mut buffer = [0; size_of::<u64>()];
        let mut records = self
            .tree
            .scan_with_count(&self.keys[from], limit, ScanReturnField::Value)
            .map_err(|error| refused(format!("{error:?}")))?;
        while let Some((_, length)) = records.next(&mut buffer) {
            scanned.add(number(&buffer[..length])?);
        }
        Ok(scanned)
    }

    no_transactions!(BfTreeSide);
}
