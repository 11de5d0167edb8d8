//! One data directory, two binaries: ours and Debian's etcd 3.5.16 take turns on it,
//! after a clean end and after SIGKILL under load, and tell the same.
//!
//! Before the other one takes a directory over, it is copied, and the one that had it
//! starts from the copy: both must come to the same state from the same files.

mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_interop::{Folder, Kind, Load, Member, Start, tool};
use told::{Told, lower_alarm, raise_alarm, tell};

/// Turns per directory.
const HOPS: usize = 4;
/// Acknowledged operations per turn.
const OPERATIONS: usize = 250;

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Kill,
}

struct World {
    folder: Folder,
    load: Load,
    runtime: tokio::runtime::Runtime,
    gobolt: Option<PathBuf>,
    hop: usize,
}

impl World {
    fn block_on<T>(&self, work: impl Future<Output = Result<T, String>>) -> T {
        let hop = self.hop;
        self.runtime.block_on(work).unwrap_or_else(|why| panic!("hop {hop}: {why}"))
    }

    /// The same directory with the other binary.
    fn start(start: &Start, kind: Kind) -> Member {
        let mut start = start.with_kind(kind).flag("--snapshot-count=100");
        if kind == Kind::Ours {
            start = start.flag("--initial-cluster-version=3.5");
        }
        start.run().expect("asked for before")
    }

    /// Lets the writers write on a member that holds what it was given, and ends it.
    /// After a clean end it is known what it would tell.
    fn turn(&mut self, member: Member, end: End) -> Option<Told> {
        let endpoint = member.endpoint();
        let World { load, runtime, hop, .. } = self;
        let why = |why: String| -> ! { panic!("hop {hop}: {why}") };
        if end == End::Kill {
            let run = load.run(&endpoint, OPERATIONS, || member.kill());
            runtime.block_on(run).unwrap_or_else(|e| why(e));
            return None;
        }
        let told = runtime.block_on(async {
            load.run(&endpoint, OPERATIONS, || {}).await?;
            load.verify(&endpoint).await?;
            if hop.is_multiple_of(2) {
                raise_alarm(&endpoint).await?;
            }
            tell(&member).await
        });
        let told = told.unwrap_or_else(|e| why(e));
        member.stop();
        Some(told)
    }

    /// Both binaries start from the same files; answers what both told, and the member
    /// of the other kind, which goes on with the directory.
    fn hand_over(&mut self, start: &Start, from: Kind) -> (Told, Member) {
        let copy = self.folder.path().join(format!("copy-{}.etcd", self.hop));
        copy_all(&start.data_dir, &copy);
        self.check_db(&copy);
        let again = Start { data_dir: copy, ..start.clone() };
        let member = World::start(&again, from);
        let before = self.block_on(tell(&member));
        member.stop();
        self.check_db(&again.data_dir);
        let to = other(from);
        let member = World::start(start, to);
        let after = self.block_on(tell(&member));
        let differs = after.against(&before);
        assert_eq!(differs, "", "hop {}: {to:?} after {from:?}", self.hop);
        let endpoint = member.endpoint();
        let verified = self.runtime.block_on(self.load.verify(&endpoint));
        let figures = verified.unwrap_or_else(|why| panic!("hop {}: {why}", self.hop));
        eprintln!("hop {}: {from:?} to {to:?}: {figures:?}, {after}", self.hop);
        (after, member)
    }

    /// Go's bbolt finds nothing wrong with the db.
    fn check_db(&self, data_dir: &Path) {
        let Some(gobolt) = &self.gobolt else { return };
        let db = data_dir.join("member/snap/db");
        let copy = self.folder.path().join("checked.db");
        fs::copy(&db, &copy).unwrap_or_else(|e| panic!("{}: {e}", db.display()));
        let told = Command::new(gobolt).arg("check").arg(&copy).output().expect("gobolt runs");
        let errors = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "hop {}: {}: {errors}", self.hop, db.display());
    }
}

fn other(kind: Kind) -> Kind {
    match kind {
        Kind::Ours => Kind::Real,
        Kind::Real => Kind::Ours,
    }
}

fn copy_all(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "{} could not be copied", from.display());
}

/// Go's bbolt as a program, built from the bolt crate's tests.
fn gobolt(folder: &Path) -> Option<PathBuf> {
    let go = tool("go", "version")?;
    let program = folder.join("gobolt");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../keep/bolt/tests/gobolt");
    let mut build = Command::new(go);
    let built = build.args(["build", "-o"]).arg(&program).arg(".").current_dir(source).status();
    assert!(built.is_ok_and(|status| status.success()), "gobolt must build");
    Some(program)
}

/// A directory that `born` makes and both use by turns.
fn take_turns(born: Kind, end: End) {
    let folder = Folder::new(&format!("swap-{born:?}-{end:?}"));
    let start = Start::new(born, &folder.path().join("m.etcd"));
    if start.with_kind(Kind::Real).command().is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut world = World {
        load: Load::new(HOPS as u64 + born as u64, 8),
        runtime: runtime.expect("an event loop"),
        gobolt: gobolt(folder.path()),
        hop: 0,
        folder,
    };
    let mut kind = born;
    let mut member = World::start(&start, kind);
    for hop in 0..HOPS {
        world.hop = hop;
        let told = world.turn(member, end);
        let (after, next) = world.hand_over(&start, kind);
        assert_eq!(after.cluster_version, "3.5.0", "versions hold");
        if let Some(told) = told {
            assert_eq!(after.against(&told), "", "hop {hop}, since the end");
        }
        world.block_on(lower_alarm(&next.endpoint()));
        member = next;
        kind = other(kind);
    }
    assert!(has_snap(&start.data_dir), "no start was from a .snap file");
    member.stop();
}

fn has_snap(data_dir: &Path) -> bool {
    let names = fs::read_dir(data_dir.join("member/snap")).expect("the folder is there");
    names.flatten().any(|name| name.path().extension().is_some_and(|e| e == "snap"))
}

#[test]
fn ours_then_theirs_after_clean_ends() {
    take_turns(Kind::Ours, End::Clean);
}

#[test]
fn ours_then_theirs_after_kills() {
    take_turns(Kind::Ours, End::Kill);
}

#[test]
fn theirs_then_ours_after_clean_ends() {
    take_turns(Kind::Real, End::Clean);
}

#[test]
fn theirs_then_ours_after_kills() {
    take_turns(Kind::Real, End::Kill);
}
