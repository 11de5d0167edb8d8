//! A socket that nobody accepts from any more is closed.

use std::net::TcpStream;

use super::{Face, Listener, Place};

#[test]
fn who_connects_when_nobody_accepts_any_more_is_refused() {
    let any = Place::Tcp("127.0.0.1:0".to_owned());
    let listener = Listener::bind(Face::Client, any).expect("a free port");
    let Place::Tcp(address) = &listener.place else { panic!("it was bound as one") };
    let acceptor = listener.acceptor().expect("the first");
    TcpStream::connect(address).expect("it listens");
    assert!(listener.acceptor().is_err(), "there is one socket");
    // As at the end of a shard, while the server that bound it lives on.
    drop(acceptor);
    TcpStream::connect(address).expect_err("nobody would ever answer");
}
