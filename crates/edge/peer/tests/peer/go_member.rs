//! A Go member at the other end: etcd 3.5.16 (or another 3.5), named by
//! `MAINSTAY_ETCD_3516`. Ours
//! follows it the way a follower does that keeps nothing but its last index.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_driver::{CallError, PeerAnswer, PeerCall, Transport as _};
use mainstay_membership::{Member, cluster_id, member_id};
use mainstay_raft::{Message, MessageKind};
use mainstay_server::{ClientTls, TlsFiles};
use mainstay_types::{Index, LeaseId, MemberId, Term, Version};

use crate::support::{Door, Fake, Node, wait};
use crate::tls::Authority;

/// A Go member, its folder and what it logs; gone when dropped.
struct Go {
    child: Child,
    dir: PathBuf,
    client: String,
    peer: Member,
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port that was free a moment ago.
fn free() -> String {
    Door::open().address.to_string()
}

impl Go {
    /// Founds a cluster of itself and ours, which is reached at `ours`; with `tls`,
    /// both show certificates to each other.
    fn start(program: &str, name: &str, ours: &str, tls: Option<&TlsFiles>) -> Go {
        let dir = std::env::temp_dir().join(format!("mainstay-go-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (client, peer) = (free(), format!("{scheme}://{}", free()));
        let log = std::fs::File::create(dir.join("log")).expect("a file");
        let client_url = format!("http://{client}");
        let mut command = Command::new(program);
        if let Some(TlsFiles { cert_file, key_file, trusted_ca_file: Some(ca), .. }) = tls {
            command.arg("--peer-client-cert-auth").arg("--peer-trusted-ca-file").arg(ca);
            command.arg("--peer-cert-file").arg(cert_file);
            command.arg("--peer-key-file").arg(key_file);
            command.args(["--peer-cert-allowed-cn", "member"]);
        }
        let child = command
            .args(["--name", "go", "--data-dir"])
            .arg(dir.join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("go={peer},ours={ours}")])
            .args(["--initial-cluster-token", name, "--heartbeat-interval", "50"])
            .args(["--election-timeout", "500", "--snapshot-count", "10"])
            .args(["--experimental-snapshot-catchup-entries", "5"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        let urls = vec![peer];
        let peer =
            Member { id: member_id(&urls, name, None), peer_urls: urls, ..Member::default() };
        Go { child, dir, client, peer }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits for a line with all of `parts` in it.
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        wait(|| self.log().lines().any(|line| parts.iter().all(|part| line.contains(part))));
    }

    /// Puts a key through its gateway; the status. Waits for no answer longer than a
    /// request may take.
    fn put(&self) -> u16 {
        let body = r#"{"key":"a2V5","value":"dmFsdWU="}"#;
        let request = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: go\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let Ok(mut socket) = TcpStream::connect(&self.client) else { return 0 };
        let _ = socket.set_read_timeout(Some(Duration::from_secs(10)));
        let mut answer = String::new();
        let _ = socket.write_all(request.as_bytes());
        let _ = socket.read_to_string(&mut answer);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

/// The mind of a follower without a log.
struct Follower {
    term: Term,
    last: Index,
    /// Says no to every append that does not begin at the beginning.
    forgetful: bool,
    seen: Vec<MessageKind>,
}

impl Follower {
    fn answer(&mut self, message: &Message) -> Option<Message> {
        if !self.seen.contains(&message.kind) {
            self.seen.push(message.kind);
        }
        let answer = |kind| Message {
            kind,
            to: message.from,
            from: message.to,
            term: message.term,
            context: message.context.clone(),
            ..Message::default()
        };
        match message.kind {
            MessageKind::PreVote => Some(answer(MessageKind::PreVoteResp)),
            MessageKind::Vote => {
                self.term = message.term;
                Some(answer(MessageKind::VoteResp))
            }
            MessageKind::Heartbeat => Some(answer(MessageKind::HeartbeatResp)),
            MessageKind::App if self.forgetful || message.index > self.last => {
                let reject_hint = if self.forgetful { Index(0) } else { self.last };
                let index = message.index;
                let no = answer(MessageKind::AppResp);
                Some(Message { reject: true, index, reject_hint, ..no })
            }
            MessageKind::App => {
                let end = message.entries.last().map_or(message.index, |entry| entry.index);
                let following = (message.index.0 + 1..).zip(&message.entries);
                assert!(following.into_iter().all(|(index, entry)| entry.index.0 == index));
                self.last = self.last.max(end);
                Some(Message { index: end, ..answer(MessageKind::AppResp) })
            }
            MessageKind::Snap => {
                let snapshot = message.snapshot.as_ref().expect("it is one");
                self.last = snapshot.index;
                self.forgetful = false;
                Some(Message { index: snapshot.index, ..answer(MessageKind::AppResp) })
            }
            _ => None,
        }
    }
}

/// Answers while `holds` does not, for as long as the patience of these tests.
#[track_caller]
fn follow(node: &Node, follower: &mut Follower, mut holds: impl FnMut(&Follower) -> bool) {
    wait(|| {
        let arrived: Vec<Message> =
            node.fake.until(|seen| Some(std::mem::take(&mut seen.messages)));
        let answers = arrived.iter().filter_map(|message| follower.answer(message));
        node.transport.send(answers.collect());
        holds(follower)
    });
}

/// Puts through the Go member from another thread, while ours follows.
#[track_caller]
fn put(go: &Go, node: &Node, follower: &mut Follower) {
    let done = AtomicBool::new(false);
    let status = std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            let status = go.put();
            done.store(true, Ordering::Release);
            status
        });
        follow(node, follower, |_| done.load(Ordering::Acquire));
        putting.join().expect("no panic")
    });
    assert_eq!(status, 200);
}

#[test]
fn etcd_3_5_leads_and_we_follow() {
    let Ok(program) = std::env::var("MAINSTAY_ETCD_3516") else {
        eprintln!("NOT RUN: needs MAINSTAY_ETCD_3516 (path of etcd 3.5.16)");
        return;
    };
    let (door, token) = (Door::open(), "peer-test");
    let ours = door.url();
    let go = Go::start(&program, token, &ours, None);
    let me = member_id(&[ours], token, None);
    let cluster = cluster_id([me, go.peer.id]);
    let node = Node::start_at(door, Fake::new(me.0, cluster), None, None);
    node.follow(&[node.as_member(), go.peer.clone()]);
    node.wait_for(go.peer.id);
    let ours = format!("\"remote-peer-id\":\"{me}\"");
    for direction in ["stream-writer-type", "stream-reader-type"] {
        for kind in ["stream MsgApp v2", "stream Message"] {
            let kind = format!("\"{direction}\":\"{kind}\"");
            let established = "established TCP streaming connection with remote peer";
            go.says(&[established, &kind, &ours]);
        }
    }
    // The configuration changes that both begin with are entries 1 and 2.
    let mut follower =
        Follower { term: Term(1), last: Index(2), forgetful: false, seen: Vec::new() };
    let wanted =
        [MessageKind::PreVote, MessageKind::Vote, MessageKind::App, MessageKind::Heartbeat];
    follow(&node, &mut follower, |follower| wanted.iter().all(|kind| follower.seen.contains(kind)));
    assert_eq!(follower.term, Term(2));
    go.says(&["raft.node", "elected leader"]);
    for _ in 0..30 {
        put(&go, &node, &mut follower);
    }
    assert!(follower.last > Index(32));
    questions(&node, go.peer.id, &mut follower);
    // It hears nothing for a while, leads a new term, and finds that we know nothing:
    // its log begins too late for us, so we get the whole.
    follower.forgetful = true;
    go.says(&["raft.node", "lost leader"]);
    follow(&node, &mut follower, |follower| follower.seen.contains(&MessageKind::Snap));
    let file = node.fake.until(|seen| seen.files.pop());
    assert_eq!(file.len() % 4096, 0);
    assert_eq!(file[16..20], 0xed0c_daed_u32.to_le_bytes(), "a bolt file");
    go.says(&["sent database snapshot"]);
    put(&go, &node, &mut follower);
    assert!(node.transport.connected_for(go.peer.id).is_some());
    assert!(!node.fake.until(|seen| Some(seen.removed_for_good)));
}

#[test]
fn etcd_3_5_and_we_show_certificates() {
    let Ok(program) = std::env::var("MAINSTAY_ETCD_3516") else {
        eprintln!("NOT RUN: needs MAINSTAY_ETCD_3516 (path of etcd 3.5.16)");
        return;
    };
    let authority = Authority::new("go");
    let (theirs, mut files) = (
        authority.sign("go", "member", "127.0.0.1"),
        authority.sign("ours", "member", "127.0.0.1"),
    );
    files.allowed.names = vec!["member".to_owned()];
    let (door, token) = (Door::open(), "peer-tls");
    let ours = door.url().replace("http", "https");
    let go = Go::start(&program, token, &ours, Some(&theirs));
    let me = member_id(&[ours], token, None);
    let fake = Fake::new(me.0, cluster_id([me, go.peer.id]));
    let dial = ClientTls::load(files.clone()).expect("certificates");
    let node = Node::start_at(door, fake, Some(dial), Some(authority.listen(&files)));
    node.follow(&[node.as_member(), go.peer.clone()]);
    node.wait_for(go.peer.id);
    let mut follower =
        Follower { term: Term(1), last: Index(2), forgetful: false, seen: Vec::new() };
    put(&go, &node, &mut follower);
    // One whose name is not allowed is turned away, and it says so.
    let stranger = authority.sign("stranger", "stranger", "127.0.0.1");
    let dial = ClientTls::load(stranger.clone()).expect("certificates");
    let listen = authority.listen(&stranger);
    let fake = Fake::new(me.0, cluster_id([me, go.peer.id]));
    let turned = Node::start_at(Door::open(), fake, Some(dial), Some(listen));
    turned.follow(&[turned.as_member(), go.peer.clone()]);
    go.says(&["rejected connection", "client certificate authentication failed"]);
    assert_eq!(turned.transport.connected_for(go.peer.id), None);
}

/// Questions outside raft, while ours follows.
#[track_caller]
fn questions(node: &Node, go: MemberId, follower: &mut Follower) {
    let transport = Arc::clone(&node.transport);
    let mut ask = |call: PeerCall| {
        let mut answering = transport.call(go, call);
        let mut answer = None;
        let deadline = Instant::now() + Duration::from_secs(15);
        follow(node, follower, |_| {
            answer = answer.take().or_else(|| answering.try_recv().ok());
            answer.is_some() || Instant::now() > deadline
        });
        answer.expect("an answer in time")
    };
    let Ok(PeerAnswer::Version { server: is, .. }) = ask(PeerCall::Version) else {
        panic!("it says its version")
    };
    assert_eq!(is.without_patch(), Version::line(3, 5));
    let Ok(PeerAnswer::HashKv(hash)) = ask(PeerCall::HashKv { revision: 0 }) else {
        panic!("it has a hash")
    };
    assert!(hash.hash != 0 && hash.revision == 31, "{hash:?}");
    let future = ask(PeerCall::HashKv { revision: 1_000 });
    let body = "mvcc: required revision is a future revision".to_owned();
    assert_eq!(future, Err(CallError::Refused { status: 400, body }));
    assert_eq!(ask(PeerCall::DowngradeEnabled), Ok(PeerAnswer::DowngradeEnabled(false)));
    let lease = LeaseId(7);
    assert_eq!(ask(PeerCall::LeaseRenew { lease }), Ok(PeerAnswer::LeaseRenewed(0)));
    let none = PeerAnswer::LeaseTimes { ttl: -1, granted: 0, keys: Vec::new() };
    assert_eq!(ask(PeerCall::LeaseTimes { lease, keys: true }), Ok(none));
    let refused = ask(PeerCall::Promote { member: go });
    let body = "membership: can only promote a learner member".to_owned();
    assert_eq!(refused, Err(CallError::Refused { status: 412, body }));
}
