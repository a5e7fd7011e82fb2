//! The machine and the moment, as far as a figure depends on them; written beside every result.
//!
//! Everything is read when asked for, from the kernel's own files, and what cannot be read is left out rather
//! than guessed. Nothing recorded here names a person or a place: no host name, no user name, no path.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::disk::medium::Medium;

/// What was true of the machine, the build and the repository when a result was made.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Day of the run, UTC, `YYYY-MM-DD`.
    pub date: String,
    /// Commit of the source, if it was built from a repository that is still at hand.
    pub commit: Option<String>,
    /// Whether tracked or untracked files differed from that commit.
    pub dirty: Option<bool>,
    /// The compiler that built this program.
    pub rustc: &'static str,
    /// `release` or `debug`; a timing from a debug build decides nothing.
    pub profile: &'static str,
    /// Whether the per-layer timing was compiled in.
    pub perf_trace: bool,
    /// Architecture and operating system.
    pub platform: String,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Processor.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Scheduling, where a neighbour's load can hide in a figure.
    pub scheduling: Scheduling,
    /// Time-stamp counter.
    pub tsc: Tsc,
    /// The allocator under everything measured.
    pub allocator: &'static str,
    /// The device that databases were kept on, if any were.
    pub disk: Option<Medium>,
    /// Whether threads could be pinned to processors, as the run found it; `None` if nothing tried.
    pub pinning: Option<String>,
}

/// The processor.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// Model name as the processor gives it.
    pub model: String,
    /// Processors that this process may run on.
    pub available: usize,
    /// Threads per core, cores per socket and sockets, where the kernel says.
    pub topology: Topology,
    /// Frequency governor of the first processor; virtual machines have none.
    pub governor: Option<String>,
    /// Sizes of the first processor's caches, `L1 Data 48K` and so on.
    pub caches: Vec<String>,
    /// Whether a hypervisor is underneath.
    pub virtual_machine: bool,
}

/// How the processors hang together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Logical processors online.
    pub logical: usize,
    /// Distinct physical cores.
    pub cores: usize,
    /// Distinct sockets.
    pub sockets: usize,
    /// Memory nodes.
    pub nodes: usize,
}

/// Memory and its pages.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Total, in KiB.
    pub total_kib: Option<u64>,
    /// Available when asked, in KiB.
    pub available_kib: Option<u64>,
    /// Transparent huge pages: the chosen setting.
    pub transparent_huge_pages: Option<String>,
    /// Explicit huge pages reserved.
    pub huge_pages: Option<u64>,
}

/// What the scheduler was told, and how busy it was.
#[derive(Clone, Debug, Serialize)]
pub struct Scheduling {
    /// Load averages over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Whether processes are grouped automatically when scheduled; `nice` then does nothing between groups.
    pub autogroup_enabled: Option<bool>,
    /// The group's weight, without its number.
    pub autogroup_nice: Option<i64>,
    /// Scheduling class: `other`, `fifo`, `round_robin`, `batch`, `idle` or `deadline`.
    pub class: Option<&'static str>,
}

/// Properties of the time-stamp counter that single operations are timed with.
#[derive(Clone, Debug, Serialize)]
pub struct Tsc {
    /// Counts at one rate whatever the clock boost does.
    pub constant: bool,
    /// Goes on counting in sleep states.
    pub nonstop: bool,
    /// Clock source that the kernel uses itself.
    pub clock_source: Option<String>,
}

impl Environment {
    /// Reads the environment now.
    #[must_use]
    pub fn capture(pinning: Option<String>) -> Self {
        let flags = cpu_flags();
        let has = |flag: &str| flags.iter().any(|known| known == flag);
        let (commit, dirty) = repository_state();
        Self {
            date: today(),
            commit,
            dirty,
            rustc: option_env!("EXPERIMENTS_RUSTC").unwrap_or("unknown"),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            perf_trace: cfg!(feature = "perf-trace"),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            kernel: read_line("/proc/sys/kernel/osrelease"),
            cpu: Cpu {
                model: cpu_model(),
                available: available_processors(),
                topology: topology(Path::new("/sys/devices/system")),
                governor: read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
                caches: caches(),
                virtual_machine: has("hypervisor"),
            },
            memory: Memory {
                total_kib: meminfo("MemTotal"),
                available_kib: meminfo("MemAvailable"),
                transparent_huge_pages: read_line("/sys/kernel/mm/transparent_hugepage/enabled")
                    .and_then(|line| chosen(&line)),
                huge_pages: meminfo("HugePages_Total"),
            },
            scheduling: scheduling(),
            tsc: Tsc {
                constant: has("constant_tsc"),
                nonstop: has("nonstop_tsc"),
                clock_source: read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            },
            allocator: "mimalloc, counted",
            disk: None,
            pinning,
        }
    }

    /// The folder name of a result made here: `<date>-<cpu>-<cores>`.
    #[must_use]
    pub fn folder_name(&self) -> String {
        format!("{}-{}-{}", self.date, slug(&self.cpu.model), self.cpu.available)
    }
}

/// Processors that this process may run on; one where the system does not say.
#[must_use]
pub fn available_processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The repository that this program was built from, if it is still there.
#[must_use]
pub fn repository_root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    (root.join("Cargo.toml").is_file() && root.join("experiments").is_dir()).then(|| root.to_path_buf())
}

