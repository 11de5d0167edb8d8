//! Room on the disk that nobody else can take: a file of blocks that are given back to the
//! file system at the moment when the member's own writes find none.
//!
//! `member/mainstay/reserve` is a header of one block and a body that means nothing. Without
//! its body it says that the reserve is used up. The header also says whether this member
//! has raised NOSPACE for its disk, so that it is this member that takes it back, also
//! after a restart; it names cluster and member, and carries a checksum. A header that is
//! damaged or another member's says nothing, and is written anew.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_env::{Disk, File, OpenMode, Room};
use mainstay_types::limits::{RESERVE_HEADER_BYTES, RESERVE_SHARE};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::handle::Identity;

/// The first word of the header, and the version of what follows it.
const FORMAT: &str = "mainstay-reserve-1";

/// A member's reserve. A clone is the same reserve.
#[derive(Clone)]
pub struct Reserve(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    identity: Identity,
    /// `--disk-reserve-megabytes` in bytes; 0 is none, and no low-water mark.
    wanted: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Box<dyn File>>,
    /// Bytes of the file.
    len: u64,
    /// What the header says.
    raised: bool,
}

/// Between which amounts of free bytes a member changes its mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// With less it takes no writes that make the store grow.
    pub low: u64,
    /// With so much it takes them again.
    pub high: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    cluster: String,
    member: String,
    raised: bool,
}

impl Reserve {
    /// The reserve of the member with this `member/` folder, made as far as there is room. A
    /// member starts without one, too: what went wrong is only told.
    pub fn open(
        disk: &Arc<dyn Disk>,
        member_dir: &Path,
        identity: Identity,
        wanted: u64,
    ) -> Reserve {
        let path = member_dir.join("mainstay").join("reserve");
        let disk = Arc::clone(disk);
        let inner = Inner { disk, path, identity, wanted, state: Mutex::default() };
        let reserve = Reserve(Arc::new(inner));
        if let Err(error) = reserve.0.begin() {
            let path = reserve.0.path.display();
            tracing::warn!(%path, %error, "no reserve on the disk for when it is full");
        }
        reserve
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Bytes that [`Reserve::give_up`] would give back.
    pub fn held(&self) -> u64 {
        self.0.state.lock().len.saturating_sub(RESERVE_HEADER_BYTES)
    }

    /// Whether there should be a reserve and there is none.
    pub fn is_spent(&self) -> bool {
        self.0.wanted > 0 && self.held() == 0
    }

    /// Gives the blocks back to the file system; how many bytes.
    pub fn give_up(&self) -> u64 {
        self.0.give_up()
    }

    /// Takes them again when there are as many besides that the member would go on, and
    /// says whether there is a reserve now.
    pub fn refill(&self, room: Room) -> bool {
        self.0.refill(room)
    }

    /// The marks for a file system with this room; `None` when there are to be none.
    pub fn marks(&self, room: Room) -> Option<Marks> {
        let size = self.0.size(room);
        (size > 0).then_some(Marks { low: size, high: size.saturating_mul(2) })
    }

    /// Whether this member has raised NOSPACE for its disk and not taken it back.
    pub fn has_raised(&self) -> bool {
        self.0.state.lock().raised
    }

    /// Notes that it has, or has taken it back. Best effort: what is not noted has to be
    /// disarmed by hand after a restart.
    pub fn set_raised(&self, raised: bool) {
        let mut state = self.0.state.lock();
        if std::mem::replace(&mut state.raised, raised) != raised
            && let Err(error) = self.0.write_header(&mut state)
        {
            tracing::warn!(path = %self.0.path.display(), %error, "failed to note why NOSPACE is raised");
        }
    }
}

impl Inner {
    /// What the reserve is to be on such a file system: all of a small one is too much.
    fn size(&self, room: Room) -> u64 {
        self.wanted.min(room.total / RESERVE_SHARE)
    }

