//! A disk with everything of a member on it fills up: db, log and all.
//!
//! Reads go on, whatever makes the store grow is refused with etcd's own error, deletions
//! and compactions get through, the member keeps its vote and starts on the full disk, and
//! when there is room it writes again without being told to. Whatever was acknowledged is
//! there afterwards. etcd ends, and does not start before there is room.

#[expect(dead_code, reason = "other tests break disks in other ways")]
mod fault;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fault::{Tmpfs, until};
use mainstay_client::{Client, Options};
use mainstay_interop::cluster::{Load as Loads, Make, Plan};
use mainstay_interop::{Folder, Kind, Load, Member, Start};
use mainstay_proto::etcdserverpb as pb;

/// What etcd tells clients of a member without room.
const NO_ROOM: &str = "etcdserver: mvcc: database space exceeded";
/// Two segments of the log, a sixteenth in reserve and as much that is left free, a db.
const MEGABYTES: u64 = 256;

struct World {
    load: Load,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(seed: u64) -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        World { load: Load::new(seed, 8), runtime: runtime.expect("an event loop") }
    }

    fn verify(&mut self, member: &Member, when: &str) {
        let verified = self.runtime.block_on(self.load.verify(&member.endpoint()));
        let figures =
            verified.unwrap_or_else(|why| panic!("{when}: {why}; it logged:\n{}", member.log()));
        eprintln!("{when}: {figures:?}");
    }

    fn write(&mut self, member: &Member, count: usize) {
        let ran = self.runtime.block_on(self.load.run(&member.endpoint(), count, || {}));
        let ran = ran.unwrap_or_else(|why| panic!("{why}; it logged:\n{}", member.log()));
        eprintln!("{ran:?}");
    }

    /// The error of a call, empty when it succeeds.
    fn told<T, F>(&self, member: &Member, call: impl FnOnce(Client) -> F) -> String
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let asked = async {
            let client = Client::connect(&member.endpoint(), &Options::default()).await;
            let client = client.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
            let answer = tokio::time::timeout(Duration::from_secs(2), call(client)).await;
            answer.map_err(|_| tonic::Status::deadline_exceeded("no answer"))?.map(drop)
        };
        let told = self.runtime.block_on(asked);
        told.err().map(|status| status.message().to_owned()).unwrap_or_default()
    }

    /// What a write is told that would put a key if a condition held that does not.
    fn probe(&self, member: &Member) -> String {
        let put = pb::PutRequest { key: "probe".into(), ..Default::default() };
        let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
        let never = pb::Compare {
            result: pb::compare::CompareResult::Equal as i32,
            target: pb::compare::CompareTarget::Version as i32,
            key: "probe".into(),
            target_union: Some(pb::compare::TargetUnion::Version(1)),
            ..Default::default()
        };
        let txn = pb::TxnRequest { compare: vec![never], success: vec![put], failure: Vec::new() };
        self.told(member, |client| async move { client.kv().txn(txn).await })
    }

    /// Deletes a key that is not there: an entry of this length in the log, and no more.
    fn delete(&self, member: &Member, bytes: usize) -> String {
        let key = vec![b'z'; bytes].into();
        let delete = pb::DeleteRangeRequest { key, ..Default::default() };
        self.told(member, |client| async move { client.kv().delete_range(delete).await })
    }

    fn alarms(&self, member: &Member) -> usize {
        let mut found = 0;
        self.told(member, |client| {
            let found = &mut found;
            async move {
                let none = pb::AlarmRequest::default();
                *found = client.maintenance().alarm(none).await?.into_inner().alarms.len();
                Ok(())
            }
        });
        found
    }
}

/// A data directory on the disk, by a link, so that what the member logs lies elsewhere.
fn on(disk: &Tmpfs, dir: &Path) -> PathBuf {
    let there = disk.path().join("m.etcd");
    fs::create_dir_all(&there).expect("a folder");
    symlink(there, dir).expect("a link");
    dir.to_owned()
}

