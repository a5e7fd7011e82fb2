//! A directory of the operating system as a [`Storage`]: its lock, its names, and what failures are called.
//!
//! Mapped files and files held in memory differ only in how the words of an open segment file are kept; that is
//! [`Content`]. Everything else is here and is the same for both.
//!
//! **The lock.** `LOCK` is an empty file that is never removed; an exclusive lock on it is held for the life of the
//! storage. It belongs to the open file and not to the process, so that two databases of one process exclude each other
//! as two processes do, and the kernel drops it when its holder dies, however that happens. It keeps out whoever asks:
//! programs that change the files without taking it are not held back (see `mmap.rs` for what that may do).
//!
//! **Blocks.** A segment file is preallocated and then filled with zeros that are synced. Preallocation alone would not
//! do: its blocks are marked as never written, and the first sync of each would have to change that mark, which is a
//! change of metadata and several writes instead of one. Filling without preallocating would do, but finds out late that
//! the disk is full, and leaves the file in more pieces. The zeros are written page by page, for the sake of mappings
//! (`mmap.rs` says why).
//!
//! **Failures.** `ENOSPC` and `EDQUOT` are [`Error::DiskFull`]. In what changes a directory or writes a file, `EROFS`,
//! `EACCES` and `EPERM` are [`Error::ReadOnly`], whose promise is that nothing was changed; a sync cannot promise that, and
//! for what only reads it is not the point, so there they are [`Error::Io`], as is everything else.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{PAGE_BYTES, SegmentFile, Storage};
use crate::error::{Error, Result};

/// The file that carries the lock.
const LOCK_NAME: &str = "LOCK";

/// Bytes of a file's parts that are written at a time: enough that the number of calls does not matter.
const WRITE_BYTES: usize = 1 << 20;

/// How the words of an open segment file are kept.
pub trait Content: SegmentFile + Sized {
    /// Takes over a file that is open for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn attach(file: OpenFile) -> Result<Self>;
}

/// A segment file: open, of a length that is a multiple of a page, with blocks behind all of it.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    bytes: usize,
    /// Whether it was made just now: zeros that are all in memory.
    is_new: bool,
    /// What it was called when it was opened.
    path: PathBuf,
}

/// A directory whose open segment files are kept as `C` says.
pub struct DirectoryStorage<C> {
    /// Absolute, so that it stays right when the process changes its working directory.
    path: PathBuf,
    /// The directory itself, for syncing its names.
    directory: File,
    /// Holds the lock until it is closed.
    _lock: File,
    _content: PhantomData<fn() -> C>,
}

impl OpenFile {
    /// Returns the open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns its length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says whether it was made just now, and not opened again.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "for mapped files"))]
    #[cfg_attr(loom, expect(dead_code, reason = "for mapped files"))]
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Names a failure to read it, or to map it.
    pub(super) fn cannot(&self, operation: &'static str, source: io::Error) -> Error {
        cannot(operation, &self.name(), source)
    }

    /// Names a failure to make a part of it durable.
    pub(super) fn cannot_sync(&self, source: io::Error) -> Error {
        cannot_sync("sync", &self.name(), source)
    }

    /// Returns its name as it is now where the system tells, for it may have been renamed since it was opened.
    fn name(&self) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).unwrap_or_else(|_| self.path.clone())
    }
}

