//! How a member begins, beside etcd 3.5.16: the same flags have the same texts, the real one is
//! joined, and it serves as discovery service of both kinds.

mod etcd;

use etcd::{Etcd, flags, ours};
use mainstay_driver::Founding;
use mainstay_interop::free_ports;
use mainstay_membership::cluster_id;
use mainstay_types::MemberId;

/// What both say to `flags`, which make neither of them a member.
fn both_say(text: &str) -> Option<(String, String)> {
    let real = Etcd::start("m1", &flags(text))?;
    let place = format!("--name=m1 --initial-advertise-peer-urls={} {text}", real.peer_url());
    let our = match ours(&flags(&place)) {
        Err(error) => error,
        Ok(founding) => panic!("{text}: {founding:?}"),
    };
    Some((our, real.last_error()))
}

#[test]
fn faults_of_a_list_have_the_real_texts() {
    for text in [
        "--initial-cluster=b=http://127.0.0.1:1",
        "--initial-cluster=m1=ftp://127.0.0.1:1",
        "--initial-cluster=m1=http://127.0.0.1",
        "--initial-cluster=m1=http://127.0.0.1:1/",
        "--initial-cluster=m1",
        "--initial-cluster=m1=http://10.9.9.9:1",
        "--initial-advertise-peer-urls=http://127.0.0.1:5,http://127.0.0.1:6 \
         --initial-cluster=m1=http://127.0.0.1:5",
        "--initial-advertise-peer-urls=http://127.0.0.1:5 \
         --initial-cluster=m1=http://127.0.0.1:5,m1=http://127.0.0.1:5",
        "--initial-advertise-peer-urls=http://127.0.0.1:5 \
         --initial-cluster=m2=http://127.0.0.1:5,m1=http://127.0.0.1:5",
        "--initial-advertise-peer-urls=http://127.0.0.1:5 \
         --initial-cluster=m1=http://localhost:5",
        "--initial-advertise-peer-urls=http://127.0.0.1:5 --initial-cluster-state=existing \
         --initial-cluster=m2=http://127.0.0.1:5,m1=http://127.0.0.1:5",
        "--initial-advertise-peer-urls=http://127.0.0.1:5 --initial-cluster-state=existing \
         --initial-cluster=m2=http://127.0.0.1:1,m1=http://127.0.0.1:5",
        "--initial-cluster-state=existing --initial-cluster=b=http://127.0.0.1:1",
        "--initial-cluster-state=existing --discovery=http://127.0.0.1:1/t",
        "--initial-cluster=m1=http://127.0.0.1:1 --discovery=http://127.0.0.1:1/t",
        "--discovery-srv=example.com --discovery=http://127.0.0.1:1/t",
    ] {
        let Some((our, real)) = both_say(text) else { return };
        assert_eq!(our, real, "{text}");
    }
}

#[test]
fn a_running_cluster_is_joined_and_its_refusals_are_the_real_ones() {
    let ports = free_ports();
    let first = format!("--initial-cluster=m0=http://127.0.0.1:{}", ports.1);
    let Some(m0) = Etcd::start_at("m0", ports, &flags(&first)) else { return };
    let m0 = m0.wait_ready();
    let list = |own: &str| {
        format!(
            "--initial-cluster-state=existing --initial-cluster=m0={},m1={own} \
             --initial-advertise-peer-urls={own}",
            m0.peer_url()
        )
    };
    let own = "http://127.0.0.1:7";
    let (our, real) = both_say(&list(own)).expect("it is here");
    assert_eq!(our, real);
    assert!(our.ends_with("member count is unequal"), "{our}");

    m0.ctl("member add m1 --learner --peer-urls=http://127.0.0.1:8").expect("it is here");
    let (our, real) = both_say(&list(own)).expect("it is here");
    // Go goes through its members in any order when it shows them.
    let gist = |text: &str| text[text.find("PeerURLs: no match").expect("why")..].to_owned();
    assert_eq!(gist(&our), gist(&real));

    let place = format!("--name=m1 {}", list("http://127.0.0.1:8"));
    let Ok(Founding::Join { cluster, me, members }) = ours(&flags(&place)) else {
        panic!("joined")
    };
    let told = m0.ctl("member list -w json").expect("it is here");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["header"]["cluster_id"].as_u64(), Some(cluster.0));
    let theirs = told["members"].as_array().expect("a list");
    let added = theirs.iter().find(|member| member["isLearner"] == true).expect("it was added");
    assert_eq!(added["ID"].as_u64(), Some(me.0));
    assert_eq!(members.len(), theirs.len());
    assert!(members.iter().any(|member| member.id == me && member.is_learner));
}

#[test]
fn who_was_there_before_does_not_found_again() {
    let (one, two) = (free_ports(), free_ports());
    let list =
        format!("--initial-cluster=m1=http://127.0.0.1:{},m2=http://127.0.0.1:{}", one.1, two.1);
    let Some(m1) = Etcd::start_at("m1", one, &flags(&list)) else { return };
    let m2 = Etcd::start_at("m2", two, &flags(&list)).expect("it is here");
    let (m1, _m2) = (m1.wait_ready(), m2.wait_ready());
    let again = format!("--initial-advertise-peer-urls={} {list}", m1.peer_url());
    let (our, real) = both_say(&again).expect("it is here");
    assert_eq!(our, real);
    assert!(our.ends_with("has already been bootstrapped"), "{our}");
}

/// The identities of the founders, and of their cluster.
fn identities(founding: &Founding) -> (Vec<MemberId>, String) {
    let Founding::New { members, .. } = founding else { panic!("{founding:?}") };
    let ids: Vec<MemberId> = members.iter().map(|member| member.id).collect();
    let cluster = cluster_id(ids.iter().copied()).to_string();
    (ids, cluster)
}

