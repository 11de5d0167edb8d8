//! What a snapshot file holds (etcd, `Status`).

use std::collections::BTreeSet;
use std::path::Path;

use mainstay_backend::{Bucket, KeyValueRef, decode_revision, meta};
use mainstay_bolt::Reader;
use mainstay_env::Disk;

use crate::error::{BackupError, Doing};

/// What a snapshot file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over the names of all buckets and all of their rows (etcdutl.md 1).
    pub hash: u32,
    /// The revision of the last row of bucket `key`; 0 without rows.
    pub revision: i64,
    /// Keys that are not deleted.
    pub total_keys: u64,
    /// Bytes of the db, without the checksum behind it.
    pub total_size: u64,
    /// The version of the schema; empty below 3.6.
    pub version: String,
}

/// Reads the whole file and checks its pages; neither needs nor looks at the checksum behind it.
/// Holds the live keys in memory while it counts them.
///
/// # Errors
/// When there is no such file, or it is damaged or not etcd's.
pub fn status(disk: &dyn Disk, path: &Path) -> Result<Status, BackupError> {
    if disk.metadata(path).doing("stat", path)?.is_none() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(BackupError::Disk { doing: "stat", path: path.to_owned(), source });
    }
    let reader = Reader::open(disk, path)?;
    let problems = reader.check()?;
    if !problems.is_empty() {
        let shown = problems.into_iter().map(|p| format!("page {}: {}", p.page, p.what));
        return Err(BackupError::Check(shown.collect()));
    }
    let mut counted = Counted::default();
    for name in reader.buckets()? {
        counted.hash = crc32c::crc32c_append(counted.hash, &name);
        let mut cursor = reader.cursor(&name)?;
        let mut next = cursor.first()?;
        while let Some((key, value)) = next {
            counted.hash = crc32c::crc32c_append(counted.hash, &key);
            counted.hash = crc32c::crc32c_append(counted.hash, &value);
            if name == Bucket::Key.name() {
                counted.key_row(&key, &value)?;
            }
            next = cursor.next()?;
        }
    }
    let version = reader.get(Bucket::Meta.name(), meta::STORAGE_VERSION)?;
    Ok(Status {
        hash: counted.hash,
        revision: counted.revision,
        total_keys: counted.live.len() as u64,
        total_size: reader.size(),
        version: version.map(|text| shown_version(&text)).unwrap_or_default(),
    })
}

#[derive(Default)]
struct Counted {
    hash: u32,
    revision: i64,
    live: BTreeSet<Box<[u8]>>,
}

impl Counted {
    fn key_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let wrong = |why: String| BackupError::Row { bucket: "key".into(), key: key.to_vec(), why };
        let (revision, tombstone) = decode_revision(key)
            .map_err(|error| wrong(format!("cannot parse revision key: {error}")))?;
        self.revision = revision.main;
        let kv = KeyValueRef::decode(value);
        let kv = kv.ok_or_else(|| wrong("cannot unmarshal value".to_owned()))?;
        if tombstone {
            self.live.remove(kv.key);
        } else if !self.live.contains(kv.key) {
            self.live.insert(kv.key.into());
        }
        Ok(())
    }
}

/// A version as etcd's semver shows it again; nothing for what it cannot read.
fn shown_version(text: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(text) else { return String::new() };
    let plain = &text[..text.find(['-', '+']).unwrap_or(text.len())];
    let is_number = |part: &str| part.parse::<i64>().is_ok_and(|number| number >= 0);
    let parts: Vec<&str> = plain.split('.').collect();
    if parts.len() == 3 && parts.iter().all(|part| is_number(part)) {
        text.to_owned()
    } else {
        String::new()
    }
}

/// The newest revision of a snapshot file, from its last leaf: reads a page per level, and checks
/// no more.
///
/// # Errors
/// When there is no such file, or what is read is damaged or not etcd's.
pub fn revision(disk: &dyn Disk, path: &Path) -> Result<i64, BackupError> {
    let last = Reader::open(disk, path)?.cursor(Bucket::Key.name())?.last()?;
    let Some((key, _)) = last else { return Ok(0) };
    let wrong = |why: String| BackupError::Row { bucket: "key".into(), key: key.to_vec(), why };
    decode_revision(&key).map(|(revision, _)| revision.main).map_err(|e| wrong(e.to_string()))
}
