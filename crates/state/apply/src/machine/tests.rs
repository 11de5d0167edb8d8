//! The machine on a simulated disk: rows, outcomes, effects and restarts.

use std::path::Path;

use mainstay_backend::OpenOptions;
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_lease::Lease;
use mainstay_membership::{Change, Member};
use mainstay_proto::{Message as _, etcdserverpb as pb, membershippb};
use mainstay_raft::{ConfChangeKind, EntryKind};
use mainstay_types::{LeaseId, Version};

use super::*;
use crate::{LoadError, StopReason};

const MEMBER: MemberId = MemberId(0x2e12_59d4_15f2_a040);

fn options() -> Options {
    Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: false,
    }
}

struct Rig {
    disk: SimDisk,
    machine: Machine,
    options: Options,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(options())
    }

    fn with(options: Options) -> Rig {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/snap")).unwrap();
        let machine = Rig::open(&disk, options).unwrap();
        Rig { disk, machine, options }
    }

    fn open(disk: &SimDisk, options: Options) -> Result<Machine, LoadError> {
        let disk = Arc::new(disk.clone());
        Machine::open(disk, Path::new("/snap/db"), OpenOptions::default(), options)
    }

    fn entry(&self, kind: EntryKind, data: Vec<u8>) -> Entry {
        Entry { term: Term(2), index: self.machine.applied().0.next(), kind, data: data.into() }
    }

    fn step(&mut self, kind: EntryKind, data: Vec<u8>) -> Applied {
        let entry = self.entry(kind, data);
        let mut applied = self.machine.apply(&entry, |_| true).unwrap();
        let batch = applied.batch.take().expect("a new entry has a batch");
        assert_eq!(batch.applied(), (entry.index, entry.term));
        self.machine.backend().append(batch);
        applied
    }

    fn run(&mut self, request: pb::InternalRaftRequest) -> Applied {
        self.step(EntryKind::Normal, pb::InternalRaftRequest { id: 9, ..request }.encode_to_vec())
    }

    fn put(&mut self, key: &'static str, lease: i64) -> Result<Reply, ApplyError> {
        let put =
            pb::PutRequest { key: key.into(), value: "v".into(), lease, ..Default::default() };
        self.run(pb::InternalRaftRequest { put: Some(put), ..Default::default() }).outcome
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Applied {
        let lease_grant = Some(pb::LeaseGrantRequest { id, ttl });
        self.run(pb::InternalRaftRequest { lease_grant, ..Default::default() })
    }

    fn revoke(&mut self, id: i64) -> Applied {
        let lease_revoke = Some(pb::LeaseRevokeRequest { id });
        self.run(pb::InternalRaftRequest { lease_revoke, ..Default::default() })
    }

    fn alarm(&mut self, action: i32, alarm: pb::AlarmType) -> Applied {
        let alarm = Some(pb::AlarmRequest { action, member_id: 7, alarm: alarm as i32 });
        self.run(pb::InternalRaftRequest { alarm, ..Default::default() })
    }

    fn change(&mut self, change: &Change) -> Applied {
        self.step(EntryKind::ConfChange, change.encode(9).encode_to_vec())
    }

    /// Commits, closes and opens again.
    fn restart(&mut self) {
        self.machine.backend().commit().unwrap();
        let fresh = SimDisk::new(2);
        fresh.create_dir_all(Path::new("/snap")).unwrap();
        fresh.install("/snap/db", &self.disk.contents("/snap/db").unwrap());
        self.machine = Rig::open(&fresh, self.options).unwrap();
        self.disk = fresh;
    }
}

fn revision(reply: &Result<Reply, ApplyError>) -> i64 {
    let header = match reply.as_ref().unwrap() {
        Reply::Put(r) => r.header,
        Reply::LeaseGrant(r) => r.header,
        Reply::LeaseRevoke(r) => r.header,
        Reply::Compaction(r) => r.header,
        other => panic!("{other:?}"),
    };
    header.unwrap().revision
}

fn member(id: u64, learner: bool) -> Member {
    Member {
        id: MemberId(id),
        peer_urls: vec![format!("http://m{id}")],
        is_learner: learner,
        ..Member::default()
    }
}

#[test]
fn every_entry_moves_the_index_and_survives_a_restart() {
    let mut rig = Rig::new();
    assert!(rig.step(EntryKind::Normal, Vec::new()).effects.first_of_term);
    assert_eq!(revision(&rig.put("a", 0)), 2);
    assert_eq!(rig.put("b", 77), Err(ApplyError::LeaseNotFound));
    assert_eq!(rig.machine.applied(), (Index(3), Term(2)));
    rig.restart();
    assert_eq!(rig.machine.applied(), (Index(3), Term(2)));
    assert_eq!(rig.machine.view().revision(), 2);
    let old = Entry { index: Index(2), ..rig.entry(EntryKind::Normal, vec![0xff]) };
    assert!(rig.machine.apply(&old, |_| true).is_err(), "old entries are decoded");
    let old = Entry { index: Index(2), ..rig.entry(EntryKind::Normal, Vec::new()) };
    assert!(rig.machine.apply(&old, |_| true).unwrap().batch.is_none());
    assert_eq!(revision(&rig.put("a", 0)), 3);
}

