//! Messages of a peer, decoded and stepped into a member of three.

use bytes::Bytes;
use mainstay_proto::{Message as _, raftpb};
use mainstay_raft::{
    ConfChangeV2, ConfState, Config, Entry, EntryKind, HardState, LogStart, Message, MessageKind,
    Raft, Snapshot,
};
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::convert::{message_from_pb, message_to_pb};

use crate::Target;
use crate::pieces::{Kind, Pieces, put_string};

pub(crate) const TARGET: Target = Target { name: "raft", seeds, run };

fn conf_state() -> ConfState {
    ConfState { voters: [1, 2, 3].map(MemberId).to_vec(), ..ConfState::default() }
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        term: Term(term),
        index: Index(index),
        kind: EntryKind::Normal,
        data: Bytes::from_static(b"data"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let base = Message {
        from: MemberId(2),
        to: MemberId(1),
        term: Term(2),
        log_term: Term(1),
        index: Index(3),
        commit: Index(3),
        ..Message::default()
    };
    let mut seeds = vec![Vec::new()];
    for kind in MessageKind::ALL {
        let mut message = Message { kind, ..base.clone() };
        if kind == MessageKind::App {
            message.entries = vec![entry(2, 4), entry(2, 5)];
        }
        if kind == MessageKind::Snap {
            let (index, term, conf_state) = (Index(9), Term(2), conf_state());
            let data = Bytes::from_static(b"{}");
            message.snapshot = Some(Box::new(Snapshot { data, index, term, conf_state }));
        }
        for start in [0, 1] {
            let mut seed = vec![start];
            put_string(&mut seed, &message_to_pb(&message).encode_to_vec());
            seeds.push(seed.clone());
            // The member answers, and then hears the same again.
            put_string(&mut seed, &message_to_pb(&message).encode_to_vec());
            seeds.push(seed);
        }
    }
    seeds
}

fn raft(leads: bool) -> Raft {
    let entries = (1..=3).map(|index| entry(1, index)).collect();
    let start = LogStart { entries, ..LogStart::default() };
    let state = HardState { term: Term(1), vote: MemberId(1), commit: Index(1) };
    let config = Config { pre_vote: false, ..Config::new(MemberId(1)) };
    let mut raft = Raft::new(config, state, conf_state(), start).expect("it fits");
    if leads {
        raft.campaign();
        settle(&mut raft, &mut Kind::default());
        for voter in [2, 3].map(MemberId) {
            let vote = MessageKind::VoteResp;
            let granted = Message {
                kind: vote,
                from: voter,
                to: MemberId(1),
                term: Term(2),
                ..Message::default()
            };
            let _ = raft.step(granted);
        }
        settle(&mut raft, &mut Kind::default());
    }
    raft
}

/// Carries out what the member wants, as a driver does.
fn settle(raft: &mut Raft, kind: &mut Kind) {
    for _ in 0..8 {
        if !raft.has_output() {
            return;
        }
        let output = raft.take_output();
        kind.add_size(output.messages.len() + output.after_persist.len());
        kind.add_size(output.entries.len());
        for message in output.messages.iter().chain(&output.after_persist) {
            let pb = message_to_pb(message).encode_to_vec();
            let back = raftpb::Message::decode(&pb[..]).expect("what we write we read");
            assert_eq!(message_from_pb(back).as_ref(), Ok(message));
        }
        raft.persisted(output.mark);
        for entry in &output.committed {
            if let Ok(Some(change)) = ConfChangeV2::of_entry(entry) {
                // One that does not fit is refused; the member goes on.
                kind.add(u64::from(raft.apply_conf_change(change).is_ok()));
            }
            raft.applied(entry.index);
        }
    }
}

fn run(input: &[u8]) -> u64 {
    let mut pieces = Pieces::new(input);
    let mut raft = raft(pieces.byte() % 2 == 1);
    let mut kind = Kind::default();
    for _ in 0..12 {
        if pieces.is_empty() {
            break;
        }
        let bytes = pieces.string();
        let Ok(pb) = raftpb::Message::decode(bytes) else {
            raft.tick();
            settle(&mut raft, &mut kind);
            continue;
        };
        match message_from_pb(pb) {
            Ok(message) => match raft.step(message) {
                Ok(()) => kind.add(1),
                Err(error) => kind.add_text(&error.to_string()),
            },
            Err(error) => kind.add_text(&error.to_string()),
        }
        settle(&mut raft, &mut kind);
    }
    kind.add(raft.status().term.0.min(8));
    kind.end()
}
