//! Feeding watchers that lag: bounded slices, shared by watchers that need about
//! the same revisions, from the recent batches or through a read outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_types::limits::{
    WATCH_CATCHUP_BYTES_MAX, WATCH_CATCHUP_REVISIONS_MAX, WATCH_CATCHUP_WATCHERS_MAX,
    WATCH_HISTORY_READS_MAX,
};
use mainstay_types::{KeyRange, RangeEnd};

use crate::event::{EventBatch, Shared};
use crate::hub::{Choices, Hub, Phase, Port};
use crate::index::Index;
use crate::response::Body;

/// Names a read under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub(crate) u64);

/// A slice of history that the hub needs: read it from the newest view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRead {
    /// To be given back with the answer.
    pub id: ReadId,
    /// The keys.
    pub range: KeyRange,
    /// Events of these keys need the value before them.
    pub prev: Option<KeyRange>,
    /// The first revision.
    pub from: i64,
    /// Distinct revisions at most.
    pub revisions_max: usize,
    /// Bytes of key-values after which no further revision is begun.
    pub bytes_max: usize,
}

/// The answer to a [`HistoryRead`].
#[derive(Clone, Debug)]
pub struct HistorySlice {
    /// The batches with events in the range, by revision, each with all of them.
    pub batches: Vec<Arc<EventBatch>>,
    /// Every event of the range before this revision is in `batches`; later than
    /// the revision that the read began at.
    pub next_revision: i64,
    /// The revision of the view.
    pub at_revision: i64,
}

/// Why there is no slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Revisions below this one are gone.
    Compacted(i64),
    /// The disk failed; the watchers are cancelled with this reason.
    Failed(String),
}

/// Reads under way.
#[derive(Default)]
pub(crate) struct Reader {
    /// For which watchers (slot and serial) each read was started.
    under_way: BTreeMap<ReadId, Vec<(u32, u64)>>,
    /// Where the next choice begins: those who lag are served in sweeps.
    cursor: i64,
}

impl Hub {
    /// Does one bounded piece of work for watchers that lag. Answers whether there
    /// may be more to do now.
    pub fn work(&mut self, port: &mut dyn Port) -> bool {
        let Some(anchor) = self.choose_anchor() else { return false };
        let members = self.take_ready(anchor);
        if members.is_empty() {
            return true;
        }
        if self.recent.oldest().is_some_and(|oldest| oldest <= anchor) {
            let mut recent = std::mem::take(&mut self.recent);
            let slice = recent.slice(anchor);
            let next = anchor + slice.len() as i64;
            self.serve(&members, slice, next, self.revision, port);
            self.recent = recent;
            self.trim_recent();
        } else {
            self.start_read(anchor, &members, port);
        }
        true
    }

    /// The answer to a [`HistoryRead`]. Answers for watchers that are gone are dropped.
    pub fn history_done(
        &mut self,
        id: ReadId,
        result: Result<HistorySlice, HistoryError>,
        port: &mut dyn Port,
    ) {
        let members = self.reader.under_way.remove(&id).expect("each read is answered once");
        let still = members.iter().filter(|&&(ix, serial)| self.still_reads(ix, serial));
        let members: Vec<u32> = still.map(|&(ix, _)| ix).collect();
        match result {
            Ok(slice) => {
                let HistorySlice { batches, next_revision, at_revision } = slice;
                let mut batches: Vec<Shared> = batches.into_iter().map(Shared::read).collect();
                self.serve(&members, &mut batches, next_revision, at_revision, port);
            }
            Err(HistoryError::Compacted(revision)) => {
                self.compacted(revision, port);
                for ix in members {
                    if self.watcher(ix).phase == Phase::Reading {
                        self.settle(ix, port);
                    }
                }
            }
            Err(HistoryError::Failed(reason)) => {
                for ix in members {
                    let body = Body::Failed(reason.clone().into());
                    self.kill(ix, self.store_revision, body, port);
                }
            }
        }
        self.trim_recent();
    }

    /// The revision to serve next: that of the next watcher in the sweep that can be
    /// served now.
    fn choose_anchor(&self) -> Option<i64> {
        let floor = if self.reader.under_way.len() < WATCH_HISTORY_READS_MAX {
            i64::MIN
        } else {
            self.recent.oldest()?
        };
        let from = |revision: i64| self.ready.range((revision, 0)..).next();
        from(floor.max(self.reader.cursor)).or_else(|| from(floor)).map(|&(next, _)| next)
    }

