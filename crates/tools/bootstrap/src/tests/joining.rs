//! `--initial-cluster-state=existing`.

use mainstay_driver::Founding;

use super::{found, refusal};
use crate::Error;
use crate::fakes::{FakeNames, FakePeer, ok};

/// A running member at `peer` with id 1, and ours, added as id 2 at `http://localhost:2380`.
fn members(peer: &FakePeer) -> String {
    format!(
        "[{{\"id\":2,\"peerURLs\":[\"http://localhost:2380\"]}},\
         {{\"id\":1,\"peerURLs\":[\"{}\"],\"name\":\"m1\",\"clientURLs\":[\"http://c:1\"]}}]\n",
        peer.url()
    )
}

fn join(peer: &FakePeer, more: &[&str]) -> Result<Founding, Error> {
    let list = format!("--initial-cluster=m1={},me=http://localhost:2380", peer.url());
    let flags = [&["--name=me", "--initial-cluster-state=existing", &list], more].concat();
    found(&flags, FakeNames::default())
}

fn text(joined: Result<Founding, Error>) -> String {
    joined.expect_err("a refusal").to_string()
}

/// A running member that tells `members`.
fn telling(members: impl FnOnce(&FakePeer) -> String, version: &str) -> FakePeer {
    let peer = FakePeer::start();
    let list = members(&peer);
    peer.tells("cdf818194e3a8c32", &list);
    peer.on(
        "GET /version",
        ok(&format!("{{\"etcdserver\":\"3.5.16\",\"etcdcluster\":\"{version}\"}}")),
    );
    peer.on("GET /downgrade/enabled", ok("false"));
    peer
}

#[test]
fn a_member_takes_the_identity_that_the_cluster_gave_it() {
    let peer = telling(members, "3.5.0");
    let Ok(Founding::Join { cluster, me, members }) = join(&peer, &[]) else { panic!("joined") };
    assert_eq!(cluster.to_string(), "cdf818194e3a8c32");
    assert_eq!(me.0, 2);
    let ids: Vec<u64> = members.iter().map(|member| member.id.0).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(members[0].name, "m1");
    assert_eq!(peer.asked(), ["GET /members", "GET /version", "GET /downgrade/enabled"]);
}

#[test]
fn nobody_answers() {
    let gone = "--initial-cluster=m1=http://127.0.0.1:1,me=http://localhost:2380";
    let flags = ["--name=me", "--initial-cluster-state=existing", gone];
    let unreachable = "cannot fetch cluster info from peer urls: could not retrieve cluster \
                       information from the given URLs";
    assert_eq!(refusal(&flags, FakeNames::default()), unreachable);
    for (cluster, body) in
        [("1", "garbage"), ("", "[]"), ("nothex", "[]"), ("1", "{}"), ("1", "[1]"), ("1", "")]
    {
        let peer = FakePeer::start();
        peer.tells(cluster, body);
        assert_eq!(text(join(&peer, &[])), unreachable, "{cluster} {body}");
    }
    let peer = telling(|_| "[]".to_owned(), "3.5.0");
    assert_eq!(
        text(join(&peer, &[])),
        "cannot fetch cluster info from peer urls: failed to get raft cluster member(s) from the \
         given URLs"
    );
}

