//! Peers may say anything: no message, in no state, makes a core panic.

use bytes::Bytes;
use mainstay_raft::{
    ConfState, Config, Entry, EntryKind, HardState, LogStart, Message, MessageKind, Raft, Snapshot,
};
use mainstay_types::{Index, MemberId, Term};
use proptest::prelude::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0u64..8, 1 => Just(u64::MAX), 1 => Just(u64::MAX / 2), 1 => any::<u64>()]
}

fn member() -> impl Strategy<Value = MemberId> {
    (0u64..6).prop_map(MemberId)
}

fn members() -> impl Strategy<Value = Vec<MemberId>> {
    prop::collection::vec(member(), 0..4)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        Just(EntryKind::Normal),
        Just(EntryKind::ConfChange),
        Just(EntryKind::ConfChangeV2)
    ];
    let data = prop::collection::vec(any::<u8>(), 0..10);
    (number(), number(), kind, data).prop_map(|(term, index, kind, data)| Entry {
        term: Term(term),
        index: Index(index),
        kind,
        data: Bytes::from(data),
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let conf = (members(), members(), members(), members(), any::<bool>());
    (number(), number(), conf).prop_map(|(index, term, conf)| Snapshot {
        data: Bytes::new(),
        index: Index(index),
        term: Term(term),
        conf_state: ConfState {
            voters: conf.0,
            learners: conf.1,
            voters_outgoing: conf.2,
            learners_next: conf.3,
            auto_leave: conf.4,
        },
    })
}

prop_compose! {
    fn message()(
        kind in 0usize..24,
        from in member(),
        numbers in (number(), number(), number(), number(), number()),
        // Appends whose entries fit together come as often as others.
        (fits, entries) in (any::<bool>(), prop::collection::vec(entry(), 0..4)),
        snapshot in prop::option::of(snapshot()),
        reject in any::<bool>(),
        context in prop::collection::vec(0u8..4, 0..10),
    ) -> Message {
        let (term, log_term, index, commit, hint) = numbers;
        let mut entries = entries;
        if fits {
            for (at, entry) in entries.iter_mut().enumerate() {
                entry.index = Index(index.wrapping_add(at as u64 + 1));
                entry.term = Term(log_term);
            }
        }
        Message {
            kind: MessageKind::ALL[kind],
            to: MemberId(1),
            from,
            term: Term(term),
            log_term: Term(log_term),
            index: Index(index),
            entries,
            commit: Index(commit),
            snapshot: snapshot.map(Box::new),
            reject,
            reject_hint: Index(hint),
            context: Bytes::from(context),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_message_makes_a_core_panic(
        steps in prop::collection::vec((0u8..10, message()), 1..30),
        pre_vote in any::<bool>(),
    ) {
        let conf = ConfState {
            voters: vec![MemberId(1), MemberId(2), MemberId(3)],
            learners: vec![MemberId(4)],
            ..ConfState::default()
        };
        let config = Config { pre_vote, election_tick: 3, ..Config::new(MemberId(1)) };
        let start = LogStart { snapshot_index: Index(2), snapshot_term: Term(1), ..LogStart::default() };
        let hard_state = HardState { term: Term(1), ..HardState::default() };
        let mut raft = Raft::new(config, hard_state, conf, start).expect("it fits");
        for (what, message) in steps {
            match what {
                0 => raft.tick(),
                1 => raft.campaign(),
                // Without a leader it is refused.
                2 => drop(raft.propose(Bytes::from_static(b"x"))),
                3 => drop(raft.read_index(1)),
                // A vote, so that it leads now and then.
                4 => {
                    let term = raft.status().term;
                    let vote = Message { kind: MessageKind::VoteResp, to: MemberId(1), from: MemberId(2), term, ..Message::default() };
                    drop(raft.step(vote));
                }
                // A message in the current term.
                5..8 => {
                    let term = raft.status().term;
                    drop(raft.step(Message { term, from: MemberId(2), ..message }));
                }
                _ => drop(raft.step(message)),
            }
            let output = raft.take_output();
            // Storage is slow sometimes.
            if what % 3 != 0 {
                raft.persisted(output.mark);
            }
        }
    }
}
