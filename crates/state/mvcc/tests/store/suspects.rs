//! Corners in which a fault was suspected, and some were found.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mainstay_backend::{
    Bucket, KeyRow, KeyValueRef, bolt, encode_key_value, encode_revision, meta,
};
use mainstay_env_sim::{FailingCall, SimDisk, Unsynced};
use mainstay_types::{KeyRange, Revision};

use crate::support::{PATH, batch, disk, hash_of, open, put, put_into, try_load};

/// `etcdutl snapshot restore --bump-revision N --mark-compacted` leaves a row without a
/// key and a compaction to be done (disk.md 8.1). etcd indexes that row under the empty key,
/// so it is kept and hashed.
#[test]
fn a_bumped_snapshot_is_hashed_as_etcd_does() {
    let disk = disk(1);
    let (backend, mut store) = open(&disk);
    put(&mut store, &backend, 1, b"a");
    let mut bump = batch(2);
    let bumped = Revision::new(1_000_000, 0);
    bump.put_revision(KeyRow { revision: bumped, tombstone: false, value: Bytes::new() });
    let scheduled = encode_revision(bumped, false);
    bump.put(Bucket::Meta, meta::SCHEDULED_COMPACT_REV, scheduled);
    backend.append(bump);
    backend.commit().unwrap();
    drop((backend, store));

    let (backend, mut store) = open(&disk);
    assert!(store.is_compacting());
    for index in 2.. {
        let mut batch = batch(index);
        if store.compaction_slice(100, &mut batch).is_none() {
            break;
        }
        backend.append(batch);
    }
    backend.commit().unwrap();
    let rows = backend.rows_of(Bucket::Key).unwrap();
    assert_eq!(rows.len(), 2);
    let expected = hash_of(rows.iter().map(|(key, value)| (key, value)));
    assert_eq!(store.view().hash_kv(0).unwrap().hash, expected);
}

/// Damage on the disk is an error, not a broken assertion.
#[test]
fn one_revision_as_put_and_as_deletion_is_damage() {
    let disk = disk(1);
    let path = PATH.as_ref();
    let mut bolt = bolt::Bolt::open(&disk, path, bolt::Options::default()).unwrap();
    let mut write = bolt::WriteBatch::new();
    write.create_bucket(b"key");
    let kv = KeyValueRef {
        key: b"a",
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        ..Default::default()
    };
    for tombstone in [false, true] {
        let key = encode_revision(Revision::new(2, 0), tombstone);
        write.put(b"key", key, encode_key_value(&kv));
    }
    bolt.commit(write).unwrap();
    drop(bolt);
    let Err(complaint) = try_load(&disk) else { panic!("damage was accepted") };
    assert!(complaint.contains("there twice"), "{complaint}");
}

/// A commit for which there was no room takes its rows along when it is tried again.
#[test]
fn a_full_disk_does_not_part_rows_and_index() {
    let disk = disk(1);
    let (backend, mut store) = open(&disk);
    put(&mut store, &backend, 1, b"a");
    backend.commit().unwrap();
    let mut large = batch(2);
    large.put(Bucket::Lease, Bytes::from_static(b"12345678"), Bytes::from(vec![7; 300_000]));
    backend.append(large);
    disk.set_capacity(Some(disk.contents(PATH).unwrap().len() as u64));
    backend.commit().unwrap_err();
    disk.set_capacity(None);
    backend.commit().unwrap();
    put(&mut store, &backend, 3, b"b");
    backend.commit().unwrap();
    assert_eq!(backend.meta().unwrap().applied.0, 3);
    assert_eq!(backend.rows_of(Bucket::Lease).unwrap().len(), 1);
}

/// Wherever a defragmentation fails: what a later commit acknowledges is there at the next
/// start, in whichever file has the name then.
#[test]
fn after_a_failed_defragmentation_nothing_acknowledged_is_lost() {
    let mut failed = 0;
    for call in [FailingCall::Sync, FailingCall::Write, FailingCall::Read] {
        for nth in 1..60 {
            let disk = disk(1);
            let (backend, mut store) = open(&disk);
            for index in 1..30 {
                put(&mut store, &backend, index, format!("k{index}").as_bytes());
                if index % 3 == 0 {
                    backend.commit().unwrap();
                }
            }
            backend.commit().unwrap();
            disk.fail(call, nth);
            if backend.defragment().is_ok() {
                break;
            }
            failed += 1;
            put(&mut store, &backend, 30, b"late");
            if backend.commit().is_err() {
                continue;
            }
            drop((backend, store));
            let (backend, _) = open(&disk);
            assert_eq!(backend.meta().unwrap().applied.0, 30, "{call:?} {nth}");
        }
    }
    assert!(failed > 10, "{failed} failures");
}

/// Entry n writes exactly revision n + 1 and one row elsewhere: whatever a power cut
/// leaves, rows, revision and index belong together.
#[test]
fn a_cut_at_any_step_leaves_whole_entries() {
    let cuts: u64 = (0..3).map(cut_everywhere).sum();
    assert!(cuts > 300, "{cuts} cuts");
}

