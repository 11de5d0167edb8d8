//! Bits of the db that flip while nobody looks.
//!
//! Its two meta pages carry checksums: with one of them damaged the member starts from
//! the other, or says what is wrong. Pages of rows carry none: a flipped bit there is
//! nobody's to see until members compare hashes, which must find it. The member is then
//! removed, as an operator would; until then what it says is not judged, and it must not
//! pull others down. Such a member gives no snapshots here: what it would spread is
//! nothing that a judge could blame the receiver for.

use bytes::Bytes;
use mainstay_env::Dice as _;
use mainstay_membership::Change;
use mainstay_mvcc::View;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::MemberId;

use crate::node::{Life, Node, digest, snap_dir};
use crate::operator::member;
use crate::ops::What;
use crate::plan::SECOND;
use crate::schedule::Event;
use crate::world::World;

/// Bytes of a meta page that mean something: header and meta.
const META_BYTES: u64 = 80;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// How often members compare.
const EVERY: u64 = 10 * SECOND;

/// Whether a client's key or value begins here, in the rows of the db. Other buckets are
/// nothing that hashes cover, in etcd neither.
fn is_of_a_row(bytes: &[u8]) -> bool {
    let is_key = [b"k0", b"k1", b"r0", b"r1"].iter().any(|key| bytes.starts_with(*key));
    let is_value = bytes.first() == Some(&b'v') && bytes.get(1..4).is_some_and(is_number);
    is_key || is_value
}

