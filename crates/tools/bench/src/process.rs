//! What the kernel says about a server process.

use std::fs;

/// A reading of `/proc/PID`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Time on a CPU, user and system, over all threads, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
    /// Resident memory that is not a file's.
    pub(crate) rss_anon: u64,
    /// Bytes that went to the disk.
    pub(crate) written: u64,
}

/// Reads the counters of a process; zeros when it is gone.
pub(crate) fn read(pid: u32) -> Reading {
    Reading {
        cpu_ns: cpu_ns(pid),
        rss: status(pid, "VmRSS:"),
        rss_anon: status(pid, "RssAnon:"),
        written: io(pid),
    }
}

/// On-CPU nanoseconds of every thread (the first field of schedstat), which is finer
/// than the 10 ms ticks of `stat`.
fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn status(pid: u32, name: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), name) * 1024
}

fn io(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