#[derive(Default)]
struct Bounds {
    committed: u64,
    appended: u64,
    cuts: u64,
}

fn cut_everywhere(seed: u64) -> u64 {
    let disk = disk(seed);
    let bounds = Arc::new(Mutex::new(Bounds::default()));
    let judge = Arc::clone(&bounds);
    let mut step = 0;
    disk.observe(move |disk, _| {
        step += 1;
        for way in [Unsynced::ALL[step % 4], Unsynced::Scattered] {
            cut(disk, way, &mut judge.lock().unwrap());
        }
    });
    let (backend, mut store) = open(&disk);
    for index in 1..60 {
        let mut batch = batch(index);
        let value = vec![1; (index * 37 % 700) as usize];
        put_into(&mut store, &mut batch, format!("k{}", index % 7).as_bytes(), &value);
        let key = Bytes::copy_from_slice(&index.to_be_bytes());
        batch.put(Bucket::Lease, key, Bytes::from_static(b"x"));
        backend.append(batch);
        bounds.lock().unwrap().appended = index;
        if index % 4 == seed % 4 {
            backend.commit().unwrap();
            bounds.lock().unwrap().committed = index;
        }
        if index % 25 == 0 {
            backend.defragment().unwrap();
            bounds.lock().unwrap().committed = index;
        }
    }
    bounds.lock().unwrap().cuts
}

fn cut(disk: &SimDisk, way: Unsynced, bounds: &mut Bounds) {
    bounds.cuts += 1;
    let after = disk.crash_with(way, bounds.cuts);
    if after.contents(PATH).is_none() {
        assert_eq!(bounds.committed, 0);
        return;
    }
    let (backend, store) = open(&after);
    let index = backend.meta().unwrap().applied.0;
    assert!((bounds.committed..=bounds.appended).contains(&index), "{index}");
    assert_eq!(store.revision(), index as i64 + 1);
    for bucket in [Bucket::Key, Bucket::Lease] {
        assert_eq!(backend.rows_of(bucket).unwrap().len() as u64, index);
    }
}

/// When no key is left, etcd hashes whatever rows there are. Those that a compaction is
/// about to delete must not count: members, and a member before and after its next commit,
/// would differ although they hold the same.
#[test]
fn with_no_key_left_a_hash_does_not_depend_on_how_far_a_compaction_is() {
    let disk = disk(1);
    let (backend, mut store) = open(&disk);
    for (index, key) in [(1, b"a"), (2, b"b"), (3, b"a"), (4, b"b")] {
        put(&mut store, &backend, index, key);
    }
    let mut gone = batch(5);
    let mut txn = store.write();
    txn.delete_range(&KeyRange::from_wire("a".into(), "z".into()), false).unwrap();
    txn.end().rows.into_iter().for_each(|row| gone.put_revision(row));
    store.compact(4, &mut gone).unwrap();
    backend.append(gone);
    let scheduled = store.view().hash_kv(0).unwrap();
    let mut slice = batch(6);
    store.compaction_slice(100, &mut slice);
    backend.append(slice);
    let deleted = store.view().hash_kv(0).unwrap();
    backend.commit().unwrap();
    drop((backend, store));
    let (backend, store) = open(&disk);
    let loaded = store.view().hash_kv(0).unwrap();
    assert_eq!((scheduled, deleted), (loaded, loaded));
    let rows = backend.rows_of(Bucket::Key).unwrap();
    assert_eq!(loaded.hash, hash_of(rows.iter().map(|(key, value)| (key, value))));
}

/// Numbers after which no next one comes: counting on from them would wrap around.
#[test]
fn revisions_and_versions_that_leave_no_room_are_damage() {
    const MAX: i64 = i64::MAX;
    for (main, sub, version, compacted) in
        [(MAX, 0, 1, 1), (MAX - 1, 0, 1, 1), (2, MAX, 1, 1), (2, 0, MAX, 1), (2, 0, 1, MAX)]
    {
        let disk = disk(1);
        let mut bolt = bolt::Bolt::open(&disk, PATH.as_ref(), bolt::Options::default()).unwrap();
        let mut write = bolt::WriteBatch::new();
        write.create_bucket(b"key");
        write.create_bucket(b"meta");
        let kv = KeyValueRef { key: b"a", version, ..Default::default() };
        let key = encode_revision(Revision::new(main, sub), false);
        write.put(b"key", key, encode_key_value(&kv));
        let compaction = encode_revision(Revision::new(compacted, 0), false);
        write.put(b"meta", Bytes::from_static(meta::FINISHED_COMPACT_REV), compaction);
        bolt.commit(write).unwrap();
        drop(bolt);
        let Err(complaint) = try_load(&disk) else { panic!("damage was accepted") };
        assert!(complaint.contains("counted to"), "{complaint}");
    }
}
