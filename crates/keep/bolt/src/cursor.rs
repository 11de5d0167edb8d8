//! Walking a bucket in key order.

use bytes::Bytes;

use crate::error::Result;

/// A position in a bucket. Nested buckets are passed over. Keys and values are slices of the
/// page's buffer: they stay valid (and keep the page in memory) as long as they live.
pub struct Cursor {
    _private: (),
}

impl Cursor {
    pub(crate) fn skeleton() -> Self {
        Self { _private: () }
    }

    /// To the first row.
    pub fn first(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        Ok(None)
    }

    /// To the last row.
    pub fn last(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        Ok(None)
    }

    /// To the first row whose key is `key` or greater.
    pub fn seek(&mut self, _key: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        Ok(None)
    }

    /// To the following row; `None` behind the last, where it stays.
    #[expect(clippy::should_implement_trait, reason = "fallible, and a cursor also goes back")]
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        Ok(None)
    }

    /// To the row before; `None` before the first, where it stays.
    pub fn prev(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        Ok(None)
    }
}
