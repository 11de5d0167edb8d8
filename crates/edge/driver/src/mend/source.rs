//! Where the new db comes from: what has arrived before, or another member.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_env::{File, OpenMode};
use mainstay_membership::Member;
use mainstay_raft::Snapshot;
use mainstay_types::{Index, MemberId, Term};

use super::log::Ground;
use super::{ARRIVING, Place, least};
use crate::boot::{BootError, disk_error, open_machine_at};
use crate::incoming::received_db;
use crate::transport::{DbAsk, DbFetched, FetchError};

/// How often the others are asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A db that was looked at from end to end.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) from: From,
    pub(super) index: Index,
    pub(super) term: Term,
    /// What a `.snap` file says of it.
    pub(super) snapshot: Snapshot,
}

impl Found {
    /// Whether it is the member's own, in its place.
    pub(super) fn is_own(&self, place: &Place<'_>) -> bool {
        self.path == place.options.db_path()
    }
}

/// Whose it was.
pub(super) enum From {
    /// This member's own, in its place.
    Own,
    /// This member's.
    Member(MemberId),
    /// It had arrived before.
    Before,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Own => f.write_str("this member"),
            From::Member(member) => write!(f, "member {member}"),
            From::Before => f.write_str("what had arrived before"),
        }
    }
}

