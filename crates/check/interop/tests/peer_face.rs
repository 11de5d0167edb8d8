//! What a member answers to other members outside raft, request by request: ours beside
//! the real 3.5.16, on the same ports, so that the ids are the same.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use mainstay_interop::{Folder, Kind, Start, free_ports};

/// Method, path, more header lines, body.
type Asked = (&'static str, &'static str, &'static str, &'static [u8]);

const REQUESTS: &[Asked] = &[
    ("GET", "/members", "", b""),
    ("POST", "/members", "", b""),
    ("HEAD", "/members", "", b""),
    ("GET", "/members/promote/1", "", b""),
    ("POST", "/members/promote/1", "", b""),
    ("POST", "/members/promote/x", "", b""),
    ("POST", "/members/promote/+1", "", b""),
    ("POST", "/members/promote/18446744073709551616", "", b""),
    ("POST", "/members/promote/", "", b""),
    ("POST", "/members/promote/$ID", "", b""),
    ("GET", "/leases", "", b""),
    ("POST", "/leases", "", b"\xff"),
    ("POST", "/leases", "", b""),
    ("POST", "/leases", "", b"\x08\x07"),
    ("POST", "/leases/internal", "", b"\xff"),
    ("POST", "/leases/internal", "", b"\x0a\x02\x08\x07"),
    ("PUT", "/leases/internal", "", b""),
    ("POST", "/leases/x", "", b""),
    ("GET", "/members/hashkv", "", b""),
    ("GET", "/members/hashkv", "", b"x"),
    ("GET", "/members/hashkv", "", b"{\"revision\":99}"),
    ("GET", "/members/hashkv", "X-Etcd-Cluster-ID: 1\r\n", b"{}"),
    ("POST", "/members/hashkv", "", b"{}"),
    ("GET", "/downgrade/enabled", "", b""),
    ("POST", "/downgrade/enabled", "", b""),
    ("GET", "/nope", "", b""),
    ("GET", "/", "", b""),
    ("GET", "/metrics", "", b""),
    ("GET", "/health", "", b""),
    ("POST", "/version", "", b""),
];

/// Headers that say something to the one who asked.
const TELLING: &[&str] =
    &["content-type:", "x-etcd-cluster-id:", "x-content-type-options:", "allow:"];

/// Status, telling headers in order, body.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: String,
    headers: Vec<String>,
    body: String,
}

fn ask(port: u16, asked: &Asked, id: &str) -> Told {
    let (method, path, headers, body) = asked;
    let path = path.replace("$ID", id);
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the member listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body)).expect("sent");
    let answer = whole(&mut socket, *method == "HEAD");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers = lines.map(str::to_ascii_lowercase);
    let telling = |line: &String| TELLING.iter().any(|name| line.starts_with(name));
    let mut headers: Vec<String> = headers.filter(telling).collect();
    headers.sort_unstable();
    Told { status: status.to_owned(), headers, body: body.to_owned() }
}

/// An answer up to the end that its head tells: the real one holds some connections for
/// seconds beyond it.
fn whole(socket: &mut TcpStream, only_head: bool) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
            });
            if only_head || length.is_some_and(|length| body.len() >= length) {
                return text;
            }
        }
        match socket.read(&mut chunk).expect("an answer in time") {
            0 => return text,
            read => answer.extend_from_slice(&chunk[..read]),
        }
    }
}

fn told(kind: Kind, ports: (u16, u16)) -> Option<Vec<Told>> {
    let folder = Folder::new("peer-face");
    let mut start = Start::new(kind, &folder.path().join("m.etcd"));
    start.ports = ports;
    let member = start.run()?;
    let listed = ask(ports.1, &REQUESTS[0], "").body;
    let id = listed.split_once("\"id\":").expect("a member").1;
    let id: String = id.chars().take_while(char::is_ascii_digit).collect();
    let told = REQUESTS.iter().map(|asked| ask(ports.1, asked, &id)).collect();
    member.stop();
    Some(told)
}

#[test]
fn other_members_are_answered_as_the_real_one_answers_them() {
    let ports = free_ports();
    let Some(theirs) = told(Kind::Real, ports) else { return };
    let ours = told(Kind::Ours, ports).expect("ours is never missing");
    let mut wrong = Vec::new();
    for ((asked, theirs), ours) in REQUESTS.iter().zip(&theirs).zip(&ours) {
        if theirs != ours {
            wrong.push(format!("{asked:?}\ntheirs: {theirs:#?}\nours: {ours:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
}
