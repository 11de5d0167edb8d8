//! Which leases exist and which keys hang on them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use mainstay_types::LeaseId;
use mainstay_types::limits::LEASE_TTL_SECONDS_MAX;

/// A lease as it is persisted; its keys are found through the keys themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its identity, never [`LeaseId::NONE`].
    pub id: LeaseId,
    /// The granted time to live in seconds, already raised to the minimum.
    pub ttl: i64,
    /// What a checkpoint left of the time to live, in seconds; 0 when no
    /// checkpoint holds.
    pub remaining: i64,
}

impl Lease {
    /// Seconds from which a new leader counts down: the checkpoint when there
    /// is one, else the whole time to live (etcd, `Lease.getRemainingTTL`).
    pub fn countdown(&self) -> i64 {
        if self.remaining > 0 { self.remaining } else { self.ttl }
    }
}

/// Why a lease is not granted. The same on every member, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Identity 0 means "no lease".
    #[error("lease not found")]
    NoIdentity,
    /// More than [`LEASE_TTL_SECONDS_MAX`] seconds.
    #[error("too large lease TTL")]
    TtlTooLarge,
    /// A lease with this identity exists.
    #[error("lease already exists")]
    Exists,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    ttl: i64,
    remaining: i64,
}

/// The replicated book of leases. A key hangs on at most one lease.
#[derive(Debug)]
pub struct Book {
    ttl_min: i64,
    leases: BTreeMap<LeaseId, Terms>,
    owners: BTreeMap<Bytes, LeaseId>,
    // The same pairs the other way round: one sorted set instead of a set per
    // lease, because most of a million leases have a single key.
    attached: BTreeSet<(LeaseId, Bytes)>,
    /// Leases that carry a checkpoint.
    marked: BTreeSet<LeaseId>,
}

impl Book {
    /// An empty book. Time to lives below `ttl_min` seconds are raised to it
    /// (etcd: `ceil(1.5 * election timeout)`, so equal on all members only
    /// when they are configured alike).
    pub fn new(ttl_min: i64) -> Book {
        Book {
            ttl_min,
            leases: BTreeMap::new(),
            owners: BTreeMap::new(),
            attached: BTreeSet::new(),
            marked: BTreeSet::new(),
        }
    }

    /// A book from the rows of the lease bucket; the caller then attaches the
    /// keys while it reads them.
    pub fn load(ttl_min: i64, rows: impl IntoIterator<Item = Lease>) -> Book {
        let mut book = Book::new(ttl_min);
        for row in rows {
            let terms = Terms { ttl: row.ttl.max(ttl_min), remaining: row.remaining };
            book.leases.insert(row.id, terms);
            book.mark(row.id, row.remaining);
        }
        book
    }

    /// Adds a lease and returns it with its effective time to live.
    pub fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<Lease, GrantError> {
        if id == LeaseId::NONE {
            return Err(GrantError::NoIdentity);
        }
        if ttl > LEASE_TTL_SECONDS_MAX {
            return Err(GrantError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(GrantError::Exists);
        }
        let terms = Terms { ttl: ttl.max(self.ttl_min), remaining: 0 };
        self.leases.insert(id, terms);
        Ok(Lease { id, ttl: terms.ttl, remaining: 0 })
    }

    /// Removes a lease and returns its keys in byte order, which the caller
    /// deletes in that order; `None` when there is no such lease.
    pub fn revoke(&mut self, id: LeaseId) -> Option<Vec<Bytes>> {
        self.leases.remove(&id)?;
        self.marked.remove(&id);
        let keys: Vec<Bytes> = self.keys(id).cloned().collect();
        for key in &keys {
            self.owners.remove(key);
            self.attached.remove(&(id, key.clone()));
        }
        Some(keys)
    }

    /// Sets what is left of a lease's time to live (0 clears the checkpoint)
    /// and returns the changed lease; a missing lease is no error in etcd.
    pub fn checkpoint(&mut self, id: LeaseId, remaining: i64) -> Option<Lease> {
        let terms = self.leases.get_mut(&id)?;
        terms.remaining = remaining;
        let ttl = terms.ttl;
        self.mark(id, remaining);
        Some(Lease { id, ttl, remaining })
    }

    fn mark(&mut self, id: LeaseId, remaining: i64) {
        if remaining > 0 {
            self.marked.insert(id);
        } else {
            self.marked.remove(&id);
        }
    }

    /// Leases that carry a checkpoint, by identity.
    pub fn marked(&self) -> impl ExactSizeIterator<Item = LeaseId> {
        self.marked.iter().copied()
    }

    /// Hangs `key` on a lease, taking it off any other; `false`, with nothing
    /// changed, when there is no such lease. The key is copied, so that it does
    /// not keep the buffer alive in which its request arrived.
    pub fn attach(&mut self, id: LeaseId, key: &[u8]) -> bool {
        if !self.leases.contains_key(&id) {
            return false;
        }
        if self.owners.get(key) == Some(&id) {
            return true;
        }
        self.detach(key);
        let key = Bytes::copy_from_slice(key);
        self.owners.insert(key.clone(), id);
        self.attached.insert((id, key));
        true
    }

    /// Takes `key` off its lease, if it hangs on one, and says which.
    pub fn detach(&mut self, key: &[u8]) -> Option<LeaseId> {
        // Most stores have no leased key at all, or few: look before copying.
        let (key, id) = self.owners.remove_entry(key)?;
        self.attached.remove(&(id, key));
        Some(id)
    }

    /// The lease on which `key` hangs.
    pub fn owner(&self, key: &[u8]) -> Option<LeaseId> {
        self.owners.get(key).copied()
    }

    /// The lease with this identity.
    pub fn lease(&self, id: LeaseId) -> Option<Lease> {
        let terms = self.leases.get(&id)?;
        Some(Lease { id, ttl: terms.ttl, remaining: terms.remaining })
    }

    /// Whether there is such a lease.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The keys of a lease in byte order; none for a missing lease.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.attached
            .range((Bound::Included((id, Bytes::new())), Bound::Unbounded))
            .take_while(move |(owner, _)| *owner == id)
            .map(|(_, key)| key)
    }

    /// All leases by identity.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = Lease> {
        self.leases.iter().map(|(id, terms)| Lease {
            id: *id,
            ttl: terms.ttl,
            remaining: terms.remaining,
        })
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }
}

#[cfg(test)]
mod tests;
