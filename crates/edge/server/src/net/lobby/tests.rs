//! Who makes room for whom.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::*;

fn is_ended(ticket: &Ticket) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let once = poll_fn(|_| Poll::Ready(()));
    runtime.block_on(ticket.ender().unless_ended(once)).is_none()
}

fn age(lobby: &Lobby, by: Duration) {
    for guest in lobby.state.lock().guests.values_mut() {
        guest.since = Instant::now().checked_sub(by).expect("the machine runs for longer");
    }
}

#[test]
fn the_oldest_makes_room_but_not_at_once() {
    let lobby = Arc::new(Lobby::new(2, usize::MAX / 2));
    let (first, second) = (lobby.enter(), lobby.enter());
    assert!(lobby.make_room().is_err(), "nobody has stood there for long");
    assert!(!is_ended(&first));
    age(&lobby, SENT_AWAY_AFTER);
    assert!(lobby.make_room().is_err(), "it is not gone yet");
    assert!(is_ended(&first));
    assert!(!is_ended(&second));
    drop(first);
    assert_eq!(lobby.make_room(), Ok(()));
    let third = lobby.enter();
    age(&lobby, SENT_AWAY_AFTER);
    third.become_known();
    assert_eq!(lobby.make_room(), Ok(()), "who is known stands elsewhere");
    assert!(!is_ended(&second));
    assert!(!is_ended(&third));
}

fn may_be_read(ticket: &Ticket) -> bool {
    ticket.poll_read(&Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn who_holds_most_makes_room_and_meanwhile_nothing_is_read() {
    let max = 3 * LOBBY_CONNECTION_BYTES + 1_000;
    let lobby = Arc::new(Lobby::new(10, max));
    let (first, second, third) = (lobby.enter(), lobby.enter(), lobby.enter());
    second.sent(900);
    first.sent(100);
    assert!(!is_ended(&second));
    assert!(may_be_read(&first));
    third.sent(10);
    assert!(is_ended(&second));
    assert!(!is_ended(&first) && !is_ended(&third));
    assert!(!may_be_read(&first), "what was held is not free yet");
    drop(second);
    assert!(may_be_read(&first));
    first.sent(LOBBY_CONNECTION_BYTES);
    first.settled();
    first.sent(LOBBY_CONNECTION_BYTES);
    assert!(!is_ended(&first), "what it had sent was gone");
    assert!(lobby.make_room().is_err(), "there is no room for one more");
    third.costs(1);
    third.become_known();
    third.sent(usize::MAX / 2);
    assert!(!is_ended(&third));
    assert!(may_be_read(&third));
    drop((first, third));
    let state = lobby.state.lock();
    assert_eq!((state.guests.len(), state.bytes, state.leaving), (0, 0, 0));
}
