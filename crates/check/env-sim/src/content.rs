//! One file's bytes: what programs see, what the disk holds, and what lies between.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use mainstay_env::Dice;

use crate::dice::SimDice;
use crate::pages::{PAGE, Page, Pages};

/// Smallest piece that a real disk writes atomically.
const SECTOR: u64 = 512;

/// What a crash does to everything that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// All of it is on the disk, as if the system had written it back in time.
    Kept,
    /// None of it is.
    Lost,
    /// What was done first is there up to some point, where one write may be torn.
    Ordered,
    /// Each block of 512 or 4096 bytes is there as it was at some moment of its
    /// own, so each write is kept, lost or torn; lengths and names go in order.
    Scattered,
}

impl Unsynced {
    /// All ways.
    pub const ALL: [Unsynced; 4] =
        [Unsynced::Kept, Unsynced::Lost, Unsynced::Ordered, Unsynced::Scattered];

    /// One of the ways, each equally likely.
    pub fn any(dice: &mut SimDice) -> Unsynced {
        Unsynced::ALL[dice.below(4) as usize]
    }
}

/// A change of a file that was not synced yet.
#[derive(Clone, Debug)]
enum Change {
    Write {
        at: u64,
        bytes: Arc<[u8]>,
    },
    /// A write of whole pages, from this one on.
    Pages {
        first: u64,
        pages: Vec<Arc<Page>>,
    },
    Len(u64),
}

impl Change {
    /// The pieces of a write, in order, and where each begins.
    fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let some = match self {
            Change::Write { at, bytes } => Some((*at, &**bytes)),
            Change::Pages { .. } | Change::Len(_) => None,
        };
        let whole: &[Arc<Page>] = if let Change::Pages { pages, .. } = self { pages } else { &[] };
        let first = if let Change::Pages { first, .. } = self { *first } else { 0 };
        let whole = (first..).zip(whole).map(|(page, bytes)| (page * PAGE, bytes.as_slice()));
        some.into_iter().chain(whole)
    }
}

/// The bytes of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// What a reader sees.
    pub(crate) live: Pages,
    /// What a crash cannot take away.
    durable: Pages,
    /// What was done to `durable` to make `live`, in order.
    pending: Vec<Change>,
}

impl Content {
    /// A file that is safe on the disk.
    pub(crate) fn synced(bytes: Pages) -> Content {
        Content { live: bytes.clone(), durable: bytes, ..Content::default() }
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.pending.push(match self.live.write(at, bytes) {
            Some(pages) => Change::Pages { first: at / PAGE, pages },
            None => Change::Write { at, bytes: bytes.into() },
        });
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        let old = self.live.len();
        if len == old {
            return;
        }
        self.live.set_len(len);
        self.pending.push(Change::Len(len));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { at, bytes } => {
                    self.durable.write(at, &bytes);
                }
                Change::Pages { first, pages } => self.durable.take(first, pages),
                Change::Len(len) => self.durable.set_len(len),
            }
        }
    }

    /// A sync that failed: what was pending may be on the disk or not, and no
    /// later sync will write it, because the system takes it for clean.
    pub(crate) fn fail_sync(&mut self, dice: &mut SimDice) {
        self.durable = self.after_crash(Unsynced::any(dice), dice);
        self.pending.clear();
    }

    /// Flips a bit of a byte that must lie within the file.
    pub(crate) fn flip(&mut self, at: u64, bit: u8) {
        for pages in [&mut self.live, &mut self.durable] {
            let mut byte = [0];
            if pages.read(at, &mut byte) == 1 {
                pages.write(at, &[byte[0] ^ (1 << bit)]);
            }
        }
    }

    /// What the next boot finds.
    pub(crate) fn after_crash(&self, way: Unsynced, dice: &mut SimDice) -> Pages {
        let mut disk = self.durable.clone();
        let all = self.pending.len();
        // Up to here the file's length followed. Data may be on the disk without
        // the length that makes it visible, and a length without the data.
        let lengths = match way {
            Unsynced::Kept => all,
            Unsynced::Lost => return disk,
            Unsynced::Ordered | Unsynced::Scattered => dice.below(all as u64 + 1) as usize,
        };
        let mut fates = match way {
            Unsynced::Scattered => Fates::scattered(all, dice),
            _ => Fates::ordered(lengths, dice),
        };
        for (position, change) in self.pending.iter().enumerate() {
            match change {
                Change::Len(len) if position < lengths => disk.set_len(*len),
                // A cut frees blocks; what came after it went to other ones.
                Change::Len(len) if *len < disk.len() => break,
                Change::Len(_) => {}
                Change::Write { .. } | Change::Pages { .. } => {
                    if position < lengths {
                        let end = change.pieces().map(|(at, bytes)| at + bytes.len() as u64).max();
                        disk.set_len(disk.len().max(end.unwrap_or_default()));
                    }
                    for (at, bytes) in change.pieces() {
                        let room = disk.len().saturating_sub(at).min(bytes.len() as u64) as usize;
                        fates.write(position, &mut disk, at, &bytes[..room], dice);
                    }
                }
            }
        }
        disk
    }
}

/// Which version of each block of a file is on the disk. A program's write is
/// copied into the system's cache from front to back, and a block that is
/// written out is a copy of the cache at some moment: so a block holds the
/// writes up to some position and, of the next one, perhaps the first bytes.
struct Fates {
    /// Bytes of a block that is written as one.
    block: u64,
    /// Changes that could be on the disk.
    all: usize,
    /// Whether the blocks differ.
    scattered: bool,
    /// How many changes each block has, and whether the next one is there in part.
    blocks: BTreeMap<u64, (usize, bool)>,
}

impl Fates {
    /// Every block on its own.
    fn scattered(all: usize, dice: &mut SimDice) -> Fates {
        let block = if dice.one_in(2) { SECTOR } else { PAGE };
        Fates { block, all, scattered: true, blocks: BTreeMap::new() }
    }

    /// All changes before `all`, and the blocks of that one on their own.
    fn ordered(all: usize, dice: &mut SimDice) -> Fates {
        Fates { scattered: false, ..Fates::scattered(all, dice) }
    }

    fn of(&mut self, block: u64, dice: &mut SimDice) -> (usize, bool) {
        let (all, scattered) = (self.all, self.scattered);
        *self.blocks.entry(block).or_insert_with(|| {
            let versions = all as u64 + 1;
            match dice.below(4) {
                0 if scattered => (0, false),
                0 | 1 => (all, false),
                2 if scattered => (dice.below(versions) as usize, true),
                2 => (all, true),
                _ if scattered => (dice.below(versions) as usize, false),
                _ => (all + 1, false),
            }
        })
    }

    /// Writes what survived of the change at `position`.
    fn write(
        &mut self,
        position: usize,
        disk: &mut Pages,
        at: u64,
        bytes: &[u8],
        dice: &mut SimDice,
    ) {
        for range in blocks(at, bytes.len(), self.block) {
            let start = at + range.start as u64;
            let (changes, torn) = self.of(start / self.block, dice);
            let piece = &bytes[range];
            if position < changes {
                disk.write(start, piece);
            } else if position == changes && torn {
                disk.write(start, &piece[..dice.below(piece.len() as u64 + 1) as usize]);
            }
        }
    }
}

/// Splits `len` bytes at `at` where blocks of the disk begin.
fn blocks(at: u64, len: usize, size: u64) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == len {
            return None;
        }
        let room = size - (at + start as u64) % size;
        let block = start..len.min(start + room as usize);
        start = block.end;
        Some(block)
    })
}
