//! The db of a restored member: the copied one with the rows of the old cluster exchanged.

use std::path::Path;

use bytes::Bytes;
use mainstay_backend::{Bucket, encode_revision, meta};
use mainstay_bolt::{Bolt, Options, Reader, WriteBatch};
use mainstay_env::Disk;
use mainstay_membership::{Downgrade, Member};
use mainstay_types::limits::REVISION_MAX;
use mainstay_types::{Revision, Version};

use crate::error::BackupError;
use crate::migrate::{OLDEST, VersionRow, plan};
use crate::restore::Restored;
use crate::rows::{KeyRows, Others, check_buckets, check_others, rows_of};

/// What is to be written into the copied db.
pub(crate) struct Rewrite<'a> {
    /// The new members.
    pub(crate) members: &'a [Member],
    /// By how much the revision rises, everything below then being compacted; 0 for not at all.
    pub(crate) bump_revision: u64,
    /// The version whose schema is wanted; `None` for the one that it has.
    pub(crate) target: Option<Version>,
}

/// Verifies the db at `path`, exchanges its rows in one commit, and verifies its pages again.
/// Durable when it returns.
pub(crate) fn rewrite(
    disk: &dyn Disk,
    path: &Path,
    wanted: &Rewrite<'_>,
) -> Result<Restored, BackupError> {
    // Everything that is wrong with the pages, in bbolt's words, before the first error ends it.
    check_pages(disk, path)?;
    let mut keys = KeyRows::default();
    let mut bolt = Bolt::open_visiting(
        disk,
        path,
        Options::default(),
        Bucket::Key.name(),
        &mut |key, value| keys.row(key, value),
    )?;
    let (latest, rows) = keys.finish()?;
    let reader = bolt.reader();
    check_buckets(&reader)?;
    let others = check_others(&reader)?;
    let mut batch = WriteBatch::new();
    exchange_members(&reader, wanted.members, &mut batch)?;
    let bumped = bump(latest, wanted.bump_revision, &mut batch)?;
    let (schema_before, schema) = set_versions(&others, wanted.target, &mut batch)?;
    drop(reader);
    bolt.commit(batch)?;
    drop(bolt);
    check_pages(disk, path)?;
    Ok(Restored { latest, rows, bumped, schema_before, schema })
}

/// What a db holds that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The newest revision.
    pub latest: Revision,
    /// Rows of bucket `key`.
    pub rows: u64,
}

/// Looks at every page and every row of the db at `path`, as a restore does before it gives
/// anything a name. Nothing is changed.
///
/// # Errors
/// What is wrong with the file, or the disk's.
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<Verified, BackupError> {
    check_pages(disk, path)?;
    let mut keys = KeyRows::default();
    let key = Bucket::Key.name();
    let bolt = Bolt::open_visiting(disk, path, Options::default(), key, &mut |key, value| {
        keys.row(key, value);
    })?;
    let (latest, rows) = keys.finish()?;
    let reader = bolt.reader();
    check_buckets(&reader)?;
    check_others(&reader)?;
    Ok(Verified { latest, rows })
}

fn check_pages(disk: &dyn Disk, path: &Path) -> Result<(), BackupError> {
    let problems = Reader::open(disk, path)?.check()?;
    if problems.is_empty() {
        return Ok(());
    }
    let shown = problems.into_iter().map(|p| format!("page {}: {}", p.page, p.what));
    Err(BackupError::Check(shown.collect()))
}

/// The new members in the place of the old ones, and the index and term of the log that they
/// begin with: one entry for each of them in term 1.
fn exchange_members(
    reader: &Reader,
    members: &[Member],
    batch: &mut WriteBatch,
) -> Result<(), BackupError> {
    for bucket in [Bucket::Members, Bucket::MembersRemoved] {
        batch.create_bucket(bucket.name());
        for (key, _) in rows_of(reader, bucket)? {
            batch.delete(bucket.name(), key);
        }
    }
    for member in members {
        let key = Bytes::from(member.id.to_string());
        batch.put(Bucket::Members.name(), key, member.to_json().into());
    }
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let mut put = |key, value| batch.put(Bucket::Meta.name(), Bytes::from_static(key), value);
    put(meta::CONSISTENT_INDEX, number(members.len() as u64));
    put(meta::TERM, number(1));
    Ok(())
}

/// A row without a key at the raised revision, up to which a compaction is said to have begun:
/// the first start finishes it, and whoever watches from below hears of it (etcd,
/// `modifyLatestRevision`).
fn bump(latest: Revision, by: u64, batch: &mut WriteBatch) -> Result<Option<i64>, BackupError> {
    if by == 0 {
        return Ok(None);
    }
    let main = i64::try_from(by).ok().and_then(|by| latest.main.checked_add(by));
    let Some(main) = main.filter(|main| *main <= REVISION_MAX) else {
        return Err(BackupError::Bump { latest: latest.main, by });
    };
    let key = encode_revision(Revision::new(main, 0), false);
    batch.put(Bucket::Key.name(), key.clone(), Bytes::new());
    let name = Bytes::from_static(meta::SCHEDULED_COMPACT_REV);
    batch.put(Bucket::Meta.name(), name, key);
    Ok(Some(main))
}

/// Makes the schema and the cluster version those of the target. etcd changes the schema alone;
/// but who refuses a newer cluster would then refuse the restored one.
fn set_versions(
    others: &Others,
    target: Option<Version>,
    batch: &mut WriteBatch,
) -> Result<(Version, Version), BackupError> {
    // The term makes a 3.4 one that of 3.5.
    let current = others.storage_version.unwrap_or(OLDEST);
    let mut set_cluster = |version: Version| {
        let name = Bytes::from_static(b"clusterVersion");
        batch.put(Bucket::Cluster.name(), name, version.to_string().into());
    };
    let Some(target) = target else {
        // Members below 3.5 do not start from here, and versions hold.
        if others.cluster_version.is_some_and(|version| version < OLDEST) {
            set_cluster(OLDEST);
        }
        return Ok((current, current));
    };
    let row = plan(current, target)?;
    if others.cluster_version.is_some() {
        set_cluster(target);
    }
    if others.downgrading {
        // It has come to its end, or begins anew from here.
        let name = Bytes::from_static(b"downgrade");
        batch.put(Bucket::Cluster.name(), name, Downgrade::default().to_json().into());
    }
    let name = Bytes::from_static(meta::STORAGE_VERSION);
    match row {
        VersionRow::Keep => {}
        VersionRow::Set(version) => {
            batch.put(Bucket::Meta.name(), name, version.to_string().into());
        }
        VersionRow::Remove => batch.delete(Bucket::Meta.name(), name),
    }
    Ok((current, target))
}
