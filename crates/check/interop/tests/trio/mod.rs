//! Three members of the real etcd, or of ours, that make a cluster, and command lines
//! of an etcdctl against them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Peer, our, peer};

/// Nothing in these tests takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Client and peer port of each member, the three first ones and one to come.
pub(crate) type Ports = [(u16, u16); 4];

/// Ports that were free a moment ago.
pub(crate) fn ports() -> Ports {
    let listeners: Vec<TcpListener> =
        (0..8).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let port = |n: usize| listeners[n].local_addr().expect("bound").port();
    [(port(0), port(1)), (port(2), port(3)), (port(4), port(5)), (port(6), port(7))]
}

/// A running cluster; killed when dropped.
pub(crate) struct Trio {
    kind: Kind,
    folder: Folder,
    ports: Ports,
    members: BTreeMap<usize, Child>,
}

impl Trio {
    /// A fresh cluster; `None` when the real etcd is missing.
    pub(crate) fn start(kind: Kind, ports: Ports) -> Option<Trio> {
        let folder = Folder::new("trio");
        let mut trio = Trio { kind, folder, ports, members: BTreeMap::new() };
        let cluster: Vec<String> =
            (0..3).map(|n| format!("m{}={}", n + 1, trio.peer_url(n))).collect();
        let cluster = format!("--initial-cluster={}", cluster.join(","));
        for n in 0..3 {
            trio.spawn(n, &[&cluster])?;
        }
        (0..3).for_each(|n| trio.wait_healthy(n));
        Some(trio)
    }

    /// Starts member `n` with these flags.
    pub(crate) fn spawn(&mut self, n: usize, flags: &[&str]) -> Option<()> {
        let binary = match self.kind {
            Kind::Ours => our("etcd"),
            Kind::Real => peer(Peer::Etcd)?,
        };
        let dir = self.folder.path().join(format!("m{}.etcd", n + 1));
        let log = File::create(dir.with_extension("log")).expect("a new file");
        let (client, peer) = (self.client_url(n), self.peer_url(n));
        let child = Command::new(binary)
            .arg(format!("--name=m{}", n + 1))
            .arg(format!("--data-dir={}", dir.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        self.members.insert(n, child);
        Some(())
    }

    /// Kills member `n`.
    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.members.remove(&n) {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until member `n` ends by itself, and says how.
    pub(crate) fn ended(&mut self, n: usize) -> ExitStatus {
        let mut child = self.members.remove(&n).expect("the member was started");
        eventually("the member ends", || child.try_wait().expect("our own child"))
    }

    /// `host:port` of member `n` for clients.
    pub(crate) fn endpoint(&self, n: usize) -> String {
        format!("127.0.0.1:{}", self.ports[n].0)
    }

    /// Those of the first three.
    pub(crate) fn endpoints(&self) -> String {
        (0..3).map(|n| self.endpoint(n)).collect::<Vec<_>>().join(",")
    }

    fn client_url(&self, n: usize) -> String {
        format!("http://{}", self.endpoint(n))
    }

    /// Where other members reach member `n`.
    pub(crate) fn peer_url(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[n].1)
    }

    fn wait_healthy(&self, n: usize) {
        let ctl = peer(Peer::Etcdctl).expect("it comes with the etcd");
        let endpoint = self.endpoint(n);
        eventually(&format!("member {} is healthy", n + 1), || {
            let line = format!("endpoint health --endpoints={endpoint} --command-timeout=1s");
            (run(&ctl, &line).code == Some(0)).then_some(())
        });
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        let members: Vec<usize> = self.members.keys().copied().collect();
        members.into_iter().for_each(|n| self.kill(n));
    }
}

/// What a command line said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    /// Without lines of the Go client's log.
    pub(crate) err: String,
}

/// Runs one command line.
pub(crate) fn run(ctl: &Path, line: &str) -> Said {
    let output = command(ctl, line).output().expect("etcdctl runs");
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    };
    let err = text(&output.stderr);
    let err = err.lines().filter(|line| !line.starts_with("{\"level\"")).map(|l| format!("{l}\n"));
    Said { code: output.status.code(), out: text(&output.stdout), err: err.collect() }
}

/// A command line, not run yet.
pub(crate) fn command(ctl: &Path, line: &str) -> Command {
    let mut command = Command::new(ctl);
    command
        .args(line.split(' ').filter(|word| !word.is_empty()))
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::null());
    command
}

/// Looks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Debian's etcdctl; `None` when the real etcd or it is missing.
pub(crate) fn debian() -> Option<PathBuf> {
    peer(Peer::Etcd).and(peer(Peer::Etcdctl))
}
