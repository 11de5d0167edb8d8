//! The note that something of a member's directory is damaged, for the next start.
//!
//! Whoever finds damage that a start would not (a page whose checksum is wrong, under a
//! running member) writes it and ends the member; the start that follows fetches the db from
//! another member and removes the note once the new one is in its place.
//!
//! One line of text in `member/mainstay/damaged`: format, CRC-32C of the rest, and a JSON
//! object. It names cluster and member, so that one that was left in a directory which has
//! become another's says nothing.

use std::io;
use std::path::{Path, PathBuf};

use mainstay_env::{Disk, OpenMode};
use mainstay_types::{ClusterId, MemberId};
use serde::{Deserialize, Serialize};

/// The first word of the line, and the version of what follows it.
const FORMAT: &str = "mainstay-damage-1";
/// More than this is no note of ours, in bytes.
const NOTE_BYTES_MAX: u64 = 64 << 10;
/// Characters of a description that are kept.
const WHAT_CHARS_MAX: usize = 1024;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Whose cluster the directory belongs to.
    pub cluster: ClusterId,
    /// Whose directory it is.
    pub member: MemberId,
    /// The damaged file, as a path of this machine.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What was expected and what was found, in words.
    pub what: String,
}

/// What a look for a note finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Nobody has left one.
    None,
    /// This was found.
    Damage(Damage),
    /// There is one, but it cannot be read: somebody found something.
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
struct Line {
    cluster: String,
    member: String,
    file: String,
    offset: u64,
    what: String,
}

/// Where the note lies, given `member/` of the data directory.
pub fn marker_path(member_dir: &Path) -> PathBuf {
    member_dir.join("mainstay").join("damaged")
}

/// Leaves the note at `path`, in the place of any other. It is on the disk when this returns.
///
/// # Errors
/// The disk's.
pub fn write_marker(disk: &dyn Disk, path: &Path, damage: &Damage) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    disk.create_dir_all(folder)?;
    let line = Line {
        cluster: damage.cluster.to_string(),
        member: damage.member.to_string(),
        file: damage.file.clone(),
        offset: damage.offset,
        what: damage.what.chars().take(WHAT_CHARS_MAX).collect(),
    };
    let json = serde_json::to_string(&line)?;
    let text = format!("{FORMAT} {:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
    let temporary = path.with_extension("tmp");
    if disk.metadata(&temporary)?.is_some() {
        disk.remove_file(&temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(0, text.as_bytes())?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(folder)?;
    match folder.parent() {
        Some(above) => disk.sync_dir(above),
        None => Ok(()),
    }
}

/// Reads the note at `path`.
///
/// # Errors
/// The disk's.
pub fn read_marker(disk: &dyn Disk, path: &Path) -> io::Result<Marker> {
    let Some(found) = disk.metadata(path)? else { return Ok(Marker::None) };
    if found.is_dir || found.len > NOTE_BYTES_MAX {
        return Ok(Marker::Unreadable("it is no note of ours".to_owned()));
    }
    let mut bytes = vec![0; usize::try_from(found.len).unwrap_or_default()];
    disk.open(path, OpenMode::Read)?.read_exact_at(0, &mut bytes)?;
    Ok(match understand(&bytes) {
        Ok(damage) => Marker::Damage(damage),
        Err(why) => Marker::Unreadable(why),
    })
}

fn understand(bytes: &[u8]) -> Result<Damage, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut words = text.trim_end_matches('\n').splitn(3, ' ');
    let (format, sum, json) = (words.next(), words.next(), words.next().unwrap_or_default());
    if format != Some(FORMAT) {
        return Err(format!("it does not begin with {FORMAT}"));
    }
    let said = sum.and_then(|sum| u32::from_str_radix(sum, 16).ok());
    let is = crc32c::crc32c(json.as_bytes());
    if said != Some(is) {
        return Err(format!("its crc is {is:08x}, not {}", sum.unwrap_or_default()));
    }
    let line: Line = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let id = |text: &str| u64::from_str_radix(text, 16).map_err(|error| error.to_string());
    Ok(Damage {
        cluster: ClusterId(id(&line.cluster)?),
        member: MemberId(id(&line.member)?),
        file: line.file,
        offset: line.offset,
        what: line.what,
    })
}

/// Removes the note at `path`, if there is one. It is gone for good when this returns.
///
/// # Errors
/// The disk's.
pub fn clear_marker(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.metadata(path)?.is_none() {
        return Ok(());
    }
    disk.remove_file(path)?;
    disk.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

#[cfg(test)]
mod tests;
