//! A compacted copy.

use std::io;
use std::path::Path;

use bytes::Bytes;
use mainstay_env::Disk;

use crate::cursor::Cursor;
use crate::error::{Error, Result, text};
use crate::page::FLAG_BUCKET;
use crate::{Bolt, Options, Reader, WriteBatch};

/// Rows of one commit of the copy (etcd, `defragLimit`).
const ROWS: usize = 10_000;
/// Bytes of one commit of the copy: they are in memory at once.
const BYTES: usize = 16 << 20;

/// Writes every row of `reader` into a new file at `to`, bucket by bucket in key order (disk.md
/// 4.5), and syncs it; the caller renames it and syncs the directory. Sequences are not kept, and
/// a nested bucket is an error. `options.page_size` is the new file's.
pub fn write_compacted(
    reader: &Reader,
    disk: &dyn Disk,
    to: &Path,
    options: Options,
) -> Result<()> {
    let fail = |source| Error::Disk { path: to.to_owned(), doing: "create".into(), source };
    if disk.metadata(to).map_err(fail)?.is_some() {
        return Err(fail(io::ErrorKind::AlreadyExists.into()));
    }
    // Nobody knows the file before it is renamed: one sync at the end is enough.
    let mut bolt = Bolt::open(disk, to, Options { no_sync: true, ..options })?;
    for name in reader.buckets()? {
        copy_bucket(reader, &mut bolt, &name)?;
    }
    if !options.no_sync {
        bolt.sync()?;
    }
    Ok(())
}

fn copy_bucket(reader: &Reader, bolt: &mut Bolt, name: &Bytes) -> Result<()> {
    let mut cursor: Cursor = reader.cursor(name)?;
    let mut batch = WriteBatch::new();
    batch.create_bucket(name);
    let mut bytes = 0;
    let mut at = cursor.first_element()?;
    while let Some((flags, key, value)) = at {
        if flags == FLAG_BUCKET {
            return Err(Error::Nested { bucket: text(name) });
        }
        bytes += key.len() + value.len();
        batch.put(name, key, value);
        if batch.len() >= ROWS || bytes >= BYTES {
            bolt.commit(std::mem::take(&mut batch))?;
            bytes = 0;
        }
        at = cursor.next_element()?;
    }
    bolt.commit(batch)?;
    Ok(())
}
