//! What the index knows of one key: its newest change, and the older ones behind it.

use std::sync::Arc;

use mainstay_types::Revision;

/// One change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) modified: Revision,
    /// Main revision of the put that created the key; 0 for a deletion.
    pub(crate) created: i64,
    /// Puts since creation; 0 for a deletion.
    pub(crate) version: i64,
}

impl Change {
    pub(crate) fn is_live(&self) -> bool {
        self.version > 0
    }

    fn found(&self) -> Option<Found> {
        self.is_live().then_some(Found {
            modified: self.modified,
            created: self.created,
            version: self.version,
        })
    }
}

/// A key that exists at some revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its last change.
    pub modified: Revision,
    /// Main revision of its creation.
    pub created: i64,
    /// Changes since then, the creation included.
    pub version: i64,
}

/// All changes of a key, the newest first.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) newest: Change,
    older: Option<Arc<Older>>,
}

#[derive(Debug)]
struct Older {
    change: Change,
    next: Option<Arc<Older>>,
}

impl Drop for Older {
    /// A long chain is taken apart in a loop: dropping it by recursion would
    /// exhaust the stack.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(older) = next.and_then(Arc::into_inner).as_mut() {
            next = older.next.take();
        }
    }
}

impl Item {
    /// A key's first known change.
    pub(crate) fn new(change: Change) -> Item {
        Item { newest: change, older: None }
    }

    /// Adds a newer change.
    pub(crate) fn push(&mut self, change: Change) {
        assert!(change.modified > self.newest.modified, "revisions ascend");
        let next = self.older.take();
        self.older = Some(Arc::new(Older { change: self.newest, next }));
        self.newest = change;
    }

    /// The key at main revision `at`.
    pub(crate) fn at(&self, at: i64) -> Option<Found> {
        self.changes().find(|c| c.modified.main <= at)?.found()
    }

    /// The key now.
    pub(crate) fn now(&self) -> Option<Found> {
        self.newest.found()
    }

    /// The change that counts in a hash over a compaction at `at`. None for a key that
    /// a transaction at exactly `at` deleted, even when it put it again: etcd looks no
    /// further than the generation that ends there. Only a delete up to the last key
    /// gets past its check of overlaps to such a put.
    pub(crate) fn hashed(&self, at: i64) -> Option<Revision> {
        let newest = self.at(at)?.modified;
        let in_last = self.changes().skip_while(|c| c.modified.main > at);
        let deleted = in_last.take_while(|c| c.modified.main == at).any(|c| !c.is_live());
        (!deleted).then_some(newest)
    }

    /// Main revision of the last creation or deletion.
    pub(crate) fn changed(&self) -> i64 {
        if self.newest.is_live() { self.newest.created } else { self.newest.modified.main }
    }

    /// Whether compaction may have something to do.
    pub(crate) fn has_past(&self) -> bool {
        self.older.is_some() || !self.newest.is_live()
    }

    fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let mut next = self.older.as_deref();
        std::iter::once(self.newest).chain(std::iter::from_fn(move || {
            let older = next?;
            next = older.next.as_deref();
            Some(older.change)
        }))
    }

    /// Drops what nobody can ask for after a compaction at `at` (disk.md 5.2): keeps
    /// the newest change at or below it, unless that is a deletion below it, and
    /// deletions at it, which watchers from there are told and hashes ask for. Tells
    /// `gone` each change dropped. Answers whether anything is left.
    pub(crate) fn compact(&mut self, at: i64, gone: &mut impl FnMut(Change)) -> bool {
        let mut kept: Vec<Change> = Vec::new();
        let mut reached = false;
        for change in self.changes() {
            if change.modified.main > at {
                kept.push(change);
                continue;
            }
            let stays = match change.is_live() {
                true => !reached,
                false => change.modified.main == at,
            };
            reached = true;
            if stays {
                kept.push(change);
            } else {
                gone(change);
            }
        }
        let mut rebuilt: Option<Arc<Older>> = None;
        let Some((newest, older)) = kept.split_first() else { return false };
        for change in older.iter().rev() {
            rebuilt = Some(Arc::new(Older { change: *change, next: rebuilt }));
        }
        *self = Item { newest: *newest, older: rebuilt };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(main: i64, created: i64, version: i64) -> Change {
        Change { modified: Revision::new(main, 0), created, version }
    }

    fn deletion(main: i64) -> Change {
        put(main, 0, 0)
    }

    fn item() -> Item {
        let mut item = Item::new(put(2, 2, 1));
        item.push(put(4, 2, 2));
        item.push(deletion(6));
        item.push(put(8, 8, 1));
        item
    }

    #[test]
    fn a_key_is_found_as_it_was() {
        let at = |n| item().at(n).map(|f| (f.modified.main, f.created, f.version));
        assert_eq!(at(1), None);
        assert_eq!(at(3), Some((2, 2, 1)));
        assert_eq!(at(5), Some((4, 2, 2)));
        assert_eq!(at(7), None);
        assert_eq!(at(9), Some((8, 8, 1)));
    }

    /// disk.md 5.2: the newest at or below the revision stays, unless it is a
    /// deletion below it; a deletion at exactly the revision stays (3.5.16).
    #[test]
    fn compaction_keeps_what_can_be_asked_for() {
        for (revision, dropped, left) in [
            (3, vec![], true),
            (4, vec![2], true),
            (6, vec![4, 2], true),
            (7, vec![6, 4, 2], true),
            (8, vec![6, 4, 2], true),
        ] {
            let mut compacted = item();
            let mut gone = Vec::new();
            assert_eq!(compacted.compact(revision, &mut |c| gone.push(c.modified.main)), left);
            assert_eq!(gone, dropped, "at {revision}");
            for at in revision..10 {
                assert_eq!(
                    compacted.at(at),
                    item().at(at),
                    "compacted at {revision}, read at {at}"
                );
            }
        }
        let mut dead = Item::new(put(2, 2, 1));
        dead.push(deletion(3));
        assert!(dead.clone().compact(3, &mut |_| {}), "a deletion at the revision stays");
        assert!(!dead.compact(4, &mut |_| {}), "below it nothing is left");
    }

    /// Etcd 3.5.16 answered HashKV so: a key that is deleted and put in one transaction
    /// is not among those that a compaction there would keep.
    #[test]
    fn a_key_deleted_and_put_in_one_transaction_is_not_hashed_as_kept() {
        let sub = |main, sub, version| Change {
            modified: Revision::new(main, sub),
            created: if version > 0 { main } else { 0 },
            version,
        };
        let mut item = Item::new(put(2, 2, 1));
        item.push(sub(5, 6, 0));
        item.push(sub(5, 21, 1));
        item.push(put(7, 5, 2));
        for compacted in [None, Some(5)] {
            let mut item = item.clone();
            let mut gone = Vec::new();
            if let Some(at) = compacted {
                assert!(item.compact(at, &mut |c| gone.push(c.modified.main)));
                assert_eq!(gone, [2], "the deletion at the revision stays beside the put");
            } else {
                assert_eq!(item.hashed(4), Some(Revision::new(2, 0)));
            }
            assert_eq!(item.hashed(5), None);
            assert_eq!(item.hashed(6), Some(Revision::new(5, 21)));
            assert_eq!(item.hashed(7), Some(Revision::new(7, 0)));
        }
    }

    #[test]
    fn a_long_past_is_dropped_without_recursion() {
        let mut item = Item::new(put(1, 1, 1));
        (2..200_000).for_each(|n| item.push(put(n, 1, n)));
        drop(item);
    }
}
