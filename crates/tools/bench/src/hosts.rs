//! Hosts on one machine: a network namespace each, joined by a bridge.
//!
//! What is cut here is cut as in a network: nothing is refused or closed, packets are
//! gone. The process that made the hosts reaches all of them through the bridge and is
//! cut off from nobody, but from a host that is unplugged.

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the names of everything made here begin with; the process follows.
const PREFIX: &str = "mainstay-";
/// Networks that are set aside for tests of this kind (RFC 2544).
const NETWORKS: u32 = 512;
/// Rules of a host that drop what others send; see [`Hosts::cut`].
const RULE_FROM: u32 = 5;
/// Where the rule for a host's own addresses goes, behind those.
const RULE_LOCAL: u32 = 10;

/// Why there are no hosts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// The program `ip` (package iproute2) is missing.
    #[error("ip: {0}")]
    Missing(io::Error),
    /// The process may not make network namespaces.
    #[error("{command}: {told}")]
    Refused {
        /// What was tried.
        command: String,
        /// What it said.
        told: String,
    },
}

/// The hosts; gone, with all that runs in them cut off, when this is dropped.
#[derive(Debug)]
pub struct Hosts {
    /// Of this process, and of nobody else in it.
    tag: String,
    /// Which of the networks.
    network: u32,
    count: usize,
}

impl Hosts {
    /// So many hosts, which reach one another.
    ///
    /// # Errors
    /// When the program `ip` is missing or the process may not use it so.
    pub fn new(count: usize) -> Result<Hosts, HostsError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        sweep()?;
        let pid = std::process::id();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let network = free_network(pid.wrapping_mul(31).wrapping_add(serial))?;
        // Dropped when a step fails, with whatever there is by then.
        let mut hosts = Hosts { tag: format!("{pid}-{serial}"), network, count: 0 };
        let bridge = hosts.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["address", "add", &format!("{}/24", hosts.address_of(1)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        while hosts.count < count {
            hosts.count += 1;
            hosts.make(hosts.count - 1)?;
        }
        Ok(hosts)
    }

    fn make(&self, n: usize) -> Result<(), HostsError> {
        let (space, port, bridge) = (self.space(n), self.port(n), self.bridge());
        let address = format!("{}/24", self.address(n));
        ip(&["netns", "add", &space])?;
        ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
        ip(&["link", "set", &port, "master", &bridge, "up"])?;
        let local = RULE_LOCAL.to_string();
        let steps: [&[&str]; 5] = [
            &["address", "add", &address, "dev", "eth0"],
            &["link", "set", "lo", "up"],
            &["link", "set", "eth0", "up"],
            // Room before it for rules that drop.
            &["rule", "add", "pref", &local, "lookup", "local"],
            &["rule", "del", "pref", "0"],
        ];
        steps.iter().try_for_each(|step| self.inside(n, step))
    }

    /// The address of host `n`, from 0.
    pub fn address(&self, n: usize) -> String {
        // 0 is the network, 1 is the bridge.
        self.address_of(n + 2)
    }

    fn address_of(&self, last: usize) -> String {
        format!("198.{}.{}.{last}", 18 + self.network / 256, self.network % 256)
    }

    /// A command that runs `program` on host `n`; its process is the program's own.
    pub fn command(&self, n: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(n)]).arg(program);
        command
    }

    /// Pulls host `n`'s plug: nobody reaches it and it reaches nobody.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn unplug(&self, n: usize) -> Result<(), HostsError> {
        ip(&["link", "set", &self.port(n), "down"])
    }

    /// Puts it in again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn plug(&self, n: usize) -> Result<(), HostsError> {
        ip(&["link", "set", &self.port(n), "up"])
    }

    /// What host `from` sends to host `to` is lost from now on.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn cut(&self, from: usize, to: usize) -> Result<(), HostsError> {
        let (pref, source) = (RULE_FROM.to_string(), self.address(from));
        self.inside(to, &["rule", "add", "pref", &pref, "from", &source, "blackhole"])
    }

    /// Nothing is lost any more of what hosts send one another.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn mend(&self) -> Result<(), HostsError> {
        for n in 0..self.count {
            let pref = RULE_FROM.to_string();
            let told = self.output_inside(n, &["rule", "show", "pref", &pref])?;
            for _ in told.lines() {
                self.inside(n, &["rule", "del", "pref", &pref])?;
            }
        }
        Ok(())
    }

    fn inside(&self, n: usize, args: &[&str]) -> Result<(), HostsError> {
        self.output_inside(n, args).map(drop)
    }

    fn output_inside(&self, n: usize, args: &[&str]) -> Result<String, HostsError> {
        ip_output(&[&["-n", self.space(n).as_str()], args].concat())
    }

    fn space(&self, n: usize) -> String {
        format!("{PREFIX}{}-{n}", self.tag)
    }

    // Names of links are short.
    fn bridge(&self) -> String {
        format!("mb{}", self.tag)
    }

    fn port(&self, n: usize) -> String {
        format!("mp{}-{n}", self.tag)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // What stays is swept away by the next one.
        for n in 0..self.count {
            let _ = ip(&["netns", "delete", &self.space(n)]);
            let _ = ip(&["link", "delete", &self.port(n)]);
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
    }
}

