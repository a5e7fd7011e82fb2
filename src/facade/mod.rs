//! Typed views of a database: what an application stores, rather than bytes under keys.
//!
//! A facade is a handle to the [`Database`](crate::Database) and nothing else, so it costs nothing to make, to clone
//! or to drop, and any number of them may look at the same run. Facades never call one another; an application that
//! needs two of them at once combines their extension traits in one transaction. Each facade keeps its records
//! under a [`TypeTag`](crate::TypeTag) of its own, so that two facades never see each other's keys.
#![forbid(unsafe_code)]

mod kv_store;

pub use self::kv_store::{KVStore, KVStoreExt, KVTransaction};
