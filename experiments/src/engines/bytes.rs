//! What a trace replay asks of an engine: bytes of any length under keys of any length, one operation at a time.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use unlatched::RunId;

use super::{Engine, EngineError};

/// Is shown keys and values until it breaks.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An engine that stores bytes, without transactions around single operations.
pub trait ByteEngine: Engine {
    /// Overwrites or inserts.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused.
    fn put_bytes(&self, run: &RunId, key: &[u8], value: &[u8]) -> Result<(), EngineError>;

    /// Replaces the buffer's contents by the value and says whether there is one.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused.
    fn get_bytes(&self, run: &RunId, key: &[u8], buffer: &mut Vec<u8>) -> Result<bool, EngineError>;

    /// Shows every key and value of a run, in any order, until `each` breaks. Call it when nothing else runs.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused.
    fn visit(&self, run: &RunId, each: &mut Visitor<'_>) -> Result<(), EngineError>;
}
