//! The commands that look at a log: their exit statuses, and that what they print can be read by programs.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use unlatched::{Database, RunId};

const RUN: RunId = RunId::from_bytes([7; 16]);

/// A folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("unlatched-{name}-{}", std::process::id()));
        let _absent = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

fn written(folder: &Folder) {
    let database = Database::builder().path(&folder.0).strict().open().expect("opens");
    for number in 0..20 {
        database.put(RUN, format!("key {number}"), "value").expect("put");
    }
    database.shutdown().expect("shutdown");
}

fn run(arguments: &[&str], directory: &Path) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_experiments"))
        .args(arguments)
        .arg(directory)
        .output();
    command.expect("the command starts")
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn a_whole_log_is_told_with_status_0() {
    let folder = Folder::new("whole");
    written(&folder);
    for command in ["inspect", "verify"] {
        let output = run(&[command, "--json"], &folder.0);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let object = object(&output);
        assert_eq!(object["schema"], 1);
        assert!(object["damage"].is_null() && object["log"].is_string());
        let output = run(&[command], &folder.0);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
    let object = object(&run(&["inspect", "--json"], &folder.0));
    assert_eq!(object["segments"][0]["stamped"], 20);
    assert_eq!(object["segments"][0]["name"], "segment-00000001.log");
}

#[test]
fn a_damaged_log_is_told_with_status_1_and_its_place() {
    let folder = Folder::new("damaged");
    written(&folder);
    let path = folder.0.join("segment-00000001.log");
    let mut bytes = fs::read(&path).expect("it is there");
    // The second unit is the first commit's.
    bytes[4_096 + 64 + 30] ^= 1;
    fs::write(&path, bytes).expect("it can be written");
    for command in ["inspect", "verify"] {
        let output = run(&[command, "--json"], &folder.0);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert_eq!(object(&output)["damage"]["offset"], 4_160, "{command}");
    }
    let output = run(&["verify"], &folder.0);
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("corrupt at byte 4160"));
}

#[test]
fn a_folder_that_is_not_there_is_bad_input_and_one_without_a_log_is_whole() {
    let folder = Folder::new("empty");
    for command in ["inspect", "verify"] {
        let output = run(&[command], &folder.0.join("nowhere"));
        assert_eq!(output.status.code(), Some(3), "{command}");
        let output = run(&[command], &folder.0);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("no log here"));
    }
}
