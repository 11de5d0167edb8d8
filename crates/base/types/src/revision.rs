//! Revisions of the key space.

use std::fmt;

/// A point in the history of the key space: `main` counts write requests, `sub`
/// the changes inside one request, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The request's revision; a fresh store is at 1, its first write makes 2.
    pub main: i64,
    /// The change within the request.
    pub sub: i64,
}

impl Revision {
    /// The revision of change `sub` of request `main`.
    pub const fn new(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.main, self.sub)
    }
}
