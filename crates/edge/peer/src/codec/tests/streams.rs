//! Frames of both streams, byte by byte, and their state.

use bytes::{Bytes, BytesMut};
use mainstay_raft::{Message, MessageKind};
use mainstay_types::{Index, MemberId, Term};

use super::super::{
    AppDecoder, AppEncoder, Arrival, Intake, PlainDecoder, encode_plain, encode_plain_heartbeat,
    entry_len, message_len,
};
use super::{append, entry, read_apps, read_plain, write_apps};

#[test]
fn heartbeats_of_the_link() {
    let mut plain = BytesMut::new();
    encode_plain_heartbeat(&mut plain);
    // What 3.5 sends, and what it takes: a heartbeat from nobody to nobody.
    let wanted: &[u8] = &[
        0, 0, 0, 0, 0, 0, 0, 30, 8, 8, 16, 0, 24, 0, 32, 0, 40, 0, 48, 0, 64, 0, 0x4a, 10, 0x12, 8,
        0x0a, 2, 0x28, 0, 0x10, 0, 0x18, 0, 80, 0, 88, 0,
    ];
    assert_eq!(&plain[..], wanted);
    assert_eq!(read_plain(wanted, 1), Ok(vec![Arrival::Heartbeat]));
    // What 3.7 sends.
    let newer = [0, 0, 0, 0, 0, 0, 0, 2, 8, 8];
    assert_eq!(read_plain(&newer, 3), Ok(vec![Arrival::Heartbeat]));
    let mut apps = BytesMut::new();
    AppEncoder::default().heartbeat(&mut apps);
    assert_eq!(&apps[..], [0]);
    assert_eq!(read_apps(&[0, 0], 2), Ok(vec![Arrival::Heartbeat, Arrival::Heartbeat]));
}

#[test]
fn an_append_in_sequence_says_only_what_is_new() {
    // The first of a stream is whole: nothing is known yet.
    let first = append(3, 3, 7, vec![entry(3, 8, "a")], 6);
    let second = append(3, 3, 8, vec![entry(3, 9, "bc"), entry(3, 10, "")], 8);
    let empty = append(3, 3, 10, vec![], 10);
    let messages = [first.clone(), second, empty];
    let bytes = write_apps(&messages);
    let whole = 9 + message_len(&first);
    assert_eq!(bytes[0], 2);
    assert_eq!(bytes[1..9], (message_len(&first) as u64).to_be_bytes());
    let wanted: &[&[u8]] = &[
        &[1, 0, 0, 0, 0, 0, 0, 0, 2],
        &[0, 0, 0, 0, 0, 0, 0, 10, 8, 0, 16, 3, 24, 9, 0x22, 2, b'b', b'c'],
        &[0, 0, 0, 0, 0, 0, 0, 6, 8, 0, 16, 3, 24, 10],
        &[0, 0, 0, 0, 0, 0, 0, 8],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 10],
    ];
    assert_eq!(bytes[whole..], wanted.concat());
    for step in [1, 2, 7, 9, 64, bytes.len()] {
        let arrivals = read_apps(&bytes, step).expect("it is well formed");
        assert_eq!(arrivals, messages.clone().map(Arrival::Message), "in steps of {step}");
    }
}

#[test]
fn an_append_out_of_sequence_is_whole() {
    let messages = [
        append(3, 3, 7, vec![entry(3, 8, "a")], 6),
        // Sent again, from further back.
        append(3, 3, 5, vec![entry(3, 6, "x"), entry(3, 7, "y")], 6),
        append(3, 3, 7, vec![entry(3, 8, "a")], 6),
        // The leader of a new term: its log ends in the term before.
        append(4, 3, 8, vec![entry(4, 9, "b")], 8),
        append(4, 4, 9, vec![entry(4, 10, "c")], 9),
        // Probing: nothing but a position.
        append(4, 2, 3, vec![], 9),
    ];
    let bytes = write_apps(&messages);
    let kinds: Vec<u8> = first_bytes(&bytes);
    assert_eq!(kinds, [2, 2, 1, 2, 1, 2]);
    let arrivals = read_apps(&bytes, 5).expect("it is well formed");
    assert_eq!(arrivals, messages.map(Arrival::Message));
}

/// The first byte of each frame, found by reading them one by one.
fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    let (mut decoder, mut intake) = (AppDecoder::new(MemberId(2), MemberId(1)), Intake::default());
    intake.push(Bytes::copy_from_slice(bytes));
    let mut kinds = Vec::new();
    while !intake.is_empty() {
        kinds.push(bytes[bytes.len() - intake.len()]);
        decoder.decode(&mut intake).expect("it is well formed");
    }
    kinds
}

