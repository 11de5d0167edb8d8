//! A state machine on a simulated disk, with a little of everything in it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::quota::Quota;
use mainstay_apply::{Applied, LoadError, Machine, Options, StopError};
use mainstay_backend::OpenOptions;
use mainstay_env::Disk as _;
use mainstay_env_sim::SimDisk;
use mainstay_membership::Member;
use mainstay_mvcc::HashKv;
use mainstay_proto::{Message as _, etcdserverpb as pb, membershippb};
use mainstay_raft::{ConfChange, ConfChangeKind, Entry, EntryKind};
use mainstay_types::{MemberId, Term};

/// Where its db lies.
pub const DB: &str = "/snap/db";
/// A lease that exists.
pub const LEASE: i64 = 100;
/// Rounds of compaction after which it must have come to its end.
const SLICES_MAX: usize = 1000;

/// The machine and its disk.
pub struct Bed {
    /// The disk.
    pub disk: SimDisk,
    /// The machine.
    pub machine: Machine,
}

/// The options of every machine here.
pub fn options() -> Options {
    Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(-1),
        persist_checkpoints: false,
        allow_auth: true,
    }
}

/// A request as an entry carries it.
pub fn internal(id: u64, fill: impl FnOnce(&mut pb::InternalRaftRequest)) -> Vec<u8> {
    let header = Some(pb::RequestHeader { id, ..Default::default() });
    let mut request = pb::InternalRaftRequest { header, ..Default::default() };
    fill(&mut request);
    request.encode_to_vec()
}

/// A put of a small value.
pub fn put(key: &str, lease: i64) -> pb::PutRequest {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from_static(b"value"));
    pb::PutRequest { key, value, lease, ..Default::default() }
}

/// The entries that make a bed: members, keys, a lease, a compaction, the version.
pub fn script() -> Vec<(EntryKind, Vec<u8>)> {
    let member = |id, is_learner| {
        let member = Member {
            id: MemberId(id),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            is_learner,
            ..Member::default()
        };
        let kind =
            if is_learner { ConfChangeKind::AddLearnerNode } else { ConfChangeKind::AddNode };
        let context = Bytes::from(member.to_json());
        ConfChange { id, kind, node: member.id, context }.encode().to_vec()
    };
    let change = EntryKind::ConfChange;
    let mut script = vec![(change, member(7, false)), (change, member(9, true))];
    script.push((EntryKind::Normal, Vec::new()));
    let mut add = |fill: &mut dyn FnMut(&mut pb::InternalRaftRequest)| {
        script.push((EntryKind::Normal, internal(1, fill)));
    };
    let version = membershippb::ClusterVersionSetRequest { ver: "3.5.0".into() };
    add(&mut |r| r.cluster_version_set = Some(version.clone()));
    add(&mut |r| {
        r.lease_grant = Some(pb::LeaseGrantRequest { id: LEASE, ttl: 60 });
    });
    for (key, lease) in [("a", 0), ("b", LEASE), ("a", LEASE), ("c", 0), ("d", 0), ("b", 0)] {
        add(&mut |r| r.put = Some(put(key, lease)));
    }
    let gone = pb::DeleteRangeRequest { key: "c".into(), ..Default::default() };
    add(&mut |r| r.delete_range = Some(gone.clone()));
    let compaction = pb::CompactionRequest { revision: 5, ..Default::default() };
    add(&mut |r| r.compaction = Some(compaction));
    script
}

impl Bed {
    /// The machine that the disk holds.
    ///
    /// # Errors
    /// When the db cannot be loaded.
    pub fn open(disk: &SimDisk) -> Result<Bed, LoadError> {
        let shared = Arc::new(disk.clone());
        let machine = Machine::open(shared, Path::new(DB), OpenOptions::default(), options())?;
        Ok(Bed { disk: disk.clone(), machine })
    }

    /// A machine that [`script`] was applied to.
    ///
    /// # Panics
    /// Never: the script is sound.
    pub fn new() -> Bed {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/snap")).expect("a sound disk");
        let mut bed = Bed::open(&disk).expect("a new db");
        for (kind, data) in script() {
            bed.apply(kind, &data, true).expect("a sound script");
        }
        bed
    }

    /// Applies an entry and what follows from it.
    ///
    /// # Errors
    /// When the entry stops the member.
    pub fn apply(
        &mut self,
        kind: EntryKind,
        data: &[u8],
        local: bool,
    ) -> Result<Applied, StopError> {
        let index = self.machine.applied().0.next();
        let data = Bytes::copy_from_slice(data);
        let entry = Entry { term: Term(1), index, kind, data };
        let mut applied = self.machine.apply(&entry, |_| local)?;
        if let Some(batch) = applied.batch.take() {
            self.machine.backend().append(batch);
        }
        for round in 0.. {
            let Some((batch, _)) = self.machine.compaction_slice(3) else { break };
            self.machine.backend().append(batch);
            assert!(round < SLICES_MAX, "a compaction ends");
        }
        Ok(applied)
    }

    /// Everything that members compare: hash, revision, members, alarms.
    ///
    /// # Panics
    /// When the state cannot be read.
    pub fn digest(&self) -> (HashKv, i64, String) {
        let view = self.machine.view();
        let hash = view.hash_kv(0).expect("the state can be read");
        let others = format!("{:?} {:?}", self.machine.membership(), self.machine.alarms());
        (hash, view.revision(), others)
    }

    /// The same after a restart.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(self) -> Bed {
        self.machine.backend().commit().expect("a sound disk");
        let disk = self.disk.clone();
        drop(self);
        Bed::open(&disk).expect("what we wrote we load")
    }

    /// Reads all there is, in every way.
    ///
    /// # Errors
    /// What the reads say.
    pub fn read_all(&self) -> Result<usize, mainstay_mvcc::MvccError> {
        let view = self.machine.view();
        let all =
            pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let now = view.range(&all)?;
        assert_eq!(now.count, now.kvs.len() as i64);
        for order in 0..3 {
            for target in 0..5 {
                let sorted = pb::RangeRequest {
                    sort_order: order,
                    sort_target: target,
                    limit: 2,
                    ..all.clone()
                };
                view.range(&sorted)?;
            }
        }
        let from = view.compact_revision().max(1);
        for revision in from..=view.revision().min(from.saturating_add(20)) {
            view.range(&pb::RangeRequest { revision, ..all.clone() })?;
            view.hash_kv(revision)?;
        }
        view.hash_kv(0)?;
        Ok(now.kvs.len())
    }
}

impl Default for Bed {
    fn default() -> Bed {
        Bed::new()
    }
}
