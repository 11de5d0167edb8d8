//! The rows of the three auth buckets (disk.md 5).

use bytes::Bytes;
use mainstay_proto::{Message as _, authpb};

use crate::RowError;

/// Key of the row that says whether authentication is on: one byte, 1 or 0.
pub(crate) const ENABLED: &[u8] = b"authEnabled";
/// Key of the row with the auth revision, u64 big-endian.
pub(crate) const REVISION: &[u8] = b"authRevision";

/// All rows of the three buckets, as they stand in the file.
#[derive(Default)]
pub struct Rows {
    /// Bucket `auth`.
    pub auth: Vec<(Bytes, Bytes)>,
    /// Bucket `authUsers`.
    pub users: Vec<(Bytes, Bytes)>,
    /// Bucket `authRoles`.
    pub roles: Vec<(Bytes, Bytes)>,
}

/// Reads bucket `auth`: whether authentication is on, and the auth revision, which is
/// 0 when there is none. As in etcd any value but a single 1 means off.
pub(crate) fn read_flags(rows: &[(Bytes, Bytes)]) -> Result<(bool, u64), RowError> {
    let (mut enabled, mut revision) = (false, 0);
    for (key, value) in rows {
        match key.as_ref() {
            ENABLED => enabled = value.as_ref() == [1],
            REVISION => {
                let bytes = value.as_ref().try_into().map_err(|_| {
                    wrong("auth", key, format!("it has {} bytes instead of 8", value.len()))
                })?;
                revision = u64::from_be_bytes(bytes);
            }
            _ => {}
        }
    }
    Ok((enabled, revision))
}

pub(crate) fn read_user(key: &Bytes, value: Bytes) -> Result<authpb::User, RowError> {
    // Copied: a row is a slice of a page, which would stay in memory with it.
    let value = Bytes::copy_from_slice(&value);
    authpb::User::decode(value).map_err(|error| wrong("authUsers", key, error.to_string()))
}

pub(crate) fn read_role(key: &Bytes, value: Bytes) -> Result<authpb::Role, RowError> {
    let value = Bytes::copy_from_slice(&value);
    authpb::Role::decode(value).map_err(|error| wrong("authRoles", key, error.to_string()))
}

fn wrong(bucket: &'static str, key: &Bytes, why: String) -> RowError {
    RowError { bucket, key: String::from_utf8_lossy(key).into_owned(), why }
}
