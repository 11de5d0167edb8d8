//! Leases across leaders of both makes: kept alive through any member, never gone too
//! early, gone in the end. Meanwhile members compact and defragment.

use std::time::{Duration, Instant};

use mainstay_interop::cluster::{Cluster, Load, Make, Plan};
use mainstay_proto::etcdserverpb as pb;

/// Seconds of every lease here.
const TTL: i64 = 5;
/// A new leader gives every lease its whole time again, and looks twice a second.
const LATE: Duration = Duration::from_secs(TTL as u64 + 4);

fn grant(cluster: &mut Cluster, via: usize, id: i64) {
    cluster.eventually("a lease is granted", |cluster| {
        let granted = cluster.ask(via, |client| async move {
            client.lease().lease_grant(pb::LeaseGrantRequest { id, ttl: TTL }).await.map(drop)
        });
        match granted {
            Ok(()) => Some(()),
            // The answer before was lost.
            Err(why) if why.contains("already exists") => Some(()),
            Err(_) => None,
        }
    });
    cluster.eventually("a key has the lease", |cluster| {
        let put = pb::PutRequest {
            key: format!("lease/{id}").into(),
            value: "x".into(),
            lease: id,
            ..Default::default()
        };
        cluster.ask(via, |client| async move { client.kv().put(put).await.map(drop) }).ok()
    });
}

/// The time to live that was answered.
fn keep_alive(cluster: &Cluster, via: usize, id: i64) -> Result<i64, String> {
    cluster.ask(via, |client| async move {
        let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let mut answers = client.lease().lease_keep_alive(once).await?.into_inner();
        let answer = answers.message().await?;
        Ok(answer.ok_or_else(|| tonic::Status::unavailable("no answer"))?.ttl)
    })
}

fn exists(cluster: &Cluster, via: usize, id: i64) -> Result<bool, String> {
    cluster.ask(via, |client| async move {
        let key = format!("lease/{id}").into();
        let range = pb::RangeRequest { key, ..Default::default() };
        Ok(client.kv().range(range).await?.into_inner().count == 1)
    })
}

/// A lease that is kept alive through one member.
struct Kept {
    id: i64,
    via: usize,
    /// It must live until then at least.
    until: Instant,
}

impl Kept {
    fn keep(&mut self, cluster: &Cluster) {
        let sent = Instant::now();
        match keep_alive(cluster, self.via, self.id) {
            Ok(ttl) => {
                let (id, via) = (self.id, self.via + 1);
                assert_eq!(ttl, TTL, "lease {id} through member {via} was gone early");
                self.until = sent + Duration::from_secs(TTL as u64);
            }
            Err(why) => eprintln!("keep alive through member {}: {why}", self.via + 1),
        }
    }
}

