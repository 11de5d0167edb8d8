//! A view shows every row up to its moment exactly once, whatever goes on meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mainstay_backend::bolt::Goal;
use mainstay_backend::{Backend, BackendView, Rows};
use mainstay_env::Dice;
use mainstay_env_sim::SimDisk;
use mainstay_types::Revision;

use crate::support::{Generator, try_open};

type KeyRows = BTreeMap<Revision, (bool, Bytes)>;

/// A view, and what it must show.
struct Pinned {
    view: BackendView,
    /// Rows that it must show: those there when it was made.
    must: KeyRows,
    /// Rows that it may show: also what was deleted, but not committed as deleted.
    may: KeyRows,
    until: i64,
}

impl Pinned {
    /// Rows were deleted in the buffer only: whether they show is open until the commit.
    fn check(&self) {
        let mut rows = self.view.rows(Revision::default(), self.until).unwrap();
        self.compare(|| rows.next().unwrap(), Revision::default());
        let puts = self.must.iter().rev().filter(|(_, (tombstone, _))| !tombstone);
        let (revisions, expected): (Vec<_>, Vec<_>) =
            puts.map(|(revision, (_, value))| (*revision, Some(value.clone()))).unzip();
        let one_by_one: Vec<_> =
            revisions.iter().map(|revision| self.view.value(*revision).unwrap()).collect();
        assert_eq!(one_by_one, expected);
        assert_eq!(self.view.values(&revisions).unwrap(), expected);
        // Every fourth, and one that never was beside each.
        let some = revisions.iter().step_by(4);
        let some: Vec<_> = some.flat_map(|at| [*at, Revision::new(at.main, 1000)]).collect();
        let expected: Vec<_> =
            expected.into_iter().step_by(4).flat_map(|value| [value, None]).collect();
        assert_eq!(self.view.values(&some).unwrap(), expected);
    }

    fn compare(&self, mut next: impl FnMut() -> Option<mainstay_backend::KeyRow>, from: Revision) {
        let mut must = self.must.range(from..).peekable();
        let mut last = None;
        while let Some(row) = next() {
            assert!(last < Some(row.revision), "rows ascend, each once");
            last = Some(row.revision);
            let have = (row.tombstone, row.value);
            assert_eq!(self.may.get(&row.revision), Some(&have), "{:?}", row.revision);
            if must.next_if(|(revision, _)| **revision == row.revision).is_none() {
                let ahead = must.peek().is_none_or(|(revision, _)| **revision > row.revision);
                assert!(ahead, "{:?} is missing", must.peek());
            }
        }
        assert_eq!(must.peek(), None, "rows are missing at the end");
    }
}

/// What the writer has done so far, for views that are taken at any step of it.
#[derive(Default)]
struct Truth {
    backend: Option<Backend>,
    rows: KeyRows,
    /// Every row that ever was.
    ever: KeyRows,
    until: i64,
    pinned: Vec<Pinned>,
    taken: usize,
}

impl Truth {
    fn take(&mut self) {
        let Some(backend) = &self.backend else { return };
        let (must, may) = (self.rows.clone(), self.ever.clone());
        let pinned = Pinned { view: backend.snapshot(), must, may, until: self.until };
        pinned.check();
        self.taken += 1;
        self.pinned.push(pinned);
    }
}

/// A walk that goes on while other things happen.
struct Walk {
    rows: Rows,
    from: Revision,
    seen: Vec<mainstay_backend::KeyRow>,
    of: Pinned,
}

impl Walk {
    fn new(backend: &Backend, truth: &Truth, dice: &mut impl Dice) -> Walk {
        let until = truth.until - dice.below(20) as i64;
        let from = Revision::new(dice.below(truth.until as u64) as i64, dice.below(3) as i64);
        let below = |rows: &KeyRows| {
            rows.iter().filter(|(r, _)| r.main <= until).map(|(r, v)| (*r, v.clone())).collect()
        };
        let view = backend.snapshot();
        let rows = view.rows(from, until).unwrap();
        let of = Pinned { view, must: below(&truth.rows), may: below(&truth.ever), until };
        Walk { rows, from, seen: Vec::new(), of }
    }

