//! `--initial-cluster` of a new cluster, and DNS.

use mainstay_driver::Founding;

use super::{found, founders, refusal};
use crate::fakes::{FakeNames, FakePeer};

#[test]
fn a_cluster_is_founded_with_the_identities_of_etcd() {
    // Told by three members of etcd 3.5.16 with these flags and token "t1".
    let args = [
        "--name=m2",
        "--initial-cluster-token=t1",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster=m1=http://127.0.0.1:3,m2=http://127.0.0.1:1,m3=http://127.0.0.1:2",
    ];
    let mut ids = founders(&args, FakeNames::default());
    assert_eq!(ids.len(), 3);
    ids.iter_mut().for_each(|member| *member = member.split_once(' ').expect("id").1.to_owned());
    ids.sort();
    assert_eq!(ids, ["m1 http://127.0.0.1:3", "m2 http://127.0.0.1:1", "m3 http://127.0.0.1:2"]);
    let Ok(Founding::New { me, members }) = found(&args, FakeNames::default()) else {
        panic!("new")
    };
    assert!(members.iter().any(|member| member.id == me && member.name == "m2"));
    assert!(members.is_sorted_by_key(|member| member.id));
}

#[test]
fn every_fault_of_a_list_has_etcds_text() {
    for (flags, text) in [
        (
            "--initial-cluster=b=http://a:1",
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            "--initial-cluster=default=ftp://a:1",
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: \
             ftp://a:1",
        ),
        (
            "--initial-cluster=default=http://localhost:2380,x=http://localhost:2380",
            "initial cluster default=http://localhost:2380,x=http://localhost:2380 has duplicate url",
        ),
        (
            "--initial-advertise-peer-urls=http://1.1.1.1:1",
            "--initial-cluster has default=http://localhost:2380 but missing from \
             --initial-advertise-peer-urls=http://1.1.1.1:1 (resolved urls: \"http://1.1.1.1:1\" \
             != \"http://localhost:2380\")",
        ),
        (
            "--initial-advertise-peer-urls=http://1.1.1.1:1 --initial-cluster=default=http://a:1",
            "--initial-cluster has default=http://a:1 but missing from \
             --initial-advertise-peer-urls=http://1.1.1.1:1 (failed to resolve \"http://a:1\" \
             (lookup a: no such host))",
        ),
        (
            "--initial-advertise-peer-urls=http://a:1,http://b:1 --initial-cluster=default=http://a:1",
            "--initial-advertise-peer-urls has http://b:1 but missing from \
             --initial-cluster=default=http://a:1,default=http://b:1",
        ),
        // Twice the same is more than once: etcd cannot say which is missing.
        (
            "--initial-advertise-peer-urls=http://a:1 \
             --initial-cluster=default=http://a:1,default=http://a:1",
            "failed to resolve http://a:1 to match --initial-cluster=default=http://a:1 \
             (len([\"http://a:1\"]) != len([\"http://a:1\" \"http://a:1\"]))",
        ),
        (
            "--discovery-srv-name=x",
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
    ] {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        assert_eq!(refusal(&flags, FakeNames::default()), text, "{flags:?}");
    }
}

/// etcd's `URLStringsEqual`: what a name resolves to counts; `localhost` stays a name.
#[test]
fn a_name_in_the_list_is_as_good_as_its_address() {
    let names = || {
        FakeNames::default().host("node-1.example", "10.0.0.1").host("node-2.example", "10.0.0.2")
    };
    for (advertised, listed, same) in [
        ("http://10.0.0.1:1", "m=http://node-1.example:1", true),
        ("http://node-1.example:1", "m=http://10.0.0.1:1", true),
        // Sorted by text they stand in another order than their addresses.
        (
            "http://10.0.0.2:1,http://node-1.example:1",
            "m=http://10.0.0.1:1,m=http://node-2.example:1",
            true,
        ),
        ("http://[::1]:1", "m=http://[0:0:0:0:0:0:0:1]:1", true),
        ("http://10.0.0.1:1", "m=http://node-2.example:1", false),
        ("http://10.0.0.1:1", "m=http://node-1.example:2", false),
        ("http://10.0.0.1:1", "m=https://node-1.example:1", false),
        ("http://127.0.0.1:1", "m=http://localhost:1", false),
        ("unix://a:1", "m=unix://a:1", true),
    ] {
        let flags = [
            "--name=m",
            &format!("--initial-advertise-peer-urls={advertised}"),
            &format!("--initial-cluster={listed}"),
        ];
        let answer = found(&flags, names());
        assert_eq!(answer.is_ok(), same, "{flags:?}: {answer:?}");
    }
}

#[test]
fn a_name_may_become_known_late() {
    let flags = [
        "--name=m",
        "--initial-advertise-peer-urls=http://10.0.0.1:1",
        "--initial-cluster=m=http://node-1.example:1",
    ];
    let names = FakeNames::default().host("node-1.example", "10.0.0.1").late(3);
    assert!(found(&flags, names).is_ok());
}

#[test]
fn a_member_that_was_there_before_does_not_found_again() {
    let peer = FakePeer::start();
    let list = format!("--initial-cluster=m1=http://localhost:2380,m2={}", peer.url());
    let flags = ["--name=m1", &list];
    // Nobody answers: a no.
    let ids = founders(&flags, FakeNames::default());
    let me = ids.iter().find(|id| id.contains(" m1 ")).expect("listed");
    let me = me.split(' ').next().expect("its id");
    let id = u64::from_str_radix(me, 16).expect("hex");
    // Known, but without client URLs: it was only added.
    peer.tells("1", &format!("[{{\"id\":{id},\"peerURLs\":[\"http://localhost:2380\"]}}]"));
    assert!(found(&flags, FakeNames::default()).is_ok());
    peer.tells("1", &format!("[{{\"id\":{id},\"name\":\"m1\",\"clientURLs\":[\"http://c:1\"]}}]"));
    assert!(found(&flags, FakeNames::default()).is_ok(), "the first answer once more");
    assert_eq!(
        refusal(&flags, FakeNames::default()),
        format!("member {me} has already been bootstrapped")
    );
    assert!(peer.asked().iter().all(|asked| asked == "GET /members"), "{:?}", peer.asked());
}

fn dns() -> FakeNames {
    FakeNames::default()
        .host("m1.example.com", "10.0.0.1")
        .host("m2.example.com", "10.0.0.2")
        .host("m3.example.com", "10.0.0.3")
}

#[test]
fn members_come_from_dns() {
    let flags = [
        "--name=own",
        "--discovery-srv=example.com",
        "--initial-advertise-peer-urls=http://m2.example.com:2380",
    ];
    let records = [("m1.example.com.", 2380), ("m2.example.com.", 2380), ("m3.example.com.", 2380)];
    let mut members = founders(&flags, dns().service("etcd-server", &records));
    members
        .iter_mut()
        .for_each(|member| *member = member.split_once(' ').expect("id").1.to_owned());
    members.sort();
    assert_eq!(
        members,
        [
            "0 http://m1.example.com:2380",
            "1 http://m3.example.com:2380",
            "own http://m2.example.com:2380"
        ]
    );
    let named = [&flags[..], &["--discovery-srv-name=a"]].concat();
    assert_eq!(founders(&named, dns().service("etcd-server-a", &records)).len(), 3);
    // Advertised by address, recorded by name.
    let by_address = ["--name=own", flags[1], "--initial-advertise-peer-urls=http://10.0.0.2:2380"];
    assert_eq!(founders(&by_address, dns().service("etcd-server", &records)).len(), 3);
}

#[test]
fn every_fault_of_dns_has_etcds_text() {
    let flags = [
        "--name=own",
        "--discovery-srv=example.com",
        "--initial-advertise-peer-urls=http://m2.example.com:2380",
    ];
    let about = |kind: &str, why: &str| format!("error querying DNS SRV records for _{kind} {why}");
    let none = |kind: &str| about(kind, &format!("lookup _{kind}._tcp.example.com: no such host"));
    assert_eq!(
        refusal(&flags, dns()),
        format!(
            "error setting up initial cluster: {}\n{}",
            none("etcd-server-ssl"),
            none("etcd-server")
        )
    );
    let nobody = dns().service("etcd-server", &[("nobody.example.com.", 1)]);
    assert!(
        refusal(&flags, nobody)
            .ends_with(&about("etcd-server", "lookup nobody.example.com.: no such host"))
    );
    let others = dns().service("etcd-server", &[("m1.example.com.", 2380)]);
    assert_eq!(
        refusal(&flags, others),
        "error setting up initial cluster: cannot find local etcd member \"own\" in SRV records"
    );
    let tls = dns().service("etcd-server-ssl", &[("m2.example.com.", 2380)]);
    assert!(refusal(&flags, tls).starts_with(&format!(
        "error setting up initial cluster: {}",
        about(
            "etcd-server-ssl",
            "bootstrap at https://m2.example.com:2380 from DNS for etcd-server-ssl has scheme \
             mismatch with expected peer http://m2.example.com:2380"
        )
    )));
    let lost = ["--name=own", flags[1], "--initial-advertise-peer-urls=http://lost.example.com:1"];
    let lost = refusal(&lost, dns());
    let why = "lookup lost.example.com: no such host";
    assert_eq!(lost, format!("error setting up initial cluster: {why}\n{why}"));
}
