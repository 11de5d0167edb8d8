//! Rows of a db, loaded: a db that holds anything at all is refused with an error or
//! comes up and serves.
//!
//! Each row is a byte (its bucket), a key and a value.

use std::path::Path;

use bytes::Bytes;
use mainstay_backend::Bucket;
use mainstay_bolt::{Bolt, Options, WriteBatch};
use mainstay_env::Disk as _;
use mainstay_env_sim::SimDisk;
use mainstay_proto::etcdserverpb as pb;
use mainstay_raft::EntryKind;

use super::entries::{tell, txn};
use crate::Target;
use crate::bed::{Bed, DB, LEASE, internal, put};
use crate::pieces::{Kind, Pieces, put_string};

pub(crate) const TARGET: Target = Target { name: "rows", seeds, run };

const OPTIONS: Options = Options { page_size: 1024, no_sync: true };

fn seeds() -> Vec<Vec<u8>> {
    let bed = Bed::new().restart();
    let mut all = Vec::new();
    let mut keys = Vec::new();
    for (at, bucket) in Bucket::ALL.into_iter().enumerate() {
        for (key, value) in bed.machine.backend().rows_of(bucket).expect("a sound disk") {
            let mut row = vec![at as u8];
            put_string(&mut row, &key);
            put_string(&mut row, &value);
            if bucket == Bucket::Key {
                keys.extend_from_slice(&row);
            }
            all.extend_from_slice(&row);
        }
    }
    vec![all, keys]
}

fn disk(input: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/snap")).expect("a sound disk");
    let mut bolt = Bolt::open(&disk, Path::new(DB), OPTIONS).expect("a new file");
    let mut batch = WriteBatch::new();
    let mut pieces = Pieces::new(input);
    while !pieces.is_empty() {
        let bucket = Bucket::ALL[usize::from(pieces.byte()) % Bucket::ALL.len()];
        let (key, value) = (pieces.string(), pieces.string());
        batch.create_bucket(bucket.name());
        if !key.is_empty() && key.len() < 1000 {
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            batch.put(bucket.name(), key, value);
        }
    }
    bolt.commit(batch).expect("a sound disk");
    disk
}

/// What is asked of a db that comes up.
fn script(revision: i64) -> Vec<Vec<u8>> {
    let all =
        pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let compaction = pb::CompactionRequest { revision, ..Default::default() };
    let lease = pb::LeaseGrantRequest { id: 5, ttl: 9 };
    let checkpoints = vec![pb::LeaseCheckpoint { id: LEASE, remaining_ttl: -1 }];
    vec![
        internal(1, |r| r.put = Some(pb::PutRequest { prev_kv: true, ..put("a", 0) })),
        internal(1, |r| r.lease_grant = Some(lease)),
        internal(1, |r| r.lease_checkpoint = Some(pb::LeaseCheckpointRequest { checkpoints })),
        internal(1, |r| r.put = Some(put("b", 5))),
        internal(1, |r| r.txn = Some(txn())),
        internal(1, |r| r.lease_revoke = Some(pb::LeaseRevokeRequest { id: LEASE })),
        internal(1, |r| r.compaction = Some(compaction)),
        internal(1, |r| r.delete_range = Some(all)),
    ]
}

fn run(input: &[u8]) -> u64 {
    let disk = disk(input);
    let mut kind = Kind::default();
    let mut bed = match Bed::open(&disk) {
        Ok(bed) => bed,
        Err(error) => {
            kind.add_text(&error.to_string());
            return kind.end();
        }
    };
    match bed.read_all() {
        Ok(rows) => kind.add_size(rows),
        Err(error) => kind.add_text(&error.to_string()),
    }
    let revision = bed.machine.view().revision();
    if bed.machine.applied().0.0 == u64::MAX {
        // No log gets there; a boot compares the two and refuses.
        return kind.end();
    }
    for entry in script(revision) {
        let result = bed.apply(EntryKind::Normal, &entry, true);
        tell(&mut kind, &result);
        if result.is_err() {
            break;
        }
    }
    kind.end()
}
