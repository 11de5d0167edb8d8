//! Reads, linearizable and not, and renewals of leases, which need the same proof.

use mainstay_env::Dice as _;
use mainstay_lease::Renewal;
use mainstay_member::Input;
use mainstay_mvcc::MvccError;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{Index, LeaseId};

use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::ops::{OpId, ReadError, Reply, Request, What};
use crate::plan::MS;

/// Who waits for a read round.
#[derive(Debug)]
pub(crate) struct Reader {
    op: OpId,
    wants: Wants,
}

#[derive(Debug)]
enum Wants {
    Range(pb::RangeRequest),
    Renewal(i64),
}

impl Life {
    pub(super) fn read_request(&mut self, ctx: &mut Ctx, request: Request) -> Result<(), Death> {
        let op = request.op;
        let wants = match request.what {
            What::Range { request, serializable: true } => {
                let reader = Reader { op, wants: Wants::Range(request) };
                self.answer_read(ctx, reader);
                return Ok(());
            }
            What::Range { request, .. } => Wants::Range(request),
            What::KeepAlive(lease) => {
                if !self.leads() {
                    self.pass_on(ctx, op, lease, request.forwarded);
                    return Ok(());
                }
                Wants::Renewal(lease)
            }
            What::Propose(_) | What::Change(_) => unreachable!("not a read"),
        };
        let reader = Reader { op, wants };
        if self.planted_read(ctx, &reader) {
            let commit = self.mind.status().commit;
            self.waiting.entry(commit).or_default().push(reader);
            self.answer_reads(ctx);
            return Ok(());
        }
        self.read_ctx += 1;
        self.asking.insert(self.read_ctx, vec![reader]);
        self.mind.feed(Input::ReadIndex(self.read_ctx));
        self.turn_soon(ctx)
    }

    /// Only the leader counts leases down.
    fn pass_on(&self, ctx: &mut Ctx, op: OpId, lease: i64, forwarded: bool) {
        match self.mind.status().leader {
            Some(leader) if !forwarded && !ctx.net.is_cut(self.id, leader) => {
                let what = What::KeepAlive(lease);
                let request = NodeEvent::Request(Box::new(Request { op, what, forwarded: true }));
                let delay = MS + ctx.dice.below(ctx.plan.delay);
                ctx.at_node(delay, leader, 0, request);
            }
            _ => ctx.answer(op, self.id, Reply::Refused),
        }
    }

    /// Whether a planted bug takes this read for confirmed.
    fn planted_read(&self, ctx: &Ctx, reader: &Reader) -> bool {
        if !self.leads() {
            return false;
        }
        let status = self.mind.status();
        match ctx.bug {
            Some(Bug::ReadWithoutRound) => matches!(reader.wants, Wants::Range(_)),
            Some(Bug::RenewByDeposed) => matches!(reader.wants, Wants::Renewal(_)),
            Some(Bug::ReadAfterPause) => self
                .confirmed
                .is_some_and(|at| self.ticks < at + u64::from(ctx.plan.election_ticks)),
            Some(Bug::ReadBeforeTermCommit) => {
                self.mind.entry_term(status.commit) != Some(status.term)
            }
            _ => false,
        }
    }

    /// Rounds are confirmed in order: an answer for one answers all before it.
    pub(super) fn read_ready(&mut self, ctx: &mut Ctx, round: u64, index: Index) {
        self.confirmed = self.leads().then_some(self.ticks);
        let later = self.asking.split_off(&(round + 1));
        let index = if ctx.has(Bug::ReadUnapplied) { Index(0) } else { index };
        for (_, readers) in std::mem::replace(&mut self.asking, later) {
            self.waiting.entry(index).or_default().extend(readers);
        }
        self.answer_reads(ctx);
    }

    pub(super) fn answer_reads(&mut self, ctx: &mut Ctx) {
        if self.waiting.is_empty() {
            return;
        }
        let later = self.waiting.split_off(&self.machine.applied().0.next());
        for (_, readers) in std::mem::replace(&mut self.waiting, later) {
            for reader in readers {
                self.answer_read(ctx, reader);
            }
        }
    }

    fn answer_read(&mut self, ctx: &mut Ctx, reader: Reader) {
        let reply = match reader.wants {
            Wants::Range(request) => match self.view.range(&request) {
                Ok(found) => Reply::Range(Ok(found)),
                Err(MvccError::Compacted) => Reply::Range(Err(ReadError::Compacted)),
                Err(MvccError::FutureRevision) => Reply::Range(Err(ReadError::Future)),
                Err(_) if self.doubtful => Reply::Refused,
                Err(error) => panic!("a read fails on a healthy disk: {error}"),
            },
            Wants::Renewal(lease) => {
                let now = self.lease_clock(ctx);
                match self.timer.as_mut().map(|timer| timer.renew(now, LeaseId(lease))) {
                    Some(Renewal::Renewed(ttl)) => Reply::Alive(ttl),
                    Some(Renewal::Missing) => Reply::LeaseGone,
                    // It waits for its revocation, or nobody counts here.
                    Some(Renewal::Expired | Renewal::ClearCheckpoint) | None => Reply::Refused,
                }
            }
        };
        ctx.answer(reader.op, self.id, reply);
    }
}
