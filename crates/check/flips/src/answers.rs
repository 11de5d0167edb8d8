//! Everything that a member can be asked, as numbers that can be compared.

use bytes::Bytes;
use mainstay_apply::Machine;
use mainstay_backend::{BackendError, Bucket};
use mainstay_mvcc::MvccError;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::Revision;

/// Past revisions that are read, besides the newest and the oldest.
const PAST: i64 = 6;

/// What was asked, and a digest of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(Vec<(String, u64)>);

impl Answers {
    pub(crate) fn add(&mut self, what: impl Into<String>, answer: u64) {
        self.0.push((what.into(), answer));
    }

    /// What differs, in words.
    #[must_use]
    pub fn differ_from(&self, right: &Answers) -> String {
        let pairs = self.0.iter().zip(&right.0).filter(|(ours, right)| ours != right);
        let mut list: Vec<String> =
            pairs.map(|((what, is), (_, was))| format!("{what} {is:x} and not {was:x}")).collect();
        if self.0.len() != right.0.len() {
            list.push(format!("{} answers, not {}", self.0.len(), right.0.len()));
        }
        list.join(", ")
    }
}

/// A digest of byte strings whose borders count.
#[derive(Default)]
struct Digest(u32);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, &(bytes.len() as u64).to_le_bytes());
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    fn number(&mut self, n: i64) {
        self.add(&n.to_le_bytes());
    }

    fn value(&self) -> u64 {
        u64::from(self.0)
    }
}

/// Why an answer was refused.
#[derive(Debug)]
pub struct Refused(pub String);

impl From<MvccError> for Refused {
    fn from(error: MvccError) -> Self {
        Refused(error.to_string())
    }
}

impl From<BackendError> for Refused {
    fn from(error: BackendError) -> Self {
        Refused(error.to_string())
    }
}

/// Asks for everything: all keys at several revisions, all changes since the compaction, hashes,
/// leases, and the rows of the other buckets. What was applied is committed first.
///
/// # Errors
/// When something is not answered.
pub fn answers(machine: &Machine) -> Result<Answers, Refused> {
    machine.backend().commit()?;
    let mut all = Answers::default();
    let view = machine.view();
    let (head, compacted) = (view.revision(), view.compact_revision());
    all.add("revision", head as u64);
    all.add("compacted revision", compacted as u64);
    all.add("keys", view.len() as u64);
    let first = compacted.max(1);
    for n in 0..=PAST {
        let revision = first + (head - first) * n / PAST;
        all.add(format!("keys at {revision}"), range(machine, revision)?);
    }
    all.add("hash", u64::from(view.hash_kv(0)?.hash));
    let mut changes = Digest::default();
    let mut rows = view.rows().rows(Revision::new(compacted + 1, 0), head)?;
    while let Some(row) = rows.next()? {
        changes.number(row.revision.main);
        changes.number(row.revision.sub);
        changes.number(i64::from(row.tombstone));
        changes.add(&row.value);
    }
    all.add("changes", changes.value());
    all.add("members", u64::from(crc32c::crc32c(&machine.snapshot_v2_json())));
    all.add("leases", leases(machine));
    for bucket in [
        Bucket::Lease,
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthUsers,
        Bucket::AuthRoles,
        Bucket::Cluster,
        Bucket::Members,
        Bucket::MembersRemoved,
    ] {
        let mut digest = Digest::default();
        for (key, value) in machine.backend().rows_of(bucket)? {
            digest.add(&key);
            digest.add(&value);
        }
        all.add(format!("{bucket:?}"), digest.value());
    }
    Ok(all)
}

fn range(machine: &Machine, revision: i64) -> Result<u64, Refused> {
    let zero = Bytes::from_static(b"\0");
    let request =
        pb::RangeRequest { key: zero.clone(), range_end: zero, revision, ..Default::default() };
    let reply = machine.view().range(&request)?;
    let mut digest = Digest::default();
    digest.number(reply.count);
    reply.kvs.iter().for_each(|kv| digest.add(kv));
    Ok(digest.value())
}

fn leases(machine: &Machine) -> u64 {
    let mut digest = Digest::default();
    for lease in machine.leases().leases() {
        digest.number(lease.id.0);
        digest.number(lease.ttl);
        machine.leases().keys(lease.id).for_each(|key| digest.add(key));
    }
    digest.value()
}