#[test]
fn a_stream_of_messages() {
    let vote =
        Message { kind: MessageKind::Vote, term: Term(2), to: MemberId(2), ..Message::default() };
    let answer = Message {
        kind: MessageKind::HeartbeatResp,
        from: MemberId(1),
        commit: Index(3),
        context: "read".into(),
        ..Message::default()
    };
    let mut bytes = BytesMut::new();
    encode_plain(&vote, &mut bytes);
    encode_plain_heartbeat(&mut bytes);
    encode_plain(&answer, &mut bytes);
    assert_eq!(bytes[..8], (message_len(&vote) as u64).to_be_bytes());
    for step in [1, 8, 13, bytes.len()] {
        let arrivals = read_plain(&bytes, step);
        let wanted =
            [Arrival::Message(vote.clone()), Arrival::Heartbeat, Arrival::Message(answer.clone())];
        assert_eq!(arrivals, Ok(wanted.to_vec()), "in steps of {step}");
    }
}

#[test]
fn data_is_not_copied() {
    let data = Bytes::from(vec![7; 1 << 16]);
    let big = append(1, 0, 0, vec![mainstay_raft::Entry { data, ..entry(1, 1, "") }], 0);
    let bytes = write_apps(&[big]).freeze();
    let range = bytes.as_ptr_range();
    let (mut decoder, mut intake) = (AppDecoder::new(MemberId(2), MemberId(1)), Intake::default());
    intake.push(bytes);
    let Ok(Some(Arrival::Message(message))) = decoder.decode(&mut intake) else {
        panic!("it is well formed")
    };
    assert!(range.contains(&message.entries[0].data.as_ptr()), "a slice of what arrived");
}

#[test]
fn absurd_lengths_are_refused_before_they_arrive() {
    let frames: [&[u8]; 6] = [
        &[3],                                                  // no such type
        &[1, 0, 0, 0, 0, 0, 16, 0, 1],                         // a million entries and one
        &[1, 255, 255, 255, 255, 255, 255, 255, 255],          // more than there can be
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 32, 0, 0, 1], // an entry of 512 MiB and one
        &[2, 0, 0, 0, 0, 32, 0, 0, 1],                         // a message of as much
        &[2, 255, 255, 255, 255, 255, 255, 255, 255],
    ];
    for frame in frames {
        assert!(read_apps(frame, 4).is_err(), "{frame:?}");
    }
    assert!(read_plain(&[0, 0, 0, 0, 0, 16, 0, 1], 8).is_err());
    let mut decoder = PlainDecoder::new(3);
    let mut intake = Intake::default();
    intake.push(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 4, 8, 0, 16, 0]));
    let error = decoder.decode(&mut intake).expect_err("four are more than three");
    assert_eq!(error.to_string(), "rafthttp: error limit exceeded");
}

#[test]
fn only_appends_have_a_place_among_appends() {
    let beat = Message { kind: MessageKind::Heartbeat, ..append(1, 0, 0, vec![], 0) };
    let mut bytes = BytesMut::from(&[2, 0, 0, 0, 0, 0, 0, 0][..]);
    bytes.extend_from_slice(&[u8::try_from(message_len(&beat)).expect("short")]);
    super::super::encode_message(&beat, &mut bytes);
    assert!(read_apps(&bytes, 100).is_err());
}

#[test]
fn the_last_index_is_not_passed() {
    let last = append(1, 1, u64::MAX, vec![], 0);
    let mut bytes = write_apps(&[last]);
    let one = entry(1, 5, "");
    bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[u8::try_from(entry_len(&one)).expect("short")]);
    super::super::encode_entry(&one, &mut bytes);
    assert!(read_apps(&bytes, 100).is_err());
}

#[test]
fn a_message_that_arrives_byte_by_byte_takes_no_more_room() {
    let mut intake = Intake::default();
    for n in 0..300_000_u32 {
        intake.push(Bytes::copy_from_slice(&n.to_be_bytes()[3..]));
    }
    assert_eq!(intake.len(), 300_000);
    let whole = intake.take(300_000).expect("all is there");
    assert!(whole.iter().zip(0..300_000_u32).all(|(byte, n)| *byte == n.to_be_bytes()[3]));
    assert!(intake.is_empty() && intake.take(1).is_none());
}

#[test]
fn small_and_large_pieces_keep_their_order() {
    let mut intake = Intake::default();
    let (mut next, mut wanted) = (0_u32, Vec::new());
    for length in [10, 20, 5_000, 30, 70_000, 1, 1, 4_096, 4_095, 3, 66_000, 2] {
        let piece: Vec<u8> = (next..next + length).map(|n| (n % 251) as u8).collect();
        next += length;
        wanted.extend_from_slice(&piece);
        intake.push(Bytes::from(piece));
    }
    let mut read = vec![intake.byte().expect("a byte")];
    for count in [9, 1, 4_000, 100_000, 1_500] {
        read.extend_from_slice(&intake.take(count).expect("as many"));
    }
    intake.drain().for_each(|chunk| read.extend_from_slice(&chunk));
    assert!(read == wanted && intake.is_empty());
}
