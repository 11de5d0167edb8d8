//! Members to save from, the programs that save and restore, and what they said.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Load, Member, Peer, Start, our, peer};

use crate::told::{Told, tell};

/// What a program said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The line with the error, if there is one.
    pub(crate) fn error(&self) -> String {
        let line = self.err.lines().find(|line| line.starts_with("Error: "));
        line.unwrap_or_default().to_owned()
    }
}

/// Runs a program to its end.
pub(crate) fn run(program: &Path, args: &[&str]) -> Said {
    let told = Command::new(program).args(args).env("ETCDCTL_API", "3").output();
    let told = told.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: told.status.code(), out: text(&told.stdout), err: text(&told.stderr) }
}

/// Runs it, and it must work.
pub(crate) fn must(program: &Path, args: &[&str]) -> Said {
    let said = run(program, args);
    assert_eq!(said.code, Some(0), "{} {args:?}: {said:?}", program.display());
    said
}

/// The arguments of a restore of one member that will listen where `start` says.
pub(crate) fn restore_args(file: &Path, start: &Start) -> Vec<String> {
    let peer = format!("http://127.0.0.1:{}", start.ports.1);
    vec![
        "snapshot".to_owned(),
        "restore".to_owned(),
        file.display().to_string(),
        format!("--data-dir={}", start.data_dir.display()),
        "--name=m1".to_owned(),
        format!("--initial-cluster=m1={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    ]
}

/// Restores one member with `program` and more flags.
pub(crate) fn restore(program: &Path, file: &Path, start: &Start, more: &[&str]) -> Said {
    let args = restore_args(file, start);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(more);
    must(program, &args)
}

/// A snapshot file, and what the member that it was taken from told.
pub(crate) struct Saved {
    pub(crate) folder: Folder,
    pub(crate) file: PathBuf,
    /// The member's directory; nobody has it open.
    pub(crate) data_dir: PathBuf,
    pub(crate) told: Told,
    pub(crate) load: RefCell<Load>,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Saved {
    /// Everything that a member tells.
    pub(crate) fn tell(&self, member: &Member) -> Told {
        self.runtime.block_on(tell(member)).unwrap_or_else(|why| panic!("{why}\n{}", member.log()))
    }

    /// The member has everything that was acknowledged, and is as the one that was saved. Members
    /// are others, and the version may be.
    pub(crate) fn is_same(&self, member: &Member, what: &str) {
        let found = self.tell(member);
        let Told { members, cluster_version, .. } = &self.told;
        let as_before = Told {
            members: members.clone(),
            cluster_version: cluster_version.clone(),
            ..found.clone()
        };
        assert_eq!(as_before.against(&self.told), "", "{what}");
        assert_eq!(found.members.len(), 1, "{what}");
        assert_ne!(found.members[0].id, members[0].id, "{what}: it has a new identity");
        let verified = self.runtime.block_on(self.load.borrow_mut().verify(&member.endpoint()));
        let figures = verified.unwrap_or_else(|why| panic!("{what}: {why}"));
        eprintln!("{what}: {figures:?}, {found}");
    }

    /// A member to restore to.
    pub(crate) fn start(&self, kind: Kind, name: &str) -> Start {
        Start::new(kind, &self.folder.path().join(name))
    }

    /// Starts a restored member, and it is as the one that was saved, also after a write.
    pub(crate) fn serves(&self, start: &Start, what: &str) -> Member {
        let member = start.run().expect("asked for before");
        self.is_same(&member, what);
        let endpoint = format!("--endpoints={}", member.endpoint());
        must(&our("etcdctl"), &["put", "new", "value", &endpoint]);
        let got = must(&our("etcdctl"), &["get", "new", "--print-value-only", &endpoint]);
        assert_eq!(got.out, "value\n", "{what}");
        member
    }
}

/// A member of this kind that was written to, saved with the etcdctl of its kind, and stopped.
/// `None` when a peer is missing.
pub(crate) fn save(kind: Kind, name: &str, flags: &[&str]) -> Option<Saved> {
    let ctl = match kind {
        Kind::Ours => our("etcdctl"),
        Kind::Real => peer(Peer::Etcdctl)?,
    };
    let folder = Folder::new(&format!("restore-{name}"));
    let mut start = Start::new(kind, &folder.path().join("source.etcd"));
    start.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let member = start.run()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    let mut load = Load::new(11, 4);
    let ran = runtime.block_on(load.run(&member.endpoint(), 300, || {}));
    ran.unwrap_or_else(|why| panic!("{why}"));
    let told = runtime.block_on(tell(&member)).unwrap_or_else(|why| panic!("{why}"));
    let file = folder.path().join("s.db");
    let path = file.display().to_string();
    let said =
        must(&ctl, &["snapshot", "save", &path, &format!("--endpoints={}", member.endpoint())]);
    assert!(said.out.contains(&format!("Snapshot saved at {path}\n")), "{said:?}");
    assert!(!file.with_extension("db.part").exists());
    member.stop();
    Some(Saved { folder, file, data_dir: start.data_dir, told, load: RefCell::new(load), runtime })
}

/// Nothing here takes longer on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running member of any make; killed when dropped.
pub(crate) struct Running {
    child: Child,
    endpoint: String,
    log: PathBuf,
}

impl Running {
    /// Starts member `name` of `cluster`, which knows it by its peer port.
    pub(crate) fn start(
        etcd: &Path,
        dir: &Path,
        name: &str,
        ports: (u16, u16),
        cluster: &str,
        flags: &[&str],
    ) -> Running {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", ports.0), format!("http://127.0.0.1:{}", ports.1));
        let log = dir.with_extension("log");
        let child = Command::new(etcd)
            .arg(format!("--name={name}"))
            .arg(format!("--data-dir={}", dir.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={cluster}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a new file"))
            .spawn();
        let child = child.unwrap_or_else(|e| panic!("{}: {e}", etcd.display()));
        Running { child, endpoint: format!("127.0.0.1:{}", ports.0), log }
    }

    /// A lone member.
    pub(crate) fn alone(etcd: &Path, dir: &Path, ports: (u16, u16), flags: &[&str]) -> Running {
        let cluster = format!("m1=http://127.0.0.1:{}", ports.1);
        let mut member = Running::start(etcd, dir, "m1", ports, &cluster, flags);
        member.wait_healthy();
        member
    }

    fn wait_healthy(&mut self) {
        let patience = Instant::now() + PATIENCE;
        while self.ctl(&["put", "probe", "x"]).code != Some(0) {
            let ended = self.child.try_wait().expect("our own child").is_some();
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let end = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
            assert!(!ended && Instant::now() < patience, "{}: {end}", self.log.display());
        }
    }

    /// Runs our etcdctl against it.
    pub(crate) fn ctl(&self, args: &[&str]) -> Said {
        let endpoint = format!("--endpoints={}", self.endpoint);
        let mut all = args.to_vec();
        all.push(&endpoint);
        run(&our("etcdctl"), &all)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
