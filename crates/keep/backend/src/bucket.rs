//! The buckets of etcd's schema (disk.md 5).

/// A top-level bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the bucket of that name")]
pub enum Bucket {
    Alarm,
    Auth,
    AuthRoles,
    AuthUsers,
    Cluster,
    Key,
    Lease,
    Members,
    MembersRemoved,
    Meta,
}

impl Bucket {
    /// All, in the order of their names' bytes.
    pub const ALL: [Bucket; 10] = [
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthRoles,
        Bucket::AuthUsers,
        Bucket::Cluster,
        Bucket::Key,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Meta,
    ];

    /// The name in the file.
    pub fn name(self) -> &'static [u8] {
        match self {
            Bucket::Alarm => b"alarm",
            Bucket::Auth => b"auth",
            Bucket::AuthRoles => b"authRoles",
            Bucket::AuthUsers => b"authUsers",
            Bucket::Cluster => b"cluster",
            Bucket::Key => b"key",
            Bucket::Lease => b"lease",
            Bucket::Members => b"members",
            Bucket::MembersRemoved => b"members_removed",
            Bucket::Meta => b"meta",
        }
    }
}

/// Keys of the `meta` bucket.
pub mod meta {
    /// Index of the last entry whose rows are in the file, u64 big-endian.
    pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
    /// Its term, u64 big-endian.
    pub const TERM: &[u8] = b"term";
    /// The raft configuration, Go's JSON of a `ConfState`.
    pub const CONF_STATE: &[u8] = b"confState";
    /// The schema's version, from 3.6 on.
    pub const STORAGE_VERSION: &[u8] = b"storageVersion";
    /// The compaction that was last begun, a revision.
    pub const SCHEDULED_COMPACT_REV: &[u8] = b"scheduledCompactRev";
    /// The compaction that was last finished, a revision.
    pub const FINISHED_COMPACT_REV: &[u8] = b"finishedCompactRev";
}
