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
        Ok(HashKv { hash, compact_revision: compacted, revision: until })
    }
}
