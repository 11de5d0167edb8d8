//! Free pages: runs to write to, and pages that wait for their last reader.

use std::collections::{BTreeMap, BTreeSet};

use crate::pager::Live;

/// Lengths of free runs that are looked at for a low one.
const LENGTHS_MAX: usize = 64;

/// A run of pages that a commit stopped using.
#[derive(Clone, Copy, Debug)]
struct Freed {
    first: u64,
    pages: u64,
    /// Transaction that wrote it; 0 when that was before everyone who can still read.
    allocated: u64,
    /// First transaction that does not reach it.
    freed: u64,
}

/// The free pages of the file.
///
/// A page written by transaction A and dropped by F is reached by exactly the
/// snapshots of A to F-1. While one of those lives it waits, filed under one
/// such snapshot; else it may be written again (bbolt, `ReleasePendingPages`).
#[derive(Default)]
pub(crate) struct FreeList {
    /// Free runs: first page to number of pages; never two that touch.
    by_first: BTreeMap<u64, u64>,
    /// The same runs as (number of pages, first page).
    by_pages: BTreeSet<(u64, u64)>,
    /// The run that is being used up, taken out of both maps.
    current: Option<(u64, u64)>,
    free: u64,
    waiting: BTreeMap<u64, Vec<Freed>>,
    waiting_pages: u64,
    /// Who wrote the nodes that are younger than the oldest live snapshot.
    written: BTreeMap<u64, u64>,
    written_pruned_at: usize,
}

impl FreeList {
    /// Pages that no transaction from the current one on reaches.
    pub(crate) fn pages(&self) -> u64 {
        self.free + self.waiting_pages
    }

