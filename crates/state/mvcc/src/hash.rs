//! The hash of the key-value history, equal on all members (disk.md 7.2).

use mainstay_backend::encode_revision;
use mainstay_types::Revision;

use crate::error::MvccError;
use crate::view::View;

/// What HashKV answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction that it was computed over, -1 when there was none.
    pub compact_revision: i64,
    /// The revision up to which it goes.
    pub revision: i64,
}

impl View {
    /// Hashes every row up to `revision` (0: the current one) that a compacted member
    /// would also have. Reads the whole history: not for a thread that must answer.
    ///
    /// # Errors
    /// A revision that cannot be asked for, or a disk that fails.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, MvccError> {
        let compacted = self.compacted;
        if revision > 0 && revision < compacted {
            return Err(MvccError::Compacted);
        }
        if revision > self.revision {
            return Err(MvccError::FutureRevision);
        }
        let until = if revision == 0 { self.revision } else { revision };
        let mut keep = self.keep(until);
        if keep.is_empty() {
            // etcd hashes what rows there are then. Which ones a compaction has got to
            // differs from member to member and with a restart; what it leaves does not.
            keep = self.keep(compacted);
        }
        let hash = self.hash_rows(compacted, until, &keep)?;
        Ok(HashKv { hash, compact_revision: compacted, revision: until })
    }

    /// What etcd remembers of a compaction at `revision` (`scheduleCompaction`): the hash
    /// that [`View::hash_kv`] would have answered before it, with `before` as the compacted
    /// revision. The view shows the compaction, and none of its rows need have been deleted
    /// yet: those that are missing because of `before` do not count.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn hash_compaction(&self, before: i64, revision: i64) -> Result<HashKv, MvccError> {
        let mut keep = self.keep(revision);
        if keep.is_empty() && !self.has_tombstone_at(revision)? {
            // As above. A deletion at the very revision is kept by a compaction, and so
            // there is something to keep.
            keep = self.keep(before);
        }
        let hash = self.hash_rows(before, revision, &keep)?;
        Ok(HashKv { hash, compact_revision: before, revision })
    }

    fn has_tombstone_at(&self, revision: i64) -> Result<bool, MvccError> {
        let mut rows = self.rows().rows(Revision::new(revision, 0), revision)?;
        while let Some(row) = rows.next()? {
            if row.tombstone {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hashes the rows up to `until`, of those at or below `compacted` only what is in `keep`.
    fn hash_rows(&self, compacted: i64, until: i64, keep: &[Revision]) -> Result<u32, MvccError> {
        let mut hash = crc32c::crc32c(b"key");
        let mut rows = self.rows().rows(Revision::default(), until)?;
        let mut kept = keep.iter().peekable();
        while let Some(row) = rows.next()? {
            let at = row.revision;
            while kept.next_if(|k| **k < at).is_some() {}
            let is_kept = kept.peek().is_some_and(|k| **k == at);
            if at.main <= compacted && !is_kept {
                continue;
            }
            if at.main == compacted && row.tombstone {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &encode_revision(at, row.tombstone));
            hash = crc32c::crc32c_append(hash, &row.value);
        }
        Ok(hash)
    }
}
