//! Clients: what they ask, and what they remember of it.

use bytes::Bytes;
use mainstay_env::Dice as _;
use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb};
use mainstay_types::MemberId;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Action;

use crate::judge::linear::{Call, Does, Verdict, judge};
use crate::node::NodeEvent;
use crate::ops::{Op, OpId, Reply, Request, What};
use crate::plan::{MS, SECOND, Time};
use crate::schedule::Event;
use crate::world::World;

/// How long a client waits (etcd, `ReqTimeout`: 5 s and two elections).
const PATIENCE: Time = 7 * SECOND;
/// Keys that are only put, deleted and read one by one.
const REGISTERS: u64 = 2;
/// Steps of the search for an order of one register's operations.
const SEARCH_STEPS: usize = 20_000;

/// What the clients share.
#[derive(Default)]
pub(crate) struct Clients {
    /// Where each asks.
    at: Vec<MemberId>,
    leases: Vec<i64>,
    next_lease: i64,
    registers: Vec<Vec<Call>>,
}

impl World {
    pub(crate) fn start_clients(&mut self) {
        let ids: Vec<MemberId> = self.nodes.keys().copied().collect();
        self.clients.registers = vec![Vec::new(); REGISTERS as usize];
        for client in 0..self.ctx.plan.clients {
            self.clients.at.push(ids[client % ids.len()]);
            let delay = 2 * SECOND + self.ctx.dice.below(self.ctx.plan.rest);
            self.ctx.schedule.after(delay, Event::Client(client));
        }
    }

    /// A client does its next thing.
    pub(crate) fn client_turn(&mut self, client: usize) {
        if self.healing {
            return;
        }
        if self.ctx.dice.one_in(6) {
            self.clients.at[client] = self.any_node();
        }
        let what = self.draw_what();
        let node = self.clients.at[client];
        self.ask(node, Some(client), what);
    }

    pub(crate) fn any_node(&mut self) -> MemberId {
        let known: Vec<MemberId> = self
            .nodes
            .iter()
            .filter(|(id, _)| !self.gone.contains(id))
            .map(|(id, _)| *id)
            .collect();
        known[self.ctx.dice.below(known.len() as u64) as usize]
    }

    /// Sends a request.
    pub(crate) fn ask(&mut self, node: MemberId, client: Option<usize>, mut what: What) -> OpId {
        let op = self.ctx.next_id();
        if let What::Propose(request) = &mut what {
            request.id = op;
            if let Some(revoke) = &request.lease_revoke {
                self.ctx.judge.leases.revoking(revoke.id);
            }
        }
        self.ctx.stats.count("operations");
        self.ctx.tell(|| format!("op {op} at {node}: {what:?}"));
        let floor = self.ctx.judge.acked;
        let invoked = self.ctx.now();
        self.ops.insert(op, Op { what: what.clone(), node, client, invoked, floor });
        let request = Request { op, what, forwarded: false };
        let delay = self.ctx.dice.below(2 * MS);
        self.ctx.at_node(delay, node, 0, NodeEvent::Request(Box::new(request)));
        self.ctx.schedule.after(PATIENCE, Event::Timeout(op));
        op
    }

    pub(crate) fn answered(&mut self, id: OpId, from: MemberId, reply: &Reply) {
        if self.nodes.get(&from).is_some_and(|node| node.troubles.doubtful) {
            // Nobody believes it.
            return;
        }
        let Some(op) = self.ops.remove(&id) else { return };
        self.ctx.tell(|| format!("op {id} answered by {from}: {reply:?}"));
        self.ctx.judge.answered(id, &op, from, reply);
        let kind = match reply {
            Reply::Refused => "operations refused",
            Reply::Applied(Err(_)) | Reply::Range(Err(_)) | Reply::LeaseGone => {
                "operations answered with an error"
            }
            Reply::Applied(Ok(_)) | Reply::Range(Ok(_)) | Reply::Alive(_) => "operations answered",
        };
        self.ctx.stats.count(kind);
        if matches!((&op.what, reply), (What::Propose(_), Reply::Applied(Ok(_))))
            && let Some(leader) = self.leader()
        {
            self.ctx.maybe_kill(200, leader, "fault: killed after an answer");
        }
        if self.probe == Some(id) && matches!(reply, Reply::Applied(Ok(_))) {
            self.probed = true;
        }
        self.remember(id, &op, Some(reply));
        self.rest(&op, matches!(reply, Reply::Refused));
    }

    pub(crate) fn timed_out(&mut self, id: OpId) {
        let Some(op) = self.ops.remove(&id) else { return };
        self.ctx.tell(|| format!("op {id}: no answer"));
        self.ctx.stats.count("operations unknown");
        self.remember(id, &op, None);
        if let Some(client) = op.client {
            self.clients.at[client] = self.any_node();
        }
        self.rest(&op, true);
    }

