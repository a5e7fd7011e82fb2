//! The one error type. Variants say what a caller can do about them: retry, correct the call, or stop.
//!
//! One public type rather than one per layer, because callers hold a [`Database`](crate::Database) and see
//! every layer through it; it is `#[non_exhaustive]`, so that a new failure is not a breaking change.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::types::{Key, Timestamp};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and to which key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another commit wrote `key` after this transaction's snapshot. Nothing was written; run it again.
    #[error("conflict on key {key}: it was committed by another after this transaction began; retry the transaction")]
    Conflict {
        /// The key that both wrote.
        key: Box<Key>,
    },
    /// A compare-and-swap met another version than it expected. Nothing was written; read again, then decide.
    #[error("version mismatch on key {key}: expected {expected}, found {actual} (0 is an absent key)")]
    VersionMismatch {
        /// The key that was to be swapped.
        key: Box<Key>,
        /// What the caller expected.
        expected: Timestamp,
        /// The newest commit of the key, or [`Timestamp::ABSENT`].
        actual: Timestamp,
    },
    /// A key of no bytes.
    #[error("the key is empty; a key has at least one byte")]
    EmptyKey,
    /// A key longer than [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
    #[error("the key has {len} bytes; at most {max} are possible")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A value longer than [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES).
    #[error("the value has {len} bytes as encoded; at most {max} are possible")]
    ValueTooLarge {
        /// Its encoded length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Bytes that no [`Value`](crate::Value) encodes to were found where one was expected.
    #[error("the stored bytes are no value: {reason} at byte {offset}")]
    InvalidValue {
        /// Where decoding stopped, in bytes.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
    /// A commit whose record is longer than the log takes. Nothing of it was written; split it.
    #[error("the commit takes {bytes} bytes in the log; at most {max} are possible: split it")]
    CommitTooLarge {
        /// Bytes that its record would have.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The log failed to make something durable, for `cause`, and what is on the disk since is unknown: nothing more is
    /// made durable until the database is opened again. Reads go on, and what was acknowledged before is safe.
    #[error("the log is poisoned and takes no more durable commits; open the database again. First cause: {cause}")]
    Poisoned {
        /// The first failure.
        cause: std::sync::Arc<Error>,
    },
    /// An operation of the operating system on `path` failed.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was attempted, such as "create" or "sync".
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no room left on the device. What was there before is intact; make room and try again.
    #[error("no room on the device to {operation} {path}; make room and try again")]
    DiskFull {
        /// What was attempted.
        operation: &'static str,
        /// The file or directory.
        path: String,
    },
    /// The directory or file cannot be written; the data in it is as it was.
    #[error("{path} is read-only, or this user may not write there")]
    ReadOnly {
        /// The file or directory.
        path: String,
    },
    /// Another process, or another database of this one, has the directory open.
    #[error("{path} is open already, here or in another process; a directory has one database at a time")]
    Locked {
        /// The directory.
        path: String,
    },
    /// A file of another format version than this build reads. It was not touched.
    #[error("{path} has format version {found}; this build reads {supported}")]
    FormatVersion {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The version of this build.
        supported: u32,
    },
    /// What was durable is damaged: recovery would lose acknowledged commits, so nothing was opened or changed.
    #[error("{segment} is corrupt at byte {offset}: {reason}; restore it from a copy")]
    Corrupt {
        /// The segment or checkpoint file.
        segment: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The database was shut down; open it again.
    #[error("the database is shut down; open it again")]
    Closed,
    /// The options contradict themselves or the machine; the text says which and what would do.
    #[error("invalid options: {0}")]
    InvalidOptions(String),
    /// A call that makes no sense in the present state, such as writing in a finished transaction.
    #[error("invalid operation: {0}")]
    InvalidOperation(String),
    /// A transaction was tried as often, or for as long, as its [`RetryConfig`](crate::RetryConfig) allows and met a
    /// conflict each time.
    #[error("gave up after {attempts} attempts in {elapsed:?}: {last}")]
    RetriesExhausted {
        /// How often the transaction ran.
        attempts: u32,
        /// How long all attempts took together.
        elapsed: Duration,
        /// The last conflict.
        #[source]
        last: Box<Error>,
    },
    /// A closure given to `transaction` failed for a reason of its own; the transaction was aborted.
    #[error("{0}")]
    User(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an application's own error, so that a transaction's closure can return it.
    pub fn user(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::User(error.into())
    }

    /// Says whether running the same transaction again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Returns the key of a conflict or mismatch.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Conflict { key } | Self::VersionMismatch { key, .. } => Some(key),
            Self::RetriesExhausted { last, .. } => last.key(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RunId, TypeTag};

    #[test]
    fn a_conflict_names_its_key_and_asks_for_a_retry() {
        let key = Key::new(&RunId::from_bytes([1; 16]), TypeTag::KV, b"cart/7");
        let error = Error::Conflict { key: Box::new(key) };
        assert!(error.is_retryable());
        assert!(error.to_string().contains("cart/7"), "{error}");
        assert!(error.to_string().contains("retry"), "{error}");
        assert!(!Error::EmptyKey.is_retryable());
    }
}
