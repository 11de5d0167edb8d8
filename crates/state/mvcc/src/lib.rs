//! Multi-version key-value state: index, revisions, range, txn, compaction, hashes
