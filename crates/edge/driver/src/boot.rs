//! From a directory to a member that can run.
//!
//! Identity, membership and everything acknowledged come from the log; the start
//! flags of a directory that has one only describe how to run (as in etcd).

mod force;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::{LoadError, Machine, StopError};
use mainstay_backend::bolt::SumsFound;
use mainstay_backend::{Backend, BackendError, OpenOptions, SumsPlace};
use mainstay_env::Disk;
use mainstay_member::{Member, MemberConfig};
use mainstay_membership::{self as membership, Membership, V2Snapshot};
use mainstay_raft::{ConfState, HardState, LogStart, Peer, Snapshot, StartError};
use mainstay_types::{Index, MemberId};
use mainstay_wal::{Metadata, Replay, SnapshotMark, Wal, WalError, WalOptions, snap};

use crate::committer::humanized;
use crate::handle::Identity;
use crate::incoming::received_db;
use crate::{Founding, Options};

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
    /// An entry of the log.
    #[error(transparent)]
    Entry(#[from] StopError),
    /// The log contradicts itself.
    #[error(transparent)]
    Raft(#[from] StartError),
    /// The db is not there.
    #[error("database file ({}) of the backend is missing", .0.display())]
    DbMissing(PathBuf),
    /// The db is older than its log.
    #[error(
        "{} holds everything up to log entry {applied}, but the log begins behind the snapshot \
         at {snapshot}: the db is older than its log",
        db.display()
    )]
    DbBehind {
        /// The file.
        db: PathBuf,
        /// The last entry in it.
        applied: Index,
        /// What the log goes on from.
        snapshot: Index,
    },
    /// The parts of the directory do not belong together, or it is not for us.
    #[error("{0}")]
    Directory(String),
    /// Something is damaged or missing, and was not fetched from another member.
    #[error("{found}; it is not fetched from another member: {why}. {advice}")]
    NotMended {
        /// What is damaged or missing.
        found: String,
        /// Why nothing was fetched.
        why: String,
        /// What to do now.
        advice: String,
    },
}

impl BootError {
    /// Whether the log is not what it was.
    pub(crate) fn is_of_log(&self) -> bool {
        matches!(self, BootError::Wal(error) if error.is_corrupt())
    }

    /// Whether the db is not what it was, or not there.
    pub(crate) fn is_of_db(&self) -> bool {
        match self {
            BootError::DbMissing(_) | BootError::DbBehind { .. } => true,
            BootError::Backend(error) => is_damage(error),
            BootError::State(LoadError::Backend(error)) => is_damage(error),
            BootError::State(LoadError::TooNew { .. } | LoadError::AuthEnabled) => false,
            BootError::State(_) => true,
            BootError::Disk { .. }
            | BootError::Wal(_)
            | BootError::Entry(_)
            | BootError::Raft(_)
            | BootError::Directory(_)
            | BootError::NotMended { .. } => false,
        }
    }
}

/// What a system answers for a sector that cannot be read.
const EIO: i32 = 5;

fn is_damage(error: &BackendError) -> bool {
    use mainstay_bolt::Error;
    match error {
        BackendError::Bolt(Error::Disk { source, .. }) => source.raw_os_error() == Some(EIO),
        BackendError::Bolt(error) => matches!(error, Error::Damaged { .. } | Error::NotBolt { .. }),
        BackendError::Revision(_) | BackendError::Row { .. } => true,
        BackendError::Exchanged { .. } | BackendError::Disk { .. } => false,
    }
}

/// A member, read from its directory or just born, before its threads run.
pub struct Booted {
    /// Who it is.
    pub identity: Identity,
    /// Its log, open for writing.
    pub wal: Wal,
    /// Its db, the one in `machine`.
    pub backend: Backend,
    /// Its state.
    pub machine: Machine,
    /// Its mind.
    pub member: Member,
    /// Entries up to here are in the machine.
    pub applied: Index,
    /// The member has just been born.
    pub is_new: bool,
}

