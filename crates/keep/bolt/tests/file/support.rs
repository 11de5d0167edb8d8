//! A model of a bolt file, and random batches for both.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use mainstay_bolt::{Bolt, Options, Reader, WriteBatch};
use mainstay_env::{Dice, Disk};
use mainstay_env_sim::SimDice;

/// What a file should hold: bucket name to rows.
pub(crate) type State = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Bytes>>;

/// Where the tests keep their file.
pub(crate) const PATH: &str = "/db";

pub(crate) fn options(page_size: usize) -> Options {
    Options { page_size, ..Options::default() }
}

pub(crate) fn open(disk: &dyn Disk, page_size: usize) -> Bolt {
    Bolt::open(disk, Path::new(PATH), options(page_size)).unwrap()
}

/// Everything that a snapshot shows, by cursor.
pub(crate) fn read_all(reader: &Reader) -> State {
    let mut state = State::new();
    for name in reader.buckets().unwrap() {
        let mut rows = BTreeMap::new();
        let mut cursor = reader.cursor(&name).unwrap();
        while let Some((key, value)) = cursor.next().unwrap() {
            let before = rows.insert(key.to_vec(), value);
            assert!(before.is_none(), "a key came twice");
        }
        state.insert(name.to_vec(), rows);
    }
    state
}

/// Makes batches that reach every shape of the tree.
pub(crate) struct Generator {
    pub(crate) dice: SimDice,
    revision: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: SimDice::new(seed), revision: 0 }
    }

    fn key(&mut self) -> Vec<u8> {
        let n = self.dice.below(3000);
        match self.dice.below(40) {
            0 => format!("{n:0>400}").into_bytes(),
            1 => vec![1 + (n % 255) as u8; 1 + (n % 3) as usize],
            _ => format!("key-{n}").into_bytes(),
        }
    }

    fn value(&mut self) -> Bytes {
        let len = match self.dice.below(60) {
            0 => self.dice.below(40_000),
            1..10 => self.dice.below(3_000),
            _ => self.dice.below(120),
        };
        let fill = self.dice.below(256) as u8;
        Bytes::from(vec![fill; len as usize])
    }

    fn put(&mut self, state: &mut State, batch: &mut WriteBatch, bucket: &[u8], key: Vec<u8>) {
        let value = self.value();
        batch.put(bucket, Bytes::from(key.clone()), value.clone());
        state.get_mut(bucket).unwrap().insert(key, value);
    }

    fn delete(&mut self, state: &mut State, batch: &mut WriteBatch, bucket: &[u8], key: Vec<u8>) {
        state.get_mut(bucket).unwrap().remove(&key);
        batch.delete(bucket, Bytes::from(key));
    }

    /// Rows at the right edge, as etcd's bucket `key` gets them.
    fn append(&mut self, state: &mut State, batch: &mut WriteBatch, bucket: &[u8]) {
        for _ in 0..self.dice.below(200) {
            self.revision += 1;
            let key = [&b"z"[..], &self.revision.to_be_bytes(), b"_00000000"].concat();
            self.put(state, batch, bucket, key);
        }
    }

    /// Deletes most of a stretch of rows, as a compaction does.
    fn thin_out(&mut self, state: &mut State, batch: &mut WriteBatch, bucket: &[u8]) {
        let rows = state[bucket].len() as u64;
        let skip = self.dice.below(rows + 1) as usize;
        let take = self.dice.below(rows + 1) as usize;
        let keep_one_in = 1 + self.dice.below(20);
        let keys: Vec<_> = state[bucket].keys().skip(skip).take(take).cloned().collect();
        for key in keys {
            if keep_one_in == 1 || !self.dice.one_in(keep_one_in) {
                self.delete(state, batch, bucket, key);
            }
        }
    }

    /// One batch, applied to `state` too.
    pub(crate) fn batch(&mut self, state: &mut State) -> WriteBatch {
        let mut batch = WriteBatch::new();
        let names: [&[u8]; 4] = [b"key", b"meta", b"a", b"lease"];
        for _ in 0..1 + self.dice.below(4) {
            let bucket = names[self.dice.below(4) as usize];
            if !state.contains_key(bucket) {
                batch.create_bucket(bucket);
                state.insert(bucket.to_vec(), BTreeMap::new());
            }
            match self.dice.below(12) {
                0 if self.dice.one_in(6) => {
                    batch.delete_bucket(bucket);
                    state.remove(bucket);
                }
                0..4 => self.append(state, &mut batch, bucket),
                4..6 => self.thin_out(state, &mut batch, bucket),
                6..8 => {
                    let key = self.key();
                    self.put(state, &mut batch, bucket, key);
                }
                _ => {
                    for _ in 0..self.dice.below(150) {
                        let key = self.key();
                        if self.dice.one_in(3) {
                            self.delete(state, &mut batch, bucket, key);
                        } else {
                            self.put(state, &mut batch, bucket, key);
                        }
                    }
                }
            }
        }
        batch
    }
}
