//! Bytes as Go's marshalers of 3.5, 3.6 and 3.7 write them, taken from their source:
//! 3.5 and 3.6 (gogo) write every number, 3.7 (google) what is set; 3.5 writes an
//! empty snapshot with every message, the others none.

use bytes::{Bytes, BytesMut};
use mainstay_raft::{ConfState, Entry, EntryKind, Message, MessageKind, Snapshot};
use mainstay_types::{Index, MemberId, Term};

use super::super::{
    decode_entry, decode_message, encode_entry, encode_message, entry_len, message_len,
};
use super::{append, entry};

#[track_caller]
fn writes(message: &Message, wanted: &[&[u8]]) {
    let mut out = BytesMut::new();
    encode_message(message, &mut out);
    assert_eq!(&out[..], wanted.concat());
    assert_eq!(message_len(message), out.len());
    assert_eq!(decode_message(out.freeze()), Ok(message.clone()));
}

#[track_caller]
fn reads(bytes: &[&[u8]], wanted: &Message) {
    assert_eq!(decode_message(Bytes::from(bytes.concat())).as_ref(), Ok(wanted));
}

/// `snapshot: {metadata: {conf_state: {auto_leave: false}, index: 0, term: 0}}`.
const NO_SNAPSHOT: &[u8] = &[0x4a, 10, 0x12, 8, 0x0a, 2, 0x28, 0, 0x10, 0, 0x18, 0];

#[test]
fn nothing_at_all() {
    let numbers: &[u8] = &[8, 0, 16, 0, 24, 0, 32, 0, 40, 0, 48, 0, 64, 0];
    writes(&Message::default(), &[numbers, NO_SNAPSHOT, &[80, 0, 88, 0]]);
    reads(&[], &Message::default());
    reads(&[numbers, &[80, 0, 88, 0]], &Message::default());
}

#[test]
fn a_vote_of_three_minors() {
    let vote = Message {
        kind: MessageKind::PreVote,
        to: MemberId(0x8e9e_05c5_2164_694d),
        from: MemberId(1),
        term: Term(300),
        log_term: Term(2),
        index: Index(5),
        ..Message::default()
    };
    let to: &[u8] = &[16, 0xcd, 0xd2, 0x91, 0x8b, 0xd2, 0xb8, 0x81, 0xcf, 0x8e, 1];
    let begin: &[u8] = &[24, 1, 32, 0xac, 0x02, 40, 2, 48, 5];
    writes(&vote, &[&[8, 17], to, begin, &[64, 0], NO_SNAPSHOT, &[80, 0, 88, 0]]);
    // 3.6: no snapshot.
    reads(&[&[8, 17], to, begin, &[64, 0], &[80, 0, 88, 0]], &vote);
    // 3.7: only what raft sets.
    reads(&[&[8, 17], to, begin], &vote);
}

#[test]
fn an_append_of_three_minors() {
    let message = append(3, 3, 7, vec![entry(3, 8, ""), entry(3, 9, "data")], 7);
    let head: &[u8] = &[8, 3, 16, 2, 24, 1, 32, 3, 40, 3, 48, 7];
    let first: &[u8] = &[0x3a, 6, 8, 0, 16, 3, 24, 8];
    let second: &[u8] = &[0x3a, 12, 8, 0, 16, 3, 24, 9, 0x22, 4, b'd', b'a', b't', b'a'];
    writes(&message, &[head, first, second, &[64, 7], NO_SNAPSHOT, &[80, 0, 88, 0]]);
    // 3.6 and 3.7 mark data that is there and empty.
    let marked: &[u8] = &[0x3a, 8, 8, 0, 16, 3, 24, 8, 0x22, 0];
    reads(&[head, marked, second, &[64, 7, 80, 0, 88, 0]], &message);
    // 3.7 leaves out the type of a normal entry when it was never set.
    let first: &[u8] = &[0x3a, 4, 16, 3, 24, 8];
    let second: &[u8] = &[0x3a, 10, 16, 3, 24, 9, 0x22, 4, b'd', b'a', b't', b'a'];
    reads(&[head, first, second, &[64, 7]], &message);
}

#[test]
fn an_answer_that_rejects() {
    let message = Message {
        kind: MessageKind::AppResp,
        to: MemberId(1),
        from: MemberId(2),
        term: Term(3),
        log_term: Term(2),
        index: Index(9),
        reject: true,
        reject_hint: Index(6),
        ..Message::default()
    };
    let head: &[u8] = &[8, 4, 16, 1, 24, 2, 32, 3, 40, 2, 48, 9, 64, 0];
    writes(&message, &[head, NO_SNAPSHOT, &[80, 1, 88, 6]]);
    reads(&[&head[..12], &[80, 1, 88, 6]], &message);
}

