//! Damage that heals from another member, with the power cut at every step.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_env::Disk;
use mainstay_env_os::{OsClock, OsDice};
use mainstay_env_sim::{SimDisk, Unsynced};
use mainstay_membership::{Change, Member, Membership};
use mainstay_proto::etcdserverpb as pb;
use mainstay_raft::{HardState, Message};
use mainstay_types::{ClusterId, Index, MemberId, Term};

use super::*;
use crate::boot::tests::SmallSegments;
use crate::damage::{Damage, write_marker};
use crate::transport::{CallAnswer, DbAsk, DbCopy, DbFetched, FetchError, PeerCall};
use crate::{Alone, Driver, RequestField};

/// Something that is done to a disk.
type Harm<'a> = &'a dyn Fn(&SimDisk);

/// Somebody who gives one db.
struct Giver {
    db: Vec<u8>,
    index: Index,
    term: Term,
    asked: Mutex<Vec<DbAsk>>,
}

impl Transport for Giver {
    fn send(&self, _: Vec<Message>) {}
    fn send_snapshot(&self, _: Message, _: Arc<dyn DbCopy>) {}
    fn follow(&self, _: &Arc<Membership>) {}
    fn connected_for(&self, _: MemberId) -> Option<Duration> {
        None
    }
    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer {
        Alone.call(to, call)
    }

    fn fetch_db(
        &self,
        ask: &DbAsk,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<DbFetched, FetchError> {
        self.asked.lock().expect("no panic holds it").push(ask.clone());
        if ask.least > self.index {
            return Err(FetchError::NotYet(format!("only {} is applied", self.index)));
        }
        for piece in self.db.chunks(10_000) {
            sink(piece).map_err(FetchError::Sink)?;
        }
        let bytes = self.db.len() as u64;
        Ok(DbFetched { from: MemberId(7), index: self.index, term: self.term, bytes })
    }
}

fn options() -> Options {
    Options {
        data_dir: "/m".into(),
        // The newest of them lies before the end.
        snapshot_count: 17,
        snapshot_catchup_entries: 2,
        max_snapshots: 1,
        max_wals: 2,
        backend_batch_interval: Duration::from_millis(5),
        repair_patience: Duration::ZERO,
        ..Options::default()
    }
}

/// A life of a voter with a learner beside it: it puts `times` values.
fn live(disk: &SimDisk, times: usize) {
    let begun = Instant::now();
    let mut driver = loop {
        let disk = Arc::new(disk.clone());
        let clock = Arc::new(OsClock::new());
        let dice = &mut OsDice::new();
        let alone = Arc::new(Alone);
        match Driver::start_tuned(options(), disk, clock, dice, alone, &mut SmallSegments) {
            Ok(driver) => break driver,
            // A thread of the life before that nobody waits for holds it a moment longer.
            Err(why) => assert!(begun.elapsed() < Duration::from_secs(10), "{why}"),
        }
        std::thread::yield_now();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        driver.ready().await;
        let handle = driver.handle();
        if driver.is_new() {
            let peer_urls = vec!["http://10.0.0.2:2380".to_owned()];
            let learner =
                Member { id: MemberId(7), peer_urls, is_learner: true, ..Member::default() };
            handle.change_membership(&Change::Add(learner)).await.expect("adds");
        }
        for n in 0..times {
            let put = pb::PutRequest {
                key: format!("k{n}").into(),
                value: vec![b'v'; 300].into(),
                ..Default::default()
            };
            handle.propose(RequestField::Put, &put).await.expect("put");
        }
    });
    driver.stop();
}

/// A member, and others that are as far as it, and further.
struct World {
    disk: SimDisk,
    /// Its db when it was young.
    old: Vec<u8>,
    equal: Giver,
    ahead: Giver,
}

/// What a log and a db hold.
struct State {
    hard_state: HardState,
    last: Index,
    applied: Index,
    revision: i64,
}

