//! What the log of a member that is mended says, and how it goes on from another db.

use std::sync::Arc;

use mainstay_env::Disk;
use mainstay_membership::{Member, V2Snapshot};
use mainstay_raft::{ConfChangeKind, ConfChangeV2, Entry, HardState, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::{SnapshotMark, Wal, WalOptions, snap};

use super::Place;
use super::source::Known;
use crate::boot::BootError;
use crate::{Identity, Options};

/// The log, open and locked while its member is mended.
pub(super) struct Ground {
    pub(super) identity: Identity,
    wal: Wal,
    /// What it goes on from.
    snapshot: Option<Snapshot>,
    hard_state: HardState,
    /// Behind the snapshot, without a gap.
    entries: Vec<Entry>,
}

/// How a db fits the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The log has its last entry and goes on behind it.
    Behind,
    /// The log starts anew with it: it has nothing that is committed beyond.
    Anew,
}

impl Ground {
    pub(super) fn open(place: &Place<'_>) -> Result<Ground, BootError> {
        let (disk, options) = (place.disk, place.options);
        let wal_path = options.wal_path();
        let marks = mainstay_wal::valid_snapshots(&**disk, &wal_path)?;
        let (snapshot, _) = snap::load_newest(&**disk, &options.snap_path(), &marks)?;
        let from = snapshot.as_ref().map(mark_of).unwrap_or_default();
        let file = WalOptions { sync: !options.no_fsync, ..WalOptions::default() };
        let (wal, replay) = Wal::open_with(Arc::clone(disk), &wal_path, &from, file)?;
        let mainstay_wal::Metadata { member, cluster } = replay.metadata;
        Ok(Ground {
            identity: Identity { cluster, member },
            wal,
            snapshot,
            hard_state: replay.hard_state,
            entries: replay.entries,
        })
    }

    fn base(&self) -> (Index, Term) {
        self.snapshot.as_ref().map(|snapshot| (snapshot.index, snapshot.term)).unwrap_or_default()
    }

    /// What a db must have in it.
    pub(super) fn least(&self) -> Index {
        self.base().0
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let (base, term) = self.base();
        match index.0.checked_sub(base.0)? {
            0 => Some(term),
            behind => {
                let at = usize::try_from(behind - 1).ok()?;
                self.entries.get(at).map(|entry| entry.term)
            }
        }
    }

    /// How a db fits whose last entry is this, which is committed.
    ///
    /// # Errors
    /// It does not: the log says otherwise.
    pub(super) fn way(&self, index: Index, term: Term) -> Result<Way, String> {
        let has = self.term_at(index);
        if has == Some(term) {
            return Ok(Way::Behind);
        }
        let (base, commit) = (self.base().0, self.hard_state.commit);
        if index < base {
            return Err(format!(
                "the database ends with entry {index}, and the log begins behind {base}"
            ));
        }
        if index <= commit {
            let has = has.map(|term| term.to_string()).unwrap_or_default();
            return Err(format!(
                "the database says that entry {index} is of term {term}, and the log, which has \
                 it as committed, of term {has}"
            ));
        }
        Ok(Way::Anew)
    }

    /// Starts the log anew with what a db holds, in the order in which a leader's snapshot is
    /// taken: the db is on the disk, then `.snap`, then the log's record.
    pub(super) fn take_over(
        &mut self,
        place: &Place<'_>,
        snapshot: &Snapshot,
    ) -> Result<(), BootError> {
        snap::save(&**place.disk, &place.options.snap_path(), snapshot)?;
        let state = risen(self.hard_state, snapshot.term);
        Ok(self.wal.save_received(&mark_of(snapshot), Some(state))?)
    }

    /// The other members, as far as anything here tells.
    pub(super) fn others(&self, options: &Options) -> Vec<(MemberId, Vec<String>)> {
        let mut known = Known::default();
        let store = self.snapshot.as_ref().map(|snapshot| V2Snapshot::parse(&snapshot.data));
        if let Some(Ok(store)) = store {
            store.membership.members().for_each(|member| known.add(member));
        }
        for entry in &self.entries {
            let Ok(Some(change)) = ConfChangeV2::of_entry(entry) else { continue };
            for one in &change.changes {
                match one.kind {
                    ConfChangeKind::RemoveNode => known.remove(one.node),
                    ConfChangeKind::AddNode
                    | ConfChangeKind::AddLearnerNode
                    | ConfChangeKind::UpdateNode => {
                        if let Ok(member) = Member::from_json(&change.context) {
                            known.add(&member);
                        }
                    }
                }
            }
        }
        if known.is_empty() {
            options.listed.iter().for_each(|member| known.add(member));
        }
        known.but(self.identity.member)
    }
}

/// A hard state that may stand beside an entry of this term. A vote of an older term says
/// nothing, and in a newer one this member has not voted.
fn risen(state: HardState, term: Term) -> HardState {
    if state.term >= term {
        return state;
    }
    HardState { term, vote: MemberId::NONE, ..state }
}

fn mark_of(snapshot: &Snapshot) -> SnapshotMark {
    SnapshotMark {
        index: snapshot.index,
        term: snapshot.term,
        conf_state: Some(snapshot.conf_state.clone()),
    }
}

/// Whose log it is; `None` when that cannot be read.
pub(super) fn metadata(
    disk: &Arc<dyn Disk>,
    options: &Options,
) -> Result<Option<Identity>, BootError> {
    match mainstay_wal::owner(&**disk, &options.wal_path()) {
        Ok(mainstay_wal::Metadata { member, cluster }) => Ok(Some(Identity { cluster, member })),
        Err(error) if error.is_corrupt() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
