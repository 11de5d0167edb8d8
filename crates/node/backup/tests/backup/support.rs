//! Snapshot files to restore, and what a restored directory holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::{Machine, Options, quota::Quota};
use mainstay_backend::{
    Backend, Batch, Bucket, KeyRow, KeyValueRef, OpenOptions, encode_key_value,
};
use mainstay_backup::{BackupError, Event, Founders, Restore, Restored, restore};
use mainstay_bolt::{Reader, write_compacted};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_membership::Member;
use mainstay_proto::{Message as _, authpb, etcdserverpb as pb, leasepb};
use mainstay_types::{Index, MemberId, Revision, Term};
use mainstay_wal::{SnapshotMark, WalOptions, snap};
use sha2::{Digest as _, Sha256};

/// Where the snapshot file lies.
pub(crate) const FILE: &str = "/backup/s.db";
/// Where it is restored to.
pub(crate) const DATA: &str = "/var/m";

/// What a snapshot is made of.
pub(crate) struct Sample {
    /// Puts and deletions, one revision each, from 2 on.
    pub(crate) writes: i64,
    /// Row `storageVersion`.
    pub(crate) storage_version: Option<&'static str>,
    /// Row `clusterVersion`.
    pub(crate) cluster_version: Option<&'static str>,
    /// Whether row `term` is there: 3.5 and later.
    pub(crate) term: bool,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            writes: 40,
            storage_version: Some("3.7.0"),
            cluster_version: Some("3.7.0"),
            term: true,
        }
    }
}

impl Sample {
    /// The bytes of the db, with pages of 1 KiB.
    pub(crate) fn db(&self) -> Vec<u8> {
        let disk = Arc::new(SimDisk::new(1));
        let path = Path::new("/db");
        let backend =
            Backend::open(disk.clone(), path, OpenOptions::default(), &mut |_, _, _| {}).unwrap();
        backend.append(self.others());
        for n in 0..self.writes {
            let revision = Revision::new(n + 2, 0);
            let mut batch = Batch::new(self.applied(n as u64 + 2));
            let key = format!("key-{:03}", n / 4 * 4);
            let tombstone = n % 4 == 3 && n % 8 == 3;
            let kv = match tombstone {
                true => KeyValueRef { key: key.as_bytes(), ..KeyValueRef::default() },
                false => KeyValueRef {
                    key: key.as_bytes(),
                    create_revision: n / 4 * 4 + 2,
                    mod_revision: n + 2,
                    version: n % 4 + 1,
                    value: b"value of some length that is not compressed",
                    lease: if n % 8 == 0 { 7 } else { 0 },
                },
            };
            let value = encode_key_value(&kv);
            batch.put_revision(KeyRow { revision, tombstone, value });
            backend.append(batch);
        }
        backend.commit().unwrap();
        let reader = Reader::open(&*disk, path).unwrap();
        let options = mainstay_bolt::Options { page_size: 1024, no_sync: true };
        write_compacted(&reader, &*disk, Path::new("/small"), options).unwrap();
        let copy = Reader::open(&*disk, Path::new("/small")).unwrap().copy();
        let mut bytes = vec![0; copy.len() as usize];
        copy.read_at(0, &mut bytes).unwrap();
        bytes
    }

    fn applied(&self, index: u64) -> (Index, Term) {
        (Index(index), Term(u64::from(self.term) * 3))
    }

    /// Rows of all other buckets, as an old cluster of two members leaves them.
    fn others(&self) -> Batch {
        let mut batch = Batch::new(self.applied(1));
        for id in [MemberId(0xa), MemberId(0xb)] {
            let member = Member { id, name: "old".into(), ..Member::default() };
            batch.put(Bucket::Members, id.to_string(), member.to_json());
        }
        batch.put(Bucket::MembersRemoved, "c", "removed");
        let lease = leasepb::Lease { id: 7, ttl: 100, remaining_ttl: 0 };
        batch.put(Bucket::Lease, 7i64.to_be_bytes().to_vec(), lease.encode_to_vec());
        let alarm = pb::AlarmMember { member_id: 0xa, alarm: 1 };
        batch.put(Bucket::Alarm, alarm.encode_to_vec(), Bytes::new());
        batch.put(Bucket::Auth, "authEnabled", vec![0]);
        batch.put(Bucket::Auth, "authRevision", 5u64.to_be_bytes().to_vec());
        let user = authpb::User { name: "u".into(), roles: vec!["r".into()], ..Default::default() };
        batch.put(Bucket::AuthUsers, "u", user.encode_to_vec());
        let role = authpb::Role { name: "r".into(), ..Default::default() };
        batch.put(Bucket::AuthRoles, "r", role.encode_to_vec());
        batch.put(Bucket::Meta, "confState", r#"{"voters":[10,11],"auto_leave":false}"#);
        if let Some(version) = self.storage_version {
            batch.put(Bucket::Meta, "storageVersion", version);
        }
        if let Some(version) = self.cluster_version {
            batch.put(Bucket::Cluster, "clusterVersion", version);
        }
        batch
    }

    /// The bytes of a snapshot file: the db and its checksum.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut bytes = self.db();
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }
}

