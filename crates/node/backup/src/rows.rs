//! Whether rows are such as etcd writes: what a checksum over pages cannot tell, and what a
//! file without one must be asked.

use bytes::Bytes;
use mainstay_auth::{Auth, Rows};
use mainstay_backend::{Bucket, KeyValueRef, decode_revision, meta};
use mainstay_bolt::Reader;
use mainstay_membership::Membership;
use mainstay_proto::{Message as _, etcdserverpb as pb, leasepb};
use mainstay_types::limits::REVISION_MAX;
use mainstay_types::{Revision, Version};

use crate::error::BackupError;

/// Takes every row of bucket `key`, in order, and remembers the first that is wrong.
#[derive(Debug, Default)]
pub(crate) struct KeyRows {
    newest: Revision,
    rows: u64,
    wrong: Option<(Vec<u8>, String)>,
}

impl KeyRows {
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        if self.wrong.is_none()
            && let Err(why) = self.check(key, value)
        {
            self.wrong = Some((key.to_vec(), why));
        }
    }

    fn check(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (revision, tombstone) = decode_revision(key).map_err(|error| error.to_string())?;
        if revision <= self.newest {
            return Err(format!("the revision does not follow {:?}", self.newest));
        }
        self.newest = revision;
        if revision.main.max(revision.sub) > REVISION_MAX {
            return Err("no store can have counted so far".to_owned());
        }
        // What a restore with a bumped revision has left (disk.md 8.1).
        if value.is_empty() && !tombstone && revision.sub == 0 {
            return Ok(());
        }
        let kv = KeyValueRef::decode(value).ok_or("the value is no key-value")?;
        if kv.key.is_empty() {
            return Err("the key-value has no key".to_owned());
        }
        if tombstone {
            return Ok(());
        }
        if kv.mod_revision != revision.main {
            return Err(format!("the key-value was changed at revision {}", kv.mod_revision));
        }
        if kv.create_revision < 1 || kv.create_revision > kv.mod_revision {
            return Err(format!("the key-value was created at revision {}", kv.create_revision));
        }
        // 0 is taken for 1, as a start does.
        if kv.version < 0 || kv.version > REVISION_MAX {
            return Err(format!("the key-value has version {}", kv.version));
        }
        Ok(())
    }

    /// The newest revision (0 without rows) and the number of rows.
    pub(crate) fn finish(self) -> Result<(Revision, u64), BackupError> {
        match self.wrong {
            None => Ok((self.newest, self.rows)),
            Some((key, why)) => Err(BackupError::Row { bucket: "key".into(), key, why }),
        }
    }
}

/// What the other buckets say that a restore asks for.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// The version of the schema, when it stands there.
    pub(crate) storage_version: Option<Version>,
    /// The version of the cluster, when it has one.
    pub(crate) cluster_version: Option<Version>,
    /// Whether it was being downgraded.
    pub(crate) downgrading: bool,
}

/// Whether the buckets are etcd's. Newer versions may have more; but one that nobody knows in the
/// place of one that everybody has is a damaged name.
pub(crate) fn check_buckets(reader: &Reader) -> Result<(), BackupError> {
    let found = reader.buckets()?;
    let is_known = |name: &Bytes| Bucket::ALL.iter().any(|bucket| bucket.name() == name);
    let has_strange = !found.iter().all(is_known);
    for bucket in Bucket::ALL {
        let is_needed = has_strange || matches!(bucket, Bucket::Key | Bucket::Meta);
        if is_needed && !found.iter().any(|name| name == bucket.name()) {
            let name = String::from_utf8_lossy(bucket.name()).into_owned();
            return Err(BackupError::NotEtcd(name));
        }
    }
    Ok(())
}

/// Reads every row of the other buckets but those of members, which a restore drops.
pub(crate) fn check_others(reader: &Reader) -> Result<Others, BackupError> {
    let mut others = Others::default();
    each(reader, Bucket::Meta, |key, value| check_meta(key, &value, &mut others))?;
    each(reader, Bucket::Lease, |key, value| {
        let lease = leasepb::Lease::decode(value).map_err(|error| error.to_string())?;
        if key != lease.id.to_be_bytes() {
            return Err(format!("the lease has id {:x}", lease.id));
        }
        Ok(())
    })?;
    each(reader, Bucket::Alarm, |key, _| {
        let alarm = pb::AlarmMember::decode(key);
        alarm.map(drop).map_err(|error| error.to_string())
    })?;
    let mut cluster = Membership::default();
    each(reader, Bucket::Cluster, |key, value| {
        let loaded = match key {
            b"clusterVersion" => cluster.load_version(&value),
            b"downgrade" => cluster.load_downgrade(&value),
            _ => Ok(()),
        };
        loaded.map_err(|error| error.to_string())
    })?;
    others.cluster_version = cluster.version();
    others.downgrading = cluster.downgrade().enabled;
    check_auth(reader)?;
    Ok(others)
}

