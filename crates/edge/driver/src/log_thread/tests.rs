//! What the log holds when the power goes while it takes over a leader's snapshot.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mainstay_apply::{CommittedState, committed_state};
use mainstay_env::Disk;
use mainstay_env_os::OsClock;
use mainstay_env_sim::{SimDisk, Unsynced};
use mainstay_member::{Effect, Input};
use mainstay_membership::{self as membership, Member};
use mainstay_raft::{Entry, EntryKind, HardState, Mark, Snapshot};
use mainstay_types::{Index, MemberId, Term};

use super::{Gathered, Persist, Writer};
use crate::boot::tests::SmallSegments;
use crate::boot::{Booted, boot};
use crate::incoming::IncomingDb;
use crate::space::Space;
use crate::stats::Stats;
use crate::{Founding, Options};

fn members() -> Vec<Member> {
    let named = |id| Member {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("http://m{id}:2380")],
        ..Member::default()
    };
    [1, 2].map(named).into()
}

fn start(disk: &SimDisk, options: &Options) -> Result<Booted, crate::BootError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    boot(&disk, options, 1, &mut SmallSegments)
}

/// What a leader that has applied its first members sends to one that joins.
fn state_of_a_leader() -> (Snapshot, Vec<u8>) {
    let founding = Founding::New { me: MemberId(1), members: members() };
    let options = Options { data_dir: "/m".into(), founding, ..Options::default() };
    let booted = start(&SimDisk::new(1), &options).expect("is born");
    let Booted { mut member, mut machine, .. } = booted;
    let mut effects = Vec::new();
    member.flush(&mut effects);
    while !effects.is_empty() {
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Persist { mark, .. } => member.feed(Input::Persisted(mark)),
                Effect::Apply(entries) => {
                    for entry in &entries {
                        let batch = machine.apply(entry, |_| false).expect("applies").batch;
                        machine.backend().append(batch.expect("a new member is a row"));
                    }
                }
                _ => {}
            }
        }
        member.flush(&mut effects);
    }
    machine.backend().commit().expect("commits");
    let CommittedState { snapshot, reader } = committed_state(machine.backend()).expect("reads");
    let copy = reader.copy();
    let mut db = vec![0; usize::try_from(copy.len()).expect("small")];
    copy.read_at(0, &mut db).expect("reads");
    (snapshot, db)
}

/// A received snapshot, and entries right behind it.
fn order(snapshot: &Snapshot) -> Gathered {
    let entry = |behind| Entry {
        term: snapshot.term,
        index: Index(snapshot.index.0 + behind),
        kind: EntryKind::Normal,
        data: Bytes::from(vec![b'e'; 700]),
    };
    Gathered::from(Persist {
        snapshot: Some(Box::new(snapshot.clone())),
        hard_state: Some(HardState {
            term: Term(snapshot.term.0 + 1),
            vote: MemberId::NONE,
            commit: snapshot.index,
        }),
        entries: vec![entry(1), entry(2)],
        must_sync: true,
        mark: Mark(1),
        then_send: Vec::new(),
    })
}

/// The commit index that makes a received snapshot count is durable before entries behind
/// it are (184c27a): without it they would leave a gap.
#[test]
fn a_power_cut_while_a_snapshot_is_taken_over_leaves_all_of_it_or_nothing() {
    let (snapshot, db) = state_of_a_leader();
    let cluster = membership::cluster_id(members().iter().map(|member| member.id));
    let founding = Founding::Join { cluster, me: MemberId(2), members: members() };
    let options = Options { data_dir: "/m".into(), founding, ..Options::default() };
    let disk = SimDisk::new(2);
    let Booted { wal, .. } = start(&disk, &options).expect("is born");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut received =
        IncomingDb::create(Arc::clone(&shared), options.snap_path(), snapshot.index, 1)
            .expect("a file");
    received.write(&db).expect("writes");
    received.finish().expect("syncs");

    let left = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&left);
    disk.observe(move |disk, step| {
        for seed in 0..80 {
            let way = Unsynced::ALL[seed as usize % 4];
            let story = format!("{} {:?}, {way:?} {seed}", step.number, step.kind);
            found.lock().expect("one thread").push((story, disk.crash_with(way, seed)));
        }
    });
    let (place, stats) = ((Space::default(), options.snap_path(), 0), Arc::new(Stats::default()));
    let clock: Arc<dyn mainstay_env::Clock> = Arc::new(OsClock::new());
    let mut writer = Writer::new(wal, place, shared, &clock, &stats);
    writer.save(&order(&snapshot)).expect("saves");

    let left = std::mem::take(&mut *left.lock().expect("one thread"));
    let mut ends = std::collections::BTreeSet::new();
    for (story, disk) in left.into_iter().chain([("the end".to_owned(), disk.copy())]) {
        let booted = start(&disk, &options).unwrap_or_else(|why| panic!("cut at {story}: {why}"));
        let (applied, last) = (booted.applied.0, booted.member.status().last.0);
        let whole = applied == snapshot.index.0 && last >= applied;
        assert!(whole || (applied, last) == (0, 0), "cut at {story}: {applied} to {last}");
        ends.insert(last);
    }
    assert!(
        ends.contains(&0) && ends.contains(&(snapshot.index.0 + 2)),
        "both were seen: {ends:?}"
    );
}