/// Keeps them all for a while, each through its member.
fn keep(cluster: &Cluster, kept: &mut [Kept], lasts: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        kept.iter_mut().for_each(|one| one.keep(cluster));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn defragment(cluster: &Cluster, n: usize) {
    let done = cluster.ask(n, |client| async move {
        client.maintenance().defragment(pb::DefragmentRequest {}).await.map(drop)
    });
    done.unwrap_or_else(|why| panic!("defragment member {}: {why}", n + 1));
}

#[test]
fn leases_live_and_end_under_leaders_of_both_makes() {
    let _alone = crate::alone();
    let makes = [Make::Ours, Make::Go, Make::Ours, Make::Go, Make::Ours];
    let Some(mut cluster) = Plan::new("leases", &makes).start() else { return };
    let load = Load::start(11, &mut cluster, true);
    let mut kept: Vec<Kept> = Vec::new();
    for via in 0..4 {
        // Granted through one make, kept through the other.
        let id = 1_000 + via as i64;
        grant(&mut cluster, via, id);
        kept.push(Kept { id, via: (via + 1) % 4, until: Instant::now() });
    }
    for leader in [0, 1] {
        cluster.move_leader(leader);
        keep(&cluster, &mut kept, Duration::from_secs(2));
        defragment(&cluster, leader);
        defragment(&cluster, leader + 2);
        keep(&cluster, &mut kept, Duration::from_secs(2));
    }
    // The leader dies; it is one through which nobody keeps anything alive.
    cluster.move_leader(4);
    load.excuse(4);
    cluster.nodes[4].kill();
    keep(&cluster, &mut kept, Duration::from_secs(4));
    cluster.restart(4);
    load.expect(4);
    keep(&cluster, &mut kept, Duration::from_secs(1));
    ends(&mut cluster, &kept);
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}

/// Nobody keeps them any more, and another make leads: each goes, and none too early.
fn ends(cluster: &mut Cluster, kept: &[Kept]) {
    cluster.move_leader(1);
    let last = Instant::now();
    let mut left: Vec<&Kept> = kept.iter().collect();
    while !left.is_empty() {
        left.retain(|one| {
            // Asked before the clock is looked at: it may be gone when the answer comes.
            match exists(cluster, 2, one.id) {
                Ok(false) => {
                    assert!(Instant::now() >= one.until, "lease {} ended early", one.id);
                    eprintln!("lease {} ended {:?} after", one.id, last.elapsed());
                    false
                }
                _ => true,
            }
        });
        assert!(last.elapsed() < LATE, "leases do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the leader counts down, asked through a member; `None` when it does not answer.
fn left(cluster: &Cluster, via: usize, id: i64) -> Option<i64> {
    let request = pb::LeaseTimeToLiveRequest { id, keys: false };
    let told = cluster.ask(via, |client| async move {
        Ok(client.lease().lease_time_to_live(request).await?.into_inner().ttl)
    });
    told.ok()
}

fn left_soon(cluster: &mut Cluster, via: usize, id: i64) -> i64 {
    cluster.eventually("somebody counts the lease down", |cluster| left(cluster, via, id))
}

#[test]
fn checkpoints_go_from_leader_to_leader_but_not_to_one_that_would_not_clear_them() {
    let _alone = crate::alone();
    let plan = Plan::new("checkpoints", &[Make::Ours; 3])
        .our_flag("--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true")
        .our_flag("--lease-checkpoint-interval=1s");
    let (Some(mut cluster), Some(_)) = (plan.start(), Make::Go.binary()) else { return };
    let id = 77;
    let granted = cluster.ask(0, |client| async move {
        let request = pb::LeaseGrantRequest { id, ttl: 60 };
        client.lease().lease_grant(request).await.map(drop)
    });
    granted.expect("granted");
    let lower = |cluster: &mut Cluster, most: i64| {
        cluster
            .eventually("time passes", |cluster| left(cluster, 0, id).filter(|left| *left <= most))
    };
    lower(&mut cluster, 56);
    let next = (cluster.leader() + 1) % 3;
    cluster.move_leader(next);
    // The last checkpoint is at most a little more than a second old; an election adds one.
    let seen = left_soon(&mut cluster, next, id);
    assert!(seen <= 58, "{seen} s left of 60 under the next leader");
    lower(&mut cluster, 52);
    // A leader that ends without a word; all of its checkpoints are there.
    cluster.nodes[next].kill();
    let seen = left_soon(&mut cluster, (next + 1) % 3, id);
    assert!(seen <= 55, "{seen} s left of 60 after the leader died");
    // It comes back as a Go member.
    cluster.nodes[next].make = Make::Go;
    cluster.restart(next);
    lower(&mut cluster, 50);
    cluster.move_leader(next);
    let seen = left_soon(&mut cluster, next, id);
    assert!(seen >= 58, "{seen} s left of 60 under a leader that does not clear");
    assert_eq!(keep_alive(&cluster, (next + 1) % 3, id), Ok(60));
    let seen = left_soon(&mut cluster, next, id);
    assert!(seen >= 58, "{seen} s left of 60 that were answered");
}

/// Sets or takes back an alarm.
fn alarm(cluster: &Cluster, via: usize, action: pb::alarm_request::AlarmAction, kind: i32) {
    let id = cluster.nodes[via].id;
    let request = pb::AlarmRequest { action: action as i32, member_id: id, alarm: kind };
    let done = cluster
        .ask(via, |client| async move { client.maintenance().alarm(request).await.map(drop) });
    done.unwrap_or_else(|why| panic!("alarm: {why}"));
}

fn put(cluster: &Cluster, via: usize) -> Result<(), String> {
    let put = pb::PutRequest { key: "full".into(), value: "x".into(), ..Default::default() };
    cluster.ask(via, |client| async move { client.kv().put(put).await.map(drop) })
}

#[test]
fn an_alarm_of_one_make_is_one_of_the_other() {
    use pb::alarm_request::AlarmAction::{Activate, Deactivate};
    let _alone = crate::alone();
    let makes = [Make::Ours, Make::Go, Make::Ours];
    let Some(mut cluster) = Plan::new("alarms", &makes).start() else { return };
    for raised in [0, 1] {
        cluster.move_leader(1 - raised);
        alarm(&cluster, raised, Activate, pb::AlarmType::Nospace as i32);
        for n in 0..3 {
            cluster.eventually("no member has room", |cluster| {
                put(cluster, n).is_err_and(|why| why.contains("space exceeded")).then_some(())
            });
            let health = cluster.http_get(n, "/health").expect("an answer");
            assert!(health.contains("NOSPACE"), "{health}");
        }
        // It is told by the one whose it is.
        let id = cluster.nodes[raised].id;
        let request = pb::AlarmRequest {
            action: Deactivate as i32,
            member_id: id,
            alarm: pb::AlarmType::Nospace as i32,
        };
        let done = cluster.ask(1 - raised, |client| async move {
            client.maintenance().alarm(request).await.map(drop)
        });
        done.unwrap_or_else(|why| panic!("alarm: {why}"));
        for n in 0..3 {
            cluster.eventually("every member has room", |cluster| put(cluster, n).ok());
        }
    }
    cluster.same_everywhere();
}