fn is_number(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

/// Whether both read the same at every revision.
fn same_past(one: &Life, other: &Life) -> bool {
    let (one, other) = (one.machine.view(), other.machine.view());
    let first = other.compact_revision().max(1);
    (first..=other.revision()).all(|revision| {
        let all = Bytes::from_static(b"\0");
        let request =
            pb::RangeRequest { key: all.clone(), range_end: all, revision, ..Default::default() };
        let read = |view: &View| view.range(&request).map(|found| found.kvs).ok();
        read(&one) == read(&other)
    })
}

/// What a digest is made of, but for the rows.
fn told_of(life: &Life) -> String {
    let leases = life.machine.leases();
    let keys = leases.leases().map(|lease| (lease.id.0, leases.keys(lease.id).collect::<Vec<_>>()));
    format!(
        "{} keys, leases {:?}, members {}",
        life.machine.view().len(),
        keys.collect::<Vec<_>>(),
        String::from_utf8_lossy(&life.machine.snapshot_v2_json())
    )
}

impl World {
    /// A bit of a meta page flips.
    pub(crate) fn flip_meta(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else { return };
        // What the meta before the newest one names is overwritten by the next commit: only
        // behind a whole one is it still there.
        if !node.life.as_ref().is_some_and(|life| life.db_is_whole) {
            return;
        }
        node.power_off(&mut self.ctx);
        let at = self.ctx.dice.below(2) * PAGE + self.ctx.dice.below(META_BYTES);
        self.flip_in_db(id, at);
        self.ctx.stats.count("fault: flipped bit of a meta page");
        self.boot_later(id, 5 * SECOND);
    }

    /// A bit of a row flips; at most one member is in doubt at a time.
    pub(crate) fn flip_row(&mut self, id: MemberId) {
        let enough = self.newest_membership().is_some_and(|m| m.voters().len() >= 3);
        if !enough || self.doubtful().is_some() {
            return;
        }
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else { return };
        node.power_off(&mut self.ctx);
        let db = node.disk.contents(snap_dir().join("db")).unwrap_or_default();
        let rows = |at: &usize| is_of_a_row(&db[*at..]);
        let places: Vec<usize> = (2 * PAGE as usize..db.len()).filter(rows).collect();
        self.boot_later(id, 5 * SECOND);
        if places.is_empty() {
            return;
        }
        let place = places[self.ctx.dice.below(places.len() as u64) as usize] as u64;
        let at = place + self.ctx.dice.below(2);
        self.flip_in_db(id, at);
        self.ctx.stats.count("fault: flipped bit of a row");
        let node = self.nodes.get_mut(&id).expect("it was there");
        node.troubles.doubtful = true;
        self.ctx.schedule.after(EVERY, Event::Compare(id));
    }

    fn flip_in_db(&mut self, id: MemberId, at: u64) {
        let bit = self.ctx.dice.below(8) as u8;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let path = snap_dir().join("db").display().to_string();
        if node.disk.contents(&path).is_none_or(|db| db.len() as u64 <= at) {
            return;
        }
        self.ctx.tell(|| format!("{id}: bit {bit} of {path} at {at} flips"));
        node.disk.flip(&path, at, bit);
        node.troubles.flipped = Some((path, at, bit));
    }

    /// The member whose db may be wrong.
    pub(crate) fn doubtful(&self) -> Option<MemberId> {
        let doubtful =
            |(id, node): &(&MemberId, &Node)| node.troubles.doubtful && !self.gone.contains(id);
        self.nodes.iter().find(doubtful).map(|(id, _)| *id)
    }

    /// Members compare their hashes, as a leader's corruption check does.
    pub(crate) fn compare(&mut self, id: MemberId) {
        if self.gone.contains(&id) {
            return self.ask_replacement(id);
        }
        if !self.nodes.get(&id).is_some_and(|node| node.troubles.doubtful) {
            return;
        }
        let again = if self.healing { SECOND } else { EVERY };
        self.ctx.schedule.after(again, Event::Compare(id));
        if self.leader() == Some(id) {
            // Others may need a snapshot, without which nothing is committed.
            let node = self.nodes.get_mut(&id).expect("it leads");
            node.stop(&mut self.ctx);
            self.ctx.schedule.after(15 * SECOND, Event::Boot(id));
        }
        if self.nodes.get(&id).is_some_and(|node| node.troubles.found) {
            return self.ask_removal(id);
        }
        let Some(life) = self.running(id) else { return };
        let at = life.machine.applied().0;
        let others = self.nodes.keys().filter(|other| **other != id);
        let mut others = others.filter_map(|other| self.running(*other));
        let Some(other) = others.find(|other| other.machine.applied().0 == at) else { return };
        let hash = |life: &Life| life.machine.view().hash_kv(0);
        let whole = |life: &Life| digest(&life.machine);
        let told = match (hash(life), whole(life)) {
            (Ok(hash), Ok(digest)) => Some((hash, digest)),
            // It cannot even read what it has: it says so, and that is finding it, too.
            _ => None,
        };
        let right = hash(other).and_then(|hash| Ok((hash, whole(other)?)));
        let right = right.expect("a healthy disk");
        let same = told.map(|(_, digest)| digest) == Some(right.1);
        let found = told.map(|(hash, _)| hash) != Some(right.0);
        assert!(
            same || found,
            "{id} differs at {at}, and comparing hashes does not show it: {} beside {}",
            told_of(life),
            told_of(other)
        );
        // What no hash covers, there neither: rows below a compaction that are not the
        // newest of their key, and yet are read at revisions behind it.
        let past = found || same_past(life, other);
        let node = self.nodes.get_mut(&id).expect("it runs");
        if found || !past && self.healing {
            let count = if found {
                "flipped bits found by comparing"
            } else {
                "flipped bits no hash covers"
            };
            self.ctx.stats.count(count);
            self.ctx.tell(|| format!("{id} is found to differ at {at}"));
            node.troubles.found = true;
            return self.ask_removal(id);
        }
        if !past {
            return;
        }
        self.ctx.stats.count("flipped bits where nothing was");
        node.trust();
    }

    /// Three members again.
    fn ask_replacement(&mut self, removed: MemberId) {
        let few = self.newest_membership().is_some_and(|members| members.members().len() < 3);
        if !few || self.healing {
            return;
        }
        self.ctx.schedule.after(EVERY, Event::Compare(removed));
        let joiner = self.next_joiner();
        let at = self.any_node();
        self.ask(at, None, What::Change(Change::Add(member(joiner))));
    }

    fn running(&self, id: MemberId) -> Option<&Life> {
        self.nodes.get(&id).filter(|node| node.is_up())?.life.as_ref()
    }

    /// The operator takes it out of the cluster, through somebody else.
    fn ask_removal(&mut self, id: MemberId) {
        let known = self.newest_membership().is_some_and(|members| members.member(id).is_some());
        let others: Vec<MemberId> = self.others(id);
        let others: Vec<MemberId> =
            others.into_iter().filter(|other| self.running(*other).is_some()).collect();
        if known && !others.is_empty() {
            let at = others[self.ctx.dice.below(others.len() as u64) as usize];
            self.ask(at, None, What::Change(Change::Remove(id)));
        }
    }
}
