//! What the kernel knows of this process.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// Numbers of `/proc/self`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) virtual_bytes_max: f64,
    pub(crate) open_fds: u64,
    pub(crate) start_seconds: f64,
    pub(crate) received_bytes: u64,
    pub(crate) transmitted_bytes: u64,
}

/// Reads them; `None` where there is no `/proc`.
pub(crate) fn read() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    // The command, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (user, system, start) = (field(14)?, field(15)?, field(22)?);
    let (virtual_bytes, resident_pages) = (field(23)?, field(24)?);
    let (received_bytes, transmitted_bytes) = network().unwrap_or_default();
    let address_space = getrlimit(Resource::As).current;
    Some(Process {
        cpu_seconds: (user + system) as f64 / ticks,
        resident_bytes: resident_pages * rustix::param::page_size() as u64,
        virtual_bytes,
        // Go shows an unlimited address space as all ones.
        virtual_bytes_max: address_space.unwrap_or(u64::MAX) as f64,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
        start_seconds: boot_seconds()? + start as f64 / ticks,
        received_bytes,
        transmitted_bytes,
    })
}

/// The most descriptors that this process may have open.
pub(crate) fn fd_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::from(u32::MAX))
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes in and out of the process's network namespace.
fn network() -> Option<(u64, u64)> {
    let netstat = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let named = |wanted: &str| {
        let place = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(place)?.parse().ok()
    };
    Some((named("InOctets")?, named("OutOctets")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_descriptors_and_memory() {
        let process = super::read().expect("Linux has /proc");
        assert!(process.open_fds > 0 && process.open_fds <= super::fd_limit());
        assert!(process.resident_bytes > 0);
        assert!(process.start_seconds > 1e9);
    }
}