#[test]
fn the_list_has_to_fit_the_cluster() {
    let alone = |peer: &FakePeer| {
        format!(
            "[{{\"id\":1,\"peerURLs\":[\"{}\"],\"name\":\"m1\",\"clientURLs\":[\"http://c:1\"]}}]",
            peer.url()
        )
    };
    let peer = telling(alone, "3.5.0");
    assert_eq!(
        text(join(&peer, &[])),
        format!(
            "error validating peerURLs {{ClusterID:cdf818194e3a8c32 Members:[&{{ID:1 \
             RaftAttributes:{{PeerURLs:[{}] IsLearner:false}} Attributes:{{Name:m1 \
             ClientURLs:[http://c:1]}}}}] RemovedMemberIDs:[]}}: member count is unequal",
            peer.url()
        )
    );
    let elsewhere = |peer: &FakePeer| {
        members(peer).replace("http://localhost:2380", "http://10.0.0.9:1\",\"http://10.0.0.9:2")
    };
    let peer = telling(elsewhere, "3.5.0");
    let error = text(join(&peer, &[]));
    let gist = "PeerURLs: no match found for existing member (2, [http://10.0.0.9:1 \
                http://10.0.0.9:2]), last resolver error (len([\"http://10.0.0.9:1\" \
                \"http://10.0.0.9:2\"]) != len([\"http://";
    // The last of our list: which one that is depends on the ports that were free.
    assert!(error.contains(gist), "{error}");
    let odd = |peer: &FakePeer| members(peer).replace("http://localhost:2380", "nonsense");
    let error = text(join(&telling(odd, "3.5.0"), &[]));
    assert!(error.ends_with("failed to parse string to URL: \"nonsense\""), "{error}");
    let twins = |peer: &FakePeer| members(peer).replace("http://localhost:2380", &peer.url());
    let error = text(join(&telling(twins, "3.5.0"), &[]));
    assert!(error.ends_with("two members of the cluster have the same peer URLs"), "{error}");
}

#[test]
fn the_cluster_has_to_be_of_a_version_that_we_speak() {
    for (version, fits) in
        [("3.7.0", true), ("3.8.0", false), ("3.4.0", false), ("not_decided", false)]
    {
        let joined = join(&telling(members, version), &[]);
        match fits {
            true => assert!(joined.is_ok(), "{version}: {joined:?}"),
            false => assert_eq!(text(joined), "incompatible with current running cluster"),
        }
    }
    // While a downgrade is under way, only from one minor above.
    for (version, fits) in [("3.7.0", false), ("3.8.0", true)] {
        let peer = FakePeer::start();
        peer.tells("1", &members(&peer));
        peer.on("GET /version", ok(&format!("{{\"etcdcluster\":\"{version}\"}}")));
        peer.on("GET /downgrade/enabled", ok("true"));
        assert_eq!(join(&peer, &[]).is_ok(), fits, "{version}");
    }
    // Who does not know of downgrades has none; who does not tell its version is nobody.
    let peer = FakePeer::start();
    peer.tells("1", &members(&peer)).on("GET /version", ok("{\"etcdcluster\":\"3.5.0\"}"));
    assert!(join(&peer, &[]).is_ok());
    let peer = FakePeer::start();
    peer.tells("1", &members(&peer));
    assert_eq!(text(join(&peer, &[])), "incompatible with current running cluster");
}

#[test]
fn other_rules() {
    let learners =
        |peer: &FakePeer| members(peer).replace("\"id\":2", "\"id\":2,\"isLearner\":true");
    assert!(join(&telling(learners, "3.5.0"), &[]).is_ok());
    assert_eq!(
        text(join(&telling(learners, "3.5.0"), &["--max-learners=0"])),
        "membership: too many learner members in cluster"
    );
    let existing = "--initial-cluster-state=existing";
    assert_eq!(
        refusal(
            &[existing, "--discovery-endpoints=h:1", "--discovery-token=t"],
            FakeNames::default()
        ),
        "discovery URL should not be set when joining existing initial cluster"
    );
    assert_eq!(
        refusal(&[existing, "--discovery=http://h:1/t"], FakeNames::default()),
        "discovery URL should not be set when joining existing initial cluster"
    );
    assert_eq!(
        refusal(&[existing, "--initial-cluster=a=http://a:1"], FakeNames::default()),
        "couldn't find local name \"default\" in the initial cluster configuration"
    );
    assert_eq!(
        refusal(
            &[existing, "--initial-cluster=default=http://a:1,b=http://a:1"],
            FakeNames::default()
        ),
        "initial cluster b=http://a:1,default=http://a:1 has duplicate url"
    );
    // Alone there is nobody to ask.
    assert_eq!(
        refusal(&[existing], FakeNames::default()),
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from \
         the given URLs"
    );
}
