//! The source tree keeps its own rules: who may import whom, where unsafe code and atomics may be, how long a
//! file may grow.
//!
//! A rule that only a document states is broken by the third change. This test reads every file under `src/`, takes
//! out comments, texts and test modules, and compares what is left with the tables below. It is a scan and no
//! parser: `crate::` and `super::` paths are found wherever they stand, `use` lists included.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, and what each may import. What is not listed is forbidden; a layer may always import itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("types", &[]),
    ("error", &["types", "sync"]),
    ("stats", &["types", "sync"]),
    ("trace", &["types", "sync"]),
    ("options", &["types", "sync", "error"]),
    ("value", &["types", "sync", "error"]),
    ("reclaim", &["sync"]),
    ("index", &["reclaim", "sync", "types"]),
    (
        "mvcc",
        &["index", "reclaim", "sync", "types", "error", "stats", "trace"],
    ),
    ("storage", &["sync", "types", "error"]),
    (
        "log",
        &["storage", "reclaim", "sync", "types", "error", "stats", "trace"],
    ),
    (
        "commit",
        &[
            "mvcc", "log", "storage", "options", "types", "error", "stats", "trace", "sync",
        ],
    ),
    ("recovery", BRIDGE),
    ("checkpoint", BRIDGE),
    (
        "opening",
        &[
            "commit",
            "recovery",
            "checkpoint",
            "mvcc",
            "log",
            "storage",
            "options",
            "types",
            "error",
        ],
    ),
    ("background", &["commit", "checkpoint", "error", "sync"]),
    ("snapshot", &["commit", "mvcc", "types", "error"]),
    (
        "transaction",
        &[
            "snapshot",
            "commit",
            "mvcc",
            "options",
            "types",
            "value",
            "error",
            "write_set",
        ],
    ),
    ("write_set", &["mvcc", "types"]),
    ("database", EVERYTHING_BELOW_DATABASE),
    ("facade", &["database", "transaction", "types", "value", "error"]),
];

/// What the modules between the memory half and the disk half may import. `commit` may import `sync` besides: whether
/// the engine still takes operations is one atomic, which every operation checks.
const BRIDGE: &[&str] = &["mvcc", "log", "storage", "options", "types", "error", "stats", "trace"];

/// `database` wires all of these together.
const EVERYTHING_BELOW_DATABASE: &[&str] = &[
    "sync",
    "types",
    "error",
    "stats",
    "trace",
    "options",
    "value",
    "reclaim",
    "index",
    "mvcc",
    "storage",
    "log",
    "commit",
    "recovery",
    "checkpoint",
    "opening",
    "background",
    "snapshot",
    "transaction",
];

/// The crate's root lists modules and public names, so it sees everything.
const ROOT: &str = "lib";

/// The only files that may contain unsafe code; all of `reclaim/` may besides. Each meets raw memory of its own: nodes,
/// hints to them, versions, counted descriptors, mapped pages.
const MAY_BE_UNSAFE: &[&str] = &[
    "index/skiplist.rs",
    "index/skiplist/node.rs",
    "index/hints.rs",
    "index/hints_model.rs",
    "index/buckets.rs",
    "index/crossbeam.rs",
    "index/model.rs",
    "mvcc/chain.rs",
    "mvcc/descriptor.rs",
    "log/segment.rs",
    "storage/mmap.rs",
];

/// The folder whose files may all contain unsafe code.
const UNSAFE_FOLDER: &str = "reclaim/";

/// Where atomics come from, without loom and with it.
const ATOMICS: &[&str] = &["std::sync::atomic", "core::sync::atomic", "loom::"];

/// The longest a file may be, essay and tests included.
const MAX_LINES: usize = 1_000;

/// One file of the engine.
struct Source {
    /// Its path below `src/`, with forward slashes.
    path: String,
    text: String,
    /// `text` without comments, texts and test modules; lines keep their numbers.
    code: String,
}

impl Source {
    /// The layer that the file belongs to: its folder, or its name at the top level.
    fn layer(&self) -> &str {
        self.path
            .split('/')
            .next()
            .expect("a path has a first part")
            .trim_end_matches(".rs")
    }

    /// The module path of the file below the crate's root, such as `mvcc`, `chain`.
    fn module(&self) -> Vec<&str> {
        let mut parts: Vec<_> = self.path.trim_end_matches(".rs").split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        parts
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(&root).expect("found below src");
        let path = path.to_str().expect("source paths are text").replace('\\', "/");
        let text = fs::read_to_string(file).expect("sources are text");
        let code = without_test_modules(&without_comments_and_texts(&text));
        Source { path, text, code }
    };
    files.iter().map(read).collect()
}

