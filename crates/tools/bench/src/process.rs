//! What the kernel says about a process, and about the machine.

use std::fs;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// Bytes of a MB here: the unit of the baseline's tables.
pub(crate) const MB: f64 = 1e6;

/// A reading of one process's counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Time on a CPU, user and system, over all threads (also those that ended), in
    /// nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
    /// Resident memory that is not a file's, in bytes.
    pub(crate) rss_anon: u64,
    /// The highest that `rss` ever was, in bytes.
    pub(crate) rss_peak: u64,
    /// Bytes that were sent towards the disk.
    pub(crate) written: u64,
}

/// Reads the counters of a process; zeros when it is gone.
pub(crate) fn read(pid: u32) -> Reading {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Reading {
        cpu_ns: cpu_ns(pid),
        rss: field(&status, "VmRSS:") * 1024,
        rss_anon: field(&status, "RssAnon:") * 1024,
        rss_peak: field(&status, "VmHWM:") * 1024,
        written: field(&io, "write_bytes:"),
    }
}

/// The counters of several processes, summed.
pub(crate) fn read_all(pids: &[u32]) -> Reading {
    pids.iter().map(|pid| read(*pid)).fold(Reading::default(), |sum, one| Reading {
        cpu_ns: sum.cpu_ns + one.cpu_ns,
        rss: sum.rss + one.rss,
        rss_anon: sum.rss_anon + one.rss_anon,
        rss_peak: sum.rss_peak + one.rss_peak,
        written: sum.written + one.written,
    })
}

/// The process's CPU clock: nanoseconds, where `/proc/PID/stat` has ticks of 10 ms.
fn cpu_ns(pid: u32) -> u64 {
    let clock = i32::try_from(pid).ok().and_then(|p| clock_getcpuclockid(Pid::from_raw(p)).ok());
    let time = clock.and_then(|c: ClockId| c.now().ok());
    time.map_or(0, |t| (t.tv_sec() as u64) * 1_000_000_000 + t.tv_nsec() as u64)
}

/// Nanoseconds that all CPUs together were busy since the machine started.
pub(crate) fn machine_busy_ns() -> u64 {
    busy_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()) * 10_000_000
}

/// User, nice, system, interrupts and stolen time; not idle, not waiting for a disk.
fn busy_ticks(stat: &str) -> u64 {
    let Some(line) = stat.lines().find_map(|l| l.strip_prefix("cpu ")) else { return 0 };
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|t| t.parse().ok()).collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum()
}

/// The machine's load averages, as the kernel words them.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let me = read(std::process::id());
        assert!(me.cpu_ns > 0);
        assert!(me.rss_anon > 0 && me.rss >= me.rss_anon && me.rss_peak >= me.rss);
    }

    #[test]
    fn nobody_has_zeros() {
        assert_eq!(read(u32::MAX).cpu_ns, 0);
        assert_eq!(read(u32::MAX).rss, 0);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9"), 63);
        assert_eq!(busy_ticks(""), 0);
    }
}