/// What a start without threads sets otherwise and looks at. A member in service takes
/// everything as it is: `()`. The simulator does not.
pub trait Tuning {
    /// How the log is written.
    fn log(&mut self, _options: &mut WalOptions) {}
    /// How raft behaves.
    fn mind(&mut self, _config: &mut MemberConfig) {}
    /// What was read from the log behind the snapshot at `_from`, before anything is made
    /// of it; `_damaged` `.snap` files were put aside.
    fn read(&mut self, _from: Index, _damaged: usize, _replay: &mut Replay) {}
}

impl Tuning for () {}

/// Boots from `options.data_dir`, making it when it is not there. The part of
/// [`crate::Driver::start`] that reads the directory; `seed` is for raft's election times
/// and the contexts of its read rounds.
///
/// # Errors
/// When the directory cannot be used; the error says why and what to do.
pub fn boot(
    disk: &Arc<dyn Disk>,
    options: &Options,
    seed: u64,
    tuning: &mut dyn Tuning,
) -> Result<Booted, BootError> {
    let wal_path = options.wal_path();
    let is_new = !mainstay_wal::exists(&**disk, &wal_path)?;
    make_directories(&**disk, options, is_new)?;
    let start = Start { disk, options, seed, tuning };
    if !is_new {
        return start.reopen();
    }
    refuse_without_log(disk, options)?;
    start.bear()
}

/// What every part of a start is given.
struct Start<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a Options,
    seed: u64,
    tuning: &'a mut dyn Tuning,
}

pub(crate) fn disk_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> BootError + 'a {
    move |source| BootError::Disk { doing, path: path.to_owned(), source }
}

