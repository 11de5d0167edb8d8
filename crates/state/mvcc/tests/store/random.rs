//! Random transactions, compactions, commits, defragmentations and restarts; after each
//! the store is asked at random and must answer as the model does.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_backend::{Backend, Batch};
use mainstay_env::Dice;
use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_mvcc::{MvccError, Store, View, WriteTxn};
use mainstay_proto::{Message as _, mvccpb::KeyValue};
use mainstay_types::{KeyRange, LeaseId, Revision};

use crate::model::{Model, Record, rows_in};
use crate::queries::{all, check, key, random, range};
use crate::support::{batch, disk, try_load};

struct Run {
    disk: SimDisk,
    dice: SimDice,
    backend: Backend,
    store: Store,
    model: Model,
    /// The last entry.
    index: u64,
    /// Views of the past, and all that they show.
    pinned: Vec<(View, Vec<Bytes>)>,
    /// How often a finished compaction was looked at.
    finished: u32,
    what: String,
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = disk(seed);
        let (backend, loaded) = try_load(&disk).unwrap();
        Run {
            disk,
            dice: SimDice::new(seed),
            backend,
            store: loaded.store,
            model: Model::new(),
            index: 0,
            pinned: Vec::new(),
            finished: 0,
            what: String::new(),
        }
    }

    fn step(&mut self) {
        self.index += 1;
        let mut batch = batch(self.index);
        match self.dice.below(40) {
            0..=27 => self.write(&mut batch),
            28 => self.compact(&mut batch),
            29..=32 => {
                let limit = 1 + self.dice.below(60) as usize;
                self.store.compaction_slice(limit, &mut batch);
            }
            33 | 34 => drop(self.backend.commit().unwrap()),
            35 if self.dice.one_in(3) => self.backend.defragment().unwrap(),
            36 => self.restart(),
            _ => {}
        }
        self.backend.append(batch);
        self.look();
    }

    fn write(&mut self, batch: &mut Batch) {
        let Run { dice, store, model, what, .. } = self;
        let mut txn = Txn { main: model.current + 1, live: owned(model.live()), new: Vec::new() };
        let mut ours = store.write();
        for _ in 0..=dice.below(4) {
            match dice.one_in(4) {
                true => txn.delete(&mut ours, range(dice), what),
                false => txn.put(&mut ours, dice, what),
            }
        }
        let end = ours.end();
        if !txn.new.is_empty() {
            model.current = txn.main;
        }
        assert_eq!((end.revision, end.rows.len()), (model.current, txn.new.len()), "{what}");
        for (row, record) in end.rows.iter().zip(&txn.new) {
            let found = (row.revision, row.tombstone, row.value.to_vec());
            let expected = (record.revision, record.deleted, record.kv.encode_to_vec());
            assert_eq!(found, expected, "{what}");
        }
        end.rows.into_iter().for_each(|row| batch.put_revision(row));
        model.records.extend(txn.new);
    }

    fn compact(&mut self, batch: &mut Batch) {
        let Model { current, compacted, .. } = self.model;
        let at = self.dice.below(current as u64 + 3) as i64 - 1;
        match self.store.compact(at, batch) {
            Ok(()) => {
                assert!(at > compacted && at <= current, "{}", self.what);
                self.model.compacted = at;
            }
            Err(MvccError::Compacted) => assert!(at <= compacted, "{}", self.what),
            Err(MvccError::FutureRevision) => assert!(at > current, "{}", self.what),
            Err(error) => panic!("{}: {error}", self.what),
        }
    }

    fn restart(&mut self) {
        self.backend.commit().unwrap();
        self.pinned.clear();
        let elsewhere = disk(0);
        // The file is locked until every holder of the old store is gone.
        let (aside, loaded) = try_load(&elsewhere).unwrap();
        (self.backend, self.store) = (aside, loaded.store);
        let (backend, loaded) = try_load(&self.disk).unwrap();
        (self.backend, self.store) = (backend, loaded.store);
        let found = (self.store.revision(), self.store.compact_revision());
        assert_eq!(found, (self.model.current, self.model.compacted), "{}", self.what);
        let leased = self.model.live().into_iter().filter(|(_, record)| record.kv.lease != 0);
        let attached: Vec<_> =
            leased.map(|(key, record)| (key, LeaseId(record.kv.lease))).collect();
        assert_eq!(loaded.attached, attached, "{}", self.what);
        assert_eq!(self.backend.meta().unwrap().applied.0, self.index - 1, "{}", self.what);
    }

    /// Asks a new view, and now and then the old ones and what is in the file.
    fn look(&mut self) {
        let view = self.store.view();
        let found = (view.revision(), view.compact_revision(), view.len());
        let Model { current, compacted, .. } = self.model;
        assert_eq!(found, (current, compacted, self.model.live().len()), "{}", self.what);
        for _ in 0..3 {
            let query = random(&mut self.dice, &self.model);
            check(&view, &self.model, &query, &self.what);
        }
        if self.dice.one_in(15) {
            self.pinned.push((view.clone(), view.range(&all()).unwrap().kvs));
            for (view, kvs) in &self.pinned {
                assert_eq!(view.range(&all()).unwrap().kvs, *kvs, "{}: pinned", self.what);
            }
            if self.pinned.len() > 4 {
                self.pinned.remove(0);
            }
        }
        if self.dice.one_in(10) {
            self.check_hashes();
            self.check_history(&view);
        }
        if !self.store.is_compacting() && compacted > 0 && self.dice.one_in(10) {
            self.finished += 1;
            let rows: Vec<_> = rows_in(&self.backend).iter().map(|row| row.0).collect();
            assert_eq!(rows, self.model.left(), "{}: compacted at {compacted}", self.what);
        }
    }

    fn check_hashes(&mut self) {
        let rows = rows_in(&self.backend);
        let Model { current, compacted, .. } = self.model;
        let any = self.dice.below(current as u64 + 1) as i64;
        for at in [0, compacted.max(0), current, any] {
            let found = self.store.view().hash_kv(at);
            if at > 0 && at < compacted {
                assert!(matches!(found, Err(MvccError::Compacted)), "{}", self.what);
                continue;
            }
            let expected = self.model.hash(&rows, at);
            assert_eq!(found.unwrap().hash, expected, "{}: hash at {at}", self.what);
        }
    }

    /// Events of a random range from a random revision on, in slices of a few revisions.
    /// At the compaction itself only what it kept is promised, so it is left out.
    fn check_history(&mut self, view: &View) {
        let Model { current, compacted, .. } = self.model;
        let from = compacted.max(1);
        let from = from + self.dice.below((current - from + 1) as u64) as i64;
        let (start, end) = range(&mut self.dice);
        let range = KeyRange::from_wire(start, end);
        let mut found = Vec::new();
        let mut next = from;
        while next <= current {
            let most = 1 + self.dice.below(3) as usize;
            let slice = view.history(&range, next, most, 1 << 20).unwrap();
            assert!(slice.next > next, "{}", self.what);
            next = slice.next;
            let events = slice.events.iter().filter(|event| event.revision.main > compacted);
            found.extend(events.map(|event| (event.revision, event.deleted, event.key.clone())));
        }
        let fits = |record: &&Record| {
            let main = record.revision.main;
            main >= from && main > compacted && range.contains(&record.kv.key)
        };
        let event = |record: &Record| (record.revision, record.deleted, record.kv.key.clone());
        let expected: Vec<_> = self.model.records.iter().filter(fits).map(event).collect();
        assert_eq!(found, expected, "{}", self.what);
    }
}