#[test]
fn a_revoked_lease_takes_its_keys_along_sorted_in_one_revision() {
    let mut rig = Rig::new();
    let granted = rig.grant(5, 1).leases;
    assert_eq!(granted, [LeaseChange::Granted(Lease { id: LeaseId(5), ttl: 2, remaining: 0 })]);
    for key in ["c", "a", "b", "x"] {
        rig.put(key, 5).unwrap();
    }
    rig.put("x", 0).unwrap();
    rig.restart();
    assert_eq!(rig.machine.leases().keys(LeaseId(5)).count(), 3);
    let revoked = rig.revoke(5);
    assert_eq!(revision(&revoked.outcome), 7);
    let keys: Vec<_> = revoked.events.iter().map(|event| event.key.clone()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert!(revoked.events.iter().all(|event| event.deleted && event.revision.main == 7));
    assert_eq!(revoked.leases, [LeaseChange::Revoked(LeaseId(5))]);
    assert_eq!(rig.revoke(5).outcome, Err(ApplyError::LeaseNotFound));
    rig.restart();
    assert!(rig.machine.leases().is_empty());
    assert_eq!(rig.machine.view().len(), 1);
}

#[test]
fn a_deleted_key_leaves_its_lease() {
    let mut rig = Rig::new();
    rig.grant(5, 60).outcome.unwrap();
    rig.put("a", 5).unwrap();
    rig.put("b", 5).unwrap();
    let delete_range = Some(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() });
    rig.run(pb::InternalRaftRequest { delete_range, ..Default::default() }).outcome.unwrap();
    let keys = |rig: &Rig| rig.machine.leases().keys(LeaseId(5)).cloned().collect::<Vec<_>>();
    assert_eq!(keys(&rig), ["b"]);
    rig.restart();
    assert_eq!(keys(&rig), ["b"]);
}

#[test]
fn a_machine_can_move_to_its_thread() {
    fn is_send<T: Send>() {}
    is_send::<Machine>();
    is_send::<Applied>();
}

#[test]
fn checkpoints_are_persisted_from_3_6_on() {
    for (version, kept) in [("3.5.0", 0), ("3.6.0", 40)] {
        let mut rig = Rig::new();
        let ver = membershippb::ClusterVersionSetRequest { ver: version.into() };
        rig.run(pb::InternalRaftRequest { cluster_version_set: Some(ver), ..Default::default() });
        rig.grant(5, 100);
        let checkpoints = vec![pb::LeaseCheckpoint { id: 5, remaining_ttl: 40 }];
        let lease_checkpoint = Some(pb::LeaseCheckpointRequest { checkpoints });
        let applied = rig.run(pb::InternalRaftRequest { lease_checkpoint, ..Default::default() });
        assert_eq!(applied.leases, [LeaseChange::Checkpointed(LeaseId(5), 40)]);
        assert_eq!(rig.machine.leases().lease(LeaseId(5)).unwrap().remaining, 40);
        rig.restart();
        assert_eq!(rig.machine.leases().lease(LeaseId(5)).unwrap().remaining, kept);
        assert_eq!(rig.machine.membership().version(), version.parse().ok());
    }
}

#[test]
fn alarms_guard_what_etcd_lets_them_guard() {
    let mut rig = Rig::new();
    rig.grant(5, 60).outcome.unwrap();
    rig.put("a", 5).unwrap();
    let raised = rig.alarm(1, pb::AlarmType::Nospace);
    assert!(raised.effects.alarms_changed);
    assert!(!rig.alarm(1, pb::AlarmType::Nospace).effects.alarms_changed, "it is raised already");
    rig.restart();
    assert_eq!(rig.put("a", 0), Err(ApplyError::NoSpace));
    assert_eq!(rig.grant(6, 60).outcome, Err(ApplyError::NoSpace));
    let delete = pb::DeleteRangeRequest { key: "x".into(), ..Default::default() };
    let delete_range = Some(delete.clone());
    let applied = rig.run(pb::InternalRaftRequest { delete_range, ..Default::default() });
    assert!(applied.outcome.is_ok());
    rig.alarm(1, pb::AlarmType::Corrupt);
    let delete_range = Some(delete);
    let applied = rig.run(pb::InternalRaftRequest { delete_range, ..Default::default() });
    assert_eq!(applied.outcome, Err(ApplyError::Corrupt));
    assert_eq!(rig.put("a", 0), Err(ApplyError::Corrupt), "corruption is asked for first");
    assert_eq!(rig.revoke(5).outcome, Err(ApplyError::Corrupt));
    rig.alarm(2, pb::AlarmType::Corrupt);
    assert!(rig.revoke(5).outcome.is_ok(), "revoking frees space");
    rig.alarm(2, pb::AlarmType::Nospace);
    assert!(rig.put("a", 0).is_ok());
    let Ok(Reply::Alarm(list)) = rig.alarm(0, pb::AlarmType::None).outcome else { panic!() };
    assert!(list.alarms.is_empty());
}

