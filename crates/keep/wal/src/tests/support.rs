//! What several tests need.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_env::{Dice, Disk};
use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_raft::{ConfState, Entry, EntryKind, HardState};
use mainstay_types::{ClusterId, Index, MemberId, Term};

use crate::{Metadata, Replay, SnapshotMark, Wal, WalError, WalOptions};

pub(super) const METADATA: Metadata =
    Metadata { member: MemberId(0x8e9e_05c5_2164_694d), cluster: ClusterId(0xcdf8_181e_3277_5d31) };

pub(super) fn dir() -> &'static Path {
    Path::new("/data/member/wal")
}

pub(super) fn entry(term: u64, index: u64, data: impl Into<Bytes>) -> Entry {
    Entry { term: Term(term), index: Index(index), kind: EntryKind::Normal, data: data.into() }
}

pub(super) fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: MemberId(vote), commit: Index(commit) }
}

pub(super) fn mark(term: u64, index: u64) -> SnapshotMark {
    let voters = vec![MemberId(1), MemberId(u64::MAX)];
    let conf_state = Some(ConfState { voters, ..ConfState::default() });
    SnapshotMark { index: Index(index), term: Term(term), conf_state }
}

pub(super) fn small_segments(bytes: u64) -> WalOptions {
    WalOptions { segment_bytes: bytes, sync: true }
}

pub(super) fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(super) fn create(disk: &SimDisk, options: WalOptions) -> Wal {
    Wal::create_with(shared(disk), dir(), METADATA, options).unwrap()
}

pub(super) fn open(
    disk: &SimDisk,
    from: &SnapshotMark,
    options: WalOptions,
) -> Result<(Wal, Replay), WalError> {
    Wal::open_with(shared(disk), dir(), from, options)
}

/// The path of the last segment.
pub(super) fn last_segment(disk: &SimDisk) -> String {
    let mut paths = disk.paths();
    paths.retain(|path| path.ends_with(".wal"));
    paths.pop().unwrap()
}

/// Data of up to `max` bytes that ends like real data may: also with zeros.
pub(super) fn data(dice: &mut SimDice, max: u64) -> Bytes {
    let len = dice.below(max + 1) as usize;
    let mut bytes: Vec<u8> = (0..len).map(|_| dice.roll() as u8).collect();
    if dice.one_in(8) {
        let zeros = dice.below(len as u64 + 1) as usize;
        bytes[len - zeros..].fill(0);
    }
    bytes.into()
}
