//! Debian's etcdctl 3.5.16 and 3.4 against ours and against Debian's etcd 3.5.16: the
//! same command lines must say the same, ids included, but for the version.

#[expect(dead_code, reason = "one member for two etcdctls is what tests/etcdctl.rs needs")]
mod ctl;

use ctl::{Said, Step, fed, run, step, until};
use mainstay_interop::{Kind, Peer, free_ports, peer};

/// Lines whose whole answer is about the member's own file, log or version.
const OWN: &[&str] = &["endpoint status", "snapshot status", "version"];

fn same(client: Peer, steps: &[Step]) {
    let Some(ctl) = peer(client) else { return };
    let ports = free_ports();
    let Some(real) = run(&ctl, Kind::Real, ports, steps) else { return };
    let ours = run(&ctl, Kind::Ours, ports, steps).expect("ours is never missing");
    let differ: Vec<String> = real
        .iter()
        .zip(&ours)
        .filter(|(real, ours)| shown(real) != shown(ours))
        .map(|(real, ours)| format!("real: {real:#?}\nours: {ours:#?}"))
        .collect();
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

/// An answer as it is compared: terms may differ by an election, and what a member says
/// of its own file is only compared in form.
fn shown(said: &Said) -> Said {
    let mut said = said.clone();
    if OWN.iter().any(|own| said.line.starts_with(own)) {
        said.out = said.out.chars().filter(|c| !c.is_ascii_digit() && !" -".contains(*c)).collect();
        for unit in ["kB", "MB", "."] {
            said.out = said.out.replace(unit, "");
        }
    }
    said
}

const FORMS: [&str; 5] = ["simple", "json", "fields", "protobuf", "table"];

fn in_all_forms(lines: &[&str]) -> Vec<Step> {
    let with = |form| lines.iter().map(move |line| step(&format!("{line} -w {form}")));
    FORMS.into_iter().flat_map(with).collect()
}

fn keys() -> Vec<Step> {
    let mut steps = in_all_forms(&[
        "put k1 v1",
        "put k1 v2 --prev-kv",
        "put k2 v2",
        "put k3 v3",
        "get k1",
        "get none",
        "get k --prefix",
        "get k1 k3",
        "get k2 --from-key",
        "get k --prefix --keys-only",
        "get k --prefix --limit 2",
        "get k --prefix --order descend --sort-by modify",
        "get k --prefix --order ascend --sort-by value",
        "get k1 --rev 3",
        "get k1 --consistency s",
        "get k --prefix --hex",
        "del k1 --prev-kv",
        "del k --prefix --prev-kv",
    ]);
    const TXN: &str =
        "mod(\"a\") > \"0\"\nver(\"a\") = \"1\"\n\nput a 2\nget a\ndel b\n\nput a 1\n\n";
    for form in ["txn", "txn -w json", "txn -w fields", "txn -w protobuf"] {
        steps.push(fed(form, TXN));
    }
    steps.extend([
        fed("txn", "\nput a 1\nput a 2\n\n\n"),
        fed("put b", "from input\n"),
        step("get b -w json"),
        step("put b --ignore-value"),
        step("put none --ignore-value"),
        step("put b x --lease=123"),
        step("get a --rev 9999"),
        step("get a --rev -1"),
        step("compaction 10"),
        step("compaction 10"),
        step("compaction 9999"),
        step("compaction 12 --physical"),
        step("get a --rev 2"),
    ]);
    steps
}

fn watches_and_leases() -> Vec<Step> {
    let mut steps = vec![step("put w 1"), step("put w 2"), step("del w"), step("put wx 3")];
    steps.extend([
        until("watch w --rev 2", 9),
        until("watch w --prefix --rev 2 --prev-kv", 16),
        until("watch w --rev 2 -w json", 1),
        until("watch w --rev 2 -w fields", 20),
        until("watch w --rev 4 -- printenv ETCD_WATCH_KEY ETCD_WATCH_REVISION", 5),
        Step { input: "watch w --rev 4\n", ..until("watch -i", 3) },
        step("compaction 4"),
        step("watch w --rev 2"),
        step("watch w --rev 2 -w json"),
        step("lease list"),
        step("lease grant 1000"),
        step("put a 1 --lease=$LEASE"),
        step("get a -w fields"),
        step("lease list -w fields"),
        step("lease timetolive 1"),
        step("lease keep-alive $LEASE --once"),
        step("lease keep-alive $LEASE --once -w json"),
        until("lease keep-alive $LEASE", 1),
        step("lease revoke $LEASE"),
        step("lease revoke $LEASE"),
        step("lease timetolive $LEASE"),
        step("lease keep-alive $LEASE --once"),
        step("lease keep-alive $LEASE"),
        step("lease grant 99999999999"),
        step("lease grant 0"),
        step("get a"),
    ]);
    steps
}

fn cluster() -> Vec<Step> {
    let mut steps = in_all_forms(&["put a 1", "member list", "alarm list"]);
    steps.extend([
        step("alarm disarm"),
        step("alarm disarm -w json"),
        step("endpoint health"),
        step("endpoint health --cluster"),
        step("endpoint health -w json"),
        step("endpoint status"),
        step("endpoint status --cluster"),
        step("endpoint hashkv"),
        step("endpoint hashkv --rev 3"),
        step("endpoint hashkv --rev 99"),
        step("endpoint hashkv -w fields"),
        step("endpoint hashkv -w table"),
        step("defrag"),
        step("defrag --cluster"),
        step("version"),
        step("snapshot save $FILE"),
        step("get a"),
    ]);
    steps
}

#[test]
fn keys_of_3_5() {
    same(Peer::Etcdctl, &keys());
}

#[test]
fn watches_and_leases_of_3_5() {
    same(Peer::Etcdctl, &watches_and_leases());
}

#[test]
fn the_cluster_of_3_5() {
    same(Peer::Etcdctl, &cluster());
}

#[test]
fn keys_of_3_4() {
    same(Peer::Etcdctl34, &keys());
}

#[test]
fn watches_and_leases_of_3_4() {
    same(Peer::Etcdctl34, &watches_and_leases());
}

#[test]
fn the_cluster_of_3_4() {
    same(Peer::Etcdctl34, &cluster());
}
