//! `.snap` files, and the v2 store in them.
//!
//! The first byte: 0 for a file as it is; 1 for what its checksum covers, which is
//! made here; 2 for the store's JSON alone.

use std::path::Path;

use bytes::Bytes;
use mainstay_env::Disk as _;
use mainstay_env_sim::SimDisk;
use mainstay_membership::{Member, Membership, V2Snapshot};
use mainstay_proto::{Message as _, raftpb, snappb};
use mainstay_raft::{ConfState, Snapshot};
use mainstay_types::{Index, MemberId, Term, Version};
use mainstay_wal::snap::{list, load, load_newest, save};
use mainstay_wal::{SnapshotMark, convert};

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "snap", seeds, run };

const DIR: &str = "/snap";

fn membership() -> Membership {
    let mut membership = Membership::default();
    for id in [7, 9] {
        membership.apply(mainstay_membership::Change::Add(Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into()],
            ..Member::default()
        }));
    }
    membership.apply(mainstay_membership::Change::Remove(MemberId(9)));
    membership.set_version(Version::line(3, 5));
    membership
}

fn snapshot() -> Snapshot {
    let data = Bytes::from(membership().to_v2_json());
    let conf_state = ConfState { voters: vec![MemberId(7)], ..ConfState::default() };
    Snapshot { data, index: Index(5), term: Term(2), conf_state }
}

fn seeds() -> Vec<Vec<u8>> {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).expect("a sound disk");
    let path = save(&disk, Path::new(DIR), &snapshot()).expect("a sound disk");
    let file = disk.contents(path).expect("just saved");
    let inner = convert::snapshot_to_pb(&snapshot()).encode_to_vec();
    vec![
        [&[0], &file[..]].concat(),
        [&[1], &inner[..]].concat(),
        [&[2], &membership().to_v2_json()[..]].concat(),
    ]
}

fn run(input: &[u8]) -> u64 {
    let mut kind = Kind::default();
    let Some((how, rest)) = input.split_first() else { return 0 };
    match how {
        2 => store(rest, &mut kind),
        1 => {
            let inside = raftpb::Snapshot::decode(rest).ok().and_then(|s| s.metadata);
            let inside = inside.unwrap_or_default();
            let (term, index) = (inside.term.unwrap_or(0), inside.index.unwrap_or(0));
            let data = Bytes::copy_from_slice(rest);
            let outer =
                snappb::Snapshot { crc: Some(super::wal::crc32c(0, rest)), data: Some(data) };
            file(&outer.encode_to_vec(), term, index, &mut kind);
        }
        _ => file(rest, 2, 5, &mut kind),
    }
    kind.end()
}

/// A directory with this file and an older, sound one: the older one is used when this
/// one cannot be.
fn file(bytes: &[u8], term: u64, index: u64, kind: &mut Kind) {
    let disk = SimDisk::new(1);
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).expect("a sound disk");
    let older = Snapshot { index: Index(1), term: Term(1), ..snapshot() };
    save(&disk, dir, &older).expect("a sound disk");
    disk.install(format!("{DIR}/{term:016x}-{index:016x}.snap"), bytes);
    for name in list(&disk, dir).expect("a sound disk") {
        match load(&disk, dir, name) {
            Ok(snapshot) => store(&snapshot.data, kind),
            Err(error) => kind.add_text(&error.to_string()),
        }
    }
    let mark =
        |term, index| SnapshotMark { index: Index(index), term: Term(term), conf_state: None };
    let marks = [mark(1, 1), mark(term, index)];
    let (newest, broken) = load_newest(&disk, dir, &marks).expect("a sound disk");
    kind.add_size(broken.len());
    if (term, index) != (1, 1) {
        assert!(newest.is_some(), "the older snapshot is there");
    }
}

/// The store's JSON: what can be read can be written and read again.
fn store(json: &[u8], kind: &mut Kind) {
    match V2Snapshot::parse(json) {
        Ok(parsed) => {
            let again = V2Snapshot::parse(&parsed.membership.to_v2_json());
            let again = again.expect("what we write we read").membership;
            let ids = |m: &Membership| m.members().map(|member| member.id).collect::<Vec<_>>();
            assert_eq!(ids(&again), ids(&parsed.membership));
            kind.add_size(ids(&again).len());
        }
        Err(error) => kind.add_text(&error.to_string()),
    }
}