#[test]
fn a_put_over_the_quota_is_applied_and_refused() {
    let mut rig = Rig::with(Options { quota: Quota::from_flag(1), ..options() });
    let put = pb::PutRequest { key: "a".into(), ..Default::default() };
    let applied = rig.run(pb::InternalRaftRequest { put: Some(put), ..Default::default() });
    assert_eq!(applied.outcome, Err(ApplyError::NoSpace));
    assert!(applied.effects.raise_nospace);
    assert_eq!(applied.events.len(), 1);
    assert_eq!(rig.machine.view().revision(), 2);
    rig.alarm(1, pb::AlarmType::Nospace);
    let again = rig.put("a", 0);
    assert_eq!(again, Err(ApplyError::NoSpace));
    assert_eq!(rig.machine.view().revision(), 2, "now the alarm refuses it");
}

#[test]
fn compactions_start_once() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.put("a", 0).unwrap();
    }
    let mut compact = |revision| {
        let compaction = Some(pb::CompactionRequest { revision, physical: true });
        rig.run(pb::InternalRaftRequest { compaction, ..Default::default() })
    };
    assert_eq!(compact(99).outcome, Err(ApplyError::FutureRevision));
    let applied = compact(4);
    assert_eq!(applied.effects.compaction, Some(crate::Compaction { revision: 4, physical: true }));
    assert_eq!(compact(4).outcome, Err(ApplyError::Compacted));
    let mut finished = false;
    while let Some((batch, slice)) = rig.machine.compaction_slice(10) {
        rig.machine.backend().append(batch);
        finished = slice.finished;
    }
    assert!(finished && !rig.machine.is_compacting());
    rig.restart();
    assert_eq!(rig.machine.view().compact_revision(), 4);
}

