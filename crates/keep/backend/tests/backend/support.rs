//! What the db should hold, and random batches for both.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_backend::{
    Backend, BackendError, Batch, Bucket, KeyRow, KeyValueRef, OpenOptions, SumsPlace,
    decode_revision, encode_key_value, encode_revision, meta,
};
use mainstay_env::{Dice, Disk};
use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_types::{ClusterId, Index, MemberId, Revision, Term};

/// Where the tests keep their file.
pub(crate) const PATH: &str = "/db";

/// All rows of all buckets: (bucket, key) to value.
pub(crate) type State = BTreeMap<(Bucket, Bytes), Bytes>;

/// And the checksums of its pages.
pub(crate) const SUMS: &str = "/mainstay/pages";

pub(crate) fn try_open(disk: &SimDisk, no_sync: bool) -> Result<Backend, BackendError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let sums = SumsPlace { path: SUMS.into(), cluster: ClusterId(1), member: MemberId(2) };
    let options = OpenOptions { no_sync, sums: Some(sums) };
    Backend::open(disk, PATH.as_ref(), options, &mut |_, _, _| {})
}

/// Everything committed.
pub(crate) fn read_all(backend: &Backend) -> Result<State, BackendError> {
    let mut state = State::new();
    for bucket in Bucket::ALL {
        for (key, value) in backend.rows_of(bucket)? {
            state.insert((bucket, key), value);
        }
    }
    Ok(state)
}

/// Makes batches as the entries of a log would, and the state after each.
pub(crate) struct Generator {
    pub(crate) dice: SimDice,
    pub(crate) state: State,
    /// Every row of the `key` bucket that ever was.
    pub(crate) ever: BTreeMap<Revision, (bool, Bytes)>,
    index: u64,
    main: i64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: SimDice::new(seed),
            state: State::new(),
            ever: BTreeMap::new(),
            index: 0,
            main: 1,
        }
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> i64 {
        self.main
    }

    /// Rows of the `key` bucket.
    pub(crate) fn rows(&self) -> BTreeMap<Revision, (bool, Bytes)> {
        let of_key = self.state.iter().filter(|((bucket, _), _)| *bucket == Bucket::Key);
        let row = |((_, key), value): (&(Bucket, Bytes), &Bytes)| {
            let (revision, tombstone) = decode_revision(key).unwrap();
            (revision, (tombstone, value.clone()))
        };
        of_key.map(row).collect()
    }

    /// The next entry: key rows, other rows, deletions, several of them, or nothing.
    pub(crate) fn batch(&mut self) -> Batch {
        self.index += 1;
        let applied = (Index(self.index), Term(1 + self.index / 100));
        let mut batch = Batch::new(applied);
        if self.dice.below(8) > 0 {
            self.key_rows(&mut batch);
        }
        if self.dice.below(3) == 0 {
            self.other_rows(&mut batch);
        }
        if self.dice.below(10) == 0 {
            self.delete_old(&mut batch);
        }
        let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
        self.set(Bucket::Meta, meta::CONSISTENT_INDEX, number(applied.0.0));
        self.set(Bucket::Meta, meta::TERM, number(applied.1.0));
        batch
    }

    fn set(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        self.state.insert((bucket, Bytes::copy_from_slice(key)), value);
    }

    fn key_rows(&mut self, batch: &mut Batch) {
        self.main += 1;
        for sub in 0..=self.dice.below(3) {
            let revision = Revision::new(self.main, sub as i64);
            let tombstone = self.dice.below(5) == 0;
            let size = match self.dice.below(30) {
                0 => 9000,
                n => n as usize * 7,
            };
            let key = format!("key-{}", self.dice.below(50));
            let value = vec![self.index as u8; size];
            let kv = KeyValueRef { key: key.as_bytes(), value: &value, ..Default::default() };
            let value = encode_key_value(&kv);
            self.set(Bucket::Key, &encode_revision(revision, tombstone), value.clone());
            self.ever.insert(revision, (tombstone, value.clone()));
            batch.put_revision(KeyRow { revision, tombstone, value });
        }
    }

    fn other_rows(&mut self, batch: &mut Batch) {
        for _ in 0..=self.dice.below(2) {
            let bucket = Bucket::ALL[self.dice.below(Bucket::ALL.len() as u64) as usize];
            if bucket == Bucket::Key {
                continue;
            }
            let key = Bytes::from(format!("other-{}", self.dice.below(20)));
            if self.dice.below(4) == 0 {
                batch.delete(bucket, key.clone());
                self.state.remove(&(bucket, key));
            } else {
                let value = Bytes::from(format!("value of entry {}", self.index));
                batch.put(bucket, key.clone(), value.clone());
                self.state.insert((bucket, key), value);
            }
        }
    }

    /// As compaction does, also of rows that no commit has taken yet.
    pub(crate) fn delete_old(&mut self, batch: &mut Batch) {
        let rows: Vec<_> = self.rows().into_iter().collect();
        let from = self.dice.below(rows.len().max(1) as u64) as usize;
        for (revision, (tombstone, _)) in rows.into_iter().skip(from).step_by(3).take(12) {
            batch.delete_revision(revision, tombstone);
            self.state.remove(&(Bucket::Key, encode_revision(revision, tombstone)));
        }
    }
}