fn make_directories(disk: &dyn Disk, options: &Options, is_new: bool) -> Result<(), BootError> {
    let data_dir = &options.data_dir;
    let above = if is_new { folders_above(disk, data_dir)? } else { Vec::new() };
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
    for Above { dir, needed } in &above {
        match disk.sync_dir(dir) {
            // It was there before: that it stays is up to whoever made it.
            Err(error) if !needed => {
                tracing::warn!(dir = %dir.display(), %error, "cannot sync a folder above the data directory");
            }
            done => done.map_err(disk_error("sync", dir))?,
        }
    }
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

/// A folder above the data directory.
struct Above {
    dir: PathBuf,
    /// The one below it on the way there is not there yet.
    needed: bool,
}

/// The folders above a new data directory, the highest first: a power cut must not take
/// away the name of a directory in which something is acknowledged. Those that are there
/// may have been made by a start that was killed.
fn folders_above(disk: &dyn Disk, data_dir: &Path) -> Result<Vec<Above>, BootError> {
    let mut folders = Vec::new();
    let mut below = data_dir;
    for dir in data_dir.ancestors().skip(1) {
        let needed = disk.metadata(below).map_err(disk_error("look at", below))?.is_none();
        let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        folders.push(Above { dir: here.to_owned(), needed });
        below = here;
    }
    folders.reverse();
    Ok(folders)
}

/// Refuses a directory that has no log and is no new one: a db that entries were applied to,
/// and `.snap` files, belong to a log. Without it the member would come up with old data and
/// a new identity, and vote.
///
/// # Errors
/// What is there, and what to do; or the disk's. Nothing is changed.
pub fn refuse_without_log(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), BootError> {
    let (path, folder) = (options.db_path(), options.snap_path());
    let found = disk.metadata(&path).map_err(disk_error("look at", &path))?;
    if found.is_some_and(|found| found.len > 0) {
        let file = OpenOptions { no_sync: options.no_fsync, ..OpenOptions::default() };
        let backend = Backend::open(Arc::clone(disk), &path, file, &mut |_, _, _| {});
        let holds = match backend.and_then(|backend| backend.meta()) {
            // A first boot that was cut short before the log was there.
            Ok(meta) if meta.applied.0 == 0 => None,
            Ok(meta) => Some(format!("holds everything up to log entry {}", meta.applied)),
            Err(error) if is_damage(&error) => Some(format!("is damaged ({error})")),
            Err(error) => return Err(error.into()),
        };
        if let Some(holds) = holds {
            return Err(without_log(options, &path, &holds));
        }
    }
    if disk.metadata(&folder).map_err(disk_error("look at", &folder))?.is_none() {
        return Ok(());
    }
    match snap::list(&**disk, &folder)?.last() {
        Some(name) => {
            let holds = format!("covers the log up to entry {}", name.index);
            Err(without_log(options, &folder.join(name.to_string()), &holds))
        }
        None => Ok(()),
    }
}

fn without_log(options: &Options, file: &Path, holds: &str) -> BootError {
    BootError::Directory(format!(
        "{} {holds}, but {} has no log: the log was removed or --wal-dir points elsewhere. Give \
         the right --wal-dir; or, in a cluster of several, remove this member, set its directory \
         aside and add it again; or restore the db as a snapshot (it would otherwise come up as a \
         new member with old data)",
        file.display(),
        options.wal_path().display(),
    ))
}

/// Rewrites the db before anybody is served, when that frees as much as was asked.
fn defragment(options: &Options, backend: &Backend) -> Result<(), BootError> {
    let threshold = options.bootstrap_defrag_threshold_mib.saturating_mul(1 << 20);
    if threshold == 0 {
        return Ok(());
    }
    let (size, in_use) = (backend.size(), backend.size_in_use());
    if size.saturating_sub(in_use) < threshold {
        tracing::info!(
            "current-db-size-bytes" = size,
            "current-db-size" = humanized(size),
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = humanized(in_use),
            "bootstrap-defrag-threshold-bytes" = threshold,
            "bootstrap-defrag-threshold" = humanized(threshold),
            "Skipping defragmentation"
        );
        return Ok(());
    }
    tracing::info!(
        path = %options.db_path().display(),
        "current-db-size-bytes" = size,
        "current-db-size" = humanized(size),
        "current-db-size-in-use-bytes" = in_use,
        "current-db-size-in-use" = humanized(in_use),
        "defragmenting"
    );
    backend.defragment()?;
    let (after, in_use_after) = (backend.size(), backend.size_in_use());
    tracing::info!(
        path = %options.db_path().display(),
        "current-db-size-bytes-diff" = after as i64 - size as i64,
        "current-db-size-bytes" = after,
        "current-db-size" = humanized(after),
        "current-db-size-in-use-bytes-diff" = in_use_after as i64 - in_use as i64,
        "current-db-size-in-use-bytes" = in_use_after,
        "current-db-size-in-use" = humanized(in_use_after),
        "finished defragmenting directory"
    );
    Ok(())
}

type Log = (Option<Snapshot>, Wal, Replay);

/// Opens the member's own db, with the checksums of its pages.
fn open_machine(
    disk: &Arc<dyn Disk>,
    options: &Options,
    identity: Identity,
) -> Result<Machine, BootError> {
    let Identity { cluster, member } = identity;
    let sums = SumsPlace { path: options.sums_path(), cluster, member };
    let file = OpenOptions { no_sync: options.no_fsync, sums: Some(sums) };
    let machine =
        Machine::open(Arc::clone(disk), &options.db_path(), file, apply_options(options))?;
    tell_of_sums(&machine.backend().sums_found(), options);
    Ok(machine)
}

/// Says what became of the checksums of the db's pages, when that is not what is expected.
fn tell_of_sums(found: &SumsFound, options: &Options) {
    match found {
        SumsFound::NotKept | SumsFound::Fit => {}
        SumsFound::None => {
            tracing::info!(
                path = %options.sums_path().display(),
                "took the pages of the db as they are: there were no checksums of them"
            );
        }
        SumsFound::Dropped { why, differ } => {
            tracing::warn!(
                path = %options.sums_path().display(),
                why,
                "pages-that-differ" = differ,
                "took the pages of the db as they are: the checksums are not those of this db \
                 (another etcd wrote to it, it was replaced, or the power was cut)"
            );
        }
    }
}

pub(crate) fn open_machine_at(
    disk: &Arc<dyn Disk>,
    options: &Options,
    db: &Path,
) -> Result<Machine, BootError> {
    let file = OpenOptions { no_sync: options.no_fsync, ..OpenOptions::default() };
    Ok(Machine::open(Arc::clone(disk), db, file, apply_options(options))?)
}

impl Start<'_> {
    fn wal_options(&mut self) -> WalOptions {
        let mut options = WalOptions { sync: !self.options.no_fsync, ..WalOptions::default() };
        self.tuning.log(&mut options);
        options
    }

    fn member_config(&mut self, me: MemberId) -> MemberConfig {
        let options = self.options;
        let election_ticks = u32::try_from(options.election_ticks()).unwrap_or(u32::MAX);
        let mut config = MemberConfig::new(me);
        config.raft.election_tick = election_ticks.max(2);
        config.raft.pre_vote = options.pre_vote;
        config.raft.seed = self.seed;
        config.read_epoch = self.seed << 32;
        config.snapshot_count = options.snapshot_count;
        config.catchup_entries = options.snapshot_catchup_entries;
        self.tuning.mind(&mut config);
        config
    }

    /// The first start of a member.
    fn bear(mut self) -> Result<Booted, BootError> {
        let options = self.options;
        let (me, cluster) = match &options.founding {
            Founding::New { me, members } => {
                (*me, membership::cluster_id(members.iter().map(|m| m.id)))
            }
            Founding::Join { me, cluster, .. } => (*me, *cluster),
        };
        let identity = Identity { cluster, member: me };
        let machine = open_machine(self.disk, options, identity)?;
        let backend = machine.backend().clone();
        let wal_path = options.wal_path();
        let metadata = Metadata { member: me, cluster };
        let file = self.wal_options();
        let wal = Wal::create_with(Arc::clone(self.disk), &wal_path, metadata, file)?;
        let config = self.member_config(me);
        let member = match &options.founding {
            Founding::New { members, .. } => Member::bootstrap(config, founders(members))?,
            // It learns everything from the leader.
            Founding::Join { .. } => {
                let (none, nobody) = (HardState::default(), ConfState::default());
                Member::new(config, none, nobody, LogStart::default())?
            }
        };
        Ok(Booted { identity, wal, backend, machine, member, applied: Index(0), is_new: true })
    }

    /// A start from a directory that has a log.
    fn reopen(mut self) -> Result<Booted, BootError> {
        let (disk, options) = (self.disk, self.options);
        let db = options.db_path();
        if disk.metadata(&db).map_err(disk_error("look at", &db))?.is_none() {
            return Err(BootError::DbMissing(db));
        }
        let (snapshot, mut wal, mut replay) = self.read_log()?;
        let identity =
            Identity { cluster: replay.metadata.cluster, member: replay.metadata.member };
        let mut machine = open_machine(disk, options, identity)?;
        finish_install(disk, options, snapshot.as_ref(), &mut machine)?;
        take_membership(&mut machine, snapshot.as_ref(), &replay.entries)?;
        let backend = machine.backend().clone();
        defragment(options, &backend)?;
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
        let mut hard_state = HardState { commit, ..replay.hard_state };
        if options.force_new_cluster {
            let mut log =
                force::Log { wal: &mut wal, entries: &mut replay.entries, snapshot_index };
            hard_state = force::new_cluster(&mut log, identity.member, &conf_state, hard_state)?;
        }
        let mut config = self.member_config(identity.member);
        config.raft.applied = applied;
        config.last_snapshot = snapshot_index;
        let is_empty = snapshot.is_none() && replay.entries.is_empty() && hard_state.is_empty();
        let member = match founders_again(options, identity).filter(|_| is_empty) {
            Some(peers) => Member::bootstrap(config, peers)?,
            None => {
                if is_empty {
                    tracing::warn!(
                        "wal-dir" = %options.wal_path().display(),
                        "the log is empty: waiting for a leader to fill it. If this is a first member of \
                         a new cluster, its first start was cut short: remove the directory and start \
                         it again"
                    );
                }
                let start = LogStart { snapshot_index, snapshot_term, entries: replay.entries };
                Member::new(config, hard_state, conf_state, start)?
            }
        };
        Ok(Booted { identity, wal, backend, machine, member, applied, is_new: false })
    }

    fn read_log(&mut self) -> Result<Log, BootError> {
        let (disk, options) = (self.disk, self.options);
        let wal_path = options.wal_path();
        let marks = mainstay_wal::valid_snapshots(&**disk, &wal_path)?;
        let (snapshot, broken) = snap::load_newest(&**disk, &options.snap_path(), &marks)?;
        for one in &broken {
            tracing::warn!(path = %one.path.display(), why = %one.why, "renamed a damaged snapshot file");
        }
        let from = match &snapshot {
            Some(s) => SnapshotMark {
                index: s.index,
                term: s.term,
                conf_state: Some(s.conf_state.clone()),
            },
            None => SnapshotMark::default(),
        };
        let file = self.wal_options();
        let (wal, mut replay) = Wal::open_with(Arc::clone(disk), &wal_path, &from, file)?;
        if let Some(torn) = &replay.torn_tail {
            tracing::warn!(tail = ?torn, "the last write of the log was cut short; it was never acknowledged");
        }
        self.tuning.read(from.index, broken.len(), &mut replay);
        Ok((snapshot, wal, replay))
    }
}