    fn rest(&mut self, op: &Op, failed: bool) {
        let Some(client) = op.client else { return };
        let longest = if failed { SECOND } else { self.ctx.plan.rest };
        let delay = self.ctx.about(longest);
        if failed {
            self.clients.at[client] = self.any_node();
        }
        self.ctx.schedule.after(delay, Event::Client(client));
    }

    fn remember(&mut self, id: OpId, op: &Op, reply: Option<&Reply>) {
        if let What::Propose(request) = &op.what
            && let Some(grant) = &request.lease_grant
            && matches!(reply, Some(Reply::Applied(Ok(_))))
        {
            self.clients.leases.push(grant.id);
        }
        let Some((register, does)) = on_register(id, op, reply) else { return };
        let answered = reply.map(|_| self.ctx.now());
        let asked = op.invoked;
        self.clients.registers[register].push(Call { asked, answered, does });
    }

    /// The clients' own judgment, at the end.
    pub(crate) fn judge_registers(&mut self) {
        for (register, calls) in std::mem::take(&mut self.clients.registers).into_iter().enumerate()
        {
            match judge(calls, SEARCH_STEPS) {
                Verdict::Fine => self.ctx.stats.count("registers judged"),
                Verdict::GaveUp => self.ctx.stats.count("registers too tangled"),
                Verdict::Wrong => panic!("register {register} is not linearizable"),
            }
        }
    }

    fn draw_what(&mut self) -> What {
        if self.ctx.dice.one_in(4) {
            return self.draw_on_register();
        }
        match self.ctx.dice.below(100) {
            0..28 => self.draw_put(false),
            28..36 => self.draw_put(true),
            36..46 => {
                let request = self.draw_delete();
                propose(pb::InternalRaftRequest {
                    delete_range: Some(request),
                    ..Default::default()
                })
            }
            46..62 => self.draw_txn(),
            62..76 => What::Range { request: self.draw_range(), serializable: false },
            76..83 => What::Range { request: self.draw_range(), serializable: true },
            83..86 => self.draw_compaction(),
            86..90 => self.draw_grant(),
            _ => self.draw_on_lease(),
        }
    }

    fn key(&mut self) -> Bytes {
        let n = self.ctx.dice.below(self.ctx.plan.keys);
        Bytes::from(format!("k{n:02}"))
    }

    fn value(&mut self) -> Bytes {
        let n = self.ctx.dice.below(1 << 20);
        Bytes::from(format!("v{n}"))
    }

    fn put_request(&mut self, leased: bool) -> pb::PutRequest {
        let lease = if leased { self.lease() } else { 0 };
        let prev_kv = self.ctx.dice.one_in(3);
        pb::PutRequest {
            key: self.key(),
            value: self.value(),
            lease,
            prev_kv,
            ..Default::default()
        }
    }

    fn lease(&mut self) -> i64 {
        match self.clients.leases.len() {
            0 => 0,
            n => self.clients.leases[n - 1 - self.ctx.dice.below(n.min(4) as u64) as usize],
        }
    }

    pub(crate) fn draw_put(&mut self, leased: bool) -> What {
        let put = Some(self.put_request(leased));
        propose(pb::InternalRaftRequest { put, ..Default::default() })
    }