#[test]
fn configuration_changes_keep_membership_rows_and_conf_state_together() {
    let mut rig = Rig::new();
    let applied = rig.change(&Change::Add(member(1, false)));
    let effect = applied.effects.conf_change.unwrap();
    assert_eq!(effect.raft.node, MemberId(1));
    assert_eq!(effect.conf_state.unwrap().voters, [MemberId(1)]);
    rig.change(&Change::Add(member(2, true)));
    let refused = rig.change(&Change::Add(member(3, true)));
    assert_eq!(refused.outcome, Err(ApplyError::Membership(ValidateError::TooManyLearners)));
    let effect = refused.effects.conf_change.unwrap();
    assert_eq!(
        (effect.raft.node, effect.raft.kind),
        (MemberId::NONE, ConfChangeKind::AddLearnerNode)
    );
    assert_eq!(effect.conf_state, None);
    rig.machine.backend().commit().unwrap();
    let json = rig.machine.backend().meta().unwrap().conf_state.unwrap();
    assert_eq!(json, &br#"{"voters":[1],"learners":[2],"auto_leave":false}"#[..]);
    rig.change(&Change::Promote(MemberId(2)));
    let removed = rig.change(&Change::Remove(MemberId(1)));
    assert_eq!(
        removed.effects.conf_change.unwrap().outcome,
        Ok(MemberChange::Removed(MemberId(1)))
    );
    rig.restart();
    assert_eq!(rig.machine.conf_state().voters, [MemberId(2)]);
    assert!(rig.machine.membership().is_removed(MemberId(1)));
    let again = rig.change(&Change::Add(member(1, false)));
    assert_eq!(again.outcome, Err(ApplyError::Membership(ValidateError::IdRemoved)));
}

#[test]
fn members_publish_themselves_and_versions_rise_and_fall() {
    let mut rig = Rig::new();
    rig.change(&Change::Add(Member { id: MEMBER, ..member(1, false) }));
    let attributes = membershippb::Attributes { name: "n1".into(), client_urls: vec!["c".into()] };
    let set = membershippb::ClusterMemberAttrSetRequest {
        member_id: MEMBER.0,
        member_attributes: Some(attributes),
    };
    let request = pb::InternalRaftRequest {
        cluster_member_attr_set: Some(set.clone()),
        ..Default::default()
    };
    assert!(rig.run(request).effects.membership_changed);
    let mut set_version = |ver: &str| {
        let set = membershippb::ClusterVersionSetRequest { ver: ver.into() };
        let request =
            pb::InternalRaftRequest { cluster_version_set: Some(set), ..Default::default() };
        rig.run(request).effects
    };
    assert!(!set_version("3.7.0").snapshot_now);
    assert!(set_version("3.6.0").snapshot_now, "a downgrade needs a snapshot");
    let downgrade_info_set =
        Some(membershippb::DowngradeInfoSetRequest { enabled: true, ver: "3.5.0".into() });
    rig.run(pb::InternalRaftRequest { downgrade_info_set, ..Default::default() });
    rig.restart();
    let membership = rig.machine.membership();
    assert_eq!(membership.member(MEMBER).unwrap().name, "n1");
    assert_eq!(membership.version(), Some(Version::line(3, 6)));
    assert_eq!(membership.downgrade().target, "3.5.0");
    let json = String::from_utf8(rig.machine.snapshot_v2_json()).unwrap();
    assert!(json.contains("/0/members/2e1259d415f2a040/attributes") && json.contains("3.6.0"));
}

#[test]
fn what_cannot_be_applied_stops_the_member() {
    let mut rig = Rig::new();
    let stop = |rig: &mut Rig, request: pb::InternalRaftRequest| {
        let entry = rig.entry(EntryKind::Normal, request.encode_to_vec());
        rig.machine.apply(&entry, |_| true).unwrap_err().why
    };
    let ver = membershippb::ClusterVersionSetRequest { ver: "3.8.0".into() };
    let newer = pb::InternalRaftRequest { cluster_version_set: Some(ver), ..Default::default() };
    assert!(matches!(stop(&mut rig, newer), StopReason::InvalidDowngrade { .. }));
    let nobody = membershippb::ClusterMemberAttrSetRequest { member_id: 4, ..Default::default() };
    let nobody =
        pb::InternalRaftRequest { cluster_member_attr_set: Some(nobody), ..Default::default() };
    assert!(matches!(stop(&mut rig, nobody), StopReason::Attributes(_)));
    assert_eq!(rig.machine.applied().0, Index(0));
    let status =
        pb::InternalRaftRequest { auth_status: Some(Default::default()), ..Default::default() };
    assert!(matches!(rig.run(status).outcome, Ok(Reply::AuthStatus(_))));
}

#[test]
fn a_directory_that_is_not_ours_to_open_is_refused() {
    for (bucket, key, value, text) in [
        (Bucket::Auth, "authEnabled", &b"\x01"[..], "authentication is enabled"),
        (Bucket::Cluster, "clusterVersion", b"3.8.0", "cluster version is 3.8.0"),
        (Bucket::Meta, "storageVersion", b"3.8.0", "storage version is 3.8.0"),
        (Bucket::Members, "zz", b"{}", "\"zz\""),
        (Bucket::Alarm, "\u{8}", b"", "alarm"),
        (Bucket::Lease, "k", b"\xff", "lease"),
    ] {
        let rig = Rig::new();
        let mut batch = Batch::new((Index(1), Term(1)));
        batch.put(bucket, key.as_bytes(), value);
        rig.machine.backend().append(batch);
        rig.machine.backend().commit().unwrap();
        let fresh = SimDisk::new(2);
        fresh.create_dir_all(Path::new("/snap")).unwrap();
        fresh.install("/snap/db", &rig.disk.contents("/snap/db").unwrap());
        let Err(error) = Rig::open(&fresh, options()) else { panic!("{text}") };
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn the_same_log_gives_the_same_rows_whoever_proposed() {
    let mut here = Rig::new();
    let mut there = Rig::new();
    let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
    let put = pb::PutRequest { key: "a".into(), prev_kv: true, ..Default::default() };
    use pb::request_op::Request as Op;
    let op = |request| pb::RequestOp { request: Some(request) };
    let success = vec![op(Op::RequestRange(range)), op(Op::RequestPut(put))];
    let txn = Some(pb::TxnRequest { success, ..Default::default() });
    let request = pb::InternalRaftRequest { id: 3, txn, ..Default::default() };
    for _ in 0..3 {
        let entry = here.entry(EntryKind::Normal, request.encode_to_vec());
        let ours = here.machine.apply(&entry, |_| true).unwrap();
        let theirs = there.machine.apply(&entry, |_| false).unwrap();
        assert_eq!(ours.batch, theirs.batch);
        assert_eq!(ours.events, theirs.events);
        here.machine.backend().append(ours.batch.unwrap());
        there.machine.backend().append(theirs.batch.unwrap());
    }
    let hash = |rig: &Rig| rig.machine.view().hash_kv(0).unwrap();
    assert_eq!(hash(&here), hash(&there));
}
