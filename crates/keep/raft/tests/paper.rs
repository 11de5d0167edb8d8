//! Sentences of the raft paper (Ongaro, Ousterhout: In Search of an Understandable
//! Consensus Algorithm, extended version) and of the thesis, one test each.

use bytes::Bytes;
use mainstay_raft::{
    ConfState, Config, Entry, HardState, LogStart, Message, MessageKind, Raft, Role, StepError,
};
use mainstay_types::{Index, MemberId, Term};

const ME: MemberId = MemberId(1);
const TWO: MemberId = MemberId(2);
const THREE: MemberId = MemberId(3);

/// A core among three, at `term`, with entries of these terms from index 1.
fn core(term: u64, terms: &[u64]) -> Raft {
    let config = Config { pre_vote: false, check_quorum: false, ..Config::new(ME) };
    core_with(config, term, terms)
}

fn core_with(config: Config, term: u64, terms: &[u64]) -> Raft {
    let entry = |(at, term): (usize, &u64)| Entry {
        term: Term(*term),
        index: Index(at as u64 + 1),
        data: Bytes::from(format!("{term}/{}", at + 1)),
        ..Entry::default()
    };
    let start =
        LogStart { entries: terms.iter().enumerate().map(entry).collect(), ..LogStart::default() };
    let conf = ConfState { voters: vec![ME, TWO, THREE], ..ConfState::default() };
    let hard_state = HardState { term: Term(term), ..HardState::default() };
    let mut raft = Raft::new(config, hard_state, conf, start).expect("it fits");
    raft.take_output();
    raft
}

fn from(from: MemberId, kind: MessageKind, term: u64) -> Message {
    Message { kind, from, to: ME, term: Term(term), ..Message::default() }
}

fn append(term: u64, after: (u64, u64), terms: &[u64], commit: u64) -> Message {
    let entry = |(at, term): (usize, &u64)| Entry {
        term: Term(*term),
        index: Index(after.1 + at as u64 + 1),
        ..Entry::default()
    };
    Message {
        log_term: Term(after.0),
        index: Index(after.1),
        entries: terms.iter().enumerate().map(entry).collect(),
        commit: Index(commit),
        ..from(TWO, MessageKind::App, term)
    }
}

/// Everything that leaves, once storage is done.
fn all_messages(raft: &mut Raft) -> Vec<Message> {
    let mut messages = Vec::new();
    while raft.has_output() {
        let output = raft.take_output();
        messages.extend(output.messages);
        messages.extend(output.after_persist);
        raft.persisted(output.mark);
    }
    messages
}

fn answer(raft: &mut Raft, message: Message) -> Message {
    let kind = message.kind;
    raft.step(message).expect("it makes sense");
    let mut answers = all_messages(raft);
    assert_eq!(answers.len(), 1, "one answer to {kind:?}");
    answers.remove(0)
}

fn lead(raft: &mut Raft) {
    raft.campaign();
    all_messages(raft);
    let term = raft.status().term.0;
    raft.step(from(TWO, MessageKind::VoteResp, term)).expect("a vote");
    assert_eq!(raft.role(), Role::Leader);
}

/// 5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn a_stale_request_is_rejected() {
    let mut raft = core(3, &[1, 2]);
    let ask = Message { index: Index(9), log_term: Term(2), ..from(TWO, MessageKind::Vote, 2) };
    raft.step(ask).expect("well-formed");
    raft.step(append(2, (2, 2), &[2], 2)).expect("well-formed");
    assert!(all_messages(&mut raft).is_empty());
    assert_eq!(raft.status().last, Index(2));
}

/// 5.1: "If one server's current term is smaller than the other's, then it updates its current
/// term to the larger value. If a candidate or leader discovers that its term is out of
/// date, it immediately reverts to follower state."
#[test]
fn a_newer_term_makes_a_follower_of_anyone() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut raft = core(1, &[1]);
        match role {
            Role::Leader => lead(&mut raft),
            Role::Candidate => raft.campaign(),
            Role::Follower | Role::PreCandidate => {}
        }
        raft.step(from(TWO, MessageKind::Heartbeat, 9)).expect("well-formed");
        let status = raft.status();
        assert_eq!((status.role, status.term, status.leader), (Role::Follower, Term(9), Some(TWO)));
    }
}

/// 5.2: "each server will vote for at most one candidate in a given term, on a
/// first-come-first-served basis".
#[test]
fn one_vote_per_term() {
    let mut raft = core(1, &[1]);
    let ask =
        |who| Message { index: Index(1), log_term: Term(1), ..from(who, MessageKind::Vote, 2) };
    assert!(!answer(&mut raft, ask(TWO)).reject);
    assert!(answer(&mut raft, ask(THREE)).reject);
    // Asked again, the same candidate gets the same answer.
    assert!(!answer(&mut raft, ask(TWO)).reject);
}

