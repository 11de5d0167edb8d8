//! `hashkv`: the hash of the key-value history (disk.md 7.2), from the file alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use mainstay_backend::bolt::Reader;
use mainstay_backend::{Bucket, KeyValueRef, decode_revision, meta};
use mainstay_print::args::Line;
use mainstay_print::json::Object;
use mainstay_print::table::table;
use mainstay_types::Revision;

use crate::exit::BAD_FEATURE;
use crate::place::{lock_db, one_argument, open_own_db, plain};
use crate::run::Form;
use crate::{Failure, Run};

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashKv {
    pub(crate) hash: u32,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

/// Prints the hash of a file's history.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let path = Path::new(one_argument(line)?);
    let form = run.form;
    if form == Form::Protobuf {
        return Err(Failure::new(BAD_FEATURE, "protobuf not supported as output format"));
    }
    let _lock = lock_db(run, line, path)?;
    let answer = of(&open_own_db(run, path)?, line.int("rev"))?;
    let cells =
        [answer.hash.to_string(), answer.revision.to_string(), answer.compacted.to_string()];
    match form {
        Form::Simple | Form::Protobuf => run.say(&cells.join(", ")),
        Form::Json => {
            let object = Object::default()
                .number("hash", answer.hash)
                .number("hashRevision", answer.revision)
                .number("compactRevision", answer.compacted);
            run.say(&object.end().line());
        }
        Form::Fields => {
            for (name, cell) in ["Hash", "Hash revision", "Compact revision"].iter().zip(&cells) {
                run.say(&format!("\"{name}\" : {cell}"));
            }
        }
        Form::Table => {
            let head = ["HASH", "HASH REVISION", "COMPACT REVISION"];
            run.say(&table(&head, &[cells.to_vec()]));
        }
    }
    Ok(())
}

/// The hash up to a revision (0: the current one).
pub(crate) fn of(reader: &Reader, revision: i64) -> Result<HashKv, Failure> {
    let history = History::read(reader)?;
    let compacted = history.compacted;
    if revision > 0 && revision < compacted {
        return Err(Failure::error("mvcc: required revision has been compacted"));
    }
    if revision > history.current {
        return Err(Failure::error("mvcc: required revision is a future revision"));
    }
    let until = if revision == 0 { history.current } else { revision };
    let mut keep = history.keep(until);
    if keep.is_empty() {
        // What rows are left there differs from member to member; what a compaction
        // leaves does not.
        keep = history.keep(compacted);
    }
    let mut hash = crc32c::crc32c(Bucket::Key.name());
    each_row(reader, |at, tombstone, key, value| {
        let is_old = at.main <= compacted && !keep.contains(&at);
        if at.main <= until && !is_old && !(at.main == compacted && tombstone) {
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
        }
        Ok(())
    })?;
    Ok(HashKv { hash, revision: until, compacted })
}

/// Every key with its revisions.
struct History {
    keys: BTreeMap<Bytes, Vec<(Revision, bool)>>,
    current: i64,
    compacted: i64,
}

impl History {
    fn read(reader: &Reader) -> Result<History, Failure> {
        let mut keys: BTreeMap<Bytes, Vec<(Revision, bool)>> = BTreeMap::new();
        let mut newest = 0;
        each_row(reader, |at, tombstone, _, value| {
            let kv = KeyValueRef::decode(value)
                .ok_or_else(|| plain(format!("the row of revision {at} is not a key-value")))?;
            newest = newest.max(at.main);
            match keys.get_mut(kv.key) {
                Some(revisions) => revisions.push((at, tombstone)),
                None => {
                    keys.insert(Bytes::copy_from_slice(kv.key), vec![(at, tombstone)]);
                }
            }
            Ok(())
        })?;
        let scheduled = compaction(reader, meta::SCHEDULED_COMPACT_REV)?;
        let compacted = compaction(reader, meta::FINISHED_COMPACT_REV)?.max(scheduled);
        Ok(History { keys, current: newest.max(compacted).max(1), compacted })
    }

    /// What a compaction at this revision would leave of what is not newer.
    fn keep(&self, at: i64) -> BTreeSet<Revision> {
        let newest = |revisions: &Vec<(Revision, bool)>| {
            let is =
                revisions.partition_point(|(revision, _)| revision.main <= at).checked_sub(1)?;
            let (revision, tombstone) = revisions[is];
            (!tombstone).then_some(revision)
        };
        self.keys.values().filter_map(newest).collect()
    }
}

/// A row of bucket `meta` that names a compaction; -1 when there is none.
pub(crate) fn compaction(reader: &Reader, key: &[u8]) -> Result<i64, Failure> {
    let Some(value) = reader.get(Bucket::Meta.name(), key).map_err(plain)? else { return Ok(-1) };
    Ok(decode_revision(&value).map_err(plain)?.0.main)
}

/// Shows every row of bucket `key`: revision, tombstone, raw key, raw value.
pub(crate) fn each_row(
    reader: &Reader,
    mut visit: impl FnMut(Revision, bool, &[u8], &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor = reader.cursor(Bucket::Key.name()).map_err(plain)?;
    let mut next = cursor.first().map_err(plain)?;
    while let Some((key, value)) = next {
        let (at, tombstone) = decode_revision(&key).map_err(plain)?;
        visit(at, tombstone, &key, &value)?;
        next = cursor.next().map_err(plain)?;
    }
    Ok(())
}