    /// Takes some more rows; answers whether there were any.
    fn go(&mut self, mut count: u64) -> bool {
        while count > 0 {
            let Some(row) = self.rows.next().unwrap() else { return false };
            self.seen.push(row);
            count -= 1;
        }
        true
    }

    fn end(mut self) {
        while self.go(1000) {}
        assert!(self.seen.iter().all(|row| row.revision >= self.from));
        let mut seen = self.seen.into_iter();
        self.of.compare(|| seen.next(), self.from);
    }
}

#[test]
fn a_view_shows_every_row_once() {
    for seed in 0..4 {
        run(seed);
    }
}

fn run(seed: u64) {
    let disk = SimDisk::new(seed);
    let truth = Arc::new(Mutex::new(Truth::default()));
    let observer = truth.clone();
    // Inside of commits too, between any two steps.
    disk.observe(move |_, step| {
        if step.number % 5 == 0 {
            observer.lock().unwrap().take();
        }
    });
    let backend = try_open(&disk, false).unwrap();
    truth.lock().unwrap().backend = Some(backend.clone());
    let mut generator = Generator::new(seed);
    let mut walks = Vec::new();
    let mut shrunk = 0;
    for _ in 0..1500 {
        let what = generator.dice.below(200);
        if what < 12 {
            backend.commit_moving((what % 2) * (16 << 10)).unwrap();
        } else if what == 12 {
            backend.defragment().unwrap();
        } else if what < 16 {
            let bytes = backend.size_in_use();
            backend.shrink(Goal { bytes, pack: what == 13 }).unwrap();
            shrunk = shrunk.max(backend.size() - bytes);
        } else {
            let batch = generator.batch();
            let mut truth = truth.lock().unwrap();
            truth.rows = generator.rows();
            truth.ever.clone_from(&generator.ever);
            backend.append(batch);
            truth.until = generator.revision();
        }
        let mut truth = truth.lock().unwrap();
        match generator.dice.below(60) {
            0 => truth.take(),
            1 => truth.pinned.iter().for_each(Pinned::check),
            2 if truth.pinned.len() > 5 => truth.pinned.truncate(3),
            3 if walks.len() < 6 => walks.push(Walk::new(&backend, &truth, &mut generator.dice)),
            4 if !walks.is_empty() => walks.swap_remove(0).end(),
            _ => {}
        }
        for walk in &mut walks {
            walk.go(generator.dice.below(5));
        }
    }
    walks.into_iter().for_each(Walk::end);
    let mut truth = truth.lock().unwrap();
    truth.pinned.iter().for_each(Pinned::check);
    assert!(truth.taken > 100 && shrunk > 1 << 16, "{} views, {shrunk} bytes", truth.taken);
    // The backend and its disk hold each other through the observer.
    truth.backend = None;
}

/// More rows than a chunk has, so that a walk crosses chunks, and chunks that grow
/// while it stands in them.
#[test]
fn a_walk_crosses_chunks() {
    let disk = SimDisk::new(9);
    let backend = try_open(&disk, false).unwrap();
    let mut generator = Generator::new(9);
    let mut truth = Truth::default();
    for n in 0..4000 {
        backend.append(generator.batch());
        if n == 2000 {
            backend.commit().unwrap();
        }
    }
    truth.rows = generator.rows();
    truth.ever = generator.ever.clone();
    truth.until = generator.revision();
    let view = backend.snapshot();
    let mut walk = Walk::new(&backend, &truth, &mut generator.dice);
    walk.go(100);
    (0..500).for_each(|_| backend.append(generator.batch()));
    let count = truth.rows.range(walk.from..).filter(|(r, _)| r.main <= walk.of.until).count();
    while walk.go(1) {}
    assert!(walk.seen.len() >= count, "{} of {count}", walk.seen.len());
    let mut rows = view.rows(Revision::default(), truth.until).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(row) = rows.next().unwrap() {
        assert!(seen.insert(row.revision));
    }
    let missing: Vec<_> = truth.rows.keys().filter(|revision| !seen.contains(revision)).collect();
    assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), truth.rows.len());
}
