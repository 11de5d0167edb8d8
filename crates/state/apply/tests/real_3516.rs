//! The machine against etcd 3.5.16 itself: random requests go to a real member,
//! then its log goes through ours. Answers, revisions and HashKV must agree.
//!
//! Needs `MAINSTAY_ETCD_3516` and `MAINSTAY_ETCDCTL_3516`, the paths of the two
//! programs; says so and passes without. `MAINSTAY_SEED` picks other requests. A later
//! 3.5 may stand there instead; where it differs, the tests say how.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]
#![expect(clippy::disallowed_methods, reason = "a real process runs in real time")]

#[path = "real/auth.rs"]
mod auth;
#[path = "real/everything.rs"]
mod everything;
#[path = "real/gateway.rs"]
mod gateway;
#[path = "real/generate.rs"]
mod generate;
#[path = "real/rows.rs"]
mod rows;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::{Answer, post, strip};
use generate::Dice;
use mainstay_apply::quota::Quota;
use mainstay_apply::{Applied, ApplyError, Machine, Options, Reply, check};
use mainstay_backend::OpenOptions;
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_proto::etcdserverpb as pb;
use mainstay_raft::{Entry, EntryKind};
use mainstay_wal::SnapshotMark;
use serde_json::{Value, json};

/// Requests of one run.
const REQUESTS: usize = 1200;

struct Etcd {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Best effort: the process may have gone, the directory is temporary.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Etcd {
    fn start(program: &str, seed: u64) -> Etcd {
        Etcd::start_with(program, &seed.to_string(), &["--unsafe-no-fsync"])
    }

    /// `name` tells the directories of two tests apart.
    fn start_with(program: &str, name: &str, more: &[&str]) -> Etcd {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, peer) = (free(), free());
        let dir = std::env::temp_dir().join(format!("apply-real-{}-{name}", std::process::id()));
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let child = Command::new(program)
            .args(["--name", "n1", "--log-level", "error"])
            .arg("--data-dir")
            .arg(&dir)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("n1={peer}")])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program of MAINSTAY_ETCD_3516 starts");
        let etcd = Etcd { child, dir, port };
        let start = Instant::now();
        while !etcd.is_ready() {
            assert!(start.elapsed() < Duration::from_secs(30), "etcd does not become ready");
            std::thread::yield_now();
        }
        etcd
    }

    /// Ends it in order, so that its db holds all that its log does.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(kill.success());
        self.child.wait().unwrap();
    }

    /// Ready once it leads and has published itself.
    fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && post(self.port, "/v3/kv/put", &json!({ "key": "YQ==" })).get("header").is_some()
    }
}

/// What the log must hold and answer for one request.
struct Expected {
    request: String,
    answer: Value,
}

fn send(
    etcd: &Etcd,
    log: &mut Vec<Expected>,
    path: &str,
    body: &Value,
    refused: Option<check::CheckError>,
) -> Value {
    let answer = strip(post(etcd.port, path, body));
    match refused {
        Some(error) => assert_eq!(answer["message"], json!(error.to_string()), "{body}"),
        None => log.push(Expected { request: format!("{path} {body}"), answer: answer.clone() }),
    }
    answer
}

/// Random requests; returns those that reached the log with their answers.
fn run_requests(etcd: &Etcd, seed: u64) -> Vec<Expected> {
    let mut dice = Dice::new(seed);
    let mut log = Vec::new();
    let mut leases: Vec<i64> = Vec::new();
    let mut revision = 1;
    for _ in 0..REQUESTS {
        let answer = match dice.below(20) {
            0..6 => {
                let put = dice.put(&leases);
                let refused = check::put(&put).err();
                send(etcd, &mut log, "/v3/kv/put", &gateway::put(&put), refused)
            }
            6..9 => {
                let delete = dice.delete();
                send(etcd, &mut log, "/v3/kv/deleterange", &gateway::delete(&delete), None)
            }
            9..16 => {
                let txn = dice.txn(&leases, revision, 3);
                let refused = check::txn(&txn, 128).err();
                if refused.is_none() && mainstay_apply::classify::is_read_only(&txn) {
                    continue;
                }
                send(etcd, &mut log, "/v3/kv/txn", &gateway::txn(&txn), refused)
            }
            16 | 17 => {
                // Sometimes one that exists.
                let id = 1 + dice.below(40) as i64;
                leases.push(id);
                let body = json!({ "ID": id.to_string(), "TTL": "3600" });
                send(etcd, &mut log, "/v3/lease/grant", &body, None)
            }
            18 => {
                let id = 1 + dice.below(40) as i64;
                let body = json!({ "ID": id.to_string() });
                send(etcd, &mut log, "/v3/lease/revoke", &body, None)
            }
            _ if dice.chance(3) => {
                let at = revision + 2 - dice.below(10) as i64;
                let body = json!({ "revision": at.to_string(), "physical": true });
                send(etcd, &mut log, "/v3/kv/compaction", &body, None)
            }
            _ => continue,
        };
        if let Some(text) = answer["header"]["revision"].as_str() {
            revision = text.parse().unwrap();
        }
    }
    log
}

