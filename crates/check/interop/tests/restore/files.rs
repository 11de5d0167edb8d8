//! A restored directory, file by file, beside the one that the real etcdutl makes.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use mainstay_bolt::Reader;
use mainstay_env_os::OsDisk;
use mainstay_membership::V2Snapshot;
use mainstay_wal::{SnapshotMark, snap};

/// Asserts that two restored directories say the same.
pub(crate) fn are_same(ours: &Path, theirs: &Path, what: &str) {
    let (a, b) = (log(ours), log(theirs));
    assert_eq!(a, b, "{what}: the log");
    let (a, b) = (snapshot(ours), snapshot(theirs));
    assert_eq!(a.0, b.0, "{what}: what .snap stands for");
    assert_eq!(a.1, b.1, "{what}: the members in .snap");
    let (a, b) = (rows(ours), rows(theirs));
    for place in a.keys().chain(b.keys()) {
        assert_eq!(a.get(place), b.get(place), "{what}: row {place:?}");
    }
    assert!(a.len() > 10, "{what}: {} rows", a.len());
}

fn log(dir: &Path) -> (mainstay_wal::Replay, Vec<SnapshotMark>) {
    let (disk, wal) = (OsDisk::new(), dir.join("member/wal"));
    let replay = mainstay_wal::read(&disk, &wal, &SnapshotMark::default());
    let replay = replay.unwrap_or_else(|why| panic!("{}: {why}", wal.display()));
    let marks = mainstay_wal::valid_snapshots(&disk, &wal);
    (replay, marks.unwrap_or_else(|why| panic!("{}: {why}", wal.display())))
}

/// Index, term and configuration; and who is in the v2 store.
fn snapshot(
    dir: &Path,
) -> ((mainstay_types::Index, mainstay_types::Term, mainstay_raft::ConfState), V2Snapshot) {
    let (disk, folder) = (OsDisk::new(), dir.join("member/snap"));
    let names = snap::list(&disk, &folder).expect("a folder");
    let [name] = names.as_slice() else { panic!("one .snap file, not {names:?}") };
    let snapshot = snap::load(&disk, &folder, *name).expect("a whole .snap file");
    let store = V2Snapshot::parse(&snapshot.data).expect("a v2 store");
    ((snapshot.index, snapshot.term, snapshot.conf_state), store)
}

type Rows = BTreeMap<(Bytes, Bytes), Bytes>;

fn rows(dir: &Path) -> Rows {
    let db = dir.join("member/snap/db");
    let reader = Reader::open(&OsDisk::new(), &db).expect("a db");
    assert_eq!(reader.check().expect("readable"), [], "{}", db.display());
    let mut rows = Rows::new();
    for bucket in reader.buckets().expect("readable") {
        let mut cursor = reader.cursor(&bucket).expect("it is there");
        let mut next = cursor.first().expect("readable");
        while let Some((key, value)) = next {
            rows.insert((bucket.clone(), key), value);
            next = cursor.next().expect("readable");
        }
    }
    rows
}
