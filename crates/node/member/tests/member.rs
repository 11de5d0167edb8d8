//! A member's habits, alone and among three.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_member::{Effect, Input, Member, MemberConfig, RefuseReason};
use mainstay_raft::{
    ConfChange, ConfChangeKind, ConfState, Entry, EntryKind, HardState, LogStart, Mark, Message,
    MessageKind, Role, Snapshot,
};
use mainstay_types::{Index, MemberId, Term};

const ME: MemberId = MemberId(1);

fn voters(count: u64) -> ConfState {
    ConfState { voters: (1..=count).map(MemberId).collect(), ..ConfState::default() }
}

fn member(count: u64, configure: impl Fn(&mut MemberConfig)) -> Member {
    let mut config = MemberConfig::new(ME);
    configure(&mut config);
    Member::new(config, HardState::default(), voters(count), LogStart::default()).expect("it fits")
}

fn data(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

/// Carries effects out at once until nothing is left; returns the others.
fn settle(member: &mut Member) -> Vec<Effect> {
    let mut rest = Vec::new();
    loop {
        let mut effects = Vec::new();
        member.flush(&mut effects);
        if effects.is_empty() {
            return rest;
        }
        for effect in effects {
            match effect {
                Effect::Persist { mark, .. } => member.feed(Input::Persisted(mark)),
                Effect::Apply(entries) => {
                    let last = entries.last().expect("never empty").index;
                    member.feed(Input::Applied(last));
                }
                other => rest.push(other),
            }
        }
    }
}

fn led(configure: impl Fn(&mut MemberConfig)) -> Member {
    let mut member = member(1, configure);
    settle(&mut member);
    assert!(member.is_lone_leader());
    member
}

#[test]
fn a_lone_voter_leads_after_one_write() {
    let mut member = member(1, |_| {});
    let mut effects = Vec::new();
    member.flush(&mut effects);
    let [Effect::LeaderChanged { .. } | Effect::Persist { .. }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    member.feed(Input::Persisted(Mark(1)));
    assert_eq!(member.status().role, Role::Leader);
    assert!(!member.is_lone_leader(), "nothing of its term is committed");
    let rest = settle(&mut member);
    assert!(
        matches!(rest.as_slice(), [Effect::LeaderChanged { leader: Some(ME), .. }]),
        "{rest:?}"
    );
    assert!(member.is_lone_leader());
}

#[test]
fn a_turn_of_proposals_is_one_persist() {
    let mut member = led(|_| {});
    for id in 0..100 {
        member.feed(Input::Propose { id, data: data("x") });
    }
    let mut effects = Vec::new();
    member.flush(&mut effects);
    let [Effect::Persist { entries, must_sync: true, mark, .. }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(entries.len(), 100);
    member.feed(Input::Persisted(*mark));
    effects.clear();
    member.flush(&mut effects);
    let [Effect::Apply(entries)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(entries.len(), 100);
}

#[test]
fn snapshots_come_when_enough_was_applied_and_one_at_a_time() {
    let mut member = led(|config| {
        config.snapshot_count = 10;
        config.catchup_entries = 5;
    });
    let mut taken = Vec::new();
    for id in 0..400 {
        member.feed(Input::Propose { id, data: data("x") });
        for effect in settle(&mut member) {
            match effect {
                Effect::TakeSnapshot { index } => taken.push(index),
                other => panic!("{other:?}"),
            }
        }
        // The first one takes its time.
        if taken.len() > 1 || id == 30 {
            let index = *taken.last().expect("it was asked for");
            member.feed(Input::SnapshotTaken { index });
            let released = settle(&mut member);
            assert!(matches!(released.as_slice(), [Effect::ReleaseLog { to }] if *to == index));
        }
    }
    assert_eq!(taken[0], Index(11));
    assert!(taken[1] > Index(31), "not before the first was done: {taken:?}");
    assert!(taken.windows(2).all(|pair| pair[1].0 >= pair[0].0 + 11), "{taken:?}");
    let status = member.status();
    assert!(status.first > Index(250) && status.last.0 - status.first.0 >= 5, "{status:?}");
}

#[test]
fn proposals_are_refused_when_apply_lags() {
    let mut member = led(|config| config.apply_backlog_max = 10);
    for id in 0..12 {
        member.feed(Input::Propose { id, data: data("x") });
    }
    // Durable and committed, but not applied.
    let mut effects = Vec::new();
    member.flush(&mut effects);
    let Some(Effect::Persist { mark, .. }) = effects.first() else { panic!("{effects:?}") };
    member.feed(Input::Persisted(*mark));
    member.feed(Input::Propose { id: 99, data: data("y") });
    effects.clear();
    member.flush(&mut effects);
    let refused = Effect::Refuse { id: 99, reason: RefuseReason::ApplyBacklog };
    assert_eq!(format!("{:?}", effects[0]), format!("{refused:?}"));
}

#[test]
fn proposals_wait_for_a_leader_but_not_forever() {
    let mut member = member(3, |config| {
        config.proposal_patience_ticks = 3;
        config.proposals_waiting_max = 2;
    });
    for id in 1..=3 {
        member.feed(Input::Propose { id, data: data("x") });
    }
    let refusals = |effects: Vec<Effect>| -> Vec<u64> {
        let id = |effect| match effect {
            Effect::Refuse { id, reason: RefuseReason::NoLeader } => Some(id),
            _ => None,
        };
        effects.into_iter().filter_map(id).collect()
    };
    assert_eq!(refusals(settle(&mut member)), [3], "no room");
    member.feed(Input::Tick);
    member.feed(Input::Tick);
    assert!(refusals(settle(&mut member)).is_empty());
    member.feed(Input::Tick);
    assert_eq!(refusals(settle(&mut member)), [1, 2]);
    // Once there is a leader, what waits goes there.
    member.feed(Input::Propose { id: 4, data: data("z") });
    let kind = mainstay_raft::MessageKind::Heartbeat;
    let beat = Message { kind, from: MemberId(2), to: ME, term: Term(5), ..Message::default() };
    member.feed(Input::Peer(beat));
    let sent: Vec<Message> = settle(&mut member)
        .into_iter()
        .filter_map(
            |effect| if let Effect::Send(messages) = effect { Some(messages) } else { None },
        )
        .flatten()
        .collect();
    assert!(sent.iter().any(|m| m.entries.iter().any(|entry| entry.data == "z")), "{sent:?}");
}

#[test]
fn a_peers_nonsense_is_told() {
    let mut member = led(|_| {});
    let kind = mainstay_raft::MessageKind::Hup;
    member.feed(Input::Peer(Message { kind, from: MemberId(2), ..Message::default() }));
    assert!(matches!(settle(&mut member).as_slice(), [Effect::Ignored { .. }]));
}

#[test]
fn a_lone_leader_reads_at_once() {
    let mut member = led(|config| config.read_epoch = u64::MAX - 1);
    member.feed(Input::Propose { id: 1, data: data("x") });
    settle(&mut member);
    member.feed(Input::ReadIndex(7));
    let effects = settle(&mut member);
    assert!(
        matches!(effects.as_slice(), [Effect::ReadReady { ctx: 7, index: Index(2) }]),
        "{effects:?}"
    );
}

#[test]
fn a_change_and_its_refusal_by_the_state_machine() {
    let mut member = led(|_| {});
    let change = ConfChange {
        kind: ConfChangeKind::AddLearnerNode,
        node: MemberId(2),
        ..ConfChange::default()
    };
    member.feed(Input::ProposeConfChange { id: 1, change: change.clone() });
    settle(&mut member);
    // The state machine refuses it: raft hears of a no-op.
    member.feed(Input::ConfChangeApplied(ConfChange { node: MemberId::NONE, ..change.clone() }));
    assert_eq!(member.conf_state(), voters(1));
    member.feed(Input::ConfChangeApplied(change));
    assert_eq!(member.conf_state().learners, [MemberId(2)]);
}

#[test]
fn what_comes_during_a_transfer_is_kept_for_whoever_leads_then() {
    let mut net = Net::new(3);
    net.run(40);
    let leader = net.leader();
    net.down.extend((1..=3).map(MemberId).filter(|id| *id != leader));
    let to = net.down[0];
    net.feed(leader, Input::TransferLeader(to));
    net.feed(leader, Input::Propose { id: 5, data: data("kept") });
    assert_eq!(net.refused, [], "neither refused nor lost");
    net.down.clear();
    net.run(40);
    let kept = |entries: &Vec<Entry>| entries.iter().filter(|e| e.data == data("kept")).count();
    assert!(net.applied.values().all(|entries| kept(entries) == 1), "applied once everywhere");
}

#[test]
fn what_the_next_leader_had_sent_before_comes_back_to_it() {
    let mut net = Net::new(3);
    net.run(40);
    let leader = net.leader();
    let to = *net.members.keys().find(|id| **id != leader).expect("two follow");
    net.feed(leader, Input::TransferLeader(to));
    let entries = vec![Entry { data: data("sent"), ..Entry::default() }];
    let kind = MessageKind::Prop;
    let sent = Message { kind, from: to, to: leader, entries, ..Message::default() };
    net.feed(leader, Input::Peer(sent));
    net.run(40);
    assert_eq!(net.leader(), to);
    let count = |entries: &Vec<Entry>| entries.iter().filter(|e| e.data == data("sent")).count();
    assert!(net.applied.values().all(|entries| count(entries) == 1), "applied once everywhere");
}

/// What the member wants sent now.
fn sent(member: &mut Member) -> Vec<Message> {
    let send = |effect| if let Effect::Send(messages) = effect { messages } else { Vec::new() };
    settle(member).into_iter().flat_map(send).collect()
}

/// The first sign of a leader's life.
fn beat(leader: MemberId, term: Term) -> Input {
    let kind = MessageKind::Heartbeat;
    Input::Peer(Message { kind, from: leader, to: ME, term, ..Message::default() })
}

#[test]
fn a_read_is_asked_of_the_next_leader_as_soon_as_there_is_one() {
    let asked = |messages: Vec<Message>| -> Vec<MemberId> {
        let reads = messages.into_iter().filter(|m| m.kind == MessageKind::ReadIndex);
        reads.map(|message| message.to).collect()
    };
    let mut member = member(3, |_| {});
    member.feed(Input::ReadIndex(1));
    assert_eq!(asked(sent(&mut member)), [], "there is no leader");
    let (former, next) = (MemberId(2), MemberId(3));
    member.feed(beat(former, Term(5)));
    assert_eq!(asked(sent(&mut member)), [former]);
    member.feed(beat(former, Term(5)));
    assert_eq!(asked(sent(&mut member)), [], "once");
    member.feed(beat(next, Term(6)));
    assert_eq!(asked(sent(&mut member)), [next], "the former leader may have died with it");
    // It campaigns, and hears of the same leader again.
    while member.status().leader.is_some() {
        member.feed(Input::Tick);
    }
    settle(&mut member);
    member.feed(beat(next, Term(6)));
    assert_eq!(asked(sent(&mut member)), [next]);
}

#[test]
fn proposals_for_a_former_leader_wait_for_the_next() {
    let mut member = member(3, |_| {});
    member.feed(beat(MemberId(2), Term(5)));
    // Somebody campaigns: there is no leader for a while.
    let kind = MessageKind::Vote;
    let context = Bytes::from_static(b"CampaignTransfer");
    let (from, term) = (MemberId(3), Term(6));
    member.feed(Input::Peer(Message { kind, from, to: ME, term, context, ..Message::default() }));
    settle(&mut member);
    assert_eq!(member.status().leader, None);
    let proposal = |from, text| {
        let entries = vec![Entry { data: data(text), ..Entry::default() }];
        let kind = MessageKind::Prop;
        Input::Peer(Message { kind, from, to: ME, entries, ..Message::default() })
    };
    member.feed(proposal(MemberId(2), "early"));
    assert_eq!(sent(&mut member), []);
    member.feed(beat(MemberId(3), term));
    // From who leads now, and sent this before it did.
    member.feed(proposal(MemberId(3), "late"));
    let passed_on: Vec<(MemberId, Bytes)> = (sent(&mut member).into_iter())
        .filter(|message| message.kind == MessageKind::Prop)
        .flat_map(|m| m.entries.into_iter().map(move |entry| (m.to, entry.data)))
        .collect();
    assert_eq!(passed_on, [(MemberId(3), data("late")), (MemberId(3), data("early"))]);
}

/// Nothing of it has left, so nobody else can bring it into the log.
#[test]
fn proposals_that_did_not_get_through_are_made_again() {
    let mut member = member(3, |_| {});
    member.feed(beat(MemberId(2), Term(5)));
    member.feed(Input::Propose { id: 1, data: data("first") });
    let proposals = |member: &mut Member| {
        let all = sent(member).into_iter();
        all.filter(|message| message.kind == MessageKind::Prop).collect::<Vec<Message>>()
    };
    let first = proposals(&mut member).remove(0);
    member.feed(Input::Unsent(first.clone()));
    assert_eq!(proposals(&mut member), [], "not at once to one that may be gone");
    member.feed(Input::Tick);
    let again = proposals(&mut member).remove(0);
    assert_eq!((again.to, &again.entries), (MemberId(2), &first.entries));
    // To the next leader at once.
    member.feed(Input::Unsent(again));
    member.feed(beat(MemberId(3), Term(6)));
    let last = proposals(&mut member).remove(0);
    assert_eq!((last.to, &last.entries), (MemberId(3), &first.entries));
    // Not for ever to one that hears of nothing: who asked has given up.
    let mut again = last.clone();
    let mut tries = 0;
    loop {
        member.feed(Input::Unsent(again));
        member.feed(beat(MemberId(3), Term(6)));
        member.feed(Input::Tick);
        let Some(next) = proposals(&mut member).pop() else { break };
        (again, tries) = (next, tries + 1);
        assert!(tries < 100, "it goes on for ever");
    }
    assert!(tries > 50, "{tries}");
    // What another member sent is the leader's to answer for.
    member.feed(Input::Unsent(Message { from: MemberId(2), ..last }));
    member.feed(Input::Tick);
    assert_eq!(proposals(&mut member), []);
}

/// Members on perfect disks, with wires that can be cut.
struct Net {
    members: BTreeMap<MemberId, Member>,
    wire: VecDeque<Message>,
    down: Vec<MemberId>,
    applied: BTreeMap<MemberId, Vec<Entry>>,
    installed: BTreeMap<MemberId, Index>,
    reads: Vec<(MemberId, u64, Index)>,
    refused: Vec<(u64, RefuseReason)>,
    snapshots_sent: usize,
}

impl Net {
    fn new(count: u64) -> Net {
        let members = (1..=count).map(|id| {
            let mut config = MemberConfig::new(MemberId(id));
            config.catchup_entries = 5;
            config.snapshot_count = 50;
            config.read_epoch = id << 32;
            let conf = voters(count);
            let start = LogStart {
                snapshot_index: Index(1),
                snapshot_term: Term(1),
                ..LogStart::default()
            };
            let hard_state = HardState { term: Term(1), commit: Index(1), ..HardState::default() };
            (MemberId(id), Member::new(config, hard_state, conf, start).expect("it fits"))
        });
        Net {
            members: members.collect(),
            wire: VecDeque::new(),
            down: Vec::new(),
            applied: BTreeMap::new(),
            installed: BTreeMap::new(),
            reads: Vec::new(),
            refused: Vec::new(),
            snapshots_sent: 0,
        }
    }

    fn leader(&self) -> MemberId {
        let leads = |(_, member): &(&MemberId, &Member)| member.status().role == Role::Leader;
        *self.members.iter().find(leads).expect("someone leads").0
    }

    fn feed(&mut self, id: MemberId, input: Input) {
        let mut effects = Vec::new();
        let member = self.members.get_mut(&id).expect("it exists");
        member.handle(input, &mut effects);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: MemberId, effect: Effect) {
        match effect {
            Effect::Persist { snapshot, mark, then_send, .. } => {
                self.wire.extend(then_send);
                self.feed(id, Input::Persisted(mark));
                if let Some(snapshot) = snapshot {
                    self.installed.insert(id, snapshot.index);
                    self.applied.remove(&id);
                    self.feed(id, Input::Applied(snapshot.index));
                }
            }
            Effect::Send(messages) => self.wire.extend(messages),
            Effect::Apply(entries) => {
                let last = entries.last().expect("never empty").index;
                for entry in entries {
                    if entry.kind == EntryKind::ConfChange {
                        let change = ConfChange::decode(&entry.data).expect("it was encoded here");
                        self.feed(id, Input::ConfChangeApplied(change));
                    }
                    self.applied.entry(id).or_default().push(entry);
                }
                self.feed(id, Input::Applied(last));
            }
            Effect::ReadReady { ctx, index } => self.reads.push((id, ctx, index)),
            Effect::Refuse { id, reason } => self.refused.push((id, reason)),
            Effect::TakeSnapshot { index } => self.feed(id, Input::SnapshotTaken { index }),
            Effect::SendSnapshot { to } => self.send_snapshot(id, to),
            Effect::ReleaseLog { .. } | Effect::LeaderChanged { .. } | Effect::Ignored { .. } => {}
        }
    }

    fn send_snapshot(&mut self, id: MemberId, to: MemberId) {
        self.snapshots_sent += 1;
        let member = &self.members[&id];
        let index = member.status().applied;
        let term = member.entry_term(index).expect("applied is in the log");
        let snapshot =
            Snapshot { data: Bytes::new(), index, term, conf_state: member.conf_state() };
        self.feed(id, Input::SnapshotReady { to, snapshot });
        self.feed(id, Input::SnapshotSent { to, ok: true });
    }

    /// Delivers everything and ticks, so many times.
    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            let ids: Vec<MemberId> = self.members.keys().copied().collect();
            for id in ids {
                if !self.down.contains(&id) {
                    self.feed(id, Input::Tick);
                }
            }
            while let Some(message) = self.wire.pop_front() {
                if !self.down.contains(&message.to) && !self.down.contains(&message.from) {
                    self.feed(message.to, Input::Peer(message));
                }
            }
        }
    }
}

#[test]
fn three_members_replicate_read_and_catch_up_by_snapshot() {
    let mut net = Net::new(3);
    net.run(40);
    let leader = net.leader();
    let follower = *net.members.keys().find(|id| **id != leader).expect("two follow");
    let other = *net.members.keys().rfind(|id| **id != leader).expect("two follow");
    net.down.push(other);
    for id in 0..300 {
        let at = if id % 2 == 0 { leader } else { follower };
        net.feed(at, Input::Propose { id, data: data(&format!("p{id}")) });
    }
    net.run(5);
    net.feed(follower, Input::ReadIndex(1));
    net.run(2);
    let normal =
        |entries: &Vec<Entry>| entries.iter().filter(|entry| !entry.data.is_empty()).count();
    assert_eq!(normal(&net.applied[&follower]), 300);
    assert_eq!(net.applied[&leader], net.applied[&follower]);
    let (who, ctx, index) = net.reads[0];
    assert_eq!((who, ctx), (follower, 1));
    assert!(index.0 >= 302, "the read sees everything: {index}");
    // The one that was away needs what is forgotten.
    net.down.clear();
    net.run(10);
    assert_eq!(net.snapshots_sent, 1);
    assert!(net.installed[&other] > Index(290));
    let commits: Vec<Index> = net.members.values().map(|member| member.status().applied).collect();
    assert!(commits.iter().all(|applied| *applied == commits[0]), "{commits:?}");
}

#[test]
fn a_read_whose_round_got_lost_is_asked_again() {
    let mut net = Net::new(3);
    net.run(40);
    let leader = net.leader();
    let follower = *net.members.keys().find(|id| **id != leader).expect("two follow");
    net.down.push(leader);
    net.feed(follower, Input::ReadIndex(1));
    net.wire.clear();
    net.down.clear();
    net.run(4);
    assert!(net.reads.is_empty());
    net.run(2);
    assert_eq!(net.reads.len(), 1);
}

#[test]
fn a_member_that_lost_its_leader_elects_another_and_keeps_what_was_acknowledged() {
    let mut net = Net::new(3);
    net.run(40);
    let leader = net.leader();
    net.feed(leader, Input::Propose { id: 1, data: data("kept") });
    net.run(2);
    net.down.push(leader);
    net.run(60);
    let next = *net
        .members
        .iter()
        .find(|(id, member)| **id != leader && member.status().role == Role::Leader)
        .expect("another leads")
        .0;
    assert!(net.applied[&next].iter().any(|entry| entry.data == "kept"));
}
