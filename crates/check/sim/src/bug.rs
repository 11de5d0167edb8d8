//! Known bugs, put back on purpose: what the judges must catch.
//!
//! None of them lives in a product crate. Each changes how a simulated node carries
//! out what the real `member` wants, or what it reads at boot.

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $story:literal;)*) => {
        /// A known bug. See `BUGS.md` for what each needs to be caught.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$doc])* $variant,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$variant,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Bug::$variant => $name,)* }
            }

            /// What is wrong.
            pub fn story(self) -> &'static str {
                match self { $(Bug::$variant => $story,)* }
            }
        }
    };
}

bugs! {
    /// #14370.
    AckBeforeSync = "ack-before-sync",
        "the log reports entries as durable, and lets their messages go, before it writes them";
    /// Raft paper, 5.3.
    SendBeforePersist = "send-before-persist",
        "appends are acknowledged and votes given before they are stored";
    /// #13766 and the postmortem of 3.5.
    IndexBeforeRows = "index-before-rows",
        "the db commits the applied index ahead of the rows of that entry";
    /// Raft thesis, 6.4.
    ReadWithoutRound = "read-without-round",
        "a leader answers linearizable reads without asking a quorum whether it still leads";
    /// #20418.
    ReadAfterPause = "read-after-pause",
        "a leader answers linearizable reads for an election timeout of its own ticks after it heard a quorum";
    /// Raft thesis, 6.4 step 1.
    ReadBeforeTermCommit = "read-before-term-commit",
        "a new leader takes its commit index for a read before it has committed in its term";
    /// Raft thesis, 6.4 step 4.
    ReadUnapplied = "read-unapplied",
        "a confirmed read is answered before its index is applied";
    /// #15271, #18089.
    WatchLostAtCompaction = "watch-lost-at-compaction",
        "a watcher that lags behind a compaction goes on behind it instead of being cancelled";
    /// #17529.
    WatchLostAtInstall = "watch-lost-at-install",
        "watchers are not told of the revisions that an installed snapshot brought";
    /// #17780's kin: a revision split between two responses.
    WatchLostWhenFull = "watch-lost-when-full",
        "events for a full outbox are dropped";
    /// Raft thesis, 4.1, as etcd does it.
    ConfAtAppend = "conf-at-append",
        "a configuration change takes effect when it is appended";
    /// What etcd ends at, gone wrong.
    AckWithoutRoom = "ack-without-room",
        "what found no room on the disk counts as durable";
    /// Raft paper, figure 2.
    VoteForgotten = "vote-forgotten",
        "a member forgets at a restart for whom it voted";
    /// Raft paper, figure 2.
    TermForgotten = "term-forgotten",
        "terms and votes without entries are not written";
    /// Raft paper, 5.4.2, figure 8.
    CommitOfOldTerm = "commit-of-old-term",
        "entries of an older term are committed by counting";
    /// Raft thesis, 4.2.1.
    LearnerCounts = "learner-counts",
        "what a learner has counts towards a quorum";
    /// Section 1 of the raft paper's commitment rule.
    HalfIsEnough = "half-is-enough",
        "one less than a quorum commits";
    /// #14571's kind: rows without the index they came from.
    AppliedTwice = "applied-twice",
        "the applied index in the db lags behind its rows, so that a restart applies entries again";
    /// #20426.
    SnapshotAhead = "snapshot-ahead",
        "a snapshot names the applied index while its db copy lacks what is not committed";
    /// disk.md 3.
    RecordBeforeSnap = "record-before-snap",
        "the log's snapshot record is written before the .snap file";
    /// disk.md 3.
    RenameBeforeRecord = "rename-before-record",
        "a received db takes its place before the log knows of the snapshot";
    /// Found by the simulator in our driver.
    StateWithEntries = "state-with-entries",
        "the commit index that makes a received snapshot count is written together with the entries behind it";
    /// Invariant 4 of the design.
    UnsyncedReceive = "unsynced-receive",
        "a received db is not synced before raft hears of it";
    /// The reader of etcd, faults.md 6.
    TailCut = "tail-cut",
        "the last entry of the log is cut off at a restart";
    /// #15247.
    RevokeByDeposed = "revoke-by-deposed",
        "what a deposed leader took for expired is revoked through its successor";
    /// #15247.
    RenewByDeposed = "renew-by-deposed",
        "a leader renews leases without asking a quorum whether it still leads";
    /// semantics.md 7.
    LeaseNotExtended = "lease-not-extended",
        "a new leader counts leases down from what it saw as a follower";
    /// semantics.md 7: time of day is nobody's business.
    LeasesByTheDay = "leases-by-the-day",
        "a leader counts leases by the time of day, which jumps";
    /// A lost request must be lost or done, never done twice.
    ProposedTwice = "proposed-twice",
        "a proposal without an answer is proposed again under the same id";
}

impl Bug {
    /// The bug of that name.
    pub fn parse(name: &str) -> Option<Bug> {
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}
