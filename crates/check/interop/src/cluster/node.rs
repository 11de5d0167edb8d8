//! One member of a cluster as a process, over its lives.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_bench::Hosts;

use super::{Make, Real};

/// How long a process may take to end after SIGTERM.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A member: where it lives, and the process while there is one.
pub struct Node {
    /// `--name`.
    pub name: String,
    /// Whose binary it runs next.
    pub make: Make,
    /// The address it listens on.
    pub address: String,
    /// Port of its client listener.
    pub client: u16,
    /// Port of its peer listener.
    pub listens: u16,
    /// Port under which other members know it.
    pub known: u16,
    /// Its member id, once known.
    pub id: u64,
    pub(super) dir: PathBuf,
    pub(super) flags: Vec<String>,
    pub(super) catch_up: u64,
    /// Flags that only a member of ours knows.
    pub(super) ours: Vec<String>,
    /// The host it runs on, when it has one of its own.
    host: Option<(Arc<Hosts>, usize)>,
    child: Option<Child>,
    stopped: bool,
    /// Where the log of this life begins.
    log_from: u64,
}

impl Node {
    pub(super) fn new(name: &str, make: Make, dir: PathBuf, flags: Vec<String>) -> Node {
        let (client, listens) = crate::free_ports();
        Node {
            name: name.to_owned(),
            make,
            address: "127.0.0.1".to_owned(),
            client,
            listens,
            known: listens,
            id: 0,
            dir,
            flags,
            catch_up: 0,
            ours: Vec::new(),
            host: None,
            child: None,
            stopped: false,
            log_from: 0,
        }
    }

    /// From now on it runs on this host.
    pub(super) fn on(&mut self, hosts: &Arc<Hosts>, n: usize) {
        self.address = hosts.address(n);
        self.host = Some((Arc::clone(hosts), n));
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.address, self.client)
    }

    /// The URL under which other members know it.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.address, self.known)
    }

    /// Where its data is.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Whether it has a process.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it with these flags more. `None` when the binary is missing.
    pub(super) fn spawn(&mut self, more: &[String]) -> Option<()> {
        assert!(self.child.is_none(), "{} runs", self.name);
        let mut command = self.command(more)?;
        let path = self.log_path();
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.log_from = file.metadata().map_or(0, |m| m.len());
        // For whoever reads the log of many lives.
        let _ = writeln!(file, "=== {:?} {command:?}", self.make);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        self.child = Some(child);
        self.stopped = false;
        Some(())
    }

    /// The command that starts it, with these flags more. `None` when the binary is
    /// missing.
    pub fn command(&self, more: &[String]) -> Option<Command> {
        let binary = self.make.binary()?;
        let client = format!("http://{}", self.endpoint());
        let mut command = match &self.host {
            None => Command::new(binary),
            Some((hosts, n)) => hosts.command(*n, &binary),
        };
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.dir.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls=http://{}:{}", self.address, self.listens))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .args(&self.flags)
            .args(more);
        if self.make == Make::Ours {
            command.args(&self.ours);
        }
        let named_as_today =
            self.make == Make::Ours || Real::of_this_run().cluster_version() > "3.5";
        match self.make {
            _ if self.catch_up == 0 => {}
            _ if named_as_today => {
                command.arg(format!("--snapshot-catchup-entries={}", self.catch_up));
            }
            // Its name of those days.
            _ => {
                command.arg(format!("--experimental-snapshot-catchup-entries={}", self.catch_up));
            }
        }
        Some(command)
    }

    /// What this life has logged.
    pub fn log(&self) -> String {
        let all = fs::read(self.log_path()).unwrap_or_default();
        let from = usize::try_from(self.log_from).unwrap_or(0).min(all.len());
        String::from_utf8_lossy(&all[from..]).into_owned()
    }

    /// The end of [`Node::log`], for a message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} does not run", self.name));
        let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "kill must find {}", self.name);
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("our own child")?;
        self.child = None;
        Some(status)
    }

    /// Waits until the process is gone, and says how it went.
    pub(super) fn wait_end(&mut self) -> ExitStatus {
        let patience = Instant::now() + END_PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < patience, "{} does not end:\n{}", self.name, self.log_tail());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.signal("STOP");
        self.stopped = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal("CONT");
        self.stopped = false;
    }

    /// Whether it is paused.
    pub fn paused(&self) -> bool {
        self.stopped
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.stopped = false;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
