//! Questions to a name server on loopback that says what the tests want, and noise.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A record: name pointer, SRV, IN, a TTL, and `target` as labels.
fn srv(priority: u16, port: u16, target: &str) -> Vec<u8> {
    let mut data = [priority.to_be_bytes(), 0u16.to_be_bytes(), port.to_be_bytes()].concat();
    for label in target.split('.').filter(|label| !label.is_empty()) {
        data.push(u8::try_from(label.len()).expect("short"));
        data.extend(label.as_bytes());
    }
    data.push(0);
    record(33, &data)
}

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0xc0, 12];
    out.extend(kind.to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 9]);
    out.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
    out.extend(data);
    out
}

fn reply(question: &[u8], flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = question.to_vec();
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out[6..8].copy_from_slice(&u16::try_from(records.len()).expect("few").to_be_bytes());
    out.extend(records.concat());
    out
}

/// A server that answers every question with what `answers` makes of it, over UDP and TCP.
fn server(answers: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Clone + 'static) -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().expect("bound");
    let over_tcp = answers.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            for one in answers(&buffer[..len], false) {
                let _ = udp.send_to(&one, from);
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut len = [0; 2];
            let _ = stream.read_exact(&mut len);
            let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
            let _ = stream.read_exact(&mut question);
            for one in over_tcp(&question, true) {
                let len = u16::try_from(one.len()).expect("short").to_be_bytes();
                let _ = stream.write_all(&[&len, &one[..]].concat());
            }
        }
    });
    address
}

fn ask(servers: &[SocketAddr], search: &[&str], name: &str) -> Result<Vec<String>, String> {
    let dns = Dns::over(servers.to_vec(), search, Duration::from_millis(200));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime.expect("a runtime").block_on(dns.services(name))?;
    Ok(found.iter().map(|one| format!("{}:{}", one.target, one.port)).collect())
}

const WELL: u16 = 0x8180;
const NAME: &str = "_etcd-server._tcp.example.com";

#[test]
fn records_come_by_priority() {
    let records =
        vec![srv(2, 3, "b.example.com"), record(5, b"\x01x\x00"), srv(1, 2, "a.example.com")];
    let at = server(move |question, _| vec![reply(question, WELL, &records)]);
    let found = ask(&[at], &[], NAME);
    assert_eq!(found, Ok(vec!["a.example.com.:2".to_owned(), "b.example.com.:3".to_owned()]));
}

#[test]
fn what_is_too_long_comes_over_tcp() {
    let at = server(|question, tcp| {
        let many: Vec<Vec<u8>> = (0..300).map(|n| srv(1, n, "a.example.com")).collect();
        let records = if tcp { &many[..] } else { &many[..1] };
        vec![reply(question, if tcp { WELL } else { WELL | 0x0200 }, records)]
    });
    assert_eq!(ask(&[at], &[], NAME).map(|found| found.len()), Ok(300));
}

#[test]
fn only_the_answer_to_the_question_counts() {
    let at = server(|question, _| {
        let good = reply(question, WELL, &[srv(1, 1, "good.example.com")]);
        let mut other_id = reply(question, WELL, &[srv(1, 1, "bad.example.com")]);
        other_id[0] ^= 1;
        let mut other_name = reply(question, WELL, &[srv(1, 1, "bad.example.com")]);
        other_name[14] ^= 1;
        let echo = question.to_vec();
        vec![other_id, other_name, echo, vec![], vec![0; 3], good]
    });
    assert_eq!(ask(&[at], &[], NAME), Ok(vec!["good.example.com.:1".to_owned()]));
}

#[test]
fn a_failing_server_gives_way_to_the_next() {
    let broken = server(|question, _| vec![reply(question, 0x8182, &[])]);
    let mute = server(|_, _| vec![]);
    let garbled = server(|question, _| vec![reply(question, WELL, &[vec![0xc0]])]);
    let good = server(|question, _| vec![reply(question, WELL, &[srv(1, 1, "g")])]);
    assert_eq!(ask(&[broken, mute, garbled, good], &[], NAME), Ok(vec!["g.:1".to_owned()]));
    let error = |why: &str, at: SocketAddr| Err(format!("lookup {NAME} on {at}: {why}"));
    assert_eq!(ask(&[broken], &[], NAME), error("server misbehaving", broken));
    assert_eq!(ask(&[mute], &[], NAME), error("i/o timeout", mute));
    assert_eq!(ask(&[garbled], &[], NAME), error("cannot unmarshal DNS message", garbled));
}

#[test]
fn there_may_be_nothing() {
    let unknown = server(|question, _| vec![reply(question, 0x8183, &[])]);
    let empty = server(|question, _| vec![reply(question, WELL, &[])]);
    for at in [unknown, empty] {
        assert_eq!(ask(&[at], &[], NAME), Err(format!("lookup {NAME} on {at}: no such host")));
    }
    let odd = server(|question, _| vec![reply(question, WELL, &[srv(1, 1, "a b")])]);
    let invalid = "DNS response contained records which contain invalid names";
    assert_eq!(ask(&[odd], &[], NAME), Err(format!("lookup {NAME}: {invalid}")));
    let long = "x".repeat(64);
    assert!(ask(&[odd], &[], &long).is_err_and(|why| why.contains("cannot unmarshal")));
}

#[test]
fn suffixes_are_tried_in_turn() {
    let at = server(|question, _| {
        let known = question.windows(5).any(|bytes| bytes == b"\x05local"[..5].as_ref());
        let flags = if known { WELL } else { 0x8183 };
        let records = if known { vec![srv(1, 1, "in.local")] } else { vec![] };
        vec![reply(question, flags, &records)]
    });
    assert_eq!(
        ask(&[at], &["other.", "local."], "_etcd-server._tcp.x"),
        Ok(vec!["in.local.:1".to_owned()])
    );
}

#[test]
fn names_that_go_round_in_circles_end() {
    let mut message = message::question(7, "a.b.").expect("short");
    message[2] = 0x80;
    message[7] = 1;
    let at = message.len();
    // A pointer to itself, one forward, and a label before one that leads back to the label.
    for name in [vec![0xc0, at as u8], vec![0xc0, at as u8 + 9], vec![1, b'x', 0xc0, at as u8]] {
        let mut one = message.clone();
        one.extend(name);
        one.extend([0; 10]);
        assert_eq!(message::read(&one), Err(Malformed));
    }
}

proptest! {
    #[test]
    fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_answer(&bytes);
    }

    #[test]
    fn no_damaged_answer_panics(
        targets in prop::collection::vec("[a-z.]{0,20}", 0..5),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let question = message::question(7, "_a._tcp.b.").expect("short");
        let records: Vec<Vec<u8>> = targets.iter().map(|target| srv(1, 1, target)).collect();
        let mut answer = reply(&question, WELL, &records);
        prop_assert_eq!(parse_answer(&answer), Some(targets.len()));
        let at = at.index(answer.len());
        answer[at] = to;
        let _ = parse_answer(&answer[..cut.index(answer.len())]);
        let _ = parse_answer(&answer);
    }
}