/// Our outcome in the gateway's form.
fn ours(outcome: Result<Reply, ApplyError>) -> Value {
    let header_and = |header: Option<pb::ResponseHeader>, fields: &[(&str, i64)]| {
        let mut answer = Answer::header(header.as_ref());
        fields.iter().for_each(|(name, number)| answer.number(name, *number));
        answer.done()
    };
    match outcome {
        Ok(Reply::Put(reply)) => gateway::put_answer(&reply),
        Ok(Reply::DeleteRange(reply)) => gateway::delete_answer(&reply),
        Ok(Reply::Txn(reply)) => gateway::txn_answer(&reply),
        Ok(Reply::Compaction(reply)) => header_and(reply.header, &[]),
        Ok(Reply::LeaseRevoke(reply)) => header_and(reply.header, &[]),
        Ok(Reply::LeaseGrant(reply)) => {
            header_and(reply.header, &[("ID", reply.id), ("TTL", reply.ttl)])
        }
        Ok(other) => auth::answer(&other),
        Err(error) => json!({ "message": error.to_string() }),
    }
}

fn agree(expected: &Expected, got: &Value) {
    let theirs = match expected.answer.get("message") {
        Some(message) => json!({ "message": message }),
        None => expected.answer.clone(),
    };
    // In a transaction 3.5 checks all puts before the ranges, and of a put the key
    // before the lease; 3.7 and we go by the order of the operations, and of a put
    // check the lease first. Both refuse it, only the reasons differ.
    let reasons = ["key not found", "lease not found", "required revision"];
    let refused = |answer: &Value| {
        let text = answer["message"].as_str().unwrap_or_default();
        reasons.iter().any(|reason| text.contains(reason))
    };
    let is_txn = expected.request.starts_with("/v3/kv/txn");
    let reordered = is_txn && refused(&theirs) && refused(got);
    if !reordered {
        assert_eq!(theirs, *got, "{}", expected.request);
    }
}

/// The path of etcd 3.5.16, or a word about the test that needs it.
fn program(test: &str) -> Option<String> {
    let program = std::env::var("MAINSTAY_ETCD_3516").ok();
    if program.is_none() {
        eprintln!("NOT RUN: {test} needs MAINSTAY_ETCD_3516 (path of etcd 3.5.16)");
    }
    program
}

/// Whether it is 3.5.16 itself.
fn is_3516(program: &str) -> bool {
    let output = Command::new(program).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("etcd Version: 3.5.16\n")
}

fn seed() -> u64 {
    let seed = std::env::var("MAINSTAY_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("seed {seed}");
    seed
}

/// Puts the log on the disk through a machine that begins with nothing, and shows `see`
/// what comes out.
fn replayed(disk: &SimDisk, mut see: impl FnMut(&Entry, Applied)) -> Machine {
    let replay = mainstay_wal::read(disk, Path::new("/wal"), &SnapshotMark::default()).unwrap();
    let mut machine = open(disk);
    for entry in &replay.entries {
        let mut applied = machine.apply(entry, |_| true).unwrap();
        machine.backend().append(applied.batch.take().expect("every entry is new"));
        while let Some((batch, _)) = machine.compaction_slice(100) {
            machine.backend().append(batch);
        }
        see(entry, applied);
    }
    machine.backend().commit().unwrap();
    machine
}

/// A copy of a real directory on a simulated disk.
fn copied(dir: &Path) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/wal")).unwrap();
    disk.create_dir_all(Path::new("/snap")).unwrap();
    disk.create_dir_all(Path::new("/theirs")).unwrap();
    disk.install("/theirs/db", &std::fs::read(dir.join("member/snap/db")).unwrap());
    for file in std::fs::read_dir(dir.join("member/snap")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snap") {
            let name = path.file_name().unwrap().to_str().unwrap();
            disk.install(format!("/theirs/{name}"), &std::fs::read(&path).unwrap());
        }
    }
    for file in std::fs::read_dir(dir.join("member/wal")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            let name = path.file_name().unwrap().to_str().unwrap();
            disk.install(format!("/wal/{name}"), &std::fs::read(&path).unwrap());
        }
    }
    disk
}