/// The first members as etcd's first entries have them: in the order of their ids, each
/// with its name, before it has published its client URLs.
fn founders(members: &[membership::Member]) -> Vec<Peer> {
    let mut members: Vec<&membership::Member> = members.iter().collect();
    members.sort_by_key(|member| member.id);
    let peer = |member: &membership::Member| {
        let bare = membership::Member { client_urls: Vec::new(), ..member.clone() };
        Peer { id: member.id, context: Bytes::from(bare.to_json()) }
    };
    members.into_iter().map(peer).collect()
}

/// The first entries of a cluster whose founding was cut short between the making of the
/// log and its first entry: only if the flags still describe exactly that cluster.
fn founders_again(options: &Options, identity: Identity) -> Option<Vec<Peer>> {
    let Founding::New { me, members } = &options.founding else { return None };
    let cluster = membership::cluster_id(members.iter().map(|member| member.id));
    let same = Identity { cluster, member: *me } == identity;
    same.then(|| founders(members))
}

/// A crash between the log's record of a leader's snapshot and its db's last name.
fn finish_install(
    disk: &Arc<dyn Disk>,
    options: &Options,
    snapshot: Option<&Snapshot>,
    machine: &mut Machine,
) -> Result<(), BootError> {
    let Some(snapshot) = snapshot.filter(|snapshot| machine.applied().0 < snapshot.index) else {
        return Ok(());
    };
    let received = received_db(&options.snap_path(), snapshot.index);
    let found = disk.metadata(&received).map_err(disk_error("look at", &received))?;
    if found.is_none() {
        // The look at how db and log fit together tells what is wrong.
        return Ok(());
    }
    machine.install(&received)?;
    tracing::info!(
        snapshot.index = snapshot.index.0,
        "finished installing a snapshot of the leader"
    );
    Ok(())
}