/// A disk with a file to restore.
pub(crate) fn disk_with(file: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.install(FILE, file);
    disk.create_dir_all(Path::new("/var")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

pub(crate) fn founders() -> Founders {
    let by_name = BTreeMap::from([
        ("m1".to_owned(), vec!["http://10.0.0.1:2380".to_owned()]),
        ("m2".to_owned(), vec!["http://10.0.0.2:2380".to_owned()]),
    ]);
    Founders::new(&by_name, "token", "m1").unwrap()
}

/// What is asked of a restore, with everything as usual.
pub(crate) fn wanted(founders: &Founders) -> Restore<'_> {
    Restore {
        snapshot: Path::new(FILE),
        data_dir: Path::new(DATA),
        wal_dir: None,
        founders,
        skip_hash_check: false,
        bump_revision: 0,
        target_version: None,
        wal: WalOptions { segment_bytes: 4096, ..WalOptions::default() },
    }
}

pub(crate) fn run(disk: &SimDisk, wanted: &Restore<'_>) -> Result<Restored, BackupError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&disk, wanted, &mut |_: Event| {})
}

/// Every file but the snapshot, with its bytes.
pub(crate) fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let all = disk.paths().into_iter().filter(|path| path != FILE);
    all.map(|path| (path.clone(), disk.contents(&path).unwrap())).collect()
}

/// All rows of a db, by bucket.
pub(crate) fn rows(disk: &SimDisk, path: &str) -> BTreeMap<(Bytes, Bytes), Bytes> {
    let reader = Reader::open(disk, Path::new(path)).unwrap();
    let mut rows = BTreeMap::new();
    for bucket in reader.buckets().unwrap() {
        let mut cursor = reader.cursor(&bucket).unwrap();
        let mut next = cursor.first().unwrap();
        while let Some((key, value)) = next {
            rows.insert((bucket.clone(), key), value);
            next = cursor.next().unwrap();
        }
    }
    rows
}

/// What a start makes of the restored db.
pub(crate) fn open(disk: &SimDisk) -> Machine {
    let path = Path::new(DATA).join("member/snap/db");
    let options = Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: true,
    };
    Machine::open(Arc::new(disk.clone()), &path, OpenOptions::default(), options)
        .unwrap_or_else(|why| panic!("what was restored must start: {why}"))
}

/// The log and the newest `.snap` file of the restored directory fit each other and the db.
pub(crate) fn check_log(disk: &SimDisk, wal_dir: &str, members: u64) {
    let marks = mainstay_wal::valid_snapshots(disk, Path::new(wal_dir)).unwrap();
    let [first, last] = marks.as_slice() else { panic!("two snapshots, not {marks:?}") };
    assert_eq!(*first, SnapshotMark::default());
    assert_eq!((last.index, last.term), (Index(members), Term(1)));
    let voters = last.conf_state.as_ref().map(|conf| conf.voters.len() as u64);
    assert_eq!(voters, Some(members));
    let snap_dir = Path::new(DATA).join("member/snap");
    let (snapshot, broken) = snap::load_newest(disk, &snap_dir, &marks).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    let snapshot = snapshot.expect("a .snap file");
    assert_eq!(snapshot.index, Index(members));
    let replay = mainstay_wal::read(disk, Path::new(wal_dir), &SnapshotMark::default()).unwrap();
    assert_eq!(replay.entries.len() as u64, members);
    assert_eq!(replay.hard_state.commit, Index(members));
}
