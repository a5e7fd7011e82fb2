//! A directory of a measurement's own, and copies of one that is in use.
//!
//! The directory is removed when it is dropped. A process that is killed leaves it behind; its name says whose it was.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use unlatched::RunId;

/// How the name of every such directory begins.
const NAME: &str = "unlatched-experiments";

/// A directory that is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    /// Makes an empty directory under `parent`.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn under(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!("{NAME}-{}", RunId::new()));
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // There is nobody to tell, and the system's temporary directory is swept by others.
        let _left = fs::remove_dir_all(&self.path);
    }
}

/// Copies the files of `from`, and those of its directories one level down, into `to`. Files whose name goes away
/// meanwhile are left out: in a log's directory these are the ones that have no name of their own yet.
///
/// # Errors
///
/// What the file system says.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
            continue;
        }
        match fs::copy(entry.path(), &target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_holds_the_files_and_both_are_removed() {
        let paths = {
            let parent = std::env::temp_dir();
            let from = TemporaryDirectory::under(&parent).expect("the temporary directory is writable");
            let to = TemporaryDirectory::under(&parent).expect("the temporary directory is writable");
            fs::create_dir(from.path().join("inner")).expect("it is new");
            fs::write(from.path().join("inner").join("file"), b"bytes").expect("it is new");
            fs::write(from.path().join("file"), b"").expect("it is new");
            copy(from.path(), to.path()).expect("nobody is in the way");
            let read = fs::read(to.path().join("inner").join("file")).expect("it was copied");
            assert_eq!(read, b"bytes");
            assert!(to.path().join("file").exists());
            [from.path().to_path_buf(), to.path().to_path_buf()]
        };
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
