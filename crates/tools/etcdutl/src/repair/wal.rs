//! A damaged log: what of it is sound, and how it starts anew behind the db.

use mainstay_membership::{Member, Membership, V2Snapshot};
use mainstay_proto::{Message as _, etcdserverpb, raftpb, walpb};
use mainstay_raft::{Entry, HardState, Snapshot};
use mainstay_types::{ClusterId, Index, MemberId, Term, Version};
use mainstay_wal::{Metadata, SnapshotMark, convert, snap};

use super::Plan;
use super::Step;
use super::db::Db;
use crate::log::{self, CRC, ENTRY, Frame, METADATA, SNAPSHOT, STATE, Segment, Stop};
use crate::place::{DataDir, plain};
use crate::{Failure, Run};

/// The first version whose db tells the membership.
const MEMBERS_IN_DB: Version = Version::line(3, 6);

/// A log that starts anew.
pub(super) struct Restart {
    pub(super) metadata: Metadata,
    pub(super) mark: SnapshotMark,
    pub(super) state: HardState,
    /// Entries behind the mark.
    pub(super) entries: Vec<Entry>,
    /// The `.snap` file of the mark.
    pub(super) snapshot: Snapshot,
}

/// Entries of which each follows the one before it.
#[derive(Default)]
struct Stretch {
    entries: Vec<Entry>,
    /// What the log says is committed at the end of it.
    commit: u64,
}

/// What of a log is sound.
#[derive(Default)]
struct Sound {
    metadata: Option<etcdserverpb::Metadata>,
    state: raftpb::HardState,
    /// Broken where a record that may have been an entry cannot be read.
    stretches: Vec<Stretch>,
    /// A record that cannot be read may have been an entry: what follows is another stretch.
    broken: bool,
    /// Records that cannot be read.
    unreadable: u64,
    /// Records with one flipped bit, which is turned back.
    mended: u64,
    newest_mark: u64,
}

/// Plans a log that starts behind what the db has applied.
pub(super) fn restart(
    run: &mut Run<'_>,
    dir: &DataDir,
    db: &Db,
    plan: &mut Plan,
) -> Result<(), Failure> {
    let mut refuse = |what: &str| {
        plan.refused.push(format!(
            "{what}. Remove this member from the cluster and add it again; for a cluster of one, make \
             a new one from the db: etcdutl snapshot restore {} --skip-hash-check --data-dir NEW",
            dir.db.display()
        ));
        Ok(())
    };
    let sound = Sound::read(run, dir)?;
    let (applied, term) = db.applied;
    let ids = sound.metadata.as_ref().and_then(|m| m.node_id.zip(m.cluster_id));
    let Some((member, cluster)) = ids else {
        return refuse("the log does not say any more whose it is");
    };
    let Some(conf_state) = db.conf_state.clone().filter(|_| applied > 0 && term > 0) else {
        return refuse(
            "the db does not say up to which entry and configuration it has got (etcd before 3.5)",
        );
    };
    if sound.newest_mark > applied {
        return refuse("the db is older than the snapshot that the log goes on from");
    }
    let membership = match membership(run, dir, db, applied)? {
        Ok(membership) => membership,
        Err(what) => return refuse(&what),
    };
    let (entries, lost) = sound.behind(applied, db.voters() <= 1);
    tell(&sound, applied, lost, db.voters(), plan);
    let state = sound.hard_state(&entries, (applied, term));
    let mark = SnapshotMark {
        index: Index(applied),
        term: Term(term),
        conf_state: Some(conf_state.clone()),
    };
    let snapshot = Snapshot {
        data: membership.to_v2_json().into(),
        index: Index(applied),
        term: Term(term),
        conf_state,
    };
    plan.steps.push(Step::RestartLog(Box::new(Restart {
        metadata: Metadata { member: MemberId(member), cluster: ClusterId(cluster) },
        mark,
        state,
        entries,
        snapshot,
    })));
    Ok(())
}

/// Says what is lost and what may be.
fn tell(sound: &Sound, applied: u64, lost: Option<(u64, u64)>, voters: usize, plan: &mut Plan) {
    if let Some((first, last)) = lost {
        plan.lost.push(format!(
            "entries {first} to {last} of the log, or what of them can be read no more; the db has \
             everything up to index {applied}"
        ));
    }
    if sound.mended > 0 {
        plan.warnings.push(format!(
            "{} records of the log have one flipped bit, which their checksums tell; it is turned back",
            sound.mended
        ));
    }
    if sound.unreadable > 0 && voters > 1 && lost.is_none() {
        plan.warnings.push(
            "a vote may have been in what cannot be read: before this member starts, make sure \
             that its cluster has a leader"
                .to_owned(),
        );
    }
}

