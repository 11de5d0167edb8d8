//! From a directory to a member that can run.
//!
//! Identity, membership and everything acknowledged come from the log; the start
//! flags of a directory that has one only describe how to run (as in etcd).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::{LoadError, Machine};
use mainstay_backend::{Backend, BackendError, OpenOptions};
use mainstay_env::Disk;
use mainstay_member::{Member, MemberConfig};
use mainstay_membership as membership;
use mainstay_raft::{
    ConfChangeKind, ConfChangeV2, ConfState, HardState, LogStart, Peer, Snapshot, StartError,
};
use mainstay_types::{Index, MemberId};
use mainstay_wal::{Metadata, SnapshotMark, Wal, WalError, WalOptions, snap};

use crate::Options;
use crate::handle::Identity;

/// Why a member does not start. Nothing is changed by a start that fails, but for
/// the repair of a torn tail and of what an interrupted start left.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file system.
    #[error("failed to {doing} {path}: {source}")]
    Disk {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The log or a `.snap` file.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The db.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The state in the db.
    #[error(transparent)]
    State(#[from] LoadError),
    /// The log contradicts itself.
    #[error(transparent)]
    Raft(#[from] StartError),
    /// The parts of the directory do not belong together, or it is not for us.
    #[error("{0}")]
    Directory(String),
}

/// A member, read from its directory or just born, before its threads run.
pub(crate) struct Booted {
    pub(crate) identity: Identity,
    pub(crate) wal: Wal,
    pub(crate) backend: Backend,
    pub(crate) machine: Machine,
    pub(crate) member: Member,
    /// Entries up to here are in the machine.
    pub(crate) applied: Index,
    /// The member has just been born.
    pub(crate) is_new: bool,
}

/// Boots from `options.data_dir`, making it when it is not there.
pub(crate) fn boot(
    disk: &Arc<dyn Disk>,
    options: &Options,
    seed: u64,
) -> Result<Booted, BootError> {
    make_directories(&**disk, options)?;
    let wal_path = options.wal_path();
    if mainstay_wal::exists(&**disk, &wal_path)? {
        return reopen(disk, options, seed);
    }
    refuse_db_without_log(disk, options)?;
    bear(disk, options, seed)
}

fn disk_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BootError + 'a {
    move |source| BootError::Disk { doing, path: path.to_owned(), source }
}

fn make_directories(disk: &dyn Disk, options: &Options) -> Result<(), BootError> {
    let data_dir = &options.data_dir;
    if let Some(found) = disk.metadata(data_dir).map_err(disk_error("look at", data_dir))?
        && found.is_dir
        && found.mode & 0o777 != 0o700
    {
        tracing::warn!(
            dir = %data_dir.display(),
            mode = %format!("{:o}", found.mode & 0o777),
            "data directory has different file permission than the recommended 0700"
        );
    }
    let snap_dir = options.snap_path();
    disk.create_dir_all(&snap_dir).map_err(disk_error("create", &snap_dir))?;
    for dir in [data_dir.as_path(), &options.member_dir()] {
        disk.sync_dir(dir).map_err(disk_error("sync", dir))?;
    }
    // What an interrupted defragmentation or snapshot transfer has left.
    for name in disk.list(&snap_dir).map_err(disk_error("list", &snap_dir))? {
        if name.starts_with("tmp") || name.starts_with("db.tmp") {
            let path = snap_dir.join(&name);
            disk.remove_file(&path).map_err(disk_error("remove", &path))?;
        }
    }
    Ok(())
}

/// A db that entries were applied to belongs to a log. Without it the member would
/// come up with old data and a new identity, and vote.
fn refuse_db_without_log(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), BootError> {
    let path = options.db_path();
    let found = disk.metadata(&path).map_err(disk_error("look at", &path))?;
    if found.is_none_or(|found| found.len == 0) {
        return Ok(());
    }
    let file = OpenOptions { no_sync: options.no_fsync };
    let backend = Backend::open(Arc::clone(disk), &path, file, &mut |_, _, _| {})?;
    let applied = backend.meta()?.applied;
    if applied.0 == 0 {
        // A first boot that was cut short before the log was there.
        return Ok(());
    }
    Err(BootError::Directory(format!(
        "{} holds everything up to log entry {applied}, but {} has no log: the log was removed or \
         --wal-dir points elsewhere. Give the right --wal-dir, or restore the db as a snapshot \
         (it would otherwise come up as a new member with old data)",
        path.display(),
        options.wal_path().display(),
    )))
}

fn open_machine(disk: &Arc<dyn Disk>, options: &Options) -> Result<Machine, BootError> {
    let file = OpenOptions { no_sync: options.no_fsync };
    Ok(Machine::open(Arc::clone(disk), &options.db_path(), file, apply_options(options))?)
}

fn wal_options(options: &Options) -> WalOptions {
    WalOptions { sync: !options.no_fsync, ..WalOptions::default() }
}

fn member_config(options: &Options, me: MemberId, seed: u64) -> MemberConfig {
    let mut config = MemberConfig::new(me);
    config.raft.election_tick = u32::try_from(options.election_ticks()).unwrap_or(u32::MAX).max(2);
    config.raft.pre_vote = options.pre_vote;
    config.raft.seed = seed;
    config.read_epoch = seed << 32;
    config.snapshot_count = options.snapshot_count;
    config.catchup_entries = options.snapshot_catchup_entries;
    config
}

/// The first start of a new cluster of one.
fn bear(disk: &Arc<dyn Disk>, options: &Options, seed: u64) -> Result<Booted, BootError> {
    let me = membership::member_id(&options.peer_urls, &options.cluster_token, None);
    let cluster = membership::cluster_id([me]);
    let identity = Identity { cluster, member: me };
    let machine = open_machine(disk, options)?;
    let backend = machine.backend().clone();
    let wal_path = options.wal_path();
    let metadata = Metadata { member: me, cluster };
    let wal = Wal::create_with(Arc::clone(disk), &wal_path, metadata, wal_options(options))?;
    let first = membership::Member {
        id: me,
        peer_urls: options.peer_urls.clone(),
        ..membership::Member::default()
    };
    // As etcd's first entries have it: the member with its name, before it has published.
    let context = membership::Member { name: options.name.clone(), ..first }.to_json();
    let peers = vec![Peer { id: me, context: Bytes::from(context) }];
    let member = Member::bootstrap(member_config(options, me, seed), peers)?;
    Ok(Booted { identity, wal, backend, machine, member, applied: Index(0), is_new: true })
}

/// A start from a directory that has a log.
fn reopen(disk: &Arc<dyn Disk>, options: &Options, seed: u64) -> Result<Booted, BootError> {
    let db = options.db_path();
    if disk.metadata(&db).map_err(disk_error("look at", &db))?.is_none() {
        return Err(BootError::Directory(format!(
            "database file ({}) of the backend is missing",
            db.display()
        )));
    }
    let (snapshot, wal, replay) = read_log(disk, options)?;
    let identity = Identity { cluster: replay.metadata.cluster, member: replay.metadata.member };
    let machine = open_machine(disk, options)?;
    let backend = machine.backend().clone();
    let applied = check_fit(machine.applied().0, snapshot.as_ref(), &replay.entries, &db)?;

    let conf_state = match &snapshot {
        // A db that lags behind its own configuration knows no members yet.
        Some(snapshot) if machine.conf_state() == ConfState::default() => {
            snapshot.conf_state.clone()
        }
        _ => machine.conf_state(),
    };
    let (snapshot_index, snapshot_term) =
        snapshot.as_ref().map(|s| (s.index, s.term)).unwrap_or_default();
    // A commit that only moved the index is not synced; what is applied was committed.
    let commit = replay.hard_state.commit.max(applied);
    let hard_state = HardState { commit, ..replay.hard_state };
    refuse_several_members(&conf_state, &replay.entries, (applied, commit), &options.data_dir)?;
    let mut config = member_config(options, identity.member, seed);
    config.raft.applied = applied;
    config.last_snapshot = snapshot_index;
    let start = LogStart { snapshot_index, snapshot_term, entries: replay.entries };
    let member = Member::new(config, hard_state, conf_state, start)?;
    Ok(Booted { identity, wal, backend, machine, member, applied, is_new: false })
}

/// A member that knows of others would wait for them for ever: there is no transport yet. What
/// the log holds beyond the db counts too, since a lone voter commits all of its log; but a
/// removal that is not committed would need the one to be removed.
fn refuse_several_members(
    conf_state: &ConfState,
    entries: &[mainstay_raft::Entry],
    (applied, commit): (Index, Index),
    data_dir: &Path,
) -> Result<(), BootError> {
    let lists = [&conf_state.voters, &conf_state.voters_outgoing, &conf_state.learners];
    let mut members: BTreeSet<MemberId> = lists.into_iter().flatten().copied().collect();
    for entry in entries.iter().filter(|entry| entry.index > applied) {
        let change = ConfChangeV2::of_entry(entry).map_err(|why| {
            let index = entry.index;
            BootError::Directory(format!("log entry {index} is no change of members: {why:?}"))
        })?;
        for single in change.into_iter().flat_map(|change| change.changes) {
            match single.kind {
                ConfChangeKind::AddNode | ConfChangeKind::AddLearnerNode => {
                    members.insert(single.node);
                }
                ConfChangeKind::RemoveNode if entry.index <= commit => {
                    members.remove(&single.node);
                }
                ConfChangeKind::RemoveNode | ConfChangeKind::UpdateNode => {}
            }
        }
    }
    if members.len() <= 1 {
        return Ok(());
    }
    let ids: Vec<String> = members.iter().map(MemberId::to_string).collect();
    Err(BootError::Directory(format!(
        "{} belongs to a cluster of {} members ({}), and this version of Mainstay runs clusters of \
         one; remove the others with etcd first (etcdctl member remove)",
        data_dir.display(),
        ids.len(),
        ids.join(", ")
    )))
}

type Log = (Option<Snapshot>, Wal, mainstay_wal::Replay);

fn read_log(disk: &Arc<dyn Disk>, options: &Options) -> Result<Log, BootError> {
    let wal_path = options.wal_path();
    let marks = mainstay_wal::valid_snapshots(&**disk, &wal_path)?;
    let (snapshot, broken) = snap::load_newest(&**disk, &options.snap_path(), &marks)?;
    for one in &broken {
        tracing::warn!(path = %one.path.display(), why = %one.why, "renamed a damaged snapshot file");
    }
    let from = match &snapshot {
        Some(s) => {
            SnapshotMark { index: s.index, term: s.term, conf_state: Some(s.conf_state.clone()) }
        }
        None => SnapshotMark::default(),
    };
    let (wal, replay) = Wal::open_with(Arc::clone(disk), &wal_path, &from, wal_options(options))?;
    if let Some(torn) = &replay.torn_tail {
        tracing::warn!(tail = ?torn, "the last write of the log was cut short; it was never acknowledged");
    }
    Ok((snapshot, wal, replay))
}

/// The applied index must lie in the log; answers it.
fn check_fit(
    applied: Index,
    snapshot: Option<&Snapshot>,
    entries: &[mainstay_raft::Entry],
    db: &Path,
) -> Result<Index, BootError> {
    let snapshot_index = snapshot.map(|s| s.index).unwrap_or_default();
    let last = entries.last().map_or(snapshot_index, |entry| entry.index);
    if applied > last {
        return Err(BootError::Directory(format!(
            "{} holds everything up to log entry {applied}, but the log ends at {last}: the log was \
             cut or is another member's",
            db.display()
        )));
    }
    if applied < snapshot_index {
        return Err(BootError::Directory(format!(
            "{} holds everything up to log entry {applied}, but the log begins behind the snapshot \
             at {snapshot_index}: the db is older than its log",
            db.display()
        )));
    }
    Ok(applied)
}

fn apply_options(options: &Options) -> mainstay_apply::Options {
    mainstay_apply::Options {
        lease_ttl_min: options.min_lease_ttl(),
        learners_max: mainstay_types::limits::LEARNERS_DEFAULT,
        quota: mainstay_apply::quota::Quota::from_flag(options.quota_bytes),
        persist_checkpoints: false,
    }
}
