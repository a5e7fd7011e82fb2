//! A directory that is only looked at: no lock is taken and nothing is written, so that a log can be inspected where it
//! lies, also one that is damaged or belongs to somebody else.
//!
//! What a running database writes meanwhile may be seen in part. Syncs succeed and do nothing: whoever only looks
//! promises nothing to anybody.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::{SegmentFile, Storage};
use crate::error::{Error, Result};

/// A directory of files that cannot be written through this.
#[derive(Debug)]
pub struct ReadOnlyStorage {
    directory: PathBuf,
}

impl ReadOnlyStorage {
    /// Opens a directory that exists.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be listed.
    pub fn open(directory: &Path) -> Result<Self> {
        let storage = Self {
            directory: directory.to_owned(),
        };
        storage.list()?;
        Ok(storage)
    }

    fn refuse<T>(&self, name: &str) -> Result<T> {
        Err(Error::ReadOnly {
            path: self.describe(name),
        })
    }

    fn failed(&self, operation: &'static str, name: &str) -> impl Fn(io::Error) -> Error {
        let path = self.describe(name);
        move |source| Error::Io {
            operation,
            path: path.clone(),
            source,
        }
    }
}

impl Storage for ReadOnlyStorage {
    fn create(&self, name: &str, _bytes: usize) -> Result<Box<dyn SegmentFile>> {
        self.refuse(name)
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        self.refuse(name)
    }

    fn write_file(&self, name: &str, _parts: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        self.refuse(name)
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize> {
        let failed = self.failed("read", name);
        let mut file = File::open(self.directory.join(name)).map_err(&failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(&failed)?;
        let mut filled = 0;
        while filled < into.len() {
            match file.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(filled)
    }

    fn length(&self, name: &str) -> Result<u64> {
        let file = fs::metadata(self.directory.join(name)).map_err(self.failed("look at", name))?;
        Ok(file.len())
    }

    fn list(&self) -> Result<Vec<String>> {
        let failed = self.failed("list", "");
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            // Names that are no text are none of ours.
            let name = entry.file_name().into_string().ok();
            if entry.file_type().map_err(&failed)?.is_file() {
                names.extend(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, _to: &str) -> Result<()> {
        self.refuse(from)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.refuse(name)
    }

    fn sync_directory(&self) -> Result<()> {
        Ok(())
    }

    fn sync_file(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_and_never_written() {
        let directory = std::env::temp_dir().join(format!("unlatched-read-only-{}", std::process::id()));
        fs::create_dir_all(directory.join("folder")).expect("a folder can be made");
        fs::write(directory.join("b"), b"0123456789").expect("a file can be written");
        fs::write(directory.join("a"), b"").expect("a file can be written");
        let storage = ReadOnlyStorage::open(&directory).expect("it is there");
        assert_eq!(storage.list().expect("it is there"), ["a", "b"]);
        assert_eq!(storage.length("b").expect("it is there"), 10);
        let mut bytes = [0; 8];
        assert_eq!(storage.read("b", 4, &mut bytes).expect("it is there"), 6);
        assert_eq!(&bytes[..6], b"456789");
        assert!(matches!(
            storage.read("c", 0, &mut bytes),
            Err(Error::Io { operation: "read", .. })
        ));
        assert!(matches!(storage.create("c", 4_096), Err(Error::ReadOnly { .. })));
        assert!(matches!(storage.rename("b", "c"), Err(Error::ReadOnly { .. })));
        assert!(matches!(storage.remove("b"), Err(Error::ReadOnly { .. })));
        let write = storage.write_file("c", &mut std::iter::empty());
        assert!(matches!(write, Err(Error::ReadOnly { .. })));
        assert_eq!(storage.list().expect("it is there"), ["a", "b"]);
        fs::remove_dir_all(&directory).expect("it is ours");
        assert!(matches!(ReadOnlyStorage::open(&directory), Err(Error::Io { .. })));
    }
}
