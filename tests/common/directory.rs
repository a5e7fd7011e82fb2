//! A directory of a test's own, which is removed with it.

use std::fs;
use std::path::{Path, PathBuf};

use unlatched::RunId;

/// Removed when dropped, unless the test failed.
pub(crate) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// Returns a name in the system's temporary directory under which nothing is yet.
    #[allow(clippy::new_without_default, reason = "each one is another")]
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("unlatched-test-{}", RunId::new())))
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