/// The membership at the index that the db has applied, or why it is not known. Up to 3.5
/// it stands in the newest `.snap`, from 3.6 on in the db.
fn membership(
    run: &mut Run<'_>,
    dir: &DataDir,
    db: &Db,
    applied: u64,
) -> Result<Result<Membership, String>, Failure> {
    let mut known = db.membership.clone();
    if db.storage.is_none_or(|version| version < MEMBERS_IN_DB) {
        for name in snap::list(&*run.disk, &dir.snap).map_err(plain)?.into_iter().rev() {
            let loaded = snap::load(&*run.disk, &dir.snap, name).ok();
            let Some(snapshot) = loaded.filter(|snapshot| snapshot.index.0 <= applied) else {
                continue;
            };
            if let Ok(store) = V2Snapshot::parse(&snapshot.data) {
                known = store.membership;
                break;
            }
        }
    }
    let is_same = db.conf_state.as_ref().is_some_and(|state| {
        let mut wanted: Vec<MemberId> =
            state.voters.iter().chain(&state.learners).copied().collect();
        wanted.sort_unstable();
        let mut have: Vec<MemberId> = known.members().map(|member| member.id).collect();
        have.sort_unstable();
        wanted == have
    });
    Ok(match is_same {
        true => Ok(with_votes(&known, db)),
        false => {
            Err("the members of the cluster changed in the part of the log that is damaged"
                .to_owned())
        }
    })
}

/// The membership with the votes that the db's configuration tells: in a `.snap` and in the
/// rows of 3.5 a member that was promoted later is still a learner.
fn with_votes(known: &Membership, db: &Db) -> Membership {
    let learns = |id| db.conf_state.as_ref().is_some_and(|state| state.learners.contains(&id));
    let members = known.members().cloned();
    let mut told = Membership::new(members.map(|one| Member { is_learner: learns(one.id), ..one }));
    for id in known.removed() {
        // The text of an id is the key of its row.
        let _ = told.load_removed(id.to_string().as_bytes());
    }
    if let Some(version) = known.version() {
        told.set_version(version);
    }
    told
}

impl Sound {
    fn read(run: &mut Run<'_>, dir: &DataDir) -> Result<Sound, Failure> {
        let (names, _) = log::names(run, &dir.wal)?;
        let mut sound = Sound { stretches: vec![Stretch::default()], ..Sound::default() };
        let mut crc = None;
        for name in names {
            let segment = log::load(run, &dir.wal, &name)?;
            sound.segment(&segment, &mut crc);
        }
        Ok(sound)
    }