/// Removes what processes left that were killed.
fn sweep() -> Result<(), HostsError> {
    let gone = |tag: &str| {
        let pid = tag.split('-').next().unwrap_or_default();
        !pid.is_empty() && !Path::new("/proc").join(pid).exists()
    };
    for line in ip_output(&["netns", "list"])?.lines() {
        let name = line.split_ascii_whitespace().next().unwrap_or_default();
        if name.strip_prefix(PREFIX).is_some_and(gone) {
            // Somebody else may sweep, too.
            let _ = ip(&["netns", "delete", name]);
        }
    }
    for line in ip_output(&["-o", "link", "show", "type", "bridge"])?.lines() {
        let name = line.split([' ', ':']).find(|word| word.starts_with("mb")).unwrap_or_default();
        let tag = name.strip_prefix("mb").filter(|tag| tag.contains('-'));
        if tag.is_some_and(gone) {
            let _ = ip(&["link", "delete", name]);
        }
    }
    Ok(())
}

/// A network that nobody on this machine is in; the search begins anywhere.
fn free_network(from: u32) -> Result<u32, HostsError> {
    let taken = ip_output(&["-o", "-4", "address", "show"])?;
    let is_free = |network: &u32| {
        let begin = format!(" 198.{}.{}.", 18 + network / 256, network % 256);
        !taken.contains(&begin)
    };
    let mut all = (0..NETWORKS).map(|n| (from % NETWORKS + n) % NETWORKS);
    all.find(is_free).ok_or_else(|| HostsError::Refused {
        command: "ip address".to_owned(),
        told: "all networks for tests are taken".to_owned(),
    })
}

fn ip(args: &[&str]) -> Result<(), HostsError> {
    ip_output(args).map(drop)
}

fn ip_output(args: &[&str]) -> Result<String, HostsError> {
    let Output { status, stdout, stderr } =
        Command::new("ip").args(args).output().map_err(HostsError::Missing)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(HostsError::Refused {
        command: format!("ip {}", args.join(" ")),
        told: String::from_utf8_lossy(&stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether somebody there refuses a connection, within a second.
    fn reaches(hosts: &Hosts, from: usize, to: usize) -> bool {
        let connect = format!("exec timeout 1 bash -c 'echo > /dev/tcp/{}/9'", hosts.address(to));
        let told = hosts.command(from, Path::new("bash")).args(["-c", &connect]).output();
        let told = told.expect("ip runs");
        String::from_utf8_lossy(&told.stderr).contains("refused")
    }

    #[test]
    fn hosts_reach_one_another_until_they_are_cut_off() {
        let hosts = match Hosts::new(3) {
            Ok(hosts) => hosts,
            // Whoever runs the tests may not do this.
            Err(why) => return eprintln!("skipped: {why}"),
        };
        let all = |hosts: &Hosts| [(0, 1), (1, 2), (2, 0)].map(|(a, b)| reaches(hosts, a, b));
        assert_eq!(all(&hosts), [true; 3]);
        hosts.cut(0, 1).expect("root");
        // A connection needs both directions.
        assert_eq!(all(&hosts), [false, true, true]);
        hosts.cut(2, 0).expect("root");
        assert_eq!(all(&hosts), [false, true, false]);
        hosts.mend().expect("root");
        hosts.unplug(2).expect("root");
        assert_eq!(all(&hosts), [true, false, false]);
        hosts.plug(2).expect("root");
        assert_eq!(all(&hosts), [true; 3]);
        let space = hosts.space(0);
        drop(hosts);
        assert!(!ip_output(&["netns", "list"]).expect("root").contains(&space));
    }
}