/// Blanks comments and the insides of texts, so that what remains is code; line breaks stay.
fn without_comments_and_texts(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let length = match &bytes[at..] {
            [b'/', b'/', ..] => line_length(&bytes[at..]),
            [b'/', b'*', ..] => block_comment_length(&bytes[at..]),
            [b'"', ..] => text_length(&bytes[at..]),
            [b'r', rest @ ..] if !continues_a_word(bytes, at) => raw_text_length(rest).map_or(0, |length| length + 1),
            // A character such as '"' would open a text; a lifetime such as 'a does not close.
            [b'\'', b'\\', _, rest @ ..] => 3 + rest.iter().position(|&byte| byte == b'\'').map_or(0, |end| end + 1),
            [b'\'', _, b'\'', ..] => 3,
            _ => 0,
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length.max(1);
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

fn continues_a_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len())
}

fn block_comment_length(bytes: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a raw text after its `r`, or `None` if this is none.
fn raw_text_length(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes.iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(hashes) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &bytes[hashes + 1..];
    let length = body.windows(end.len()).position(|window| window == end.as_bytes())?;
    Some(hashes + 1 + length + end.len())
}

/// Blanks `mod ... { ... }` blocks that only a test build contains.
fn without_test_modules(code: &str) -> String {
    let mut kept = code.to_owned();
    while let Some((start, end)) = test_module(&kept) {
        blank(&mut kept, start, end);
    }
    kept
}

/// The first item under `#[cfg(test)]`, or under `#[cfg(all(test, ...))]`.
fn test_module(code: &str) -> Option<(usize, usize)> {
    let marks = ["#[cfg(test)]", "#[cfg(all(test"];
    let start = marks.iter().filter_map(|mark| code.find(mark)).min()?;
    let rest = &code[start..];
    let first = rest.find(['{', ';']).unwrap_or(rest.len());
    Some((start, start + first + block_length(&rest[first..])))
}

/// The length of the `{ ... }` block that `code` begins with; of anything else, one character.
fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Replaces a stretch of code by spaces; line breaks stay.
fn blank(code: &mut String, start: usize, end: usize) {
    let spaces = |letter| if letter == '\n' { '\n' } else { ' ' };
    let blank: String = code[start..end].chars().map(spaces).collect();
    code.replace_range(start..end, &blank);
}

/// The paths that `code` reaches from `root` (`crate` or `super`), as the parts that follow; lists are taken apart.
fn paths_from(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let opening = format!("{root}::");
    for (at, _) in code.match_indices(&opening) {
        if !continues_a_word(code.as_bytes(), at) {
            take_paths(&code[at + opening.len()..], &mut Vec::new(), &mut paths);
        }
    }
    paths
}

/// Reads one path, or a list of them, from the beginning of `code`; returns how many bytes it took.
fn take_paths(code: &str, before: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let trimmed = code.trim_start();
    let skipped = code.len() - trimmed.len();
    if let Some(list) = trimmed.strip_prefix('{') {
        let mut at = 0;
        loop {
            let gap = list[at..]
                .find(|letter: char| !letter.is_whitespace() && letter != ',')
                .unwrap_or(0);
            at += gap;
            if list[at..].starts_with('}') || at >= list.len() {
                return skipped + 1 + at + 1;
            }
            at += take_paths(&list[at..], &mut before.clone(), paths).max(1);
        }
    }
    let length = trimmed
        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(trimmed.len());
    before.push(trimmed[..length].to_owned());
    let rest = &trimmed[length..];
    if let Some(next) = rest.strip_prefix("::").filter(|next| !next.starts_with('<')) {
        return skipped + length + 2 + take_paths(next, before, paths);
    }
    paths.push(before.clone());
    // In a list an alias may follow: it ends at the next comma or brace.
    let alias = rest
        .strip_prefix(" as ")
        .map_or(0, |name| 4 + name.find([',', '}', ';']).unwrap_or(0));
    skipped + length + alias
}

/// Every path below the crate's root that the file names, as parts; `super` is resolved.
fn imports(source: &Source) -> BTreeSet<Vec<String>> {
    let mut found: BTreeSet<Vec<String>> = paths_from(&source.code, "crate").into_iter().collect();
    for path in paths_from(&source.code, "super") {
        let mut module = source.module();
        module.pop();
        let above = path.iter().take_while(|part| *part == "super").count();
        module.truncate(module.len().saturating_sub(above));
        // An inner module's `super` is this very file: then the path stays inside the layer, as it does here.
        if let (true, Some(first)) = (module.is_empty(), path.get(above)) {
            let is_layer = MAY_IMPORT.iter().any(|(layer, _)| layer == first);
            if is_layer {
                found.insert(path[above..].to_vec());
            }
        }
    }
    found
}

#[test]
fn layers_import_only_what_lies_below() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.layer() != ROOT) {
        let layer = source.layer();
        let Some(below) = allowed.get(layer) else {
            violations.push(format!(
                "src/{}: `{layer}` is in no layer; add it to the table",
                source.path
            ));
            continue;
        };
        for path in imports(source) {
            let target = path[0].as_str();
            if target == layer || below.contains(&target) {
                continue;
            }
            let why = if allowed.contains_key(target) {
                format!("`{layer}` may not import `{target}`")
            } else {
                format!("`crate::{target}` hides its layer; name the module that it comes from")
            };
            violations.push(format!("src/{}: {why} (crate::{})", source.path, path.join("::")));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn facades_never_call_one_another() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("facade/")) {
        let own = source.module();
        if own == ["facade"] {
            continue;
        }
        let through_crate = imports(source)
            .into_iter()
            .filter(|path| path[0] == "facade")
            .map(|path| path[1..].to_vec());
        let siblings: BTreeSet<String> = sources()
            .iter()
            .filter_map(|other| {
                other
                    .path
                    .strip_prefix("facade/")
                    .map(|name| name.trim_end_matches(".rs").to_owned())
            })
            .collect();
        let through_super = paths_from(&source.code, "super")
            .into_iter()
            .filter(|path| siblings.contains(&path[0]));
        for path in through_crate.chain(through_super) {
            if path.first().map(String::as_str) != own.last().copied() {
                violations.push(format!(
                    "src/{} reaches another facade: {}",
                    source.path,
                    path.join("::")
                ));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

fn is_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let after = code.as_bytes().get(at + word.len());
        !continues_a_word(code.as_bytes(), at)
            && !after.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    })
}

fn may_be_unsafe(path: &str) -> bool {
    MAY_BE_UNSAFE.contains(&path) || path.starts_with(UNSAFE_FOLDER)
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let sources = sources();
    let mut violations = Vec::new();
    for source in &sources {
        // Test modules of an unsafe file may be unsafe too, those of a safe file may not.
        let is_unsafe = is_word(&without_comments_and_texts(&source.text), "unsafe");
        let forbids = source.text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
        // `forbid` reaches into a module's folder, so the head of a folder with an unsafe file cannot say it.
        let is_head_of_unsafe = match source
            .path
            .strip_suffix("mod.rs")
            .or(source.path.strip_suffix("lib.rs"))
        {
            Some(folder) => sources
                .iter()
                .any(|other| other.path.starts_with(folder) && may_be_unsafe(&other.path)),
            None => false,
        };
        if is_unsafe && !may_be_unsafe(&source.path) {
            violations.push(format!(
                "src/{} contains unsafe code, and is not among the files that may",
                source.path
            ));
        }
        if !is_unsafe && !forbids && !is_head_of_unsafe {
            violations.push(format!("src/{} lacks #![forbid(unsafe_code)]", source.path));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// Blanks what only loom builds contain: blocks, or else everything up to the next comma or semicolon.
fn without_loom_parts(code: &str) -> String {
    const MARK: &str = "#[cfg(loom)]";
    let mut kept = code.to_owned();
    while let Some(start) = kept.find(MARK) {
        let rest = &kept[start + MARK.len()..];
        let first = rest.find(['{', ',', ';']).unwrap_or(rest.len());
        let end = match rest[first..].starts_with('{') {
            true => first + block_length(&rest[first..]),
            false => first,
        };
        blank(&mut kept, start, start + MARK.len() + end);
    }
    kept
}

/// Code that took an atomic elsewhere would escape the models. The stand-ins of loom builds (`model.rs`, and
/// what is marked) are exempt: loom must not see how a model keeps score.
#[test]
fn atomics_come_from_sync() {
    let mut violations = Vec::new();
    let exempt = |source: &&Source| source.layer() == "sync" || source.path.ends_with("/model.rs");
    for source in sources().iter().filter(|source| !exempt(source)) {
        for (number, line) in without_loom_parts(&source.code).lines().enumerate() {
            if let Some(origin) = ATOMICS.iter().find(|origin| line.contains(**origin)) {
                violations.push(format!(
                    "src/{}:{}: take {origin} from crate::sync",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn files_stay_readable_in_one_sitting() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "src/{} has {lines} lines; look for the seam",
            source.path
        );
    }
}

/// The scan itself: what it takes for code, and which paths it finds there.
#[test]
fn the_scan_sees_through_lists_comments_and_texts() {
    let text = "//! crate::comment\nuse crate::{error::{Error, Result as Outcome}, types::Key};\n\
                let a = \"crate::text\"; let b = r#\"crate::raw\"#; let c = '\"'; /* crate::block /* x */ */\n\
                fn f<'a>(x: &'a u8) -> crate::sync::order::Name { crate::mvcc::go::<crate::index::Item>() }\n\
                #[cfg(test)]\nmod tests { use crate::hidden; fn g() { if true {} } }\nuse super::chain::Version;";
    let code = without_test_modules(&without_comments_and_texts(text));
    let found: Vec<String> = paths_from(&code, "crate").iter().map(|path| path.join("::")).collect();
    let expected = [
        "error::Error",
        "error::Result",
        "types::Key",
        "sync::order::Name",
        "mvcc::go",
        "index::Item",
    ];
    assert_eq!(found, expected);
    assert_eq!(paths_from(&code, "super"), [["chain", "Version"]]);
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(is_word("unsafe {", "unsafe") && !is_word("unsafe_code", "unsafe"));
}