    fn segment(&mut self, segment: &Segment, crc: &mut Option<u32>) {
        let mut offset = 0;
        loop {
            match segment.frame(offset) {
                Ok(frame) => {
                    offset = frame.end;
                    self.frame(&frame, crc);
                }
                Err(Stop::End) if !has_more(segment, offset) => return,
                Err(_) => {
                    // To the next thing that looks like a record and is followed by one
                    // whose checksum goes on from it.
                    self.unreadable += 1;
                    self.broken = true;
                    let Some(next) = anchor(segment, offset + 8) else { return };
                    *crc = Some(next.crc);
                    offset = next.end;
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame, crc: &mut Option<u32>) {
        if frame.kind == CRC {
            if crc.is_some_and(|crc| crc != frame.crc) {
                self.broken = true;
            }
            *crc = Some(frame.crc);
            return;
        }
        let fits = crc.is_some_and(|crc| crc32c::crc32c_append(crc, &frame.data) == frame.crc);
        let mended = crc.filter(|_| !fits).and_then(|crc| without_flip(crc, frame));
        *crc = Some(frame.crc);
        if let Some(mended) = mended
            && self.record(&mended).is_some()
        {
            self.mended += 1;
            return;
        }
        self.mended += u64::from(fits && frame.true_kind() != frame.kind);
        if !fits || self.record(frame).is_none() {
            self.unreadable += 1;
            // Where only the kind is wrong the checksum fits: so what says here that it is no
            // entry is none.
            self.broken |= !matches!(frame.kind, STATE | SNAPSHOT | METADATA);
        }
    }

    fn record(&mut self, frame: &Frame) -> Option<()> {
        let data = frame.data.clone();
        match frame.true_kind() {
            METADATA => self.metadata = Some(etcdserverpb::Metadata::decode(data).ok()?),
            STATE => {
                self.state = raftpb::HardState::decode(data).ok()?;
                let commit = self.state.commit.unwrap_or(0);
                let last = self.stretches.last_mut().expect("there is always one");
                last.commit = last.commit.max(commit);
            }
            SNAPSHOT => {
                let mark = walpb::Snapshot::decode(data).ok()?.index.unwrap_or(0);
                self.newest_mark = self.newest_mark.max(mark);
            }
            ENTRY => {
                let entry = raftpb::Entry::decode(data).ok()?;
                self.entry(convert::entry_from_pb(entry).ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    fn entry(&mut self, entry: Entry) {
        let last = self.stretches.last_mut().expect("there is always one");
        let next = last.entries.last().map(|before| before.index.0 + 1);
        let is_new = self.broken || next.is_some_and(|next| entry.index.0 > next);
        if is_new && next.is_some() {
            self.stretches.push(Stretch::default());
        }
        self.broken = false;
        let last = self.stretches.last_mut().expect("there is always one");
        let keep = last.entries.partition_point(|before| before.index < entry.index);
        last.entries.truncate(keep);
        last.entries.push(entry);
    }

    /// Term, vote and commit index to go on with, given what is kept and the db's index and
    /// term. A vote of an older term says nothing.
    fn hard_state(&self, kept: &[Entry], db: (u64, u64)) -> HardState {
        let (last, of) = kept.last().map_or(db, |entry| (entry.index.0, entry.term.0));
        let said = self.state.term.unwrap_or(0);
        let vote = if said >= of { self.state.vote.unwrap_or(0) } else { 0 };
        let commit = self.state.commit.unwrap_or(0).min(last).max(db.0);
        HardState { term: Term(said.max(of)), vote: MemberId(vote), commit: Index(commit) }
    }

    /// The entries behind an index that can be kept, and from where to where entries are
    /// lost. What the only voter wrote is never overwritten; of others what is not committed
    /// could have been, in what cannot be read.
    fn behind(&self, applied: u64, alone: bool) -> (Vec<Entry>, Option<(u64, u64)>) {
        let ends = |stretch: &&Stretch| stretch.entries.last().map_or(0, |entry| entry.index.0);
        let seen = self.stretches.iter().map(|stretch| ends(&stretch)).max().unwrap_or(0);
        // The newest stretch that goes on from the db.
        let joins = |stretch: &Stretch| {
            stretch.entries.first().is_some_and(|first| first.index.0 <= applied + 1)
                && ends(&stretch) > applied
        };
        let at = self.stretches.iter().rposition(joins);
        let mut kept: Vec<Entry> = Vec::new();
        if let Some(at) = at {
            let stretch = &self.stretches[at];
            let is_last = at + 1 == self.stretches.len() && !self.broken;
            let until = if is_last || alone { u64::MAX } else { stretch.commit };
            let wanted = |entry: &&Entry| entry.index.0 > applied && entry.index.0 <= until;
            let mut term = 0;
            // Terms only rise: what says otherwise is no entry of this log.
            let rises = |entry: &&Entry| {
                let rises = entry.term.0 >= term;
                term = entry.term.0;
                rises
            };
            kept.extend(stretch.entries.iter().filter(wanted).take_while(rises).cloned());
        }
        let last = kept.last().map_or(applied, |entry| entry.index.0);
        let gone = seen.max(self.state.commit.unwrap_or(0));
        // Where the end cannot be read, one more is known to have been there.
        let gone = if self.broken { gone.max(last + 1) } else { gone };
        (kept, (gone > last).then_some((last + 1, gone)))
    }
}

/// The record with the one bit of its data turned back whose flip explains the checksum.
/// Two flipped bits are taken for one in about a record's bits out of 2^32.
fn without_flip(before: u32, frame: &Frame) -> Option<Frame> {
    let differs = crc32c::crc32c_append(before, &frame.data) ^ frame.crc;
    // What a flipped bit adds to the checksum depends only on how far from the end it is.
    let mut adds: [u32; 8] = std::array::from_fn(|bit| flipped_byte(1 << bit));
    for at in (0..frame.data.len()).rev() {
        if let Some(bit) = adds.iter().position(|adds| *adds == differs) {
            let mut data = frame.data.to_vec();
            data[at] ^= 1 << bit;
            return Some(Frame { data: data.into(), ..frame.clone() });
        }
        adds = adds.map(|adds| (adds >> 8) ^ flipped_byte(adds as u8));
    }
    None
}

/// What the checksum (CRC-32C) becomes through one byte, without its start and end values.
fn flipped_byte(byte: u8) -> u32 {
    (0..8).fold(u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
}

/// Whether anything but zeros follows.
fn has_more(segment: &Segment, offset: usize) -> bool {
    segment.bytes.get(offset..).unwrap_or_default().iter().any(|byte| *byte != 0)
}

/// The next place that looks like a record and is followed by one whose checksum goes on.
fn anchor(segment: &Segment, from: usize) -> Option<Frame> {
    let mut at = from.next_multiple_of(8);
    while at < segment.bytes.len() {
        if let Some(frame) = segment.plausible(at)
            && let Ok(next) = segment.frame(frame.end)
            && next.kind != CRC
            && crc32c::crc32c_append(frame.crc, &next.data) == next.crc
        {
            return Some(frame);
        }
        at += 8;
    }
    None
}