impl Place<'_> {
    /// Finds one; `why` says what is wrong with the old one.
    pub(super) fn source(&self, ground: &Ground, why: &str) -> Result<Found, BootError> {
        if self.options.force_new_cluster {
            return Err(self.refusal(why, "--force-new-cluster was given"));
        }
        if ground.is_damaged()
            && self.options.repair_from_peers
            && !self.is_there(&self.marker())?
            && let Some(found) = self.own(ground)
        {
            return Ok(found);
        }
        if let Some(found) = self.received(ground)? {
            return Ok(found);
        }
        let others = ground.others(self.options);
        if others.is_empty() {
            return Err(self.refusal(why, "this member is the only one of its cluster"));
        }
        if !self.options.repair_from_peers {
            return Err(self.refusal(why, "--repair-from-peers is false"));
        }
        self.fetched(ground, why, others)
    }

    /// Asks the others until one of them has given a db that is good.
    fn fetched(
        &self,
        ground: &Ground,
        why: &str,
        others: Vec<(MemberId, Vec<String>)>,
    ) -> Result<Found, BootError> {
        let least = least(ground.least());
        let mut ask = DbAsk { identity: ground.identity, others, least, last: Vec::new() };
        let deadline = Instant::now() + self.options.repair_patience;
        let mut said = String::new();
        loop {
            let path = self.options.snap_path().join(ARRIVING);
            let no = match self.fetch(&ask, &path)? {
                Ok(fetched) => match self.look_at(ground, path, fetched) {
                    Ok(found) => return Ok(found),
                    Err(no) => {
                        ask.last.push(fetched.from);
                        no
                    }
                },
                Err(FetchError::Sink(source)) => {
                    return Err(BootError::Disk { doing: "write", path, source });
                }
                Err(FetchError::Never(no)) => return Err(self.refusal(why, no)),
                Err(FetchError::NotYet(no)) => no,
                Err(FetchError::Broken { from, why }) => {
                    ask.last.push(from);
                    format!("member {from}: {why}")
                }
            };
            if Instant::now() >= deadline {
                return Err(self.refusal(why, no));
            }
            if no != said {
                tracing::warn!(reason = %no, "no member gives its database yet; asking again");
                said = no;
            }
            std::thread::sleep(AGAIN.min(self.options.repair_patience));
        }
    }

    /// One try. What does not arrive whole leaves nothing.
    fn fetch(&self, ask: &DbAsk, path: &Path) -> Result<Result<DbFetched, FetchError>, BootError> {
        let disk = &**self.disk;
        if self.is_there(path)? {
            disk.remove_file(path).map_err(disk_error("remove", path))?;
        }
        let file = disk.open(path, OpenMode::CreateNew).map_err(disk_error("create", path))?;
        let arriving = Arriving { file, at: RefCell::new(0) };
        let outcome = self.transport.fetch_db(ask, &mut |bytes| arriving.write(bytes));
        match &outcome {
            Ok(_) => arriving.file.sync().map_err(disk_error("sync", path))?,
            // Best effort: the next start removes it.
            Err(_) => drop(disk.remove_file(path)),
        }
        Ok(outcome)
    }

    /// Whether what arrived is what was promised, and fits; or why not.
    fn look_at(&self, ground: &Ground, path: PathBuf, fetched: DbFetched) -> Result<Found, String> {
        let from = From::Member(fetched.from);
        let found = self
            .verify(ground, path, from)
            .map_err(|no| format!("what member {} has sent is no good: {no}", fetched.from))?;
        let (index, term) = (found.index, found.term);
        if (index, term) != (fetched.index, fetched.term) {
            return Err(format!(
                "member {} announced a database up to entry {} of term {}, and sent one up to {index} \
                 of term {term}",
                fetched.from, fetched.index, fetched.term
            ));
        }
        match ground.way(index, term) {
            Ok(_) => Ok(found),
            Err(no) => Err(format!(
                "what member {} has sent does not fit the log of this member: {no}",
                fetched.from
            )),
        }
    }

    /// The member's own, when nothing that the log has lost is missing in it.
    fn own(&self, ground: &Ground) -> Option<Found> {
        let found = match self.verify(ground, self.options.db_path(), From::Own) {
            Ok(found) => found,
            Err(no) => {
                tracing::warn!(reason = %no, "the database of this member is no good either");
                return None;
            }
        };
        // One that is ahead says that more of the log is lost than shows.
        let fits = found.index <= ground.last() && ground.way(found.index, found.term).is_ok();
        fits.then_some(found)
    }

    /// A db that a leader has sent or that was fetched, and that a crash has kept from its
    /// place.
    fn received(&self, ground: &Ground) -> Result<Option<Found>, BootError> {
        let folder = self.options.snap_path();
        let names = self.disk.list(&folder).map_err(disk_error("list", &folder))?;
        let index = |name: &String| {
            let hex = name.strip_suffix(".snap.db").filter(|hex| hex.len() == 16)?;
            u64::from_str_radix(hex, 16).ok().map(Index)
        };
        let newest = names.iter().filter_map(index).max();
        let Some(index) = newest.filter(|index| *index >= least(ground.least())) else {
            return Ok(None);
        };
        let path = received_db(&folder, index);
        match self.verify(ground, path, From::Before) {
            Ok(found) if ground.way(found.index, found.term).is_ok() => Ok(Some(found)),
            Ok(_) => Ok(None),
            Err(no) => {
                tracing::warn!(index = index.0, reason = %no, "a database that had arrived is no good");
                Ok(None)
            }
        }
    }

    /// Looks at every page and every row, and at what this member makes of it.
    fn verify(&self, ground: &Ground, path: PathBuf, from: From) -> Result<Found, String> {
        let verified = mainstay_backup::verify(&**self.disk, &path).map_err(|e| e.to_string())?;
        let machine = open_machine_at(self.disk, self.options, &path).map_err(|e| e.to_string())?;
        let state =
            mainstay_apply::committed_state(machine.backend()).map_err(|e| e.to_string())?;
        let snapshot = state.snapshot;
        let me = ground.identity.member;
        let conf = &snapshot.conf_state;
        if !conf.voters.contains(&me) && !conf.learners.contains(&me) {
            return Err(format!("member {me} is not in the cluster any more"));
        }
        tracing::info!(
            path = %path.display(),
            revision = verified.latest.main,
            rows = verified.rows,
            "every page and row of the database is sound"
        );
        let (index, term) = (snapshot.index, snapshot.term);
        Ok(Found { path, from, index, term, snapshot })
    }
}

/// A file and how long it is by now.
struct Arriving {
    file: Box<dyn File>,
    at: RefCell<u64>,
}

impl Arriving {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut at = self.at.borrow_mut();
        self.file.write_at(*at, bytes)?;
        *at += bytes.len() as u64;
        Ok(())
    }
}

/// Members with their URLs, later knowledge over earlier.
#[derive(Default)]
pub(super) struct Known(BTreeMap<MemberId, Vec<String>>);

impl Known {
    pub(super) fn add(&mut self, member: &Member) {
        if !member.peer_urls.is_empty() {
            self.0.insert(member.id, member.peer_urls.clone());
        }
    }

    pub(super) fn remove(&mut self, member: MemberId) {
        self.0.remove(&member);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn but(mut self, me: MemberId) -> Vec<(MemberId, Vec<String>)> {
        self.0.remove(&me);
        self.0.into_iter().collect()
    }
}