fn services(more: &str) -> Option<Etcd> {
    let ports = free_ports();
    let list = format!("--initial-cluster=m1=http://127.0.0.1:{} {more}", ports.1);
    Some(Etcd::start_at("m1", ports, &flags(&list))?.wait_ready())
}

#[test]
fn the_old_discovery_service_makes_one_cluster_of_ours_and_theirs() {
    let Some(service) = services("--enable-v2=true") else { return };
    let folder = "/v2/keys/_etcd/registry/t1";
    // 3.5 would turn into a proxy when the cluster is full.
    let url = format!(
        "--discovery-fallback=exit --discovery=http://127.0.0.1:{}{folder}",
        service.client
    );
    let with =
        |n: u16| format!("{url} --name=x{n} --initial-advertise-peer-urls=http://127.0.0.1:{n}");

    // No such token yet.
    let index = |text: &str| text.rsplit_once(" [").map_or("", |(head, _)| head).to_owned();
    let (our, real) = both_say(&url).expect("it is here");
    assert_eq!(index(&our), index(&real));
    assert!(our.contains("100: Key not found"), "{our}");
    for bad in ["none", "-3"] {
        service.http("PUT", &format!("{folder}/_config/size"), &format!("value={bad}"));
        let (our, real) = both_say(&url).expect("it is here");
        assert_eq!(our, real, "{bad}");
    }

    service.http("PUT", &format!("{folder}/_config/size"), "value=3");
    let theirs = Etcd::start("theirs", &flags(&url)).expect("it is here");
    theirs.wait("found peers from discovery server; waiting for more");
    let waiting = [11, 12].map(|n| {
        let flags = flags(&with(n));
        std::thread::spawn(move || ours(&flags))
    });
    let founded = waiting.map(|one| one.join().expect("no panic").expect("a cluster"));
    let real = theirs.wait("starting local member");
    let (ids, cluster) = identities(&founded[0]);
    assert_eq!(ids.len(), 3);
    assert_eq!(identities(&founded[1]).0, ids);
    assert_eq!(real["cluster-id"].as_str(), Some(cluster.as_str()));
    let id = real["local-member-id"].as_str().expect("its id");
    assert!(ids.iter().any(|known| known.to_string() == id));

    // Full, for somebody else; used, for one of them.
    let (our, real) = both_say(&url).expect("it is here");
    assert_eq!(our, real);
    assert_eq!(our, "failed to join discovery cluster (discovery: cluster is full)");
    let (our, real) = both_say(&with(11)).expect("it is here");
    assert_eq!(our, "failed to join discovery cluster (discovery: found duplicate id)");
    assert!(real.contains("discovery: found duplicate id"), "{real}");
}

#[test]
fn the_new_discovery_service_is_any_etcd() {
    let Some(service) = services("") else { return };
    let url = format!("--discovery-endpoints=127.0.0.1:1,127.0.0.1:{}", service.client);
    let with = |n: u16, token: &str| {
        flags(&format!(
            "{url} --discovery-token={token} --name=x{n} \
             --initial-advertise-peer-urls=http://127.0.0.1:{n}"
        ))
    };
    let failed = |why: &str| Err(format!("failed to join discovery cluster (discovery: {why})"));
    assert_eq!(ours(&with(1, "t")), failed("size key not found"));
    let size = |token: &str, size: &str| {
        service.ctl(&format!("put /_etcd/registry/{token}/_config/size {size}"))
    };
    size("bad", "three");
    assert_eq!(ours(&with(1, "bad")), failed("size key is bad"));

    size("t", "3");
    // Neither of these two is a member.
    service.ctl("put /_etcd/registry/t/members/1 nonsense");
    service.ctl("put /_etcd/registry/t/other/2 a=http://127.0.0.1:9");
    let waiting = [1, 2, 3].map(|n| {
        let flags = with(n, "t");
        std::thread::spawn(move || ours(&flags))
    });
    let founded = waiting.map(|one| one.join().expect("no panic").expect("a cluster"));
    let (ids, _) = identities(&founded[0]);
    assert_eq!(ids.len(), 3);
    for one in &founded {
        assert_eq!(identities(one).0, ids);
    }
    assert_eq!(ours(&with(4, "t")), failed("cluster is full"));
    // Who is registered may come again, as in etcd.
    assert_eq!(ours(&with(1, "t")).as_ref(), Ok(&founded[0]));

    size("odd", "2");
    service.ctl("put /_etcd/registry/odd/members/1 a=nowhere");
    assert_eq!(ours(&with(1, "odd")), failed("invalid peer URL"));
    size("twin", "2");
    service.ctl("put /_etcd/registry/twin/members/1 a=http://127.0.0.1:1");
    let twin =
        Err("discovery cluster a=http://127.0.0.1:1,x1=http://127.0.0.1:1 has duplicate url");
    assert_eq!(ours(&with(1, "twin")).map_err(|e| e.leak() as &str), twin);
}

#[test]
fn a_discovery_service_with_users_wants_a_password() {
    let Some(service) = services("") else { return };
    service.ctl("put /_etcd/registry/t/_config/size 1");
    for words in ["user add root:secret", "user grant-role root root", "auth enable"] {
        service.ctl(words);
    }
    let with = |more: &str| {
        ours(&flags(&format!(
            "--discovery-endpoints=http://127.0.0.1:{} --discovery-token=t {more}",
            service.client
        )))
    };
    assert_eq!(
        with("--discovery-user=root --discovery-password=wrong"),
        Err(
            "failed to join discovery cluster (etcdserver: authentication failed, invalid user ID \
             or password)"
                .to_owned()
        )
    );
    let founded = with("--discovery-user=root --discovery-password=secret").expect("a cluster");
    assert_eq!(identities(&founded).0.len(), 1);
}