fn open(disk: &SimDisk) -> Machine {
    open_at(disk, "/snap/db")
}

fn open_at(disk: &SimDisk, path: &str) -> Machine {
    let options = Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: true,
    };
    let disk = Arc::new(disk.clone());
    Machine::open(disk, Path::new(path), OpenOptions::default(), options).unwrap()
}

/// What `etcdctl endpoint hashkv` says: hash and compact revision.
fn real_hash(etcdctl: &str, etcd: &Etcd) -> (u64, i64) {
    let output = Command::new(etcdctl)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &format!("127.0.0.1:{}", etcd.port)])
        .args(["endpoint", "hashkv", "-w", "json"])
        .output()
        .expect("the program of MAINSTAY_ETCDCTL_3516 starts");
    let json: Value = serde_json::from_slice(&output.stdout).expect("hashkv answers JSON");
    let answer = &json[0]["HashKV"];
    let compacted = answer["compact_revision"].as_i64().unwrap_or(0);
    (answer["hash"].as_u64().expect("a hash"), compacted)
}

#[test]
fn a_real_log_gives_the_real_answers_and_the_real_hash() {
    let programs = (std::env::var("MAINSTAY_ETCD_3516"), std::env::var("MAINSTAY_ETCDCTL_3516"));
    let (Ok(program), Ok(etcdctl)) = programs else {
        eprintln!(
            "NOT RUN: a_real_log_gives_the_real_answers_and_the_real_hash needs \
             MAINSTAY_ETCD_3516 and MAINSTAY_ETCDCTL_3516 (paths of etcd and etcdctl 3.5.16)"
        );
        return;
    };
    let seed = seed();
    let etcd = Etcd::start(&program, seed);
    let log = run_requests(&etcd, seed);
    let (hash, compacted) = real_hash(&etcdctl, &etcd);
    let disk = copied(&etcd.dir);
    drop(etcd);

    let wal = Path::new("/wal");
    let replay = mainstay_wal::read(&disk, wal, &SnapshotMark::default()).unwrap();
    let mut machine = open(&disk);
    let mut expected = log.iter();
    let mut warm_up = true;
    for entry in &replay.entries {
        let applied = machine.apply(entry, |_| true).unwrap();
        machine.backend().append(applied.batch.expect("every entry is new"));
        while let Some((batch, _)) = machine.compaction_slice(100) {
            machine.backend().append(batch);
        }
        if entry.kind != EntryKind::Normal || matches!(applied.outcome, Ok(Reply::Done)) {
            continue;
        }
        // The puts that waited for readiness come first.
        if warm_up && matches!(&applied.outcome, Ok(Reply::Put(_))) {
            warm_up = false;
            continue;
        }
        agree(expected.next().expect("the log holds what was asked"), &ours(applied.outcome));
    }
    assert!(expected.next().is_none(), "every request is in the log");

    let check = |machine: &Machine| {
        let got = machine.view().hash_kv(0).unwrap();
        assert_eq!((u64::from(got.hash), got.compact_revision.max(0)), (hash, compacted));
    };
    check(&machine);
    machine.backend().commit().unwrap();
    check(&machine);
    let (voters, applied) = (machine.conf_state().voters, machine.applied());
    drop(machine);
    let reopened = open(&disk);
    check(&reopened);
    assert_eq!((reopened.conf_state().voters, reopened.applied()), (voters, applied));
    let json = String::from_utf8(reopened.snapshot_v2_json()).unwrap();
    assert!(json.contains(r#"\"name\":\"n1\""#) && json.contains("3.5.0"), "{json}");
}
