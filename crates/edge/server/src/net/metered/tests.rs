//! What pays for empty frames, and what does not.

use std::sync::Arc;

use super::*;
use crate::net::lobby::Lobby;

fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let [.., high, middle, low] = length.to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
    frame.resize(HEADER_BYTES + length, 7);
    frame
}

fn fresh() -> (Frames, Ticket) {
    let (mut frames, ticket) = (Frames::new(), Arc::new(Lobby::of(100)).enter());
    ticket.become_known();
    frames.pass(&[0; PREFACE_BYTES], &ticket).expect("the preface");
    (frames, ticket)
}

/// How many of them pass, cut into pieces of this length, up to three times what is allowed
/// at once. `answer` bytes are written after each.
fn passed(each: &[u8], piece: usize, answer: usize) -> u32 {
    let (mut frames, ticket) = fresh();
    for count in 0..3 * EMPTY_FRAMES_AT_ONCE {
        for piece in each.chunks(piece) {
            if frames.pass(piece, &ticket).is_err() {
                return count;
            }
        }
        frames.said(answer);
    }
    3 * EMPTY_FRAMES_AT_ONCE
}

#[test]
fn empty_frames_are_few() {
    for each in [frame(PING, 0, 8), frame(SETTINGS, 0, 6), frame(2, 0, 5), frame(3, 0, 4)] {
        for piece in [1, 4, 100] {
            // Their own answers pay for nothing.
            let answer = if each[3] == PING { PONG_BYTES } else { 0 };
            let count = passed(&each, piece, answer);
            assert!(count >= EMPTY_FRAMES_AT_ONCE, "{count} of {}", each[3]);
            // A slow machine may take a second or two for it.
            assert!(count < 2 * EMPTY_FRAMES_AT_ONCE, "{count} of {}", each[3]);
        }
    }
    assert!(passed(&frame(DATA, 0, 0), 9, 0) < 2 * EMPTY_FRAMES_AT_ONCE);
    assert!(passed(&frame(0xbb, 0, 0), 9, 0) < 2 * EMPTY_FRAMES_AT_ONCE);
}

#[test]
fn honest_clients_pay() {
    let all = 3 * EMPTY_FRAMES_AT_ONCE;
    let call = [frame(HEADERS, 4, 40), frame(DATA, END_STREAM, 30), frame(3, 0, 4)].concat();
    assert_eq!(passed(&call, 7, 0), all, "calls that are given up");
    assert_eq!(passed(&frame(DATA, END_STREAM, 0), 9, 0), all, "ends of streams");
    assert_eq!(passed(&frame(PING, 0, 8), 9, PONG_BYTES + 40), all, "a ping for each event");
}

#[test]
fn headers_are_counted_in_the_lobby() {
    let lobby = Arc::new(Lobby::of(100));
    let ticket = lobby.enter();
    let mut frames = Frames::new();
    frames.pass(&[0; PREFACE_BYTES], &ticket).expect("the preface");
    let bomb = frame(HEADERS, 4, 16_000);
    let each = LOBBY_HEADERS_FACTOR * 16_000;
    let fits = mainstay_types::limits::LOBBY_BYTES_MAX / each;
    let ended = |ticket: &Ticket| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(ticket.ender().unless_ended(std::future::ready(()))).is_none()
    };
    for _ in 0..fits - 1 {
        frames.pass(&bomb, &ticket).expect("a frame");
    }
    assert!(!ended(&ticket));
    for _ in 0..2 {
        frames.pass(&bomb, &ticket).expect("a frame");
    }
    assert!(ended(&ticket), "it holds more than all may hold");
}
