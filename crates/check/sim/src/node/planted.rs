//! Where the planted bugs take hold. Nothing happens here without one.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_backend::{Batch, Bucket, meta};
use mainstay_bolt::{Bolt, Options, WriteBatch};
use mainstay_env::{Disk, OpenMode};
use mainstay_member::Input;
use mainstay_raft::{ConfChange, Entry, EntryKind, Message, MessageKind, Role, Status};
use mainstay_types::{Index, MemberId};
use mainstay_wal::Replay;

use super::boot::{db_path, received_db, snap_dir};
use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::ops::Request;
use crate::plan::SECOND;

impl Life {
    pub(super) fn planted_at_append(&mut self, ctx: &Ctx, entries: &[Entry]) {
        if !ctx.has(Bug::ConfAtAppend) {
            return;
        }
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
            let change = ConfChange::decode(&entry.data).expect("a change");
            self.mind.feed(Input::ConfChangeApplied(change));
        }
    }

    pub(super) fn planted_at_proposal(&mut self, ctx: &mut Ctx, request: &Request) {
        if ctx.has(Bug::ProposedTwice) {
            let again = NodeEvent::Again(Box::new(request.clone()));
            self.after(ctx, 2 * SECOND, again);
        }
    }

    pub(super) fn planted_at_rows(&mut self, ctx: &mut Ctx, batch: &Batch) -> Result<(), Death> {
        if !ctx.has(Bug::IndexBeforeRows) {
            return Ok(());
        }
        self.machine.backend().append(Batch::new(batch.applied()));
        if ctx.faults && ctx.dice.one_in(100) {
            self.commit(ctx)?;
            self.sim.cut();
            return Err(Death::Disk("the power goes between the index and its rows".into()));
        }
        Ok(())
    }

    /// Leaders that take entries for committed too early tell their followers so.
    pub(super) fn planted_in_message(&self, ctx: &mut Ctx, message: &mut Message) {
        let bends = [Bug::CommitOfOldTerm, Bug::LearnerCounts, Bug::HalfIsEnough];
        if !bends.into_iter().any(|bug| ctx.has(bug)) || !self.leads() {
            return;
        }
        let reached = self.reached(ctx);
        if reached <= self.mind.status().commit {
            return;
        }
        ctx.stats.count("planted: committed too early");
        match message.kind {
            MessageKind::App => message.commit = message.commit.max(reached),
            MessageKind::Heartbeat => {
                let matched = self.matched(message.to).min(reached);
                message.commit = message.commit.max(matched);
            }
            _ => {}
        }
    }

    /// A leader that counts entries of older terms takes them for committed itself.
    pub(super) fn planted_commit(&self, ctx: &mut Ctx, status: &Status) {
        if !ctx.has(Bug::CommitOfOldTerm) || status.role != Role::Leader {
            return;
        }
        let reached = self.reached(ctx);
        if reached > status.commit {
            ctx.judge.raft.committed(
                &self.mind,
                &Status { commit: reached, ..*status },
                status.commit,
            );
        }
    }

    fn matched(&self, id: MemberId) -> Index {
        self.mind.peers().iter().find(|peer| peer.id == id).map_or(Index(0), |peer| peer.matched)
    }

    /// What the bug takes for committed.
    fn reached(&self, ctx: &Ctx) -> Index {
        let status = self.mind.status();
        assert!(status.role == Role::Leader, "only a leader counts");
        let peers = self.mind.peers();
        let voters = peers.iter().filter(|peer| !peer.is_learner).count();
        let learners_count = ctx.has(Bug::LearnerCounts);
        let counted = peers.iter().filter(|peer| learners_count || !peer.is_learner);
        let mut matched: Vec<Index> = counted.map(|peer| peer.matched).collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let quorum = voters / 2 + 1;
        let enough = if ctx.has(Bug::HalfIsEnough) { quorum - 1 } else { quorum };
        let reached = matched.get(enough.max(1) - 1).copied().unwrap_or_default();
        let own_term = self.mind.entry_term(reached) == Some(status.term);
        if own_term || ctx.has(Bug::CommitOfOldTerm) { reached } else { Index(0) }
    }
}

/// What a start reads wrongly.
pub(super) fn at_boot(disk: &Arc<dyn Disk>, ctx: &Ctx, from: Index, replay: &mut Replay) {
    if ctx.has(Bug::VoteForgotten) {
        replay.hard_state.vote = MemberId::NONE;
    }
    if ctx.has(Bug::TailCut) && replay.entries.len() > 1 {
        replay.entries.pop();
        let last = replay.entries.last().map_or(from, |entry| entry.index);
        replay.hard_state.commit = replay.hard_state.commit.min(last);
    }
    if ctx.has(Bug::AppliedTwice) {
        lower_applied(&**disk, from);
    }
}

/// The index in the db falls behind its rows.
fn lower_applied(disk: &dyn Disk, from: Index) {
    let Ok(mut bolt) = Bolt::open(disk, &db_path(), Options::default()) else { return };
    let name = Bucket::Meta.name();
    let Ok(Some(value)) = bolt.reader().get(name, meta::CONSISTENT_INDEX) else { return };
    let Ok(bytes) = <[u8; 8]>::try_from(value.as_ref()) else { return };
    let applied = u64::from_be_bytes(bytes);
    if applied <= from.0 + 8 {
        return;
    }
    let mut batch = WriteBatch::new();
    let lower = Bytes::copy_from_slice(&(applied - 1).to_be_bytes());
    batch.put(name, Bytes::from_static(meta::CONSISTENT_INDEX), lower);
    // A disk that fails here fails again right away.
    let _ = bolt.commit(batch);
}

/// Changes in the log that take effect before they are applied.
pub(super) fn changes_at_boot(ctx: &Ctx, entries: &[Entry]) -> Vec<Entry> {
    if !ctx.has(Bug::ConfAtAppend) {
        return Vec::new();
    }
    entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange).cloned().collect()
}

/// The change in an entry.
pub(super) fn change_of(entry: &Entry) -> Option<ConfChange> {
    ConfChange::decode(&entry.data).ok()
}

/// Puts a received db in the place of the db.
pub(super) fn rename_received(disk: &dyn Disk, index: Index) -> std::io::Result<()> {
    disk.rename(&received_db(index), &db_path())?;
    disk.sync_dir(&snap_dir())
}

/// Writes a received db, but does not sync it.
pub(super) fn receive_unsynced(disk: &dyn Disk, index: Index, db: &[u8]) -> std::io::Result<()> {
    let temporary = snap_dir().join("tmp.received");
    // What an earlier transfer has left.
    let _ = disk.remove_file(&temporary);
    disk.open(&temporary, OpenMode::CreateNew)?.write_at(0, db)?;
    disk.rename(&temporary, &received_db(index))?;
    disk.sync_dir(&snap_dir())
}
