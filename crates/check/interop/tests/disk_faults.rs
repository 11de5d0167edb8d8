//! Disks that fail and disks that fill up, under a running member.
//!
//! A failed write or sync is final: the member says so in etcd's words, ends with
//! a status, and acknowledges nothing more. A full disk is not a broken one: the
//! member refuses writes with etcd's error, goes on reading, starts, and writes again
//! once there is room. In every case whatever was acknowledged is there afterwards.

mod fault;

use std::fs;
use std::path::Path;

use fault::{Injection, Tmpfs};
use mainstay_interop::{Figures, Folder, Kind, Load, Member, Start};
use mainstay_proto::etcdserverpb as pb;

struct World {
    load: Load,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(seed: u64) -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        World { load: Load::new(seed, 8), runtime: runtime.expect("an event loop") }
    }

    fn verify(&mut self, member: &Member, when: &str) -> Figures {
        let verified = self.runtime.block_on(self.load.verify(&member.endpoint()));
        verified.unwrap_or_else(|why| panic!("{when}: {why}; it logged:\n{}", member.log()))
    }

    fn write(&mut self, member: &Member, count: usize) {
        let ran = self.runtime.block_on(self.load.run(&member.endpoint(), count, || {}));
        let ran = ran.unwrap_or_else(|why| panic!("{why}; it logged:\n{}", member.log()));
        eprintln!("{ran:?}");
    }
}

/// Where a fault strikes.
#[derive(Clone, Copy)]
enum Place {
    Log,
    Db,
    Folder,
}

impl Place {
    fn path(self, data_dir: &Path) -> String {
        let path = match self {
            Place::Log => "member/wal/0000000000000000-0000000000000000.wal",
            Place::Db => "member/snap/db",
            Place::Folder => "member/snap",
        };
        data_dir.join(path).display().to_string()
    }
}

/// Writes, breaks `call` on the file, and expects the member to end with `words`; then
/// everything acknowledged must be there.
fn broken(name: &str, call: &str, place: Place, words: &str) {
    let folder = Folder::new(name);
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd")).flag("--snapshot-count=500");
    let member = start.run().expect("ours is there");
    let mut world = World::new(7);
    world.write(&member, 100);
    world.verify(&member, "before the fault");
    let path = place.path(&start.data_dir);
    let Some(injection) = Injection::into(member.pid(), call, "EIO", &path) else { return };
    world.write(&member, usize::MAX);
    let log = start.data_dir.with_extension("Ours.log");
    let status = member.ended();
    drop(injection);
    let log = fs::read_to_string(log).unwrap_or_default();
    assert!(status.code().is_some_and(|code| code != 0), "{name}: ended with {status}:\n{log}");
    assert!(log.contains(words), "{name}: {words:?} must be in\n{log}");
    let member = start.run().expect("ours is there");
    let figures = world.verify(&member, "after the fault");
    eprintln!("{name}: {figures:?}");
    world.write(&member, 100);
    world.verify(&member, "in its next life");
}

#[test]
fn a_log_that_cannot_be_synced_stops_the_member() {
    let words = "failed to save Raft hard state and entries";
    broken("log-fdatasync", "fdatasync", Place::Log, words);
}

#[test]
fn a_log_that_cannot_be_written_stops_the_member() {
    let words = "failed to save Raft hard state and entries";
    broken("log-pwrite", "pwrite64", Place::Log, words);
}

#[test]
fn a_db_that_cannot_be_synced_stops_the_member() {
    broken("db-fdatasync", "fdatasync", Place::Db, "failed to commit tx");
}

#[test]
fn a_db_that_cannot_be_written_stops_the_member() {
    broken("db-pwrite", "pwrite64", Place::Db, "failed to commit tx");
}

#[test]
fn a_folder_that_cannot_be_synced_stops_the_member() {
    broken("folder-fsync", "fsync", Place::Folder, "failed to save snapshot");
}

