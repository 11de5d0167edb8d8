//! The bytes of a snapshot file, copied in pieces and summed on the way.

use std::path::Path;

use mainstay_env::{Disk, File, OpenMode};
use mainstay_types::limits::RESTORE_PIECE_BYTES;
use sha2::{Digest as _, Sha256};

use crate::error::{BackupError, Doing};

/// Bytes of the checksum behind the db.
const TRAILER: u64 = 32;
/// A db is a multiple of this, whatever its page size (etcd, `hasChecksum`).
const SECTOR: u64 = 512;

/// Copies the db of the snapshot file `from` to the new file `to` and syncs it; the checksum
/// behind it is compared unless `skip_hash_check`, and never copied. Returns the db's length.
/// `told` hears how many bytes of how many are done.
pub(crate) fn copy_db(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    skip_hash_check: bool,
    told: &mut dyn FnMut(u64, u64),
) -> Result<u64, BackupError> {
    let source = disk.open(from, OpenMode::Read).doing("open", from)?;
    let len = source.len().doing("stat", from)?;
    let has_hash = len % SECTOR == TRAILER;
    if !has_hash && !skip_hash_check {
        return Err(BackupError::HashMissing);
    }
    let body = if has_hash { len - TRAILER } else { len };
    let target = disk.open(to, OpenMode::CreateNew).doing("open", to)?;
    let mut sum = (has_hash && !skip_hash_check).then(Sha256::new);
    let mut piece = vec![0; RESTORE_PIECE_BYTES];
    let mut at = 0;
    while at < body {
        told(at, body);
        let want = usize::try_from(body - at).map_or(piece.len(), |rest| rest.min(piece.len()));
        let bytes = &mut piece[..want];
        source.read_exact_at(at, bytes).doing("read", from)?;
        if let Some(sum) = &mut sum {
            sum.update(&*bytes);
        }
        target.write_at(at, bytes).doing("write", to)?;
        at += want as u64;
    }
    if let Some(sum) = sum {
        compare(&*source, from, body, sum.finalize().into())?;
    }
    target.sync().doing("sync", to)?;
    told(body, body);
    Ok(body)
}

/// The checksum that stands behind the db must be what its bytes come to.
fn compare(source: &dyn File, from: &Path, body: u64, found: [u8; 32]) -> Result<(), BackupError> {
    let mut expected = [0; TRAILER as usize];
    source.read_exact_at(body, &mut expected).doing("read", from)?;
    if expected == found { Ok(()) } else { Err(BackupError::HashWrong { expected, found }) }
}
