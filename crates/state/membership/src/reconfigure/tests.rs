//! Every rule of the strict reconfiguration check, case by case.

use super::*;

/// What the member that is asked (1) sees of one member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Connected for a while.
    Long,
    /// Connected, but not for long enough.
    Short,
    /// Started once, away now.
    Away,
    /// Never started.
    New,
    /// A learner, connected.
    Learner,
}

use Seen::{Away, Learner, Long, New, Short};

/// Members 1, 2, 3, ... as seen; and for how long each is connected.
fn cluster(seen: &[Seen]) -> (Membership, impl Fn(MemberId) -> Option<Duration>) {
    let members = seen.iter().zip(1..).map(|(seen, id)| Member {
        id: MemberId(id),
        peer_urls: vec![format!("http://m{id}:2380")],
        is_learner: *seen == Learner,
        name: if *seen == New { String::new() } else { format!("m{id}") },
        client_urls: vec![],
    });
    let membership = Membership::new(members);
    let seen = seen.to_vec();
    let connected = move |id: MemberId| match seen.get(id.0 as usize - 1)? {
        // Nobody has a connection to itself.
        _ if id == ME => None,
        Long | Learner => Some(HEALTH_INTERVAL + Duration::from_millis(1)),
        Short => Some(HEALTH_INTERVAL),
        Away | New => None,
    };
    (membership, connected)
}

const ME: MemberId = MemberId(1);

fn newcomer(is_learner: bool) -> Member {
    Member { id: MemberId(99), is_learner, ..Member::default() }
}

#[test]
fn who_may_be_added() {
    use Refusal::{NotEnoughStarted, Unhealthy};
    // What is there, then the answers for a voter and for a learner.
    for (seen, voter, learner) in [
        (&[Long][..], Ok(()), Ok(())),
        // A lone voter that has never published: the voter is refused.
        (&[New], Err(NotEnoughStarted), Ok(())),
        (&[Long, Long], Ok(()), Ok(())),
        // Two of three need both.
        (&[Long, Away], Err(Unhealthy), Err(Unhealthy)),
        (&[Long, Short], Err(Unhealthy), Err(Unhealthy)),
        (&[Long, New], Err(NotEnoughStarted), Err(Unhealthy)),
        (&[Long, Long, Long], Ok(()), Ok(())),
        // Three of four are the quorum after the addition.
        (&[Long, Long, Away], Err(Unhealthy), Err(Unhealthy)),
        (&[Long, Long, New], Err(NotEnoughStarted), Err(Unhealthy)),
        (&[Long, Long, Long, New], Ok(()), Ok(())),
        (&[Long, Long, Long, Away, Away], Err(Unhealthy), Err(Unhealthy)),
        (&[Long, Long, Long, Long, Away], Ok(()), Ok(())),
        // Learners are no voters: this is a lone voter.
        (&[Long, Learner], Ok(()), Ok(())),
        (&[Long, Long, Learner], Ok(()), Ok(())),
        (&[Long, Away, Learner], Err(Unhealthy), Err(Unhealthy)),
    ] {
        let (membership, connected_for) = cluster(seen);
        let sight = Sight { me: ME, connected_for: &connected_for };
        let text = format!("{} members", seen.len());
        assert_eq!(may_add(&membership, &newcomer(false), sight), voter, "{text}, a voter");
        assert_eq!(may_add(&membership, &newcomer(true), sight), learner, "{text}, a learner");
    }
}

#[test]
fn who_may_be_removed() {
    use Refusal::{NotEnoughStarted, Unhealthy};
    for (seen, id, answer) in [
        // The last one stays.
        (&[Long][..], 1, Err(NotEnoughStarted)),
        (&[Long, Long], 2, Ok(())),
        (&[Long, Long], 1, Ok(())),
        (&[Long, Away], 2, Ok(())),
        // Without me nobody is connected.
        (&[Long, Away], 1, Err(Unhealthy)),
        (&[Long, New], 2, Ok(())),
        // One that never started would be left alone.
        (&[Long, New], 1, Err(NotEnoughStarted)),
        (&[Long, Long, Long], 3, Ok(())),
        (&[Long, Long, Long], 1, Ok(())),
        // One that is away may go, one that is there may not while another is away.
        (&[Long, Long, Away], 3, Ok(())),
        (&[Long, Long, Away], 2, Err(Unhealthy)),
        (&[Long, Long, Away], 1, Err(Unhealthy)),
        (&[Long, Long, Short], 2, Err(Unhealthy)),
        // Connected for a moment is not away.
        (&[Long, Long, Short], 3, Err(Unhealthy)),
        (&[Long, Long, New], 2, Err(NotEnoughStarted)),
        (&[Long, Long, New], 3, Ok(())),
        // Without a quorum of voters that ever started nothing goes.
        (&[Long, New, New], 2, Err(NotEnoughStarted)),
        (&[Long, Long, Long, Away, Away], 4, Ok(())),
        (&[Long, Long, Long, Away, Away], 3, Err(Unhealthy)),
        (&[Long, Long, Long, Long, Away], 4, Ok(())),
        // A learner may always go.
        (&[Long, Learner], 2, Ok(())),
        (&[Long, Away, Away, Learner], 4, Ok(())),
        // Who is unknown is refused when it is applied.
        (&[Long, Long, Long], 9, Ok(())),
        (&[New], 9, Err(NotEnoughStarted)),
    ] {
        let (membership, connected_for) = cluster(seen);
        let connected = |id: MemberId| if id.0 == 9 { None } else { connected_for(id) };
        let sight = Sight { me: ME, connected_for: &connected };
        let removed = may_remove(&membership, MemberId(id), sight);
        assert_eq!(removed, answer, "{id} of {}", seen.len());
    }
}

#[test]
fn who_may_be_promoted() {
    let sync = |member: Option<u64>, leader: u64| {
        is_in_sync(Progress { member: member.map(Index), leader: Index(leader) })
    };
    assert_eq!(sync(None, 100), Err(Refusal::IdNotFound));
    assert_eq!(sync(Some(0), 100), Err(Refusal::LearnerNotReady));
    assert_eq!(sync(Some(89), 100), Err(Refusal::LearnerNotReady));
    assert_eq!(sync(Some(90), 100), Ok(()));
    assert_eq!(sync(Some(100), 100), Ok(()));
    // Large numbers are compared as floats, as etcd does.
    assert_eq!(sync(Some(u64::MAX - 1), u64::MAX), Ok(()));
    for (seen, answer) in [
        (&[Long, Learner][..], Ok(())),
        (&[New, Learner], Err(Refusal::NotEnoughStarted)),
        (&[Long, New, Learner], Ok(())),
        (&[Long, Long, Learner], Ok(())),
        (&[Long, New, New, Learner], Err(Refusal::NotEnoughStarted)),
        (&[Long, Away, New, Learner], Ok(())),
    ] {
        assert_eq!(may_promote(&cluster(seen).0), answer, "{} members", seen.len());
    }
}

#[test]
fn refusals_say_what_etcd_says() {
    for (refusal, text) in [
        (
            Refusal::NotEnoughStarted,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        (Refusal::Unhealthy, "etcdserver: unhealthy cluster"),
        (Refusal::IdNotFound, "membership: ID not found"),
        (
            Refusal::LearnerNotReady,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
    ] {
        assert_eq!(refusal.to_string(), text);
    }
}