/// Figure 2: "Updated on stable storage before responding to RPCs".
#[test]
fn a_vote_leaves_after_it_is_durable() {
    let mut raft = core(1, &[1]);
    raft.step(Message { index: Index(1), log_term: Term(1), ..from(TWO, MessageKind::Vote, 2) })
        .expect("well-formed");
    let output = raft.take_output();
    assert!(output.messages.is_empty());
    assert!(output.must_sync);
    assert_eq!(output.hard_state.map(|hard| (hard.term, hard.vote)), Some((Term(2), TWO)));
    assert_eq!(output.after_persist.len(), 1);
}

/// 5.2: "a candidate wins an election if it receives votes from a majority of the servers".
#[test]
fn a_majority_wins() {
    let mut raft = core(1, &[1]);
    raft.campaign();
    let output = raft.take_output();
    assert_eq!(raft.role(), Role::Candidate);
    // Its own vote counts once it is durable; one refusal does not end it.
    raft.persisted(output.mark);
    raft.step(Message { reject: true, ..from(TWO, MessageKind::VoteResp, 2) }).expect("a vote");
    assert_eq!(raft.role(), Role::Candidate);
    raft.step(from(THREE, MessageKind::VoteResp, 2)).expect("a vote");
    assert_eq!(raft.role(), Role::Leader);
}

/// 5.2: "While waiting for votes, a candidate may receive an AppendEntries RPC from another server
/// claiming to be leader. If the leader's term is at least as large as the candidate's
/// current term, then the candidate recognizes the leader as legitimate".
#[test]
fn a_candidate_recognizes_a_leader() {
    let mut raft = core(1, &[1]);
    raft.campaign();
    all_messages(&mut raft);
    let answer = answer(&mut raft, append(2, (1, 1), &[2], 1));
    assert_eq!((answer.kind, answer.index, answer.reject), (MessageKind::AppResp, Index(2), false));
    assert_eq!(raft.status().leader, Some(TWO));
}