impl<C: Content> DirectoryStorage<C> {
    /// Opens a directory, makes it first if it is missing, and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another storage has it open, in this process or another; [`Error::ReadOnly`] or
    /// [`Error::DiskFull`] if it cannot be made or written; [`Error::Io`] if its parent is missing, or it is no directory,
    /// or cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let is_new = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            // There are systems that refuse before they look.
            Err(_) if path.is_dir() => false,
            Err(error) => return Err(cannot_write("create", path, error)),
        };
        let path = fs::canonicalize(path).map_err(|error| cannot("open", path, error))?;
        let directory = open_directory(&path)?;
        let lock = lock(&path)?;
        sync_name_of(&path, is_new)?;
        Ok(Self {
            path,
            directory,
            _lock: lock,
            _content: PhantomData,
        })
    }

    /// Returns the path of a file.
    fn file(&self, name: &str) -> Result<PathBuf> {
        let mut parts = Path::new(name).components();
        let is_plain = matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none();
        if is_plain && name != LOCK_NAME {
            return Ok(self.path.join(name));
        }
        let source = io::Error::new(ErrorKind::InvalidInput, "not the name of a file");
        Err(cannot("use", &self.path.join(name), source))
    }

    fn open_to_read(&self, operation: &'static str, name: &str) -> Result<(File, PathBuf)> {
        let path = self.file(name)?;
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) => Err(cannot(operation, &path, error)),
        }
    }

    /// Makes a new file, lets `fill` write it, and syncs it; removes it if either fails.
    fn make(&self, name: &str, fill: impl FnOnce(&File, &Path) -> Result<()>) -> Result<(File, PathBuf)> {
        let path = self.file(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| cannot_write("create", &path, error))?;
        let filled =
            fill(&file, &path).and_then(|()| file.sync_all().map_err(|error| cannot_sync("create", &path, error)));
        match filled {
            Ok(()) => Ok((file, path)),
            Err(error) => {
                // The first failure is the one to tell; a file that stays behind is found by `list`.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }
}

impl<C: Content> Storage for DirectoryStorage<C> {
    fn create(&self, name: &str, bytes: usize) -> Result<Box<dyn SegmentFile>> {
        let (file, path) = self.make(name, |file, path| {
            check_length(bytes as u64)
                .and_then(|()| allocate(file, bytes))
                .and_then(|()| write_zeros(file, bytes))
                .map_err(|error| cannot_write("create", path, error))
        })?;
        Ok(Box::new(C::attach(OpenFile {
            file,
            bytes,
            is_new: true,
            path,
        })?))
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let path = self.file(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| cannot_write("open", &path, error))?;
        let length = file.metadata().map_err(|error| cannot("open", &path, error))?.len();
        check_length(length).map_err(|error| cannot("open", &path, error))?;
        let bytes =
            usize::try_from(length).map_err(|_| cannot("open", &path, io::Error::from(ErrorKind::FileTooLarge)))?;
        // A copy of a file may have holes where the file had zeros.
        allocate(&file, bytes).map_err(|error| cannot_write("open", &path, error))?;
        Ok(Box::new(C::attach(OpenFile {
            file,
            bytes,
            is_new: false,
            path,
        })?))
    }

    fn write_file(&self, name: &str, parts: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        self.make(name, |file, path| {
            let mut out = BufWriter::with_capacity(WRITE_BYTES, file);
            for part in parts {
                out.write_all(&part?)
                    .map_err(|error| cannot_write("write", path, error))?;
            }
            out.flush().map_err(|error| cannot_write("write", path, error))
        })?;
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize> {
        let (file, path) = self.open_to_read("read", name)?;
        read_at(&file, offset, into).map_err(|error| cannot("read", &path, error))
    }

    fn length(&self, name: &str) -> Result<u64> {
        let path = self.file(name)?;
        let metadata = fs::metadata(&path).map_err(|error| cannot("look at", &path, error))?;
        Ok(metadata.len())
    }

    fn list(&self) -> Result<Vec<String>> {
        let failed = |error| cannot("list", &self.path, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            // A name that is no text is none that was given here.
            if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.retain(|name| name != LOCK_NAME);
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        fs::rename(&from, to).map_err(|error| cannot_write("rename", &from, error))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name)?;
        fs::remove_file(&path).map_err(|error| cannot_write("remove", &path, error))
    }

    fn sync_directory(&self) -> Result<()> {
        self.directory
            .sync_all()
            .map_err(|error| cannot_sync("sync", &self.path, error))
    }

    fn sync_file(&self, name: &str) -> Result<()> {
        let (file, path) = self.open_to_read("sync", name)?;
        file.sync_all().map_err(|error| cannot_sync("sync", &path, error))
    }

    fn describe(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

impl<C> fmt::Debug for DirectoryStorage<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryStorage").field("path", &self.path).finish()
    }
}

/// Reads until `into` is full or the file ends; returns how many bytes were read.
pub(super) fn read_at(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn open_directory(path: &Path) -> Result<File> {
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Ok(file),
        false => Err(io::Error::from(ErrorKind::NotADirectory)),
    });
    opened.map_err(|error| cannot("open", path, error))
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_NAME);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        // It is the directory that the caller named, and that cannot be written.
        .map_err(|error| match cannot_write("lock", &path, error) {
            Error::ReadOnly { .. } => Error::ReadOnly {
                path: directory.display().to_string(),
            },
            other => other,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: directory.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(cannot("lock", &path, error)),
    }
}

/// Makes the name of the directory itself durable. A directory that was there already may be one that a process made
/// just before it died, so this is done for it too, unless its parent is closed to this user.
fn sync_name_of(directory: &Path, is_new: bool) -> Result<()> {
    let Some(parent) = directory.parent() else {
        return Ok(());
    };
    match File::open(parent) {
        Ok(file) => file.sync_all().map_err(|error| cannot_sync("sync", parent, error)),
        Err(error) if !is_new && error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(cannot("open", parent, error)),
    }
}

fn check_length(bytes: u64) -> io::Result<()> {
    if bytes > 0 && bytes.is_multiple_of(PAGE_BYTES as u64) {
        return Ok(());
    }
    let text = format!("its length of {bytes} bytes is not a multiple of {PAGE_BYTES}");
    Err(io::Error::new(ErrorKind::InvalidData, text))
}

/// Puts blocks behind the first `bytes` bytes, whose content stays as it is. A file system that has no such call gives
/// them when they are written.
#[cfg(all(target_os = "linux", not(miri)))]
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes as u64)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(any(not(target_os = "linux"), miri))]
fn allocate(_file: &File, _bytes: usize) -> io::Result<()> {
    Ok(())
}

fn write_zeros(file: &File, bytes: usize) -> io::Result<()> {
    // One page at a time, so that no folio of the page cache is larger.
    for offset in (0..bytes).step_by(PAGE_BYTES) {
        file.write_all_at(&[0; PAGE_BYTES], offset as u64)?;
    }
    Ok(())
}

/// Names a failure of something that changes a file or a directory.
fn cannot_write(operation: &'static str, path: &Path, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Error::ReadOnly {
            path: path.display().to_string(),
        },
        _ => cannot_sync(operation, path, source),
    }
}

/// Names a failure to make something durable.
fn cannot_sync(operation: &'static str, path: &Path, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull {
            operation,
            path: path.display().to_string(),
        },
        _ => cannot(operation, path, source),
    }
}

/// Names any other failure.
fn cannot(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        operation,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(all(test, not(loom)))]
#[path = "directory_tests.rs"]
mod tests;
