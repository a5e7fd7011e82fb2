//! Engines that keep what they are told: what the checks of durability ask of one.
#![forbid(unsafe_code)]

use unlatched::{Durability, RunId};

use super::EngineError;
use super::bytes::ByteEngine;
use crate::disk::place::Place;

/// An engine whose contents outlive it. The bytes of [`ByteEngine`] are those that are kept; what sessions put is kept
/// as well, on the layers that have a database.
///
/// Every method returns what the engine refused as an error.
pub trait Durable: ByteEngine {
    /// Opens what is kept at a place; what an operation promises that names nothing else is `durability`. Sessions load
    /// faster than that and lose none of it at a shutdown.
    fn open_at(place: &Place, durability: Durability) -> Result<Self, EngineError>;

    /// Returns what a database promises that is opened without a word about it.
    fn default_durability() -> Durability;

    /// Overwrites or inserts, with this durability.
    fn put_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError>;

    /// Deletes, with this durability; says whether the key was there.
    fn delete_as(&self, run: &RunId, key: &[u8], durability: Durability) -> Result<bool, EngineError>;

    /// Inserts if the key is absent, with this durability.
    fn insert_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError>;

    /// Puts one value under several keys in one transaction, with this durability.
    fn transact_as(&self, run: &RunId, keys: &[&[u8]], value: &[u8], durability: Durability)
    -> Result<(), EngineError>;

    /// Makes everything durable that is to be.
    fn flush(&self) -> Result<(), EngineError>;

    /// Shuts down, gracefully: nothing that was acknowledged is lost.
    fn shut_down(&self) -> Result<(), EngineError>;
}
