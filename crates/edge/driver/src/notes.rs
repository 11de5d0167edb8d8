//! What the member's own threads tell the consensus thread.
//!
//! Unlike commands of clients and peers these must not get lost and must not wait: a
//! thread that waited here while the consensus thread waits for it would wait for ever.
//! So they have a list of their own, which needs no bound of its own: there is at most
//! one per applied change of the configuration, per snapshot and per follower that needs
//! one.

use std::sync::Arc;

use mainstay_raft::{ConfChange, Snapshot};
use mainstay_types::{Index, MemberId};
use parking_lot::Mutex;

use crate::transport::DbCopy;

/// Something that a thread of this member has done.
pub(crate) enum Note {
    /// A configuration change has been applied.
    ConfChanged(ConfChange),
    /// State up to `index` is in the backend and in a `.snap` file.
    SnapshotTaken {
        /// The last index it covers.
        index: Index,
    },
    /// A snapshot for a follower, with the file that belongs to it.
    SnapshotReady {
        /// Who needs it.
        to: MemberId,
        /// The state.
        snapshot: Snapshot,
        /// The db of the same moment.
        db: Arc<dyn DbCopy>,
    },
    /// A snapshot has reached a follower, or has not.
    SnapshotSent {
        /// Who needs it.
        to: MemberId,
        /// Whether it arrived.
        ok: bool,
    },
    /// A snapshot could not be made.
    SnapshotFailed {
        /// Who needs it.
        to: MemberId,
    },
}

/// The list. Whoever adds to it wakes the consensus thread afterwards.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<Note>>);

impl Notes {
    pub(crate) fn add(&self, note: Note) {
        self.0.lock().push(note);
    }

    /// Everything since the last call, in order.
    pub(crate) fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock())
    }
}