fn metric(member: &Member, name: &str) -> f64 {
    let page = member.http_get("/metrics").expect("it serves");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[test]
fn a_lone_member_goes_on_by_itself_when_there_is_room() {
    let folder = Folder::new("disk-full");
    let Some(disk) = Tmpfs::new(folder.path(), MEGABYTES) else { return };
    let dir = on(&disk, &folder.path().join("m.etcd"));
    let start = Start::new(Kind::Ours, &dir).flag("--snapshot-count=500");
    let member = start.run().expect("ours is there");
    let mut world = World::new(11);
    world.write(&member, 100);
    assert!(metric(&member, "mainstay_disk_reserve_bytes") > 8e6);
    assert_eq!(metric(&member, "mainstay_disk_full"), 0.0);

    disk.fill();
    until("writes are refused", || world.probe(&member) == NO_ROOM);
    world.verify(&member, "while it is full");
    assert_eq!(metric(&member, "mainstay_disk_full"), 1.0);
    assert_eq!(world.delete(&member, 10), "", "deletions get through");
    until("the alarm is raised", || world.alarms(&member) == 1);
    member.kill();
    let member = start.run().expect("ours is there");
    world.verify(&member, "started while it is full");
    assert_eq!(world.probe(&member), NO_ROOM);

    disk.make_room();
    until("writes are taken again", || world.probe(&member).is_empty());
    assert_eq!(world.alarms(&member), 0);
    world.write(&member, 100);
    world.verify(&member, "with room again");
    member.stop();
    let member = start.run().expect("ours is there");
    world.verify(&member, "in its next life");
}

/// What may always pass fills the log, then the reserve, until there is nothing left. The
/// member waits, and answers what it can without the log.
#[test]
fn a_lone_member_whose_log_has_no_room_waits_and_loses_nothing() {
    let folder = Folder::new("disk-brim");
    let Some(disk) = Tmpfs::new(folder.path(), MEGABYTES) else { return };
    let dir = on(&disk, &folder.path().join("m.etcd"));
    let start = Start::new(Kind::Ours, &dir);
    let member = start.run().expect("ours is there");
    let mut world = World::new(12);
    world.write(&member, 100);
    disk.fill();
    until("writes are refused", || world.probe(&member) == NO_ROOM);
    let mut passed = 0;
    let end = Instant::now() + Duration::from_secs(120);
    let stuck = loop {
        match world.delete(&member, 1 << 20) {
            told if told.is_empty() => passed += 1,
            told => break told,
        }
        assert!(Instant::now() < end, "the log never ends; {passed} MiB");
    };
    eprintln!("{passed} MiB of deletions passed; then: {stuck}");
    assert!(passed > 64 && stuck != NO_ROOM, "{passed} MiB, then {stuck}");
    assert_eq!(metric(&member, "mainstay_disk_reserve_bytes"), 0.0, "it was given up");
    let log = member.log();
    for words in ["gave up the reserve", "no room on the disk for the log", "free-bytes", ".wal"] {
        assert!(log.contains(words), "{words:?} must be in\n{log}");
    }
    world.verify(&member, "while its log waits");
    // Killed, it starts with the log as it is.
    member.kill();
    let member = start.run().expect("ours is there");
    world.verify(&member, "started without room for its log");
    disk.make_room();
    until("writes are taken again", || world.probe(&member).is_empty());
    until("the reserve is back", || metric(&member, "mainstay_disk_reserve_bytes") > 8e6);
    world.write(&member, 100);
    world.verify(&member, "with room again");
    member.stop();
    let member = start.run().expect("ours is there");
    world.verify(&member, "in its next life");
}

#[test]
fn a_member_of_three_keeps_its_vote() {
    let Some(mut cluster) = Plan::new("disk-full-3", &[Make::Ours; 3]).start() else { return };
    cluster.wait_all_healthy();
    let folder = Folder::new("disk-full-of-3");
    let Some(disk) = Tmpfs::new(folder.path(), MEGABYTES) else { return };
    // The third moves to a small disk.
    cluster.stop(2);
    let dir = cluster.folder().join("m3.etcd");
    let there = disk.path().join("m3.etcd");
    let copied = Command::new("cp").arg("-a").arg(&dir).arg(&there).stdin(Stdio::null()).status();
    assert!(copied.expect("cp runs").success());
    fs::remove_dir_all(&dir).expect("it is there");
    symlink(&there, &dir).expect("a link");
    cluster.restart(2);
    cluster.wait_all_healthy();

    let refused = |cluster: &mainstay_interop::cluster::Cluster, n| {
        let put = pb::PutRequest { key: "probe".into(), ..Default::default() };
        let told = cluster.ask(n, |client| async move { client.kv().put(put).await });
        told.is_err_and(|why| why.contains(NO_ROOM))
    };
    let load = Loads::start(5, &mut cluster, false);
    load.wait_for(&mut cluster, 300);
    (0..3).for_each(|n| load.excuse(n));
    disk.fill();
    until("writes are refused everywhere", || (0..3).all(|n| refused(&cluster, n)));
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{report:?}");
    // The leader goes, or the other one: with the full member there is a majority.
    let leader = cluster.leader();
    let gone = if leader == 2 { 0 } else { leader };
    cluster.stop(gone);
    let other = 1 - gone;
    cluster.eventually("two of three, one full, read", |cluster| {
        (cluster.linearizable(other).is_ok() && cluster.linearizable(2).is_ok()).then_some(())
    });
    cluster.restart(gone);
    disk.make_room();
    cluster.eventually("writes are taken again", |cluster| {
        (0..3).all(|n| !refused(cluster, n)).then_some(())
    });
    cluster.wait_all_healthy();
    cluster.same_everywhere();
}

/// What 3.5.16 does in the place of ours.
#[test]
fn etcd_ends_and_does_not_start_until_there_is_room() {
    let folder = Folder::new("disk-full-etcd");
    let Some(disk) = Tmpfs::new(folder.path(), MEGABYTES) else { return };
    let dir = on(&disk, &folder.path().join("m.etcd"));
    let start = Start::new(Kind::Real, &dir);
    let Some(member) = start.run() else { return };
    let mut world = World::new(13);
    world.write(&member, 100);
    disk.fill();
    let ran = world.runtime.block_on(world.load.run(&member.endpoint(), usize::MAX, || {}));
    let log = member.log();
    let status = member.ended();
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("panic") || line.contains("fatal")).collect();
    eprintln!("{ran:?}; it ended with {status}: {said:?}");
    assert!(!status.success());
    let mut again = start.command().expect("it was there a moment ago");
    let again = again.stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("it starts");
    let said = String::from_utf8_lossy(&again.stderr);
    eprintln!(
        "started again it ended with {}: {}",
        again.status,
        said.lines().last().unwrap_or("")
    );
    assert!(!again.status.success());
    disk.make_room();
    let member = start.run().expect("it is there");
    world.verify(&member, "with room again");
}
