//! Writers, readers and who compacts.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_client::{Client, Options};
use mainstay_proto::etcdserverpb as pb;
use pb::request_op::Request;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};

use super::record::{Failure, Read, Record, Write};
use super::{ANSWER_PATIENCE, KEYS, Order, PREFIX, READ_PAUSE, WRITE_PAUSE, WRITERS, watcher};
use crate::load::observe::History;
use crate::load::writer::Numbers;

/// A pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Time between compactions, and how far behind the watcher they are, in revisions.
const COMPACT_EVERY: Duration = Duration::from_secs(3);
const COMPACT_BEHIND: i64 = 300;

/// What all tasks of a load share.
pub(super) struct Shared {
    pub(super) record: Arc<Mutex<Record>>,
    quit: Cell<bool>,
    /// Members that have been named, with their endpoints.
    pub(super) members: std::cell::RefCell<Vec<(usize, String)>>,
    /// The end of the watcher.
    pub(super) until: Cell<Option<i64>>,
    /// What cannot be forgiven.
    wrong: std::cell::RefCell<Option<String>>,
}

impl Shared {
    pub(super) fn with<T>(&self, with: impl FnOnce(&mut Record) -> T) -> T {
        with(&mut self.record.lock().expect("nobody panics with it"))
    }

    /// Ends everything with this.
    pub(super) fn fail(&self, why: String) {
        self.quit.set(true);
        self.wrong.borrow_mut().get_or_insert(why);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.wrong.borrow().is_some()
    }
}

/// The whole load, until it is told to end; answers what the watcher saw.
pub(super) async fn all(
    seed: u64,
    record: Arc<Mutex<Record>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    quiet: mpsc::UnboundedSender<()>,
    compacting: bool,
) -> Result<History, String> {
    let shared = Rc::new(Shared {
        record,
        quit: Cell::new(false),
        members: std::cell::RefCell::default(),
        until: Cell::new(None),
        wrong: std::cell::RefCell::default(),
    });
    let watching = spawn_local(watcher::watch(Rc::clone(&shared)));
    let mut working = JoinSet::new();
    if compacting {
        working.spawn_local(compact(Rc::clone(&shared)));
    }
    while let Some(order) = orders.recv().await {
        match order {
            Order::Member(n, endpoint) => {
                shared.members.borrow_mut().push((n, endpoint.clone()));
                for writer in n * WRITERS..(n + 1) * WRITERS {
                    let at = (n, endpoint.clone());
                    working.spawn_local(write(Rc::clone(&shared), at, writer, seed));
                }
                working.spawn_local(read(Rc::clone(&shared), (n, endpoint), seed));
            }
            Order::Quit => {
                shared.quit.set(true);
                while working.join_next().await.is_some() {}
                // Nobody waits when the test has failed.
                let _ = quiet.send(());
            }
            Order::Until(revision) => {
                shared.until.set(Some(revision));
                break;
            }
        }
    }
    let watched = watching.await.map_err(|e| e.to_string())?;
    match shared.wrong.borrow_mut().take() {
        Some(why) => Err(why),
        None => watched,
    }
}

/// A connection that is made when it is needed.
struct Line {
    member: usize,
    endpoint: String,
    client: Option<Client>,
}

impl Line {
    fn new((member, endpoint): (usize, String)) -> Line {
        Line { member, endpoint, client: None }
    }

    async fn client(&mut self) -> Result<Client, String> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::connect(&self.endpoint, &Options::default()).await;
        let client = client.map_err(|e| format!("no connection: {e}"))?;
        Ok(self.client.insert(client).clone())
    }

    /// Whether its member is still asked.
    fn goes_on(&self, shared: &Shared) -> bool {
        !shared.quit.get() && !shared.with(|record| record.left.contains(&self.member))
    }
}

/// Waits for an answer, not for ever.
async fn answer<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_PATIENCE, asked).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer in {ANSWER_PATIENCE:?}")),
    }
}

async fn write(shared: Rc<Shared>, at: (usize, String), writer: usize, seed: u64) {
    let mut numbers = Numbers::new(seed ^ (writer as u64 + 1) << 32);
    let mut line = Line::new(at);
    let mut sequence = 0u64;
    while line.goes_on(&shared) {
        sequence += 1;
        let (puts, deletes) = next_write(&mut numbers, writer, sequence);
        let (sent, floor) = shared.with(|record| (record.now(), record.floor));
        let asked = async {
            let client = line.client().await?;
            send(&client, &puts, deletes.as_deref()).await
        };
        let answer = asked.await;
        let revision = answer.as_ref().ok().map(|(revision, _)| *revision);
        let failed = answer.is_err();
        let member = line.member;
        let noted = shared.with(|record| {
            record.writes.push(Write { member, puts, deletes, sent, revision });
            note(record, "write", member, (sent, floor), answer)?;
            if revision.is_some() {
                record.acknowledged += 1;
                *record.by_member.entry(member).or_default() += 1;
            }
            Ok(())
        });
        if let Err(why) = noted {
            shared.fail(why);
        }
        tokio::time::sleep(if failed { RETRY_PAUSE } else { WRITE_PAUSE }).await;
    }
}

