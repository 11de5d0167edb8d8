//! What the log of a member that is mended says, and how it goes on from another db.

use std::sync::Arc;

use mainstay_env::Disk;
use mainstay_membership::{Member, V2Snapshot};
use mainstay_raft::{ConfChangeKind, ConfChangeV2, Entry, HardState, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::salvage::Salvage;
use mainstay_wal::{Metadata, SnapshotMark, Wal, WalOptions, snap};

use super::Place;
use super::source::Known;
use crate::boot::BootError;
use crate::{Identity, Options};

/// The log, open and locked while its member is mended.
pub(super) struct Ground {
    pub(super) identity: Identity,
    log: Log,
    /// What it goes on from.
    snapshot: Option<Snapshot>,
    hard_state: HardState,
    /// Up to the end, without a gap; behind the snapshot in a sound log.
    entries: Vec<Entry>,
    /// What a db must have in it.
    least: Index,
}

/// As it was found.
enum Log {
    Sound(Box<Wal>),
    Damaged(Box<Salvage>),
    /// It was given away to be started anew.
    Gone,
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
    /// Opens the log as a start does; a damaged one as far as it is sound.
    pub(super) fn open(place: &Place<'_>) -> Result<Ground, BootError> {
        match Ground::open_sound(place) {
            Err(BootError::Wal(error)) if error.is_corrupt() => Ground::open_damaged(place),
            opened => opened,
        }
    }

    fn open_sound(place: &Place<'_>) -> Result<Ground, BootError> {
        let (disk, options) = (place.disk, place.options);
        let wal_path = options.wal_path();
        let marks = mainstay_wal::valid_snapshots(&**disk, &wal_path)?;
        let (snapshot, _) = snap::load_newest(&**disk, &options.snap_path(), &marks)?;
        let from = snapshot.as_ref().map(mark_of).unwrap_or_default();
        let file = WalOptions { sync: !options.no_fsync, ..WalOptions::default() };
        let (wal, replay) = Wal::open_with(Arc::clone(disk), &wal_path, &from, file)?;
        Ok(Ground {
            identity: identity_of(replay.metadata),
            log: Log::Sound(Box::new(wal)),
            least: from.index,
            snapshot,
            hard_state: replay.hard_state,
            entries: replay.entries,
        })
    }

    fn open_damaged(place: &Place<'_>) -> Result<Ground, BootError> {
        let salvage = Salvage::open(place.disk, &place.options.wal_path())?;
        let (marks, snaps) = (salvage.marks(), place.options.snap_path());
        let (snapshot, _) = snap::load_newest(&**place.disk, &snaps, &marks)?;
        for damage in salvage.damage() {
            tracing::warn!(error = %damage, "what follows the damage in the log is sound");
        }
        let base = snapshot.as_ref().map(|snapshot| snapshot.index).unwrap_or_default();
        Ok(Ground {
            identity: identity_of(salvage.metadata()),
            least: base.max(salvage.least()),
            snapshot,
            hard_state: salvage.hard_state(),
            entries: salvage.entries().to_vec(),
            log: Log::Damaged(Box::new(salvage)),
        })
    }

    /// Whether the log itself has to be mended.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(self.log, Log::Damaged(_))
    }

    /// The last entry that it has had.
    pub(super) fn last(&self) -> Index {
        match &self.log {
            Log::Damaged(salvage) => salvage.last(),
            Log::Sound(wal) => wal.last_index(),
            Log::Gone => Index(0),
        }
    }

    fn base(&self) -> (Index, Term) {
        self.snapshot.as_ref().map(|snapshot| (snapshot.index, snapshot.term)).unwrap_or_default()
    }

    /// What a db must have in it.
    pub(super) fn least(&self) -> Index {
        self.least
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let (base, term) = self.base();
        if index == base {
            return Some(term);
        }
        let first = self.entries.first()?;
        let at = usize::try_from(index.0.checked_sub(first.index.0)?).ok()?;
        self.entries.get(at).map(|entry| entry.term)
    }

    /// How a db fits whose last entry is this, which is committed.
    ///
    /// # Errors
    /// It does not: the log says otherwise.
    pub(super) fn way(&self, index: Index, term: Term) -> Result<Way, String> {
        let (least, commit) = (self.least, self.hard_state.commit);
        if index < least {
            return Err(format!(
                "the database ends with entry {index}, and {least} is needed for what the log has lost \
                 or begins behind"
            ));
        }
        let has = self.term_at(index);
        if has == Some(term) {
            return Ok(if self.is_damaged() { Way::Anew } else { Way::Behind });
        }
        let is_lost = has.is_none() && index <= self.last();
        if index <= commit && !is_lost {
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
        let (mark, state) = (mark_of(snapshot), risen(self.hard_state, snapshot.term));
        match std::mem::replace(&mut self.log, Log::Gone) {
            Log::Sound(mut wal) => {
                wal.save_received(&mark, Some(state))?;
                self.log = Log::Sound(wal);
            }
            Log::Damaged(salvage) => {
                let is_ours = self.term_at(mark.index) == Some(mark.term);
                let kept = self.entries.iter().filter(|entry| is_ours && entry.index > mark.index);
                let kept: Vec<Entry> = kept.cloned().collect();
                let last = kept.last().map_or(mark.index, |entry| entry.index);
                let commit = state.commit.clamp(mark.index, last);
                salvage.restart(place.disk, &mark, HardState { commit, ..state }, &kept)?;
            }
            Log::Gone => unreachable!("it is started anew once"),
        }
        Ok(())
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

fn identity_of(metadata: Metadata) -> Identity {
    Identity { cluster: metadata.cluster, member: metadata.member }
}

/// Whose log it is; `None` when that cannot be read.
pub(super) fn metadata(
    disk: &Arc<dyn Disk>,
    options: &Options,
) -> Result<Option<Identity>, BootError> {
    match mainstay_wal::owner(&**disk, &options.wal_path()) {
        Ok(metadata) => Ok(Some(identity_of(metadata))),
        Err(error) if error.is_corrupt() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