fn owned(live: BTreeMap<Bytes, &Record>) -> BTreeMap<Bytes, KeyValue> {
    live.into_iter().map(|(key, record)| (key, record.kv.clone())).collect()
}

/// A transaction as the model sees it.
struct Txn {
    main: i64,
    live: BTreeMap<Bytes, KeyValue>,
    new: Vec<Record>,
}

impl Txn {
    fn record(&mut self, deleted: bool, kv: KeyValue) {
        let revision = Revision::new(self.main, self.new.len() as i64);
        self.new.push(Record { revision, deleted, kv });
    }

    fn delete(&mut self, ours: &mut WriteTxn<'_>, (start, end): (Bytes, Bytes), what: &str) {
        let range = KeyRange::from_wire(start, end);
        let deleted = ours.delete_range(&range, true).unwrap();
        let found: Vec<_> = deleted.into_iter().map(|d| (d.key, d.prev.unwrap())).collect();
        let gone = self.live.iter().filter(|(key, _)| range.contains(key));
        let gone: Vec<_> = gone.map(|(key, kv)| (key.clone(), kv.clone())).collect();
        assert_eq!(found, gone, "{what}");
        for (key, _) in gone {
            self.live.remove(&key);
            self.record(true, KeyValue { key, ..Default::default() });
        }
    }

    fn put(&mut self, ours: &mut WriteTxn<'_>, dice: &mut SimDice, what: &str) {
        let key = key(dice);
        let value = Bytes::from(vec![dice.below(5) as u8; dice.below(30) as usize]);
        let lease = if dice.one_in(4) { dice.below(3) as i64 - 1 } else { 0 };
        let before = self.live.get(&key).cloned();
        assert_eq!(ours.get(&key).unwrap(), before, "{what}");
        ours.put(&key, &value, LeaseId(lease));
        let (create_revision, version) =
            before.map_or((self.main, 1), |kv| (kv.create_revision, kv.version + 1));
        let mod_revision = self.main;
        let kv = KeyValue { key, create_revision, mod_revision, version, value, lease };
        self.live.insert(kv.key.clone(), kv.clone());
        self.record(false, kv);
    }
}

#[test]
fn the_store_is_as_the_model() {
    let mut finished = 0;
    for seed in 0..60 {
        let mut run = Run::new(seed);
        for step in 0..300 {
            run.what = format!("seed {seed} step {step}");
            run.step();
        }
        finished += run.finished;
    }
    assert!(finished > 300, "only {finished} looks at a finished compaction");
}
