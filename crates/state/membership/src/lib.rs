//! Members, learners and the cluster version.
//!
//! [`Membership`] is replicated state, loaded from rows and changed only by
//! applied entries. The JSON of rows, of configuration changes and of `.snap`
//! files is byte for byte what Go's `encoding/json` writes ([`gojson`]).

pub mod gojson;
mod id;
mod member;
mod membership;
pub mod reconfigure;
mod v2;
pub mod versions;

pub use id::{cluster_id, member_id, parse_member_id};
pub use member::{Change, ChangeError, Downgrade, Member};
pub use membership::{Attributes, Membership, RowError, UpdateAttributesError, ValidateError};
pub use v2::{V2Error, V2Snapshot};
