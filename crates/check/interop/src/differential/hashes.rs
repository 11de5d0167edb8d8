//! The hashes that etcd remembers and ours does not, for `hash-of-a-compaction` in
//! [`super::exceptions`].
//!
//! Etcd's compaction hashes the rows that it walks, under the compact revision before
//! it. The same is asked of ours just before it compacts, so that etcd's memory is
//! compared with what ours computes, and not excused.

use std::collections::BTreeMap;

use mainstay_proto::etcdserverpb as pb;

use super::answer::Answer;
use super::op::Op;
use super::side::{Stubs, ask};

/// How many compactions etcd remembers: those of the highest revisions.
const REMEMBERED: usize = 10;

/// The hash of no row: what is remembered of a compaction at 0.
const OF_NOTHING: u32 = 0x40a4_756d;

/// The hash that could not be foreseen: a compaction where no key is left, whose hash
/// takes in other rows than HashKV does.
pub(crate) const UNFORESEEN: u32 = 0;

/// What ours would remember of its compactions if it were etcd.
#[derive(Default)]
pub(crate) struct Compactions {
    hashes: BTreeMap<i64, Foreseen>,
}

/// What a compaction will be remembered by.
#[derive(Clone, Copy)]
pub(crate) struct Foreseen {
    hash: u32,
    compact_revision: i64,
}

/// Asks for the hash that a compaction at `revision` is going to make; `None` when
/// none can be had there.
pub(crate) async fn foresee(stubs: &Stubs, revision: i64) -> Option<Foreseen> {
    let hash = hash_kv(stubs, revision).await?;
    let compact_revision = hash.compact_revision;
    if revision == 0 {
        return Some(Foreseen { hash: OF_NOTHING, compact_revision });
    }
    let everything = pb::RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        revision,
        count_only: true,
        ..pb::RangeRequest::default()
    };
    let Answer::Range(keys) = ask(stubs.clone(), Op::Range(everything)).await else { return None };
    let hash = if keys.count == 0 { UNFORESEEN } else { hash.hash };
    Some(Foreseen { hash, compact_revision })
}

async fn hash_kv(stubs: &Stubs, revision: i64) -> Option<pb::HashKvResponse> {
    match ask(stubs.clone(), Op::HashKv(pb::HashKvRequest { revision })).await {
        Answer::HashKv(hash) => Some(hash),
        _ => None,
    }
}

impl Compactions {
    pub(crate) fn remember(&mut self, revision: i64, foreseen: Option<Foreseen>) {
        self.hashes.extend(foreseen.map(|hash| (revision, hash)));
        if self.hashes.len() > REMEMBERED {
            self.hashes.pop_first();
        }
    }

    /// The remembered answer to HashKV at `revision`, when there is one and ours gave
    /// the computed one or refused as it must.
    pub(crate) async fn recall(&self, stubs: &Stubs, revision: i64, answer: Answer) -> Answer {
        let Some(foreseen) = self.hashes.get(&revision) else { return answer };
        let computed = match &answer {
            Answer::HashKv(hash) if revision == 0 || hash.compact_revision == revision => {
                Some(*hash)
            }
            Answer::Failed { message, .. } if message == COMPACTED => {
                // Only for its header.
                let now = hash_kv(stubs, 0).await;
                now.map(|now| pb::HashKvResponse { hash_revision: revision, ..now })
            }
            _ => None,
        };
        let Some(computed) = computed else { return answer };
        Answer::HashKv(pb::HashKvResponse {
            hash: foreseen.hash,
            compact_revision: foreseen.compact_revision,
            ..computed
        })
    }
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