    /// Whether pages wait for a snapshot that is still read.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_pages > 0
    }

    /// Adds a run of free pages.
    pub(crate) fn add(&mut self, first: u64, pages: u64) {
        self.free += pages;
        self.insert(first, pages);
    }

    fn insert(&mut self, mut first: u64, mut pages: u64) {
        if let Some((&before, &n)) = self.by_first.range(..first).next_back()
            && before + n >= first
        {
            assert!(before + n == first, "page {first} is free already");
            self.remove(before, n);
            (first, pages) = (before, pages + n);
        }
        if let Some((&after, &n)) = self.by_first.range(first..).next()
            && first + pages >= after
        {
            assert!(first + pages == after, "page {after} is free already");
            self.remove(after, n);
            pages += n;
        }
        self.by_first.insert(first, pages);
        self.by_pages.insert((pages, first));
    }

    fn remove(&mut self, first: u64, pages: u64) {
        self.by_first.remove(&first);
        self.by_pages.remove(&(pages, first));
    }

    /// Takes a run of `pages` pages, or `None` when only new pages at the end will do. `low` asks
    /// for the lowest one instead of the one that is written fastest.
    ///
    /// The longest run is used up from its start, so that the pages of a commit
    /// lie side by side and are written together; a node that does not fit its
    /// rest takes the shortest run that is long enough.
    pub(crate) fn take(&mut self, pages: u64, low: bool) -> Option<u64> {
        if self.current.is_none() {
            let lowest = self.by_first.first_key_value().map(|(&first, &n)| (n, first));
            let longest = self.by_pages.last().copied();
            if let Some((n, first)) = if low { lowest } else { longest } {
                self.remove(first, n);
                self.current = Some((first, n));
            }
        }
        let (first, n) = self.current?;
        if n >= pages {
            self.current = (n > pages).then_some((first + pages, n - pages));
            self.free -= pages;
            return Some(first);
        }
        let (n, first) = if low { self.lowest(pages)? } else { self.shortest(pages)? };
        self.remove(first, n);
        if n > pages {
            self.by_first.insert(first + pages, n - pages);
            self.by_pages.insert((n - pages, first + pages));
        }
        self.free -= pages;
        Some(first)
    }

    /// The shortest run of at least so many pages: (pages, first page).
    fn shortest(&self, pages: u64) -> Option<(u64, u64)> {
        self.by_pages.range((pages, 0)..).next().copied()
    }

    /// The lowest run of at least so many pages, looked for among a few lengths only.
    fn lowest(&self, pages: u64) -> Option<(u64, u64)> {
        let mut found = self.shortest(pages)?;
        let mut length = found.0;
        for _ in 0..LENGTHS_MAX {
            let Some((n, first)) = self.shortest(length + 1) else { break };
            if first < found.1 {
                found = (n, first);
            }
            length = n;
        }
        Some(found)
    }

    /// Whether so many free pages lie side by side and begin before page `id`.
    pub(crate) fn has_below(&self, pages: u64, id: u64) -> bool {
        self.lowest(pages).is_some_and(|(_, first)| first < id)
    }

    /// Where the free pages begin that lie side by side before `high_water`; that itself when
    /// there are none.
    pub(crate) fn tail(&self, high_water: u64) -> u64 {
        match self.by_first.range(..high_water).next_back() {
            Some((&first, &pages)) if first + pages == high_water => first,
            _ => high_water,
        }
    }

    /// [`FreeList::tail`] once nobody reads any more what waits.
    pub(crate) fn tail_to_come(&self, high_water: u64) -> u64 {
        let waiting: BTreeMap<u64, u64> =
            self.waiting.values().flatten().map(|run| (run.first + run.pages, run.first)).collect();
        let mut end = high_water;
        loop {
            let before = end;
            end = self.tail(waiting.get(&end).copied().unwrap_or(end));
            if end == before {
                return end;
            }
        }
    }

    /// Forgets the free pages from `end` on, where nothing else lies.
    pub(crate) fn cut(&mut self, end: u64) {
        let Some((&first, &pages)) = self.by_first.last_key_value() else { return };
        assert!(first <= end && end <= first + pages, "only free pages are cut off");
        self.remove(first, pages);
        self.free -= pages;
        if first < end {
            self.add(first, end - first);
        }
    }

    /// Puts the unused rest of the run in use back; called at the end of each commit.
    pub(crate) fn settle(&mut self) {
        if let Some((first, pages)) = self.current.take() {
            self.insert(first, pages);
        }
    }

    /// Lets go of what no live snapshot reaches; `evict` is told of each run that becomes free.
    pub(crate) fn release(&mut self, live: &Live, mut evict: impl FnMut(u64, u64)) {
        let gone: Vec<u64> =
            self.waiting.keys().filter(|txid| !live.contains_key(txid)).copied().collect();
        for txid in gone {
            for run in self.waiting.remove(&txid).unwrap_or_default() {
                if let Some(blocker) = blocker(live, run) {
                    self.waiting.entry(blocker).or_default().push(run);
                } else {
                    self.waiting_pages -= run.pages;
                    evict(run.first, run.pages);
                    self.add(run.first, run.pages);
                }
            }
        }
        self.prune_written(live);
    }

    /// What was written at or before the oldest live snapshot counts as written before everyone.
    fn prune_written(&mut self, live: &Live) {
        let oldest = live.keys().next().copied().unwrap_or(u64::MAX);
        if self.written.len() >= self.written_pruned_at {
            self.written.retain(|_, txid| *txid > oldest);
            // Doubling keeps the total work linear while an old snapshot keeps entries alive.
            self.written_pruned_at = self.written.len() * 2;
        }
    }

    /// Enters what transaction `txid` wrote and stopped using, once it is durable.
    /// `written` and `freed` are (first page, pages).
    pub(crate) fn committed(
        &mut self,
        txid: u64,
        live: &Live,
        written: &[(u64, u64)],
        freed: &[(u64, u64)],
    ) {
        for &(first, pages) in freed {
            let allocated = self.written.remove(&first).unwrap_or(0);
            let run = Freed { first, pages, allocated, freed: txid };
            // The snapshot before this commit is still live: whoever can read the page is known.
            let blocker = blocker(live, run).unwrap_or(txid - 1);
            self.waiting.entry(blocker).or_default().push(run);
            self.waiting_pages += pages;
        }
        self.written.extend(written.iter().map(|&(first, _)| (first, txid)));
    }

    /// All free and waiting runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let waiting = self.waiting.values().flatten().map(|run| (run.first, run.pages));
        self.by_first.iter().map(|(&first, &pages)| (first, pages)).chain(waiting)
    }
}

/// The oldest live snapshot that reaches the run.
fn blocker(live: &Live, run: Freed) -> Option<u64> {
    live.range(run.allocated..run.freed).next().map(|(&txid, _)| txid)
}

#[cfg(test)]
mod tests;
