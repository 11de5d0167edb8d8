//! From rows to state: the one constructor.

use std::path::Path;
use std::sync::Arc;

use mainstay_auth::{self as auth, Auth};
use mainstay_backend::{Backend, BackendError, Bucket, Meta, OpenOptions};
use mainstay_env::Disk;
use mainstay_lease::{Book, Lease};
use mainstay_membership::{Membership, RowError};
use mainstay_mvcc::{Loaded, Loading, MvccError};
use mainstay_proto::{Message as _, leasepb};
use mainstay_types::{LeaseId, SPOKEN_VERSION, Version};

use crate::alarms::Alarms;
use crate::machine::{Machine, Options, Parts};

/// Why no state can be made from the rows.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The key space.
    #[error(transparent)]
    Mvcc(#[from] MvccError),
    /// The membership.
    #[error(transparent)]
    Membership(#[from] RowError),
    /// Users and roles.
    #[error(transparent)]
    Auth(#[from] auth::RowError),
    /// A row of another bucket.
    #[error("row {key:02x?} of bucket {bucket} cannot be read: {why}")]
    Row {
        /// The bucket.
        bucket: &'static str,
        /// Its key.
        key: Vec<u8>,
        /// What is wrong with it.
        why: String,
    },
    /// The data was written by a newer etcd.
    #[error("invalid downgrade: the {what} is {found}, above the {ours} that this member speaks")]
    TooNew {
        /// Which version.
        what: &'static str,
        /// What it is.
        found: Version,
        /// What we speak.
        ours: Version,
    },
    /// Authentication is on, and the caller serves clients without it, which would
    /// open the store to all ([`Options::allow_auth`]).
    #[error(
        "authentication is enabled in this data directory, which this version of Mainstay does not support yet; disable it with etcd first (etcdctl auth disable)"
    )]
    AuthEnabled,
}

impl Machine {
    /// Opens the db, or makes it, and builds all state from its rows in the one
    /// pass over the `key` bucket that opening takes.
    ///
    /// # Errors
    /// When the file cannot be opened or a row not be read; when it was written by
    /// a newer etcd; when authentication is on and [`Options::allow_auth`] is not.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        file: OpenOptions,
        options: Options,
    ) -> Result<Machine, LoadError> {
        let mut loading = Loading::default();
        let backend = Backend::open(disk, path, file, &mut |revision, tombstone, value| {
            loading.row(revision, tombstone, value);
        })?;
        Machine::load(backend, loading, options)
    }

    /// Builds all state from the rows of an opened db. `loading` has seen every row
    /// of bucket `key`.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub fn load(
        backend: Backend,
        loading: Loading,
        options: Options,
    ) -> Result<Machine, LoadError> {
        let meta = backend.meta()?;
        let storage_version = check_storage_version(&meta)?;
        let auth = load_auth(&backend)?;
        if auth.is_enabled() && !options.allow_auth {
            return Err(LoadError::AuthEnabled);
        }
        let membership = load_membership(&backend)?;
        let alarms = load_alarms(&backend)?;
        let Loaded { store, attached } = loading.finish(&backend)?;
        let mut leases = load_leases(&backend, options.lease_ttl_min)?;
        for (key, lease) in attached {
            // A key whose lease is gone stays, as in etcd; nothing revokes it.
            leases.attach(lease, &key);
        }
        let applied = (meta.applied, meta.term);
        Ok(Machine::from_parts(
            options,
            Parts { backend, store, leases, auth, membership, alarms, applied, storage_version },
        ))
    }

    /// Puts the db of a snapshot from the leader in the place of this one, and builds all
    /// state anew from its rows, as a start would. The backend's clones go on with it.
    ///
    /// # Errors
    /// As [`Machine::open`]; the member must stop then.
    pub fn install(&mut self, received: &Path) -> Result<(), LoadError> {
        let backend = self.backend.clone();
        let mut loading = Loading::default();
        backend.exchange(received, &mut |revision, tombstone, value| {
            loading.row(revision, tombstone, value);
        })?;
        *self = Machine::load(backend, loading, self.options)?;
        Ok(())
    }
}

fn check_storage_version(meta: &Meta) -> Result<Option<Version>, LoadError> {
    let Some(text) = &meta.storage_version else { return Ok(None) };
    let text = String::from_utf8_lossy(text);
    let version: Version =
        text.parse().map_err(|error| wrong("meta", b"storageVersion", format!("{error}")))?;
    check_version("storage version", version)?;
    Ok(Some(version.without_patch()))
}

fn check_version(what: &'static str, found: Version) -> Result<(), LoadError> {
    if found.without_patch() > SPOKEN_VERSION.without_patch() {
        return Err(LoadError::TooNew { what, found, ours: SPOKEN_VERSION });
    }
    Ok(())
}

fn load_auth(backend: &Backend) -> Result<Auth, LoadError> {
    Ok(Auth::load(auth::Rows {
        auth: backend.rows_of(Bucket::Auth)?,
        users: backend.rows_of(Bucket::AuthUsers)?,
        roles: backend.rows_of(Bucket::AuthRoles)?,
    })?)
}

pub(crate) fn load_membership(backend: &Backend) -> Result<Membership, LoadError> {
    let mut membership = Membership::default();
    for (key, value) in backend.rows_of(Bucket::Members)? {
        membership.load_member(&key, &value)?;
    }
    for (key, _) in backend.rows_of(Bucket::MembersRemoved)? {
        membership.load_removed(&key)?;
    }
    for (key, value) in backend.rows_of(Bucket::Cluster)? {
        match key.as_ref() {
            b"clusterVersion" => membership.load_version(&value)?,
            b"downgrade" => membership.load_downgrade(&value)?,
            _ => {}
        }
    }
    if let Some(version) = membership.version() {
        check_version("cluster version", version)?;
    }
    Ok(membership)
}

fn load_alarms(backend: &Backend) -> Result<Alarms, LoadError> {
    let mut alarms = Alarms::default();
    for (key, _) in backend.rows_of(Bucket::Alarm)? {
        alarms.load(key.clone()).map_err(|error| wrong("alarm", &key, error.to_string()))?;
    }
    Ok(alarms)
}

fn load_leases(backend: &Backend, ttl_min: i64) -> Result<Book, LoadError> {
    let mut leases = Vec::new();
    for (key, value) in backend.rows_of(Bucket::Lease)? {
        let row = leasepb::Lease::decode(value)
            .map_err(|error| wrong("lease", &key, error.to_string()))?;
        leases.push(Lease { id: LeaseId(row.id), ttl: row.ttl, remaining: row.remaining_ttl });
    }
    Ok(Book::load(ttl_min, leases))
}

fn wrong(bucket: &'static str, key: &[u8], why: String) -> LoadError {
    LoadError::Row { bucket, key: key.to_vec(), why }
}