fn db_of(disk: &SimDisk) -> Vec<u8> {
    disk.contents(options().db_path()).expect("a db")
}

fn state_of(disk: &SimDisk) -> State {
    let shared: Arc<dyn Disk> = Arc::new(disk.copy());
    let booted = boot(&shared, &options(), 1, &mut SmallSegments).expect("starts");
    State {
        hard_state: booted.wal.hard_state(),
        last: booted.wal.last_index(),
        applied: booted.applied,
        revision: booted.machine.view().revision(),
    }
}

fn giver(disk: &SimDisk) -> Giver {
    let State { applied, hard_state, .. } = state_of(disk);
    Giver { db: db_of(disk), index: applied, term: hard_state.term, asked: Mutex::default() }
}

fn world() -> World {
    let disk = SimDisk::new(1);
    live(&disk, 5);
    let old = db_of(&disk);
    live(&disk, 25);
    live(&disk, 9);
    let further = disk.copy();
    live(&further, 30);
    World { old, equal: giver(&disk), ahead: giver(&further), disk }
}

fn start(disk: &SimDisk, giver: &Giver) -> Result<(Booted, Mended), BootError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options();
    let place = Place { disk: &shared, options: &options, transport: giver };
    boot_mending(&place, 1, &mut SmallSegments)
}

/// Starts on a damaged disk, and once more after a power cut before each step of that start.
/// Every one of them must make a member that knows what it has promised.
fn heals(what: &str, disk: &SimDisk, giver: &Giver, before: &State) -> Mended {
    let left = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&left);
    let mended = disk.copy();
    mended.observe(move |disk, step| {
        let step_name = format!("{} {:?} of {}", step.number, step.kind, step.path.display());
        let crash = |way| (step_name.clone(), way, disk.crash_with(way, step.number));
        found.lock().expect("no panic holds it").extend(Unsynced::ALL.map(crash));
    });
    let (booted, told) = start(&mended, giver).unwrap_or_else(|why| panic!("{what}: {why}"));
    check(what, &booted, before);
    let left = std::mem::take(&mut *left.lock().expect("no panic holds it"));
    assert!(left.len() > 10, "{what}: {} steps", left.len());
    for (step, way, disk) in left {
        let what = format!("{what}, cut at {step}, {way:?}");
        let (booted, _) = start(&disk, giver).unwrap_or_else(|why| panic!("{what}: {why}"));
        check(&what, &booted, before);
        drop(booted);
        // Nothing is left to mend.
        let (_, mended) = start(&disk, giver).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(mended, Mended::default(), "{what}");
    }
    told
}

fn check(what: &str, booted: &Booted, before: &State) {
    let (was, is) = (before.hard_state, booted.wal.hard_state());
    assert!(is.term >= was.term, "{what}: term {} became {}", was.term, is.term);
    assert!(is.term > was.term || is.vote == was.vote, "{what}: the vote is forgotten");
    let last = booted.member.status().last;
    assert!(last >= before.last, "{what}: the log ended at {}, and now at {last}", before.last);
    // All of it was committed, and what is not applied yet is.
    let behind = last.0 - booted.applied.0;
    let revision = booted.machine.view().revision() + i64::try_from(behind).expect("small");
    assert!(revision >= before.revision, "{what}: revision {revision} of {}", before.revision);
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    disk.install(path, bytes);
}

fn without_db(disk: &SimDisk) {
    let options = options();
    disk.remove_file(&options.db_path()).expect("removes");
    disk.sync_dir(&options.snap_path()).expect("syncs");
}

fn flip_metas(disk: &SimDisk) {
    for page in [0, 4096] {
        disk.flip(options().db_path(), page + 24, 3);
    }
}

