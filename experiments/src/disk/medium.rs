//! Which file system a directory is on and which kind of device is below, read from the kernel's own files. What it
//! says names no place: neither a path nor a device.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// File systems that keep their files in memory, so that a sync there means nothing.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// What is known of a directory's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Medium {
    /// The file system, as the kernel calls it.
    pub file_system: String,
    /// Whether its files are in memory alone.
    pub in_memory: bool,
    /// Whether the device says that it has a cache which a sync must empty: `write back`, or `write through`.
    pub write_cache: Option<String>,
    /// Whether the device says that it turns.
    pub rotational: Option<bool>,
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    point: PathBuf,
    device: &'a str,
    file_system: &'a str,
}

impl Medium {
    /// Looks at the device of a directory that exists; `None` where the system does not tell.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let directory = fs::canonicalize(directory).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mount_of(&mounts, &directory)?;
        let block = Path::new("/sys/dev/block").join(mount.device);
        // A partition has its queue one level up.
        let queue = |name: &str| {
            ["queue", "../queue"].iter().find_map(|folder| {
                let text = fs::read_to_string(block.join(folder).join(name)).ok()?;
                Some(text.trim().to_owned())
            })
        };
        Some(Self {
            file_system: mount.file_system.to_owned(),
            in_memory: IN_MEMORY.contains(&mount.file_system),
            write_cache: queue("write_cache"),
            rotational: queue("rotational").map(|flag| flag == "1"),
        })
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_system)?;
        if self.in_memory {
            f.write_str(", in memory")?;
        }
        if let Some(cache) = &self.write_cache {
            write!(f, ", write cache: {cache}")?;
        }
        match self.rotational {
            Some(true) => f.write_str(", says that it turns"),
            Some(false) => f.write_str(", says that it does not turn"),
            None => Ok(()),
        }
    }
}

/// Returns the mount that a path lies in: the deepest whose point leads to it, and of several on one point the last.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<Mount<'a>> {
    mounts
        .lines()
        .filter_map(parse)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// Reads `27 1 254:0 / /point options - type source options`, where any number of fields may stand before the dash.
fn parse(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let (device, _root, point) = (before.next()?, before.next()?, before.next()?);
    Some(Mount {
        point: PathBuf::from(unescape(point)),
        device,
        file_system: after.split(' ').next()?,
    })
}

/// Undoes the kernel's escapes of blanks in paths: a backslash and three octal digits.
fn unescape(point: &str) -> String {
    let mut parts = point.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 27 0:28 / /tmp rw - tmpfs tmpfs rw
32 27 8:17 / /mnt/a\\040b rw master:2 shared:9 - xfs /dev/sdb1 rw
";

    #[test]
    fn deepest_mount_that_leads_to_a_path_is_its_own() {
        let found = |path: &str| mount_of(MOUNTS, Path::new(path)).map(|mount| (mount.device, mount.file_system));
        assert_eq!(found("/home/x"), Some(("254:0", "ext4")));
        assert_eq!(found("/tmp/x/y"), Some(("0:28", "tmpfs")));
        assert_eq!(found("/tmpx"), Some(("254:0", "ext4")));
        assert_eq!(found("/mnt/a b/c"), Some(("8:17", "xfs")));
        assert_eq!(found("relative"), None);
    }

    // Goal: what is said of a medium can be published. Method: the machine's own, and no part of a path in it.
    #[test]
    fn medium_names_no_place() {
        let Some(medium) = Medium::of(&std::env::temp_dir()) else {
            println!("skipped: the system does not tell");
            return;
        };
        assert!(!medium.to_string().contains('/'), "{medium}");
        assert!(!medium.file_system.is_empty());
    }
}
