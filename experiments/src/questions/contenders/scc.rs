//! `scc`: the `TreeIndex` of the scc crate, a concurrent B+ tree whose reads take no lock.
//!
//! A value cannot be changed in place, since a leaf that is split is copied; so an overwrite replaces the entry
//! (`upsert`), as it would for any value.
#![forbid(unsafe_code)]

use ::scc::{Guard, TreeIndex};

use super::crossbeam::arrays;
use super::{Contender, Operation, Scanned, Session, no_transactions};
use crate::engines::EngineError;
use crate::workload::{KEY_BYTES, KeySet};

/// The tree.
#[derive(Debug, Default)]
pub struct Tree {
    tree: TreeIndex<[u8; KEY_BYTES], u64>,
}

impl Contender for Tree {
    const NAME: &'static str = "scc";

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = TreeSession<'a>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self::default())
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<TreeSession<'a>, EngineError> {
        Ok(TreeSession { tree: &self.tree, keys })
    }

    fn can(operation: Operation) -> bool {
        !matches!(operation, Operation::ReadWrite | Operation::Contended)
    }
}

/// One thread's use of the tree.
#[derive(Debug)]
pub struct TreeSession<'a> {
    tree: &'a TreeIndex<[u8; KEY_BYTES], u64>,
    keys: &'a [[u8; KEY_BYTES]],
}

impl Session for TreeSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        Ok(self.tree.peek_with(&self.keys[key], |_, value| *value))
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.tree.upsert_sync(self.keys[key], value);
        Ok(())
    }

    #[inline]
    fn insert(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.tree
            .insert_sync(self.keys[key], value)
            .map_err(|_| EngineError::Foreign {
                engine: Tree::NAME,
                message: format!("key {key} is there before it was inserted"),
            })
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let guard = Guard::new();
        let mut scanned = Scanned::default();
        for (_, value) in self.tree.range(self.keys[from].., &guard).take(limit) {
            scanned.add(*value);
        }
        Ok(scanned)
    }

    no_transactions!(Tree);
}
