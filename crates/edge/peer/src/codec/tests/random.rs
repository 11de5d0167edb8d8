//! Messages of any content come back, as prost reads and writes them too; rubbish
//! never panics and never takes more room than it has.

use bytes::{Bytes, BytesMut};
use mainstay_proto::{Message as _, raftpb};
use mainstay_raft::{ConfState, Entry, EntryKind, Message, MessageKind, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Arrival, decode_message, encode_message, encode_plain, message_len};
use super::{read_apps, read_plain, write_apps};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)]
}

/// A term or an index, as far as they go.
fn place() -> impl Strategy<Value = u64> {
    number().prop_map(|number| number >> 1)
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        Just(EntryKind::Normal),
        Just(EntryKind::ConfChange),
        Just(EntryKind::ConfChangeV2)
    ];
    (place(), place(), kind, data()).prop_map(|(term, index, kind, data)| Entry {
        term: Term(term),
        index: Index(index),
        kind,
        data,
    })
}

fn ids() -> impl Strategy<Value = Vec<MemberId>> {
    vec(number().prop_map(MemberId), 0..4)
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let conf_state = (ids(), ids(), ids(), ids(), any::<bool>()).prop_map(
        |(voters, learners, voters_outgoing, learners_next, auto_leave)| ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        },
    );
    (data(), 1..u64::MAX >> 1, place(), conf_state).prop_map(|(data, index, term, conf_state)| {
        Snapshot { data, index: Index(index), term: Term(term), conf_state }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let who = (0..24_usize, number(), number(), place());
    let places = (place(), place(), vec(entry(), 0..5), place());
    let rest = (proptest::option::of(snapshot()), any::<bool>(), place(), data());
    (who, places, rest).prop_map(|((kind, to, from, term), place, rest)| {
        let (log_term, index, entries, commit) = place;
        let (snapshot, reject, reject_hint, context) = rest;
        Message {
            kind: MessageKind::ALL[kind],
            to: MemberId(to),
            from: MemberId(from),
            term: Term(term),
            log_term: Term(log_term),
            index: Index(index),
            entries,
            commit: Index(commit),
            snapshot: snapshot.map(Box::new),
            reject,
            reject_hint: Index(reject_hint),
            context,
        }
    })
}

/// Appends as leaders send them: mostly in sequence.
fn appends() -> impl Strategy<Value = Vec<Message>> {
    let step = (0..4_u64, 0..2_u64, vec(data(), 0..3));
    vec(step, 1..12).prop_map(|steps| {
        let (mut term, mut index) = (1, 5);
        let make = |(jump, newer, datas): (u64, u64, Vec<Bytes>)| {
            let log_term = term;
            term += newer;
            index -= if jump == 0 { 2.min(index) } else { 0 };
            let first = index;
            let entries = datas.into_iter().zip(index + 1..).map(|(data, index)| Entry {
                term: Term(term),
                index: Index(index),
                data,
                ..Entry::default()
            });
            let entries: Vec<Entry> = entries.collect();
            index += entries.len() as u64;
            super::append(term, log_term, first, entries, first)
        };
        steps.into_iter().map(make).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn messages_come_back(message in message()) {
        let mut out = BytesMut::new();
        encode_message(&message, &mut out);
        prop_assert_eq!(out.len(), message_len(&message));
        prop_assert_eq!(decode_message(out.freeze()), Ok(message));
    }

    #[test]
    fn prost_reads_and_writes_the_same(message in message()) {
        let mut out = BytesMut::new();
        encode_message(&message, &mut out);
        let theirs = raftpb::Message::decode(&out[..]).expect("prost reads it");
        let again = Bytes::from(theirs.encode_to_vec());
        prop_assert_eq!(decode_message(again), Ok(message));
    }

    #[test]
    fn appends_come_back_in_any_pieces(messages in appends(), step in 1..200_usize) {
        let bytes = write_apps(&messages);
        let wanted: Vec<Arrival> = messages.into_iter().map(Arrival::Message).collect();
        prop_assert_eq!(read_apps(&bytes, step), Ok(wanted));
    }

    #[test]
    fn a_stream_comes_back_in_any_pieces(messages in vec(message(), 1..6), step in 1..200_usize) {
        let mut bytes = BytesMut::new();
        messages.iter().for_each(|message| encode_plain(message, &mut bytes));
        let read = read_plain(&bytes, step).expect("it is well formed");
        let wanted = messages.len();
        prop_assert_eq!(read.len(), wanted);
    }

    #[test]
    fn rubbish_is_harmless(bytes in vec(any::<u8>(), 0..2_000), step in 1..100_usize) {
        // Only what they do to the reader matters.
        let _ = decode_message(Bytes::copy_from_slice(&bytes));
        let _ = read_apps(&bytes, step);
        let _ = read_plain(&bytes, step);
    }

    #[test]
    fn a_changed_byte_is_harmless(
        messages in appends(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = write_apps(&messages);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = read_apps(&bytes, 33);
    }

    #[test]
    fn what_is_cut_off_says_nothing(message in message(), cut in any::<prop::sample::Index>()) {
        let mut bytes = BytesMut::new();
        encode_plain(&message, &mut bytes);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(read_plain(&bytes[..cut], 7), Ok(vec![]));
    }
}