fn check_meta(key: &[u8], value: &Bytes, others: &mut Others) -> Result<(), String> {
    match key {
        meta::CONSISTENT_INDEX | meta::TERM if value.len() != 8 => {
            Err(format!("{} bytes, not 8", value.len()))
        }
        meta::SCHEDULED_COMPACT_REV | meta::FINISHED_COMPACT_REV => {
            let (revision, _) = decode_revision(value).map_err(|error| error.to_string())?;
            if revision.main > REVISION_MAX {
                return Err(format!("compacted at revision {}", revision.main));
            }
            Ok(())
        }
        meta::CONF_STATE => {
            let json = serde_json::from_slice::<serde_json::Value>(value);
            json.map(drop).map_err(|error| error.to_string())
        }
        meta::STORAGE_VERSION => {
            let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
            let version: Version = text.parse().map_err(|error| format!("{error}"))?;
            others.storage_version = Some(version.without_patch());
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_auth(reader: &Reader) -> Result<(), BackupError> {
    let rows = Rows {
        auth: rows_of(reader, Bucket::Auth)?,
        users: rows_of(reader, Bucket::AuthUsers)?,
        roles: rows_of(reader, Bucket::AuthRoles)?,
    };
    let wrong = |error: mainstay_auth::RowError| BackupError::Row {
        bucket: error.bucket.to_owned(),
        key: error.key.into_bytes(),
        why: error.why,
    };
    Auth::load(rows).map(drop).map_err(wrong)
}

/// All rows of a small bucket; none when it is missing.
pub(crate) fn rows_of(reader: &Reader, bucket: Bucket) -> Result<Vec<(Bytes, Bytes)>, BackupError> {
    let mut rows = Vec::new();
    each(reader, bucket, |key, value| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(&value)));
        Ok(())
    })?;
    Ok(rows)
}

/// Shows `look` every row of a bucket; what it answers is an error of that row.
fn each(
    reader: &Reader,
    bucket: Bucket,
    mut look: impl FnMut(&[u8], Bytes) -> Result<(), String>,
) -> Result<(), BackupError> {
    let mut cursor = reader.cursor(bucket.name())?;
    let mut next = cursor.first()?;
    while let Some((key, value)) = next {
        look(&key, value).map_err(|why| BackupError::Row {
            bucket: String::from_utf8_lossy(bucket.name()).into_owned(),
            key: key.to_vec(),
            why,
        })?;
        next = cursor.next()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mainstay_backend::{encode_key_value, encode_revision};

    use super::*;

    fn kv() -> KeyValueRef<'static> {
        KeyValueRef {
            key: b"k",
            create_revision: 2,
            mod_revision: 5,
            version: 3,
            value: b"v",
            lease: 0,
        }
    }

    fn look(rows: &[(Revision, bool, &[u8])]) -> Result<(Revision, u64), BackupError> {
        let mut all = KeyRows::default();
        for (revision, tombstone, value) in rows {
            all.row(&encode_revision(*revision, *tombstone), value);
        }
        all.finish()
    }

    #[test]
    fn what_etcd_writes_is_right() {
        let put = encode_key_value(&kv());
        let gone = encode_key_value(&KeyValueRef { key: b"k", ..KeyValueRef::default() });
        let at = Revision::new;
        let rows: [(Revision, bool, &[u8]); 3] =
            [(at(5, 1), false, &put), (at(6, 0), true, &gone), (at(1000, 0), false, b"")];
        assert_eq!(look(&rows).expect("right"), (at(1000, 0), 3));
        assert_eq!(look(&[]).expect("nothing"), (Revision::default(), 0));
    }

    #[test]
    fn what_etcd_does_not_write_is_found() {
        let at = Revision::new;
        let mut all = KeyRows::default();
        all.row(b"five", b"");
        assert!(all.finish().is_err(), "no revision");
        let put = encode_key_value(&kv());
        assert!(look(&[(at(5, 0), false, &put), (at(5, 0), true, &put)]).is_err(), "twice");
        assert!(look(&[(at(4, 0), false, &put)]).is_err(), "of another revision");
        assert!(look(&[(at(5, 1), false, b"")]).is_err(), "empty");
        assert!(look(&[(at(5, 0), false, b"\xff")]).is_err(), "no key-value");
        let wrong = [
            KeyValueRef { key: b"", ..kv() },
            KeyValueRef { create_revision: 6, ..kv() },
            KeyValueRef { create_revision: 0, ..kv() },
            KeyValueRef { version: -1, ..kv() },
        ];
        for kv in wrong {
            let value = encode_key_value(&kv);
            assert!(look(&[(at(5, 0), false, &value)]).is_err(), "{kv:?}");
        }
    }
}
