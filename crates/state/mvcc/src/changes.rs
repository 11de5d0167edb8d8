//! Creations and deletions of late, so that a count at an older revision costs what
//! has changed since, not what there is.

use std::sync::Arc;

use mainstay_types::KeyRange;

/// Creations and deletions remembered; a count further back walks the range.
const REMEMBERED: usize = 64 * 1024;
/// Of which so many form a chunk, shared with views.
const CHUNK: usize = 1024;

#[derive(Clone, Debug)]
struct Entry {
    main: i64,
    created: bool,
    key: Box<[u8]>,
}

/// The newest creations and deletions, in order; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    chunks: Arc<Vec<Arc<Vec<Entry>>>>,
    newest: Arc<Vec<Entry>>,
    /// Every change after this main revision is here.
    since: i64,
}

impl Changes {
    /// Nothing is remembered from before `since`.
    pub(crate) fn new(since: i64) -> Changes {
        Changes { chunks: Arc::default(), newest: Arc::default(), since }
    }

    pub(crate) fn push(&mut self, main: i64, key: &[u8], created: bool) {
        let newest = Arc::make_mut(&mut self.newest);
        newest.push(Entry { main, created, key: key.into() });
        if newest.len() < CHUNK {
            return;
        }
        let full = std::mem::take(&mut self.newest);
        let chunks = Arc::make_mut(&mut self.chunks);
        chunks.push(full);
        if chunks.len() * CHUNK > REMEMBERED {
            let oldest = chunks.remove(0);
            // The dropped chunk may have cut a revision in two.
            self.since = oldest.last().map_or(self.since, |entry| entry.main);
        }
    }

    /// How many more live keys the range has now than at main revision `at`;
    /// `None` when that is further back than is remembered.
    pub(crate) fn growth_since(&self, at: i64, range: &KeyRange) -> Option<i64> {
        if at < self.since {
            return None;
        }
        let mut growth = 0;
        for chunk in std::iter::once(&self.newest).chain(self.chunks.iter().rev()) {
            let from = chunk.partition_point(|entry| entry.main <= at);
            for entry in chunk[from..].iter().filter(|entry| range.contains(&entry.key)) {
                growth += if entry.created { 1 } else { -1 };
            }
            if from > 0 {
                break;
            }
        }
        Some(growth)
    }
}
