//! Snapshots between members: made from the committed db, received, taken over.

use std::sync::Arc;

use mainstay_apply::{CommittedState, committed_state};
use mainstay_driver::IncomingDb;
use mainstay_env::Dice as _;
use mainstay_member::Input;
use mainstay_raft::{Message, Snapshot};
use mainstay_types::{Index, MemberId};
use mainstay_wal::snap;

use super::boot::{open_machine, received_db, snap_dir};
use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::plan::MS;

/// The state's frame at an index, as a `.snap` file holds it.
#[derive(Debug)]
pub(crate) struct StateAt {
    pub(crate) snapshot: Snapshot,
    /// The log knows of it already (a planted bug).
    pub(crate) recorded: bool,
}

/// Bytes of a piece of a db on its way.
const PIECE: usize = 16 * 1024;

impl Life {
    /// Everything in it comes from one committed reader.
    pub(super) fn make_snapshot(&mut self, ctx: &mut Ctx, to: MemberId) -> Result<(), Death> {
        let ahead = ctx.has(Bug::SnapshotAhead);
        if self.doubtful {
            return self.snapshot_outcome(ctx, to, false);
        }
        if !ahead && !self.commit(ctx)? {
            return self.snapshot_outcome(ctx, to, false);
        }
        let state = committed_state(self.machine.backend()).map_err(Death::disk)?;
        let CommittedState { mut snapshot, reader } = state;
        if ahead {
            (snapshot.index, snapshot.term) = self.machine.applied();
        }
        let copy = reader.copy();
        let mut bytes = vec![0; copy.len() as usize];
        copy.read_at(0, &mut bytes).map_err(Death::disk)?;
        ctx.tell(|| format!("{} makes a snapshot at {} for {to}", self.id, snapshot.index));
        self.sending.insert(to, Arc::from(bytes));
        self.mind.feed(Input::SnapshotReady { to, snapshot });
        self.turn(ctx)?;
        if self.sending.remove(&to).is_some() {
            // It was not needed any more.
            return self.snapshot_outcome(ctx, to, false);
        }
        Ok(())
    }

    /// The db of a snapshot is on the disk, synced and named, before raft hears of it;
    /// `false` when there is no room for it.
    pub(super) fn receive_db(
        &mut self,
        ctx: &mut Ctx,
        message: &Message,
        db: &[u8],
    ) -> Result<bool, Death> {
        let Some(snapshot) = &message.snapshot else { return Ok(false) };
        self.tempt_fate(ctx, 4, 30);
        let (disk, index) = (Arc::clone(&self.disk), snapshot.index);
        let written = if ctx.has(Bug::UnsyncedReceive) {
            super::planted::receive_unsynced(&*disk, index, db)
        } else {
            let serial = ctx.next_id();
            IncomingDb::create(disk, snap_dir(), index, serial).and_then(|mut file| {
                db.chunks(PIECE).try_for_each(|piece| file.write(piece))?;
                file.finish()
            })
        };
        let ok = match written {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => false,
            Err(error) => return Err(Death::disk(error)),
        };
        let outcome = NodeEvent::SnapshotOutcome { to: self.id, ok };
        let delay = MS + ctx.dice.below(ctx.plan.delay);
        ctx.at_node(delay, message.from, 0, outcome);
        Ok(ok)
    }

    /// The received db becomes the state: one constructor, no patching.
    pub(super) fn install(&mut self, ctx: &mut Ctx, index: Index) -> Result<(), Death> {
        self.tempt_fate(ctx, 4, 6);
        if ctx.has(Bug::RenameBeforeRecord) {
            self.machine = open_machine(&self.disk, &self.options).map_err(Death::disk)?;
        } else {
            self.machine.install(&received_db(index)).map_err(Death::disk)?;
        }
        self.db_is_whole = false;
        let applied = self.machine.applied().0;
        if !ctx.has(Bug::SnapshotAhead) {
            assert_eq!(applied, index, "a snapshot's db holds what the snapshot says");
        }
        ctx.tell(|| format!("{} installs the snapshot at {index}", self.id));
        ctx.stats.count("snapshots installed");
        self.view = self.machine.view();
        self.show_digest(ctx)?;
        self.wanted = None;
        self.timer = None;
        let view = Arc::clone(&self.view);
        if !ctx.has(Bug::WatchLostAtInstall) {
            self.watch_skips(ctx, view.revision());
        } else {
            self.watch.forget_until(view.revision());
        }
        if view.compact_revision() > 0 {
            self.watch_compacted(ctx, view.compact_revision());
        }
        // Only tidiness: what stays is removed next time.
        snap::purge_received(&*self.disk, &snap_dir(), index).map_err(Death::disk)?;
        self.mind.feed(Input::Applied(index));
        self.resume_compaction(ctx);
        self.answer_reads(ctx);
        Ok(())
    }
}