#[test]
fn a_heartbeat_that_asks_for_a_read() {
    let message = Message {
        kind: MessageKind::Heartbeat,
        to: MemberId(2),
        from: MemberId(1),
        term: Term(3),
        commit: Index(9),
        context: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 7]),
        ..Message::default()
    };
    let head: &[u8] = &[8, 8, 16, 2, 24, 1, 32, 3, 40, 0, 48, 0, 64, 9];
    let tail: &[u8] = &[80, 0, 88, 0, 98, 8, 0, 0, 0, 0, 0, 0, 0, 7];
    writes(&message, &[head, NO_SNAPSHOT, tail]);
    // A context that is there and empty is none.
    let bare = Message { context: Bytes::new(), ..message };
    reads(&[head, &[80, 0, 88, 0, 98, 0]], &bare);
}

#[test]
fn a_snapshot_of_three_minors() {
    let conf_state = ConfState {
        voters: vec![MemberId(1), MemberId(2)],
        learners: vec![MemberId(300)],
        ..ConfState::default()
    };
    let snapshot = Snapshot { data: "{}".into(), index: Index(1000), term: Term(2), conf_state };
    let message = Message {
        kind: MessageKind::Snap,
        to: MemberId(2),
        from: MemberId(1),
        term: Term(3),
        snapshot: Some(Box::new(snapshot)),
        ..Message::default()
    };
    let head: &[u8] = &[8, 7, 16, 2, 24, 1, 32, 3, 40, 0, 48, 0, 64, 0];
    let data: &[u8] = &[0x0a, 2, b'{', b'}'];
    let conf: &[u8] = &[0x0a, 9, 8, 1, 8, 2, 16, 0xac, 2, 0x28, 0];
    let position: &[u8] = &[16, 0xe8, 7, 24, 2];
    writes(&message, &[head, &[0x4a, 22], data, &[0x12, 16], conf, position, &[80, 0, 88, 0]]);
    // 3.7: no `auto_leave`, nothing behind the snapshot, ids packed for good measure.
    let conf: &[u8] = &[0x0a, 8, 0x0a, 2, 1, 2, 0x12, 2, 0xac, 2];
    reads(&[&head[..8], &[0x4a, 21], data, &[0x12, 15], conf, position], &message);
}

#[test]
fn entries_of_every_kind() {
    let kinds = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
    for (number, kind) in (0..).zip(kinds) {
        let entry = Entry { term: Term(1), index: Index(2), kind, data: "x".into() };
        let mut out = BytesMut::new();
        encode_entry(&entry, &mut out);
        assert_eq!(&out[..], [8, number, 16, 1, 24, 2, 0x22, 1, b'x']);
        assert_eq!(entry_len(&entry), out.len());
        assert_eq!(decode_entry(out.freeze()), Ok(entry));
    }
    assert!(decode_entry(Bytes::from_static(&[8, 3])).is_err());
}

#[test]
fn what_a_newer_minor_may_add_is_skipped() {
    // Fields 13 (a number) and 14 (a message) of 3.6 and later, and unknown ones.
    let known: &[u8] = &[8, 17, 16, 2];
    let unknown: &[u8] = &[
        104, 9, 0x72, 2, 8, 0, // vote, responses
        0xa0, 6, 1, // 100: a number
        0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8, // 100: eight bytes
        0xa5, 6, 1, 2, 3, 4, // 100: four bytes
        0xa3, 6, 8, 1, 0x13, 0x14, 0xa4, 6, // 100: a group with a group in it
    ];
    let vote = Message { kind: MessageKind::PreVote, to: MemberId(2), ..Message::default() };
    reads(&[known, unknown], &vote);
    reads(&[unknown, known], &vote);
}

#[test]
fn what_is_wrong_is_refused() {
    let wrong: [&[u8]; 14] = [
        &[8],                                                                 // a number is missing
        &[8, 24], // a kind that nobody knows
        &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // a negative kind
        &[16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2], // more than 64 bits
        &[16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], // more than 10 bytes
        &[0x12, 1, 1], // a number that is bytes
        &[56, 1], // entries that are a number
        &[0x3a, 5, 8, 0], // longer than what is there
        &[0x3a, 2, 8, 9], // an entry of an unknown kind
        &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // absurdly long
        &[0, 0],  // field 0
        &[0x0e, 0], // wire type 6
        &[0x0c],  // the end of a group that never began
        &[0xa3, 6, 0xac, 6], // a group that ends as another
    ];
    for bytes in wrong {
        assert!(decode_message(Bytes::from_static(bytes)).is_err(), "{bytes:?}");
    }
}