/// A 3.5 leaves its members' rows behind: what it boots from is the v2 store in `.snap`
/// and the log behind it. `entries` are those behind `snapshot`.
pub(crate) fn take_membership(
    machine: &mut Machine,
    snapshot: Option<&Snapshot>,
    entries: &[mainstay_raft::Entry],
) -> Result<(), BootError> {
    let data = snapshot.map(|snapshot| &snapshot.data).filter(|data| !data.is_empty());
    let members = match data {
        Some(data) => V2Snapshot::parse(data).map(|v2| v2.membership).map_err(|error| {
            BootError::Directory(format!("the v2 store of the snapshot cannot be read: {error}"))
        })?,
        None => Membership::default(),
    };
    let wrong = machine.take_v2_membership(members, entries)?;
    if let Some(batch) = machine.mend() {
        let ids: Vec<String> = wrong.iter().map(MemberId::to_string).collect();
        tracing::info!(
            members = ids.join(", "),
            "mended rows of members that etcd 3.5 has left behind"
        );
        machine.backend().append(batch);
    }
    Ok(())
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
        let db = db.to_owned();
        return Err(BootError::DbBehind { db, applied, snapshot: snapshot_index });
    }
    Ok(applied)
}

fn apply_options(options: &Options) -> mainstay_apply::Options {
    mainstay_apply::Options {
        lease_ttl_min: options.min_lease_ttl(),
        learners_max: options.learners_max,
        quota: mainstay_apply::quota::Quota::from_flag(options.quota_bytes),
        persist_checkpoints: options.persist_lease_checkpoints,
        // Clients are asked then who they are.
        allow_auth: true,
    }
}