/// Runs git in the repository and returns its trimmed output, or `None` if that did not work.
#[must_use]
pub fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repository_root()?)
        .args(arguments)
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn repository_state() -> (Option<String>, Option<bool>) {
    let commit = git(&["rev-parse", "--verify", "HEAD"]);
    let dirty = git(&["status", "--porcelain"]).map(|changes| !changes.is_empty());
    (commit, dirty)
}

fn read_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn cpu_field(field: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == field)
        .map(|(_, value)| value.trim().to_owned())
}

fn cpu_model() -> String {
    cpu_field("model name")
        .or_else(|| cpu_field("CPU part"))
        .unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH))
}

fn cpu_flags() -> Vec<String> {
    cpu_field("flags").map_or_else(Vec::new, |flags| flags.split(' ').map(str::to_owned).collect())
}

fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)?;
    value.split_whitespace().next()?.parse().ok()
}

/// Returns the bracketed choice of a line such as `always [madvise] never`.
fn chosen(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']').map(|(choice, _)| choice.to_owned())
}

fn topology(system: &Path) -> Topology {
    let mut cores = Vec::new();
    let mut sockets = Vec::new();
    let mut logical = 0;
    for index in 0.. {
        let cpu = system.join(format!("cpu/cpu{index}/topology"));
        let Ok(socket) = fs::read_to_string(cpu.join("physical_package_id")) else {
            break;
        };
        let core = fs::read_to_string(cpu.join("core_id")).unwrap_or_default();
        logical += 1;
        cores.push((socket.clone(), core));
        sockets.push(socket);
    }
    cores.sort_unstable();
    cores.dedup();
    sockets.sort_unstable();
    sockets.dedup();
    let nodes = (0..)
        .take_while(|node| system.join(format!("node/node{node}")).is_dir())
        .count();
    Topology {
        logical,
        cores: cores.len(),
        sockets: sockets.len(),
        nodes,
    }
}

fn caches() -> Vec<String> {
    (0..)
        .map_while(|index| {
            let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
            let level = read_line(&format!("{folder}/level"))?;
            let kind = read_line(&format!("{folder}/type"))?;
            let size = read_line(&format!("{folder}/size"))?;
            Some(format!("L{level} {kind} {size}"))
        })
        .collect()
}

fn scheduling() -> Scheduling {
    let load_average = read_line("/proc/loadavg").and_then(|line| {
        let mut numbers = line.split(' ').map(str::parse::<f64>);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
    });
    let autogroup_nice = read_line("/proc/self/autogroup")
        .and_then(|line| line.rsplit_once(' ').and_then(|(_, nice)| nice.parse().ok()));
    Scheduling {
        load_average,
        autogroup_enabled: read_line("/proc/sys/kernel/sched_autogroup_enabled").map(|line| line == "1"),
        autogroup_nice,
        class: fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| scheduling_class(&text)),
    }
}

/// Returns the scheduling class from the text of `/proc/self/stat`, whose 41st field is the policy.
fn scheduling_class(stat: &str) -> Option<&'static str> {
    // The second field is the program's name in parentheses and may itself hold spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    match rest.split_whitespace().nth(38)? {
        "0" => Some("other"),
        "1" => Some("fifo"),
        "2" => Some("round_robin"),
        "3" => Some("batch"),
        "5" => Some("idle"),
        "6" => Some("deadline"),
        _ => None,
    }
}

/// Returns a processor's name as it may stand in a folder name: `Intel(R) Xeon(R) Gold` is `intel-xeon-gold`.
fn slug(model: &str) -> String {
    let plain = model.replace("(R)", " ").replace("(TM)", " ").to_lowercase();
    let words: Vec<&str> = plain
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && *word != "cpu" && *word != "processor")
        .collect();
    if words.is_empty() {
        "unknown".to_owned()
    } else {
        words.join("-")
    }
}

fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Returns year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil_date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(59), (1970, 3, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(19_723), (2024, 1, 1));
        assert_eq!(civil_date(20_088), (2024, 12, 31));
    }

    #[test]
    fn slug_is_safe_in_a_folder_name() {
        assert_eq!(slug("Intel(R) Xeon(R) Processor"), "intel-xeon");
        assert_eq!(slug("AMD EPYC 7763 64-Core Processor"), "amd-epyc-7763-64-core");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("(R)"), "unknown");
    }

    #[test]
    fn scheduling_class_survives_a_name_with_spaces() {
        let mut fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        fields[38] = "3".to_owned();
        let stat = format!("7 (a (b) c) {}", fields.join(" "));
        assert_eq!(scheduling_class(&stat), Some("batch"));
        assert_eq!(scheduling_class("nothing"), None);
    }

    #[test]
    fn chosen_setting_is_the_bracketed_one() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("none"), None);
    }

    // Goal: a result can be published as it is. Method: look for what must not be in it.
    #[test]
    fn environment_names_no_person_and_no_place() {
        let text = serde_json::to_string(&Environment::capture(None)).expect("plain data");
        for variable in ["HOME", "PWD", "HOSTNAME"] {
            if let Ok(secret) = std::env::var(variable)
                && secret.len() > 4
            {
                assert!(!text.contains(&secret), "{variable} is in the environment file");
            }
        }
        assert!(!text.contains("\"/"), "no value is an absolute path: {text}");
        if let Some(host) = read_line("/proc/sys/kernel/hostname").filter(|host| host.len() > 4) {
            assert!(!text.contains(&host));
        }
    }
}