    fn begin(&self) -> io::Result<()> {
        let disk = &*self.disk;
        let found = disk.metadata(&self.path)?;
        if self.wanted == 0 {
            return if found.is_some() { disk.remove_file(&self.path) } else { Ok(()) };
        }
        let folder = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut state = self.state.lock();
        if found.is_some() {
            let file = disk.open(&self.path, OpenMode::ReadWrite)?;
            state.len = file.len()?;
            match read_header(&*file, self.identity) {
                Ok(raised) => state.raised = raised,
                Err(why) => {
                    tracing::info!(path = %self.path.display(), %why, "the reserve's header is written anew");
                }
            }
            state.file = Some(file);
        } else {
            disk.create_dir_all(folder)?;
            state.file = Some(disk.open(&self.path, OpenMode::CreateNew)?);
            self.write_header(&mut state)?;
            disk.sync_dir(folder)?;
        }
        drop(state);
        let room = disk.room(folder)?;
        self.shrink_to(self.size(room))?;
        if !self.refill(room) {
            tracing::warn!(
                path = %self.path.display(),
                "free-bytes" = room.free,
                "wanted-bytes" = self.size(room),
                "not enough room on the disk for the reserve"
            );
        }
        Ok(())
    }

    /// A smaller flag, or a smaller file system.
    fn shrink_to(&self, size: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let len = RESERVE_HEADER_BYTES + size;
        if let Some(file) = state.file.as_ref().filter(|_| state.len > len) {
            file.set_len(len)?;
            state.len = len;
        }
        Ok(())
    }

    fn give_up(&self) -> u64 {
        let mut state = self.state.lock();
        let freed = state.len.saturating_sub(RESERVE_HEADER_BYTES);
        let Some(file) = state.file.as_ref().filter(|_| freed > 0) else { return 0 };
        // The blocks are free once the system has written that down; nothing depends on it.
        match file.set_len(RESERVE_HEADER_BYTES).and_then(|()| file.sync()) {
            Ok(()) => {
                state.len = RESERVE_HEADER_BYTES;
                freed
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "failed to give the reserve up");
                0
            }
        }
    }

    fn refill(&self, room: Room) -> bool {
        let mut state = self.state.lock();
        let size = self.size(room);
        if size == 0 {
            return false;
        }
        if state.len >= RESERVE_HEADER_BYTES + size {
            return true;
        }
        // With it the member must be above its mark: it would only be given up again.
        let held = state.len.saturating_sub(RESERVE_HEADER_BYTES);
        let needed = size.saturating_mul(3).saturating_sub(held);
        let Some(file) = state.file.as_ref().filter(|_| room.free >= needed) else { return false };
        let made = file.allocate(RESERVE_HEADER_BYTES + size).and_then(|()| file.sync());
        if let Err(error) = made {
            tracing::debug!(path = %self.path.display(), %error, "the reserve cannot be made yet");
            // What was given of it goes back; best effort.
            let _ = file.set_len(RESERVE_HEADER_BYTES);
            state.len = RESERVE_HEADER_BYTES;
            return false;
        }
        state.len = RESERVE_HEADER_BYTES + size;
        true
    }

    /// In place: what is torn says nothing.
    fn write_header(&self, state: &mut State) -> io::Result<()> {
        let Some(file) = &state.file else { return Ok(()) };
        let line = Line {
            cluster: self.identity.cluster.to_string(),
            member: self.identity.member.to_string(),
            raised: state.raised,
        };
        let json = serde_json::to_string(&line)?;
        let mut block =
            format!("{FORMAT} {:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes();
        block.resize(RESERVE_HEADER_BYTES as usize, 0);
        file.write_at(0, &block)?;
        file.sync()?;
        state.len = state.len.max(RESERVE_HEADER_BYTES);
        Ok(())
    }
}

/// What the header says, or why it says nothing.
fn read_header(file: &dyn File, identity: Identity) -> Result<bool, String> {
    let mut block = vec![0; RESERVE_HEADER_BYTES as usize];
    file.read_exact_at(0, &mut block).map_err(|error| error.to_string())?;
    let end = block.iter().position(|byte| *byte == b'\n').ok_or("it has no end")?;
    let text = std::str::from_utf8(&block[..end]).map_err(|error| error.to_string())?;
    let mut words = text.splitn(3, ' ');
    if words.next() != Some(FORMAT) {
        return Err(format!("it does not begin with {FORMAT}"));
    }
    let said = words.next().and_then(|sum| u32::from_str_radix(sum, 16).ok());
    let json = words.next().unwrap_or_default();
    let found = crc32c::crc32c(json.as_bytes());
    if said != Some(found) {
        return Err(format!("its checksum is not {found:08x}"));
    }
    let line: Line = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let me = (identity.cluster.to_string(), identity.member.to_string());
    if (&line.cluster, &line.member) != (&me.0, &me.1) {
        return Err(format!("it is member {}'s of cluster {}", line.member, line.cluster));
    }
    Ok(line.raised)
}
