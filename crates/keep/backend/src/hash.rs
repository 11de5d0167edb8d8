//! The hash of a whole backend (`Maintenance.Hash`, disk.md 7.1).

use mainstay_bolt::Reader;

use crate::bucket::{Bucket, meta};
use crate::store::BackendError;

/// Pairs that differ between members by right.
const LEFT_OUT: [&[u8]; 3] = [meta::CONSISTENT_INDEX, meta::TERM, meta::STORAGE_VERSION];

/// CRC-32C over the names, keys and values of all buckets, in order.
///
/// # Errors
/// When the disk fails or a page is damaged.
pub fn hash(reader: &Reader) -> Result<u32, BackendError> {
    let mut crc = 0;
    for bucket in reader.buckets()? {
        crc = crc32c::crc32c_append(crc, &bucket);
        let in_meta = bucket == Bucket::Meta.name();
        let mut cursor = reader.cursor(&bucket)?;
        let mut next = cursor.first()?;
        while let Some((key, value)) = next {
            if !(in_meta && LEFT_OUT.contains(&key.as_ref())) {
                crc = crc32c::crc32c_append(crc, &key);
                crc = crc32c::crc32c_append(crc, &value);
            }
            next = cursor.next()?;
        }
    }
    Ok(crc)
}