/// Flips a bit of the value of `key` in the newest segment that has it.
fn flip_in_log(disk: &SimDisk, key: &str) {
    let wal = options().wal_path();
    let names = disk.list(&wal).expect("a log");
    for name in names.iter().rev().filter(|name| name.ends_with(".wal")) {
        let path = wal.join(name);
        let bytes = disk.contents(&path).expect("it is there");
        let needle = format!("{key}\u{12}");
        let found = bytes.windows(needle.len()).rposition(|part| part == needle.as_bytes());
        if let Some(at) = found {
            return disk.flip(&path, at as u64 + 100, 1);
        }
    }
    panic!("{key} is in no segment");
}

#[test]
fn a_lost_db_comes_back_whatever_the_power_does() {
    let world = world();
    let before = state_of(&world.disk);
    assert!(world.ahead.index > before.last && world.equal.index == before.last);
    for (who, giver) in [("equal", &world.equal), ("ahead", &world.ahead)] {
        let damages: [(&str, Harm<'_>); 5] = [
            ("no db", &without_db),
            ("no metas", &flip_metas),
            ("half a db", &|disk| {
                let bytes = db_of(disk);
                write(disk, &options().db_path(), &bytes[..bytes.len() / 2]);
            }),
            ("an old db", &|disk| write(disk, &options().db_path(), &world.old)),
            ("a note", &|disk| {
                let file = "/m/member/snap/db".to_owned();
                let owner = mainstay_wal::owner(disk, &options().wal_path()).expect("a log");
                let (cluster, member) = (owner.cluster, owner.member);
                let damage = Damage { cluster, member, file, offset: 0, what: "a page".into() };
                let path = marker_path(&options().member_dir());
                write_marker(disk, &path, &damage).expect("writes");
                let members = options().member_dir();
                disk.sync_dir(&members).expect("syncs");
            }),
        ];
        for (what, damage) in damages {
            let disk = world.disk.copy();
            damage(&disk);
            let told = heals(&format!("{what}, {who}"), &disk, giver, &before);
            assert_eq!(told, Mended { dbs: 1, logs: 0 }, "{what}, {who}");
            let asked = giver.asked.lock().expect("no panic holds it");
            let others = asked.last().map(|ask| ask.others.clone()).expect("it was asked");
            assert_eq!(others, [(MemberId(7), vec!["http://10.0.0.2:2380".to_owned()])]);
        }
    }
}

#[test]
fn a_damaged_entry_comes_back_whatever_the_power_does() {
    let world = world();
    let before = state_of(&world.disk);
    for (key, own) in [("k3", true), ("k7", true), ("k3", false), ("k7", false)] {
        let disk = world.disk.copy();
        flip_in_log(&disk, key);
        if !own {
            without_db(&disk);
        }
        let what = format!("{key}, with its own db: {own}");
        let told = heals(&what, &disk, &world.ahead, &before);
        assert_eq!(told, Mended { dbs: u64::from(!own), logs: 1 }, "{what}");
    }
    // What another has must reach behind what is lost.
    let disk = world.disk.copy();
    flip_in_log(&disk, "k7");
    without_db(&disk);
    let young = Giver { index: Index(before.last.0 - 5), ..giver(&world.disk) };
    let refused = start(&disk, &young).map(|_| ()).expect_err("nobody has it");
    assert!(refused.to_string().contains("only"), "{refused}");
}

/// Nobody knows what the last hard state said, behind which at most a snapshot was noted.
#[test]
fn a_log_that_may_have_lost_a_vote_is_left_alone() {
    let world = world();
    let disk = world.disk.copy();
    let wal = options().wal_path();
    let names = disk.list(&wal).expect("a log");
    let name = names.iter().rev().find(|name| name.ends_with(".wal")).expect("a segment");
    let path = wal.join(name);
    let bytes = disk.contents(&path).expect("it is there");
    // Its kind, and in front of it the field of its length; then checksum, term and vote.
    let starts = (0..bytes.len() as u64 / 8).rev().map(|at| at * 8);
    let is_state = |at: &u64| bytes[*at as usize..].starts_with(&[8, 3, 0x10]);
    let state = { starts }.find(is_state).expect("a hard state");
    disk.flip(&path, state + 15, 0);
    disk.flip(&path, state + 16, 1);
    let all = |disk: &SimDisk| -> Vec<Option<Vec<u8>>> {
        names.iter().map(|name| disk.contents(wal.join(name))).collect()
    };
    let was = all(&disk);
    let refused = start(&disk, &world.ahead).map(|_| ()).expect_err("it must not go on");
    assert!(refused.to_string().contains("vote"), "{refused}");
    assert_eq!(all(&disk), was, "nothing is changed");
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_changed() {
    let world = world();
    let refused = |giver: &Giver, options: &Options| {
        let disk = world.disk.copy();
        flip_metas(&disk);
        let db = db_of(&disk);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let place = Place { disk: &shared, options, transport: giver };
        let why = boot_mending(&place, 1, &mut ()).map(|_| ()).expect_err("refused").to_string();
        assert_eq!(db_of(&disk), db, "{why}");
        assert!(why.contains("no usable meta page") || why.contains("it does not fit"), "{why}");
        why
    };
    let same = || giver(&world.disk);
    let mut flipped = same();
    for page in flipped.db.chunks_mut(4096).skip(2) {
        page[8] ^= 0x40;
    }
    assert!(refused(&flipped, &options()).contains("is no good"));
    let other = Giver { term: Term(9), ..same() };
    assert!(refused(&other, &options()).contains("announced"));
    let young = Giver { db: world.old.clone(), ..same() };
    assert!(refused(&young, &options()).contains("announced"));
    let off = Options { repair_from_peers: false, ..options() };
    assert!(refused(&same(), &off).contains("--repair-from-peers is false"));
    let forced = Options { force_new_cluster: true, ..options() };
    assert!(refused(&same(), &forced).contains("--force-new-cluster"));
}

/// One that gives rubbish first, and then what is good.
struct TwoGivers(Giver, Giver);

impl Transport for TwoGivers {
    fn send(&self, _: Vec<Message>) {}
    fn send_snapshot(&self, _: Message, _: Arc<dyn DbCopy>) {}
    fn follow(&self, _: &Arc<Membership>) {}
    fn connected_for(&self, _: MemberId) -> Option<Duration> {
        None
    }
    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer {
        Alone.call(to, call)
    }

    fn fetch_db(
        &self,
        ask: &DbAsk,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<DbFetched, FetchError> {
        let giver = if ask.last.is_empty() { &self.0 } else { &self.1 };
        giver.fetch_db(ask, sink)
    }
}

#[test]
fn after_one_that_is_no_good_another_is_asked() {
    let world = world();
    let disk = world.disk.copy();
    without_db(&disk);
    let mut bad = giver(&world.disk);
    bad.db.truncate(4096);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = Options { repair_patience: Duration::from_secs(10), ..options() };
    let two = TwoGivers(bad, giver(&world.disk));
    let place = Place { disk: &shared, options: &options, transport: &two };
    let (booted, mended) = boot_mending(&place, 1, &mut SmallSegments).expect("starts");
    check("two givers", &booted, &state_of(&world.disk));
    assert_eq!(mended, Mended { dbs: 1, logs: 0 });
    assert_eq!(two.0.asked.lock().expect("no panic holds it").len(), 1);
}

/// A note that was left in a directory which has become another's says nothing.
#[test]
fn a_note_about_another_member_is_dropped() {
    let world = world();
    let disk = world.disk.copy();
    let path = marker_path(&options().member_dir());
    let damage = Damage {
        cluster: ClusterId(5),
        member: MemberId(6),
        file: "/other".to_owned(),
        offset: 1,
        what: "a page".to_owned(),
    };
    write_marker(&disk, &path, &damage).expect("writes");
    let (_, mended) = start(&disk, &world.ahead).expect("starts");
    assert_eq!(mended, Mended::default());
    assert_eq!(read_marker(&disk, &path).expect("reads"), Marker::None);
}
