//! Identifiers and log positions.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number!(
    /// A raft term (raft paper, section 5.1). 0 before the first election.
    Term(u64), "{}"
);
number!(
    /// The position of an entry in the raft log. The first entry is 1; 0 is before the log.
    Index(u64), "{}"
);
number!(
    /// A member's identity. Printed in lowercase hex without leading zeros, as etcd does. 0 is nobody.
    MemberId(u64), "{:x}"
);
number!(
    /// A cluster's identity. Printed like a [`MemberId`].
    ClusterId(u64), "{:x}"
);
number!(
    /// A lease's identity; 0 is no lease. Printed as 16 hex digits.
    LeaseId(i64), "{:016x}"
);

impl Index {
    /// The position after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl MemberId {
    /// Nobody: no leader known, no vote given.
    pub const NONE: MemberId = MemberId(0);
}

impl LeaseId {
    /// No lease.
    pub const NONE: LeaseId = LeaseId(0);
}
