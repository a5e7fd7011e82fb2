//! Without the `perf-trace` feature, nothing of the tracing is in a binary.
//!
//! Method: build one example twice, with the feature and without, unoptimised, so that an absence is not owed to an
//! optimiser that found the code unused. Then look for the names that the tracing leaves in a binary: its module, the
//! histogram library, the clock library. The build with the feature must show every name, or the search proves
//! nothing; the build without it must show none.
//!
//! Cargo runs in a target folder of its own. Where it cannot run at all, the test says so and is skipped.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the tracing leaves in an unstripped binary: parts of symbol names, all absent when it is not compiled.
const TRACES: &[&str] = &["5trace9recording", "hdrhistogram", "quanta"];

/// A name that every build of the example shows, so that an empty or stripped file is not taken for a clean one.
const ALWAYS: &str = "kv_store";

const EXAMPLE: &str = "quickstart";

/// Builds the example and returns its bytes, or `None` if cargo could not be started.
fn build(features: &[&str], target: &Path) -> Option<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--package", "unlatched", "--example", EXAMPLE])
        .args(features)
        .arg("--target-dir")
        .arg(target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        // Symbol names are all that is searched for; debug information would only take time.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: cargo cannot be started here ({error})");
            return None;
        }
    };
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo could not build the example with {features:?}:\n{messages}"
    );
    let name = format!("{EXAMPLE}{}", std::env::consts::EXE_SUFFIX);
    let binary: PathBuf = target.join("debug").join("examples").join(name);
    Some(fs::read(&binary).expect("cargo built the example there"))
}

fn shows(binary: &[u8], name: &str) -> bool {
    binary.windows(name.len()).any(|window| window == name.as_bytes())
}

#[test]
#[cfg_attr(miri, ignore = "starts cargo")]
fn nothing_of_the_tracing_is_in_a_binary_without_the_feature() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("perf-trace-absent");
    let Some(with) = build(&["--features", "perf-trace"], &target) else {
        return;
    };
    let Some(without) = build(&[], &target) else { return };

    assert!(
        shows(&without, ALWAYS),
        "the example without the feature shows no symbol at all"
    );
    for name in TRACES {
        assert!(
            shows(&with, name),
            "`{name}` should be in a binary with the feature; the search is broken"
        );
        assert!(!shows(&without, name), "`{name}` is in a binary without the feature");
    }
    println!(
        "with perf-trace: {} bytes; without: {} bytes",
        with.len(),
        without.len()
    );
}
