//! Rows as 3.5 leaves them.

use std::path::Path;
use std::sync::Arc;

use mainstay_backend::{Batch, Bucket, OpenOptions, meta};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_membership::{Change, Member, Membership};
use mainstay_proto::Message as _;
use mainstay_raft::{Entry, EntryKind};
use mainstay_types::{Index, MemberId, Term, Version};

use crate::quota::Quota;
use crate::{Machine, Options};

fn member(id: u64, is_learner: bool) -> Member {
    let peer_urls = vec![format!("http://m{id}")];
    Member { id: MemberId(id), peer_urls, is_learner, ..Member::default() }
}

/// A db at entry 3: member 1, member 2 as the learner that it was, 3 removed.
fn disk(storage_version: Option<&'static str>) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/snap")).unwrap();
    let machine = open(&disk);
    let mut batch = Batch::new((Index(3), Term(2)));
    for member in [member(1, false), member(2, true)] {
        batch.put(Bucket::Members, member.id.to_string(), member.to_json());
    }
    batch.put(Bucket::MembersRemoved, "3", "removed");
    batch.put(Bucket::Cluster, "clusterVersion", "3.5.0");
    if let Some(version) = storage_version {
        batch.put(Bucket::Meta, meta::STORAGE_VERSION, version);
    }
    machine.backend().append(batch);
    machine.backend().commit().unwrap();
    disk
}

fn open(disk: &SimDisk) -> Machine {
    let options = Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: false,
    };
    let disk = Arc::new(disk.clone());
    Machine::open(disk, Path::new("/snap/db"), OpenOptions::default(), options).unwrap()
}

fn change(index: u64, change: &Change) -> Entry {
    let data = change.encode(9).encode_to_vec().into();
    Entry { term: Term(2), index: Index(index), kind: EntryKind::ConfChange, data }
}

fn log() -> Vec<Entry> {
    vec![
        change(2, &Change::Promote(MemberId(2))),
        // Refused then, and so now.
        change(3, &Change::Add(member(3, false))),
        // Not applied yet.
        change(4, &Change::Remove(MemberId(1))),
    ]
}

/// What `.snap` holds at entry 1.
fn v2() -> Membership {
    let mut v2 = Membership::new([member(1, false), member(2, true), member(3, false)]);
    v2.apply(Change::Remove(MemberId(3)));
    v2
}

#[test]
fn a_promoted_member_votes_although_its_row_says_learner() {
    let disk = disk(None);
    let mut machine = open(&disk);
    assert_eq!(machine.conf_state().voters, [MemberId(1)]);
    let wrong = machine.take_v2_membership(v2(), &log()).unwrap();
    assert_eq!(wrong.into_iter().collect::<Vec<_>>(), [MemberId(2)]);
    assert_eq!(machine.conf_state().voters, [MemberId(1), MemberId(2)]);
    assert!(machine.membership().is_removed(MemberId(3)));
    assert_eq!(machine.membership().version(), Some(Version::line(3, 5)));

    let applied = machine.apply(&log()[2], |_| false).unwrap();
    machine.backend().append(applied.batch.unwrap());
    machine.backend().commit().unwrap();
    drop(machine);
    let machine = open(&disk);
    assert_eq!(machine.conf_state().voters, [MemberId(2)], "its row is mended");
    assert!(machine.conf_state().learners.is_empty());
}

#[test]
fn from_3_6_on_rows_are_believed() {
    let mut machine = open(&disk(Some("3.6.0")));
    let before = Arc::clone(machine.membership());
    assert!(machine.take_v2_membership(v2(), &log()).unwrap().is_empty());
    assert_eq!(*machine.membership(), before);
}

#[test]
fn without_a_v2_store_the_rows_stand() {
    let mut machine = open(&disk(None));
    let before = Arc::clone(machine.membership());
    assert!(machine.take_v2_membership(Membership::default(), &[]).unwrap().is_empty());
    assert_eq!(*machine.membership(), before);
}

#[test]
fn a_member_that_the_rows_lack_or_have_too_much_is_mended() {
    let disk = disk(None);
    let mut machine = open(&disk);
    let mut v2 = v2();
    v2.apply(Change::Add(member(4, false)));
    v2.apply(Change::Remove(MemberId(2)));
    assert_eq!(machine.take_v2_membership(v2.clone(), &[]).unwrap().len(), 2);
    let empty = Entry {
        kind: EntryKind::Normal,
        data: bytes::Bytes::new(),
        ..change(4, &Change::Remove(MemberId(9)))
    };
    let applied = machine.apply(&empty, |_| false).unwrap();
    machine.backend().append(applied.batch.unwrap());
    machine.backend().commit().unwrap();
    drop(machine);
    let machine = open(&disk);
    assert_eq!(
        machine.membership().members().collect::<Vec<_>>(),
        v2.members().collect::<Vec<_>>()
    );
    assert!(machine.membership().is_removed(MemberId(2)));
}
