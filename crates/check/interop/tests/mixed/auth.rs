//! Authentication in a cluster of both kinds: every member asks who calls, a token of one is
//! good at the others, and ours keeps away from members that decide some entries otherwise.

use std::process::Command;

use mainstay_interop::cluster::{Cluster, Make, Plan, Real};
use mainstay_interop::{Peer, peer};
use mainstay_proto::etcdserverpb as pb;

/// What the real etcdctl says, asked in root's name through a member.
fn ctl(cluster: &Cluster, via: usize, args: &[&str]) -> Result<String, String> {
    let told = Command::new(peer(Peer::Etcdctl).expect("it comes with the etcd"))
        .arg(format!("--endpoints={}", cluster.nodes[via].endpoint()))
        .args(args)
        .env("ETCDCTL_API", "3")
        .output()
        .expect("etcdctl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if told.status.success() { Ok(text(&told.stdout)) } else { Err(text(&told.stderr)) }
}

const ROOT: &str = "--user=root:secret";

fn enable(cluster: &mut Cluster, via: usize) {
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        ctl(cluster, via, args).unwrap_or_else(|why| panic!("{args:?}: {why}"));
    }
}

fn put(cluster: &Cluster, via: usize) -> Result<(), String> {
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    cluster.ask(via, |client| async move { client.kv().put(put).await.map(drop) })
}

fn asks_who_calls(cluster: &mut Cluster, n: usize) {
    cluster.eventually("nobody is let in", |cluster| {
        put(cluster, n).is_err_and(|why| why.contains("user name is empty")).then_some(())
    });
    let wrong = ctl(cluster, n, &["--user=root:wrong", "get", "k"]).expect_err("refused");
    assert!(wrong.contains("authentication failed"), "{wrong}");
    ctl(cluster, n, &[ROOT, "get", "k"]).expect("root is let in");
    let health = cluster.http_get(n, "/health").expect("an answer");
    assert!(health.contains(r#""health":"true""#), "{health}");
    let metrics = cluster.http_get(n, "/metrics").expect("an answer");
    assert!(metrics.contains("etcd_server_has_leader 1"), "{metrics}");
}

/// A number of what a member says about itself to root.
fn told(cluster: &Cluster, n: usize, name: &str) -> Option<u64> {
    let told = ctl(cluster, n, &[ROOT, "endpoint", "status", "-w", "json"]).ok()?;
    let (_, rest) = told.split_once(&format!("\"{name}\":"))?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn ours_follows_and_leads_where_authentication_is_on() {
    let _alone = crate::alone();
    let plan = Plan::new("auth", &[Make::Go, Make::Go, Make::Ours]);
    let Some(mut cluster) = plan.our_flag("--unsafe-old-members-with-auth").start() else { return };
    put(&cluster, 2).expect("before");
    enable(&mut cluster, 0);
    asks_who_calls(&mut cluster, 2);
    // It leads, and a lease of root's key runs out under it.
    let id = format!("{:x}", cluster.nodes[2].id);
    cluster.eventually("ours leads", |cluster| {
        if told(cluster, 2, "leader") == Some(cluster.nodes[2].id) {
            return Some(());
        }
        for via in 0..2 {
            // Only one of them leads.
            let _ = ctl(cluster, via, &[ROOT, "move-leader", &id]);
        }
        None
    });
    let granted = ctl(&cluster, 0, &[ROOT, "lease", "grant", "2"]).expect("granted");
    let lease = granted.split_ascii_whitespace().nth(1).expect("an id").to_owned();
    let lease = format!("--lease={lease}");
    ctl(&cluster, 0, &[ROOT, "put", &lease, "leased", "v"]).expect("put");
    cluster.eventually("the lease has run out", |cluster| {
        let told = ctl(cluster, 1, &[ROOT, "get", "leased"]).ok()?;
        told.is_empty().then_some(())
    });
    assert_eq!(told(&cluster, 2, "leader"), Some(cluster.nodes[2].id), "under ours");
    // It boots with it, too.
    cluster.stop(2);
    cluster.spawn(2, &[]);
    cluster.eventually("it answers", |cluster| told(cluster, 2, "leader").filter(|id| *id != 0));
    asks_who_calls(&mut cluster, 2);
    ctl(&cluster, 0, &[ROOT, "put", "k", "later"]).expect("put");
    cluster.eventually("all have the same", |cluster| {
        let revision = told(cluster, 0, "revision");
        (revision.is_some() && revision == told(cluster, 2, "revision")).then_some(())
    });
    // Users that were changed through one kind are known to the other.
    for (via, words) in [
        (2, &[ROOT, "user", "add", "alice:a"][..]),
        (0, &[ROOT, "role", "add", "r"]),
        (2, &[ROOT, "role", "grant-permission", "r", "readwrite", "k"]),
        (1, &[ROOT, "user", "grant-role", "alice", "r"]),
    ] {
        cluster.eventually("a change of users", |cluster| ctl(cluster, via, words).ok());
    }
    for via in 0..3 {
        let alice = "--user=alice:a";
        cluster.eventually("alice writes", |cluster| {
            ctl(cluster, via, &[alice, "put", "k", "v"]).ok()
        });
        let refused = ctl(&cluster, via, &[alice, "put", "other", "v"]).expect_err("not hers");
        assert!(refused.contains("permission denied"), "{via}: {refused}");
    }
    // Off again, everybody is let in.
    ctl(&cluster, 0, &[ROOT, "auth", "disable"]).expect("disabled");
    cluster.eventually("open again", |cluster| put(cluster, 2).ok());
    cluster.same_everywhere();
}

#[test]
fn ours_keeps_away_from_members_that_decide_otherwise() {
    let _alone = crate::alone();
    let plan = Plan::new("auth-old", &[Make::Go, Make::Go, Make::Ours]);
    let Some(mut cluster) = plan.start() else { return };
    enable(&mut cluster, 0);
    if !Real::of_this_run().decides_otherwise() {
        // No reason to keep away from these: it comes back to them.
        let put = |cluster: &mut Cluster| ctl(cluster, 0, &[ROOT, "put", "k", "v"]).ok();
        cluster.eventually("the others write", |cluster| put(cluster));
        cluster.stop(2);
        cluster.spawn(2, &[]);
        cluster.eventually("it serves", |cluster| {
            cluster.nodes[2].log().contains("ready to serve client requests").then_some(())
        });
        assert!(!cluster.nodes[2].log().contains("authentication is enabled in this cluster"));
        return;
    }
    let why = "authentication is enabled in this cluster, and member m";
    cluster.eventually("the old ones are named", |cluster| {
        let log = cluster.nodes[2].log();
        let named = |name: &str| log.contains(&format!("{why}{name} ("));
        (named("1") && named("2") && log.contains("runs etcd 3.5.")).then_some(())
    });
    // Those two are a quorum.
    cluster
        .eventually("the others go on", |cluster| ctl(cluster, 0, &[ROOT, "put", "k", "v"]).ok());
    // Without them it cannot come up, and says why.
    cluster.stop(2);
    cluster.spawn(2, &[]);
    let status = cluster.wait_ended(2);
    assert_eq!(status.code(), Some(1));
    let log = cluster.nodes[2].log();
    assert!(log.contains("failed to start etcd") && log.contains(why), "{log}");
    assert!(log.contains("--unsafe-old-members-with-auth"), "{log}");
}