/// Notes an answer or a failure.
fn note(
    record: &mut Record,
    what: &'static str,
    member: usize,
    (sent, floor): (Duration, i64),
    answer: Result<(i64, u64), String>,
) -> Result<(), String> {
    match answer {
        // A write must make a newer revision, a read may find the same one.
        Ok(told) => record.answered(member, sent, floor + i64::from(what == "write"), told),
        Err(message) => {
            let at = record.now();
            record.failures.push(Failure { member, sent, at, what, message });
            Ok(())
        }
    }
}

/// Keys with values, the first unlike any other, and now and then a key to delete.
fn next_write(
    numbers: &mut Numbers,
    writer: usize,
    sequence: u64,
) -> (Vec<(String, String)>, Option<String>) {
    let key = |n: u64| format!("{PREFIX}{writer:03}/{n:02}");
    let at = numbers.below(KEYS);
    let size = if numbers.below(50) == 0 { 8_000 } else { 60 };
    let padding = "x".repeat(numbers.below(size) as usize);
    let mut puts = vec![(key(at), format!("{writer}-{sequence}-{padding}"))];
    let other = (at + 1 + numbers.below(KEYS - 2)) % KEYS;
    match numbers.below(10) {
        0..7 => (puts, None),
        7 => {
            puts.push((key(other), format!("{writer}-{sequence}+")));
            (puts, None)
        }
        _ => (puts, Some(key(other))),
    }
}

async fn send(
    client: &Client,
    puts: &[(String, String)],
    deletes: Option<&str>,
) -> Result<(i64, u64), String> {
    let put = |(key, value): &(String, String)| pb::PutRequest {
        key: key.clone().into(),
        value: value.clone().into(),
        ..Default::default()
    };
    let header = if let ([only], None) = (puts, deletes) {
        answer(client.kv().put(put(only))).await?.header
    } else {
        let puts = puts.iter().map(|one| Request::RequestPut(put(one)));
        let delete =
            |key: &str| pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        let deletes = deletes.map(|key| Request::RequestDeleteRange(delete(key)));
        let op = |request| pb::RequestOp { request: Some(request) };
        let success = puts.chain(deletes).map(op).collect();
        let txn = pb::TxnRequest { success, ..Default::default() };
        answer(client.kv().txn(txn)).await?.header
    };
    let header = header.ok_or("an answer without a header")?;
    Ok((header.revision, header.raft_term))
}

async fn read(shared: Rc<Shared>, at: (usize, String), seed: u64) {
    let mut numbers = Numbers::new(seed ^ (at.0 as u64 + 1) << 48);
    let mut line = Line::new(at);
    while line.goes_on(&shared) {
        let members = shared.members.borrow().len() as u64;
        let writer = numbers.below(members * WRITERS as u64);
        let key = format!("{PREFIX}{writer:03}/{:02}", numbers.below(KEYS));
        let (sent, floor) = shared.with(|record| (record.now(), record.floor));
        let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let asked = async {
            let told = answer(line.client().await?.kv().range(request)).await?;
            let header = told.header.as_ref().ok_or("an answer without a header")?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let found = told.kvs.first().map(|kv| (text(&kv.value), kv.mod_revision));
            Ok::<_, String>(((header.revision, header.raft_term), found))
        };
        let told = asked.await;
        let failed = told.is_err();
        let member = line.member;
        let noted = shared.with(|record| {
            let (told, found) = match told {
                Ok((told, found)) => (Ok(told), found),
                Err(message) => (Err(message), None),
            };
            if let Ok((revision, _)) = told {
                record.reads.push(Read { member, key, revision, found });
            }
            note(record, "read", member, (sent, floor), told)
        });
        if let Err(why) = noted {
            shared.fail(why);
        }
        tokio::time::sleep(if failed { RETRY_PAUSE } else { READ_PAUSE }).await;
    }
}

/// Compacts behind the watcher, through one member after the other. A compaction that
/// fails is of no interest.
async fn compact(shared: Rc<Shared>) {
    let mut turn = 0;
    while !shared.quit.get() {
        let pause = tokio::time::Instant::now() + COMPACT_EVERY;
        while !shared.quit.get() && tokio::time::Instant::now() < pause {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        turn += 1;
        let endpoint = {
            let members = shared.members.borrow();
            let alive: Vec<&(usize, String)> =
                members.iter().filter(|(n, _)| !shared.with(|r| r.is_excused(*n))).collect();
            if alive.is_empty() {
                continue;
            }
            alive[turn % alive.len()].1.clone()
        };
        let revision = shared.with(|r| r.watched) - COMPACT_BEHIND;
        if shared.quit.get() || revision <= shared.with(|r| r.compacted) {
            continue;
        }
        let Ok(client) = Client::connect(&endpoint, &Options::default()).await else { continue };
        // It may happen without an answer, so it is noted before.
        shared.with(|record| record.compacted = revision);
        let request = pb::CompactionRequest { revision, physical: false };
        let _ = answer(client.kv().compact(request)).await;
    }
}
