//! A store over a simulated disk.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_backend::{Backend, Batch, OpenOptions};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_mvcc::{Loaded, Loading, Store};
use mainstay_types::{Index, LeaseId, Term};

/// Where the tests keep their file.
pub(crate) const PATH: &str = "/d/db";

pub(crate) fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all("/d".as_ref()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    disk
}

pub(crate) fn try_load(disk: &SimDisk) -> Result<(Backend, Loaded), String> {
    let mut loading = Loading::default();
    let disk = Arc::new(disk.clone());
    let backend =
        Backend::open(disk, PATH.as_ref(), OpenOptions::default(), &mut |at, tombstone, value| {
            loading.row(at, tombstone, value);
        })
        .map_err(|e| e.to_string())?;
    let loaded = loading.finish(&backend).map_err(|e| e.to_string())?;
    Ok((backend, loaded))
}

pub(crate) fn open(disk: &SimDisk) -> (Backend, Store) {
    let (backend, loaded) = try_load(disk).unwrap();
    (backend, loaded.store)
}

/// What entry `index` writes.
pub(crate) fn batch(index: u64) -> Batch {
    Batch::new((Index(index), Term(1)))
}

/// Entry `index` puts one key.
pub(crate) fn put(store: &mut Store, backend: &Backend, index: u64, key: &[u8]) {
    let mut batch = batch(index);
    put_into(store, &mut batch, key, b"v");
    backend.append(batch);
}

pub(crate) fn put_into(store: &mut Store, batch: &mut Batch, key: &[u8], value: &[u8]) {
    let mut txn = store.write();
    txn.put(key, value, LeaseId(0));
    txn.end().rows.into_iter().for_each(|row| batch.put_revision(row));
}

/// CRC-32C as HashKV has it, over rows that are in the file.
pub(crate) fn hash_of<'r>(rows: impl IntoIterator<Item = (&'r Bytes, &'r Bytes)>) -> u32 {
    let mut all = b"key".to_vec();
    for (key, value) in rows {
        all.extend_from_slice(key);
        all.extend_from_slice(value);
    }
    crc32c::crc32c(&all)
}
