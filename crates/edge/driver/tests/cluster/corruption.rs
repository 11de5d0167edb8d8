//! A member whose rows were changed behind its back is found and named.

use std::sync::Arc;
use std::time::Duration;

use mainstay_backend::{Backend, Batch, KeyRow, OpenOptions};
use mainstay_driver::RequestField;
use mainstay_env_os::OsDisk;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::MemberId;

use crate::wire::{Cluster, block_on, put, until};

/// Puts another value into the newest row of a member that is stopped.
fn damage(cluster: &Cluster, n: usize) {
    let mut newest = None;
    let backend = Backend::open(
        Arc::new(OsDisk),
        &cluster.db_of(n),
        OpenOptions::default(),
        &mut |revision, tombstone, value| newest = Some((revision, tombstone, value.to_vec())),
    )
    .expect("its db");
    let (revision, tombstone, mut value) = newest.expect("rows");
    *value.last_mut().expect("a value") ^= 1;
    let mut batch = Batch::new(backend.applied());
    batch.put_revision(KeyRow { revision, tombstone, value: value.into() });
    backend.append(batch);
    backend.commit().expect("committed");
}

fn stop_all(cluster: &mut Cluster) {
    cluster.check_equal();
    for id in cluster.members.iter().map(|member| member.id).collect::<Vec<_>>() {
        cluster.stop(id);
    }
}

/// A cluster of three of which one holds something else.
fn damaged(name: &str) -> (Cluster, MemberId) {
    let mut cluster = Cluster::born(name, 3);
    let leader = cluster.number(cluster.leader());
    for n in 0..20 {
        block_on(put(&cluster.handle(leader), &format!("k{n}"), "v")).expect("put");
    }
    stop_all(&mut cluster);
    damage(&cluster, 1);
    let wrong = cluster.members[1].id;
    (cluster, wrong)
}

fn corrupt(cluster: &Cluster) -> Vec<u64> {
    let alarms = cluster.handle(0).alarms().list(pb::AlarmType::Corrupt as i32);
    alarms.iter().map(|alarm| alarm.member_id).collect()
}

#[test]
fn a_comparison_names_the_one_that_differs() {
    let (mut cluster, wrong) = damaged("compare");
    cluster.again((Some(Duration::from_millis(100)), None));
    let leader = cluster.leader();
    until("an alarm", || !corrupt(&cluster).is_empty());
    // A leader that is wrong itself blames a follower first, as etcd's does.
    let named = corrupt(&cluster);
    assert!(leader == wrong || named == [wrong.0], "{named:x?}, and {wrong} is wrong");
    let refused = block_on(put(&cluster.handle(0), "k", "v"));
    assert_eq!(refused.expect_err("corrupt").to_string(), "etcdserver: corrupt cluster");
}

#[test]
fn most_members_decide_whose_compaction_differs() {
    let (mut cluster, wrong) = damaged("compaction");
    cluster.again((None, Some(Duration::from_millis(100))));
    let leader = cluster.number(cluster.leader());
    let handle = cluster.handle(leader);
    let revision = handle.view().revision();
    let compact = pb::CompactionRequest { revision, physical: false };
    block_on(handle.propose(RequestField::Compaction, &compact)).expect("compacted");
    until("an alarm", || !corrupt(&cluster).is_empty());
    assert_eq!(corrupt(&cluster), [wrong.0]);
}

#[test]
fn sound_members_stay_without_an_alarm() {
    let mut cluster = Cluster::born("sound", 3);
    stop_all(&mut cluster);
    let often = Some(Duration::from_millis(50));
    cluster.again((often, often));
    let leader = cluster.number(cluster.leader());
    let handle = cluster.handle(leader);
    let begun = std::time::Instant::now();
    let mut n = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        n += 1;
        block_on(put(&handle, &format!("k{}", n % 7), &n.to_string())).expect("put");
        if n % 100 == 0 {
            let revision = handle.view().revision() - 10;
            let compact = pb::CompactionRequest { revision, physical: false };
            block_on(handle.propose(RequestField::Compaction, &compact)).expect("compacted");
        }
    }
    assert_eq!(corrupt(&cluster), [0u64; 0]);
}
