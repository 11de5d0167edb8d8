//! The changes of one commit, gathered by bucket.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_types::limits::{BOLT_KEY_BYTES_MAX, BOLT_VALUE_BYTES_MAX};

use crate::error::{Error, Result, text};

/// What is done to a key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// It gets this value.
    Put(Bytes),
    /// It goes.
    Delete,
    /// Nothing: the leaf that holds it, or would, is written again in another place.
    Touch,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    /// The key.
    pub(crate) key: Bytes,
    /// What is done to it.
    pub(crate) change: Change,
}

/// What a batch does to one top-level bucket: first delete, then create, then the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketOps {
    pub(crate) delete: bool,
    pub(crate) create: bool,
    pub(crate) ops: Vec<Op>,
    unsorted: bool,
}

impl BucketOps {
    /// Adds the leaves that are written again, by ascending keys, to changes that are sorted.
    pub(crate) fn touch(&mut self, keys: Vec<Bytes>) {
        if self.delete {
            return;
        }
        let changes = std::mem::take(&mut self.ops);
        self.ops.reserve(changes.len() + keys.len());
        let mut changes = changes.into_iter().peekable();
        for key in keys {
            while let Some(op) = changes.next_if(|op| op.key < key) {
                self.ops.push(op);
            }
            self.ops.push(Op { key, change: Change::Touch });
        }
        self.ops.extend(changes);
    }
}

/// Everything that one [`crate::Bolt::commit`] changes.
///
/// Calls may come in any key order; the last one for a key wins. Ascending
/// order is the fast path and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    buckets: BTreeMap<Bytes, BucketOps>,
    len: usize,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value` in the top-level bucket `bucket`.
    pub fn put(&mut self, bucket: &[u8], key: Bytes, value: Bytes) {
        self.push(bucket, Op { key, change: Change::Put(value) });
    }

    /// Deletes `key`; a key that is not there is fine.
    pub fn delete(&mut self, bucket: &[u8], key: Bytes) {
        self.push(bucket, Op { key, change: Change::Delete });
    }

    /// Creates a top-level bucket; one that exists is fine.
    pub fn create_bucket(&mut self, bucket: &[u8]) {
        self.entry(bucket).create = true;
    }

    /// Deletes a top-level bucket with everything in it, and forgets what this
    /// batch had planned for it so far; one that is missing is fine.
    pub fn delete_bucket(&mut self, bucket: &[u8]) {
        let ops = self.entry(bucket);
        let dropped = ops.ops.len();
        *ops = BucketOps { delete: true, ..BucketOps::default() };
        self.len -= dropped;
    }

    /// Number of puts and deletes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the batch changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn entry(&mut self, bucket: &[u8]) -> &mut BucketOps {
        // Looked up by slice first: the name is copied only for a new bucket.
        if !self.buckets.contains_key(bucket) {
            self.buckets.insert(Bytes::copy_from_slice(bucket), BucketOps::default());
        }
        self.buckets.get_mut(bucket).expect("inserted above when it was missing")
    }

    fn push(&mut self, bucket: &[u8], op: Op) {
        let ops = self.entry(bucket);
        if ops.ops.last().is_some_and(|last| last.key >= op.key) {
            ops.unsorted = true;
        }
        ops.ops.push(op);
        self.len += 1;
    }

    /// Checks every size and puts each bucket's changes into strictly ascending order.
    pub(crate) fn into_sorted(self) -> Result<BTreeMap<Bytes, BucketOps>> {
        let mut buckets = self.buckets;
        for (name, bucket) in &mut buckets {
            check_key(name, name)?;
            for op in &bucket.ops {
                check_key(name, &op.key)?;
                if let Change::Put(value) = &op.change
                    && value.len() > BOLT_VALUE_BYTES_MAX
                {
                    let bytes = value.len();
                    return Err(Error::ValueTooLarge { bucket: text(name), bytes });
                }
            }
            if bucket.unsorted {
                sort_last_wins(&mut bucket.ops);
                bucket.unsorted = false;
            }
        }
        Ok(buckets)
    }
}

fn check_key(bucket: &[u8], key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(Error::KeyEmpty { bucket: text(bucket) }),
        bytes if bytes > BOLT_KEY_BYTES_MAX => {
            Err(Error::KeyTooLarge { bucket: text(bucket), bytes })
        }
        _ => Ok(()),
    }
}

fn sort_last_wins(ops: &mut Vec<Op>) {
    // The sort is stable, so of equal keys the last one pushed is the last one here.
    ops.sort_by(|a, b| a.key.cmp(&b.key));
    // `dedup_by` passes (later, earlier) and drops the later: keep its value.
    ops.dedup_by(|later, earlier| {
        let same = later.key == earlier.key;
        if same {
            std::mem::swap(&mut earlier.change, &mut later.change);
        }
        same
    });
}