/// 5.2: "election timeouts are chosen randomly from a fixed interval", so that split votes are rare.
#[test]
fn election_timeouts_spread_over_their_interval() {
    let drawn = |pre_vote| {
        let mut raft = core_with(Config { pre_vote, ..Config::new(ME) }, 1, &[1]);
        let mut drawn = std::collections::BTreeSet::new();
        for term in 2..500 {
            raft.step(from(TWO, MessageKind::Heartbeat, term)).expect("well-formed");
            drawn.insert(raft.election_patience());
        }
        drawn.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(drawn(false), (10..20).collect::<Vec<_>>());
    // A split pre-vote costs no term: see `Config::draw_patience`.
    assert_eq!(drawn(true), (11..16).collect::<Vec<_>>());
}

/// 5.3: "When sending an AppendEntries RPC, the leader includes the index and term of the entry
/// in its log that immediately precedes the new entries. If the follower does not find
/// an entry in its log with the same index and term, then it refuses the new entries."
#[test]
fn what_does_not_follow_is_refused() {
    for (after, matches) in
        [((0, 0), true), ((1, 1), true), ((2, 2), true), ((1, 2), false), ((2, 3), false)]
    {
        let mut raft = core(2, &[1, 2]);
        assert_eq!(!answer(&mut raft, append(2, after, &[], 0)).reject, matches, "{after:?}");
    }
}

/// 5.3: "conflicting entries in follower logs will be overwritten with entries from the leader's
/// log"; figure 2: "If an existing entry conflicts with a new one (same index but
/// different terms), delete the existing entry and all that follow it".
#[test]
fn conflicts_are_overwritten_and_nothing_else_is() {
    let cases: [(&[u64], &[u64]); 4] = [
        (&[3], &[1, 1, 3]),
        (&[2, 2], &[1, 1, 2, 2]),
        (&[3, 3], &[1, 1, 3, 3]),
        // A delayed, shorter append of what is there already cuts nothing.
        (&[2], &[1, 1, 2, 2, 2]),
    ];
    for (sent, expected) in cases {
        let mut raft = core(3, &[1, 1, 2, 2, 2]);
        answer(&mut raft, append(3, (1, 2), sent, 0));
        let expected: Vec<u64> =
            if sent == [2, 2] { vec![1, 1, 2, 2, 2] } else { expected.to_vec() };
        let terms: Vec<u64> = (1..=raft.status().last.0)
            .map(|index| raft.entry_term(Index(index)).expect("it is in the log").0)
            .collect();
        assert_eq!(terms, expected, "{sent:?}");
    }
}

/// Figure 2: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
/// entry)".
#[test]
fn a_follower_commits_only_what_it_knows_to_match() {
    let mut raft = core(2, &[1, 1, 1]);
    // Entry 3 may conflict with the leader's: only up to 2 is known to match.
    answer(&mut raft, append(2, (1, 1), &[1], 9));
    assert_eq!(raft.commit_index(), Index(2));
}

/// 5.3: the leader "retries AppendEntries RPCs indefinitely"; a probe is repeated after the next
/// heartbeat's answer.
#[test]
fn a_lost_probe_is_repeated() {
    let mut raft = core(1, &[1]);
    lead(&mut raft);
    let probes = |messages: Vec<Message>| {
        messages.into_iter().filter(|m| m.kind == MessageKind::App && m.to == THREE).count()
    };
    assert_eq!(probes(all_messages(&mut raft)), 1);
    raft.propose(Bytes::from_static(b"a")).expect("it leads");
    assert_eq!(probes(all_messages(&mut raft)), 0);
    raft.step(from(THREE, MessageKind::HeartbeatResp, 2)).expect("well-formed");
    assert_eq!(probes(all_messages(&mut raft)), 1);
}

/// 5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate",
/// later term first, then length.
#[test]
fn votes_go_to_logs_that_are_up_to_date() {
    let cases = [((1, 9), false), ((2, 1), false), ((2, 2), true), ((2, 3), true), ((3, 1), true)];
    for ((term, index), granted) in cases {
        let mut raft = core(2, &[1, 2]);
        let ask = Message {
            index: Index(index),
            log_term: Term(term),
            ..from(TWO, MessageKind::Vote, 4)
        };
        assert_eq!(!answer(&mut raft, ask).reject, granted, "{term}/{index}");
    }
}

/// 5.4.2: "Raft never commits log entries from previous terms by counting replicas. Only log entries
/// from the leader's current term are committed by counting replicas".
#[test]
fn older_terms_are_not_committed_by_counting() {
    let mut raft = core(2, &[1, 2]);
    lead(&mut raft);
    all_messages(&mut raft);
    raft.step(Message { index: Index(2), ..from(TWO, MessageKind::AppResp, 3) }).expect("known");
    assert_eq!(raft.commit_index(), Index(0));
    raft.step(Message { index: Index(3), ..from(TWO, MessageKind::AppResp, 3) }).expect("known");
    assert_eq!(raft.commit_index(), Index(3));
}

/// Thesis 10.2.1: the leader writes to its disk in parallel with the followers; "the leader may even
/// commit an entry before it has been written to its own disk, if a majority of
/// followers have written it to their disks".
#[test]
fn the_leader_counts_itself_only_when_durable() {
    let mut raft = core(1, &[1]);
    lead(&mut raft);
    let output = raft.take_output();
    assert!(output.messages.iter().any(|m| m.kind == MessageKind::App), "sent in parallel");
    raft.step(Message { index: Index(2), ..from(TWO, MessageKind::AppResp, 2) }).expect("known");
    assert_eq!(raft.commit_index(), Index(0));
    raft.step(Message { index: Index(2), ..from(THREE, MessageKind::AppResp, 2) }).expect("known");
    assert_eq!(raft.commit_index(), Index(2));
    assert_eq!(raft.take_output().committed.len(), 1, "the first is durable here");
    raft.persisted(output.mark);
    assert_eq!(raft.take_output().committed.len(), 1, "and now the second");
}

/// Storage that lags (etcd's raft, asynchronous storage writes): an entry that was written,
/// replaced, and is back again counts with its last write. The one in between would take
/// it away if the member crashed.
#[test]
fn an_entry_that_is_back_again_counts_with_its_last_write() {
    let mut raft = core(1, &[1]);
    let entry = |term, index| Entry { term: Term(term), index: Index(index), ..Entry::default() };
    let mut write = |message: Message| {
        raft.step(message).expect("well-formed");
        let output = raft.take_output();
        assert!(output.committed.is_empty() || output.committed[0].index == Index(1));
        output.mark
    };
    let first = write(append(2, (1, 1), &[2], 1));
    let other = Message { from: THREE, ..append(3, (1, 1), &[3], 1) };
    let second = write(other);
    let third = write(append(4, (1, 1), &[2, 4], 3));
    for mark in [first, second] {
        raft.persisted(mark);
        assert!(raft.take_output().committed.is_empty(), "2/2 is not safe yet");
    }
    raft.persisted(third);
    assert_eq!(raft.take_output().committed, [entry(2, 2), entry(4, 3)]);
}

/// 8: a leader "must have the latest information on which entries are committed": it "commits a blank
/// no-op entry at the start of its term".
#[test]
fn a_leader_starts_with_a_blank_entry() {
    let mut raft = core(1, &[1]);
    lead(&mut raft);
    let output = raft.take_output();
    assert_eq!(output.entries.len(), 1);
    assert_eq!((output.entries[0].term, output.entries[0].data.len()), (Term(2), 0));
}

/// 7: "If instead the follower receives a snapshot that describes a prefix of its log [..] then log
/// entries covered by the snapshot are deleted but entries following the snapshot are
/// still valid and must be retained."
#[test]
fn a_snapshot_of_a_prefix_keeps_what_follows() {
    let mut raft = core(2, &[1, 2, 2]);
    let conf_state = ConfState { voters: vec![ME, TWO, THREE], ..ConfState::default() };
    let snapshot = mainstay_raft::Snapshot {
        index: Index(2),
        term: Term(2),
        conf_state,
        ..Default::default()
    };
    let snap = Message { snapshot: Some(Box::new(snapshot)), ..from(TWO, MessageKind::Snap, 2) };
    let answer = answer(&mut raft, snap);
    assert_eq!(answer.index, Index(2));
    assert_eq!((raft.status().last, raft.commit_index()), (Index(3), Index(2)));
}

/// What a peer says that cannot be is refused, and breaks nothing.
#[test]
fn nonsense_is_an_error() {
    let mut raft = core(2, &[1, 2]);
    let kinds = MessageKind::ALL.into_iter().filter(|kind| kind.is_local());
    for kind in kinds {
        assert_eq!(raft.step(from(TWO, kind, 2)), Err(StepError::Local(kind)));
    }
    let is_malformed = |result| matches!(result, Err(StepError::Malformed(..)));
    let mut gap = append(2, (2, 2), &[2, 2], 0);
    gap.entries[1].index = Index(9);
    assert!(is_malformed(raft.step(gap)));
    assert!(is_malformed(raft.step(append(2, (2, 2), &[2, 1], 0))));
    assert!(is_malformed(raft.step(append(2, (2, 2), &[3], 0))));
    let mut far = append(2, (2, 2), &[2], 0);
    far.index = Index(u64::MAX);
    assert!(is_malformed(raft.step(far)));
    assert!(is_malformed(raft.step(from(TWO, MessageKind::Snap, 2))));
    let lost = Message { commit: Index(7), ..from(TWO, MessageKind::Heartbeat, 2) };
    assert_eq!(
        raft.step(lost),
        Err(StepError::CommitBeyondLog { commit: Index(7), last: Index(2) })
    );
    let stranger = from(MemberId(9), MessageKind::AppResp, 2);
    assert_eq!(raft.step(stranger), Err(StepError::UnknownPeer(MemberId(9))));
    raft.step(append(2, (2, 2), &[], 2)).expect("it leads");
    assert_eq!(raft.step(append(2, (0, 0), &[2], 2)), Ok(()), "an old one is answered");
    assert!(
        raft.step(append(2, (1, 1), &[1], 0)).is_ok(),
        "below the commit index nothing is compared"
    );
    assert_eq!(raft.commit_index(), Index(2));
    lead(&mut raft);
    let beyond = Message { index: Index(99), ..from(TWO, MessageKind::AppResp, 3) };
    assert!(is_malformed(raft.step(beyond)));
}

/// etcd's bootstrap: every first member starts with the same changes, committed in term 1, and may
/// campaign once it has applied them.
#[test]
fn a_new_cluster_starts_from_its_own_log() {
    let peer = |id| mainstay_raft::Peer { id: MemberId(id), context: Bytes::new() };
    let config = Config { pre_vote: false, ..Config::new(ME) };
    let mut raft = Raft::bootstrap(config, vec![peer(1)]).expect("it fits");
    raft.campaign();
    assert_eq!(raft.role(), Role::Follower, "its own change is not applied");
    let output = raft.take_output();
    assert_eq!(
        output.hard_state,
        Some(HardState { term: Term(1), vote: MemberId::NONE, commit: Index(1) })
    );
    assert_eq!(output.entries.len(), 1);
    raft.persisted(output.mark);
    let committed = raft.take_output().committed;
    let change = mainstay_raft::ConfChange::decode(&committed[0].data).expect("a change");
    raft.apply_conf_change(change).expect("it fits");
    raft.applied(Index(1));
    raft.campaign();
    let output = raft.take_output();
    raft.persisted(output.mark);
    assert_eq!((raft.role(), raft.status().term), (Role::Leader, Term(2)));
}