    /// Takes the watchers that one slice from `anchor` helps.
    fn take_ready(&mut self, anchor: i64) -> Vec<u32> {
        let end = anchor.saturating_add(WATCH_CATCHUP_REVISIONS_MAX as i64);
        let ready = self.ready.range((anchor, 0)..(end, 0));
        let chosen: Vec<(i64, u32)> = ready.take(WATCH_CATCHUP_WATCHERS_MAX).copied().collect();
        let mut members = Vec::with_capacity(chosen.len());
        for (next, ix) in chosen {
            self.reader.cursor = next;
            self.detach(ix);
            if self.streams[&self.watcher(ix).stream].paused {
                self.wait(ix);
            } else {
                members.push(ix);
            }
        }
        members
    }

    fn start_read(&mut self, from: i64, members: &[u32], port: &mut dyn Port) {
        let id = self.new_read_id();
        let all = members.iter().map(|&ix| self.watcher(ix));
        let range = hull(all.clone().map(|watcher| &watcher.range));
        let prev =
            hull(all.clone().filter(|watcher| watcher.prev_kv).map(|watcher| &watcher.range));
        let range = range.expect("a read is for somebody");
        let under_way = members.iter().map(|&ix| (ix, self.watcher(ix).serial)).collect();
        self.reader.under_way.insert(id, under_way);
        port.read(HistoryRead {
            id,
            range,
            prev,
            from,
            revisions_max: WATCH_CATCHUP_REVISIONS_MAX,
            bytes_max: WATCH_CATCHUP_BYTES_MAX,
        });
    }

    /// Gives watchers what they have not had of `batches`, which hold everything
    /// before revision `next` that concerns them, and settles them.
    fn serve(
        &mut self,
        members: &[u32],
        batches: &mut [Shared],
        next: i64,
        revision: i64,
        port: &mut dyn Port,
    ) {
        let mut index = Index::default();
        for &ix in members {
            assert!(self.watcher(ix).next >= 0 && next > 0, "revisions are positive");
            index.add(&self.watcher(ix).range, ix);
        }
        let mut touched = Vec::new();
        for (b, shared) in batches.iter().enumerate() {
            for (e, event) in shared.batch.events.iter().enumerate() {
                index.concerned(&event.key, |number, group| {
                    if group.hits.is_empty() {
                        touched.push(number);
                    }
                    group.hits.push((b as u32, e as u32));
                });
            }
        }
        for number in touched {
            let group = index.group(number);
            let mut choices = Choices::default();
            for &ix in &group.members {
                let want = self.watcher(ix).want(self.watcher(ix).next);
                let events = match choices.get(want, &group.hits, batches, port) {
                    Ok(Some(events)) => events,
                    Ok(None) => continue,
                    Err(why) => {
                        self.kill(ix, self.store_revision, Body::Failed(why.into()), port);
                        continue;
                    }
                };
                if !self.offer_events(ix, revision, events, port) {
                    self.wait(ix);
                }
            }
        }
        for &ix in members {
            if self.watcher(ix).phase == Phase::Reading {
                let watcher = self.watcher_mut(ix);
                watcher.next = watcher.next.max(next);
                self.settle(ix, port);
            }
        }
    }
}

/// The smallest range that holds all of these; `None` of none.
fn hull<'a>(ranges: impl Iterator<Item = &'a KeyRange>) -> Option<KeyRange> {
    let mut hull: Option<KeyRange> = None;
    for range in ranges {
        let Some(so_far) = &mut hull else {
            hull = Some(range.clone());
            continue;
        };
        if so_far == range {
            continue;
        }
        if range.start < so_far.start {
            let single = so_far.end == RangeEnd::Single;
            let old = std::mem::replace(&mut so_far.start, range.start.clone());
            if single {
                so_far.end = end_of(&KeyRange::single(old));
            }
        } else {
            so_far.end = end_of(so_far);
        }
        so_far.end = match (so_far.end.clone(), end_of(range)) {
            (RangeEnd::Before(a), RangeEnd::Before(b)) => RangeEnd::Before(a.max(b)),
            _ => RangeEnd::Unbounded,
        };
    }
    hull
}

/// Where a range ends, a single key's being the next key.
fn end_of(range: &KeyRange) -> RangeEnd {
    if range.end != RangeEnd::Single {
        return range.end.clone();
    }
    let mut next = range.start.to_vec();
    next.push(0);
    RangeEnd::Before(next.into())
}