/// What etcd tells clients of a member without room.
const NO_ROOM: &str = "etcdserver: mvcc: database space exceeded";

/// Fills the disk that `place` puts something on, and expects refusals and no end;
/// then makes room, and expects writes to be taken again.
fn full(name: &str, megabytes: u64, place: impl Fn(Start, &Path) -> Start) {
    let folder = Folder::new(name);
    let Some(disk) = Tmpfs::new(folder.path(), megabytes) else { return };
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd"));
    let start = place(start, disk.path()).flag("--snapshot-count=500");
    let member = start.run().expect("ours is there");
    let mut world = World::new(11);
    world.write(&member, 100);
    world.verify(&member, "with room");
    let refused = |world: &World, member: &Member, bytes| {
        world.runtime.block_on(refusal(&member.endpoint(), bytes))
    };
    let fill = |world: &mut World, member: &Member| {
        disk.fill();
        // Entries that change nothing but fill the log, beside rows that fill the db.
        fault::until("the full disk is told", || {
            world.write(member, 200);
            world.verify(member, "while it fills");
            (0..8).any(|_| refused(world, member, 1 << 20) == NO_ROOM)
        });
        world.verify(member, "while it is full");
    };
    fill(&mut world, &member);
    disk.make_room();
    fault::until("writes are taken again", || refused(&world, &member, 0).is_empty());
    world.write(&member, 100);
    world.verify(&member, "with room again");
    fill(&mut world, &member);
    member.kill();
    let member = start.run().expect("ours is there");
    world.verify(&member, "started while it is full");
    assert_eq!(refused(&world, &member, 0), NO_ROOM, "the alarm outlives a restart");
    disk.make_room();
    fault::until("writes are taken after a disarm", || {
        world.runtime.block_on(disarm(&member.endpoint()));
        refused(&world, &member, 0).is_empty()
    });
    world.write(&member, 100);
    world.verify(&member, "with room once more");
    member.stop();
    let member = start.run().expect("ours is there");
    world.verify(&member, "in its next life");
}

/// What an operator does once there is room.
async fn disarm(endpoint: &str) {
    let options = mainstay_client::Options::default();
    let client = mainstay_client::Client::connect(endpoint, &options).await.expect("it serves");
    let none = pb::AlarmRequest { alarm: pb::AlarmType::Nospace as i32, ..Default::default() };
    let alarms = client.maintenance().alarm(none).await.expect("answers").into_inner().alarms;
    for alarm in alarms {
        let action = pb::alarm_request::AlarmAction::Deactivate as i32;
        let off = pb::AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        client.maintenance().alarm(off).await.expect("answers");
    }
}

/// What the member answers to a write; empty when it takes it. The write would put a
/// key if a condition held that does not, so that it leaves no trace.
async fn refusal(endpoint: &str, bytes: usize) -> String {
    let value = vec![b'x'; bytes].into();
    let put = pb::PutRequest { key: "probe".into(), value, ..Default::default() };
    let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
    let never = pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: pb::compare::CompareTarget::Version as i32,
        key: "probe".into(),
        target_union: Some(pb::compare::TargetUnion::Version(1)),
        ..Default::default()
    };
    let txn = pb::TxnRequest { compare: vec![never], success: vec![put], failure: Vec::new() };
    let asked = async {
        let options = mainstay_client::Options::default();
        let client = mainstay_client::Client::connect(endpoint, &options).await;
        let client = client.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        client.kv().txn(txn).await
    };
    asked.await.err().map(|status| status.message().to_owned()).unwrap_or_default()
}

#[test]
fn a_full_disk_under_the_db_refuses_writes_until_there_is_room() {
    full("db-full", 24, |start, disk| {
        // The log lies elsewhere.
        let wal = start.data_dir.with_extension("wal");
        let wal = format!("--wal-dir={}", wal.display());
        Start { data_dir: disk.join("m.etcd"), ..start }.flag(&wal)
    });
}