    fn draw_delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        let many = self.ctx.dice.one_in(4);
        let range_end = if many { Bytes::from_static(b"k10") } else { Bytes::new() };
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.ctx.dice.one_in(2) }
    }

    fn draw_range(&mut self) -> pb::RangeRequest {
        let newest = self.ctx.judge.acked;
        let (key, range_end) = match self.ctx.dice.below(3) {
            0 => (self.key(), Bytes::new()),
            1 => (self.key(), Bytes::from_static(b"\0")),
            _ => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
        };
        let limit = if self.ctx.dice.one_in(4) { 2 } else { 0 };
        let past = self.ctx.dice.one_in(8) && newest > 2;
        let revision =
            if past { newest - self.ctx.dice.below(newest as u64 / 2) as i64 } else { 0 };
        pb::RangeRequest { key, range_end, limit, revision, ..Default::default() }
    }

    fn draw_txn(&mut self) -> What {
        let key = self.key();
        let newest = self.ctx.judge.acked;
        let (target, union) = match self.ctx.dice.below(3) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.ctx.dice.below(3) as i64)),
            1 => (CompareTarget::Mod, TargetUnion::ModRevision(newest - 5)),
            _ => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        };
        let results = [CompareResult::Equal, CompareResult::Greater, CompareResult::NotEqual];
        let compare = pb::Compare {
            result: results[self.ctx.dice.below(3) as usize] as i32,
            target: target as i32,
            key,
            target_union: Some(union),
            ..Default::default()
        };
        let success = self.draw_branch();
        let failure = self.draw_branch();
        let txn = Some(pb::TxnRequest { compare: vec![compare], success, failure });
        propose(pb::InternalRaftRequest { txn, ..Default::default() })
    }

    /// Each key is changed once at most.
    fn draw_branch(&mut self) -> Vec<pb::RequestOp> {
        let first = self.ctx.dice.below(self.ctx.plan.keys);
        let mut actions = Vec::new();
        for n in 0..self.ctx.dice.below(3) {
            let key = Bytes::from(format!("k{:02}", (first + n) % self.ctx.plan.keys));
            if actions.len() as u64 >= self.ctx.plan.keys {
                break;
            }
            actions.push(match self.ctx.dice.below(3) {
                0 => {
                    Action::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
                }
                _ => Action::RequestPut(pb::PutRequest { key, ..self.put_request(n == 1) }),
            });
        }
        if self.ctx.dice.one_in(2) {
            actions.push(Action::RequestRange(pb::RangeRequest {
                key: self.key(),
                ..Default::default()
            }));
        }
        actions.into_iter().map(|action| pb::RequestOp { request: Some(action) }).collect()
    }

    fn draw_compaction(&mut self) -> What {
        let newest = self.ctx.judge.acked.max(2);
        let revision = newest - self.ctx.dice.below(newest as u64 / 3 + 1) as i64;
        let compaction = Some(pb::CompactionRequest { revision, physical: false });
        propose(pb::InternalRaftRequest { compaction, ..Default::default() })
    }

    fn draw_grant(&mut self) -> What {
        self.clients.next_lease += 1;
        let ttl = 2 + self.ctx.dice.below(30) as i64;
        let lease_grant = Some(pb::LeaseGrantRequest { id: self.clients.next_lease, ttl });
        propose(pb::InternalRaftRequest { lease_grant, ..Default::default() })
    }

    fn draw_on_lease(&mut self) -> What {
        match self.lease() {
            0 => self.draw_grant(),
            id if self.ctx.dice.one_in(10) => {
                let lease_revoke = Some(pb::LeaseRevokeRequest { id });
                propose(pb::InternalRaftRequest { lease_revoke, ..Default::default() })
            }
            id => What::KeepAlive(id),
        }
    }

    fn draw_on_register(&mut self) -> What {
        let key = Bytes::from(format!("r{}", self.ctx.dice.below(REGISTERS)));
        match self.ctx.dice.below(8) {
            0..3 => propose(pb::InternalRaftRequest {
                // The value is the id of the operation, set when it is asked.
                put: Some(pb::PutRequest { key, value: self.next_value(), ..Default::default() }),
                ..Default::default()
            }),
            3 => propose(pb::InternalRaftRequest {
                delete_range: Some(pb::DeleteRangeRequest { key, ..Default::default() }),
                ..Default::default()
            }),
            _ => {
                let request = pb::RangeRequest { key, ..Default::default() };
                What::Range { request, serializable: false }
            }
        }
    }

    fn next_value(&mut self) -> Bytes {
        Bytes::from(self.ctx.next_id().to_string())
    }
}

/// A request for the log.
pub(crate) fn propose(request: pb::InternalRaftRequest) -> What {
    What::Propose(Box::new(request))
}

fn register_of(key: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(key.strip_prefix(b"r")?).ok()?;
    digits.parse().ok()
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("a register's value")
}

/// What an operation did to a register. One that was refused did nothing.
fn on_register(_id: OpId, op: &Op, reply: Option<&Reply>) -> Option<(usize, Does)> {
    if matches!(reply, Some(Reply::Refused)) {
        return None;
    }
    match &op.what {
        What::Propose(request) => match (&request.put, &request.delete_range) {
            (Some(put), _) => Some((register_of(&put.key)?, Does::Put(number(&put.value)))),
            (_, Some(delete)) => Some((register_of(&delete.key)?, Does::Delete)),
            _ => None,
        },
        What::Range { request, .. } => {
            let register = register_of(&request.key)?;
            let Some(Reply::Range(Ok(found))) = reply else { return None };
            let kv = found.kvs.first().map(|raw| mvccpb::KeyValue::decode(raw.clone()));
            let value = kv.map(|kv| number(&kv.expect("a stored pair").value));
            Some((register, Does::Get(value)))
        }
        What::Change(_) | What::KeepAlive(_) => None,
    }
}
