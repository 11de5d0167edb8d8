//! The nouns that every crate shares, and every limit.
//!
//! Numbers that mean different things have different types, so that a term is
//! never taken for an index. Every bound on what a client can make grow is a
//! constant in [`limits`].

mod ids;
mod key;
pub mod limits;
mod revision;
mod version;

pub use ids::{ClusterId, Index, LeaseId, MemberId, Term};
pub use key::{KeyRange, RangeEnd};
pub use revision::Revision;
pub use version::{ParseVersionError, SPOKEN_VERSION, Version};
