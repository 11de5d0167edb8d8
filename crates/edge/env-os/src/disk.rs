//! The machine's file system.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use mainstay_env::{Disk, File, LockKind, Metadata, OpenMode, Room};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, statvfs};
use rustix::io::Errno;

use crate::lock;

/// Mode of the files we make (etcd, `fileutil.PrivateFileMode`).
const FILE_MODE: u32 = 0o600;
/// Mode of the directories we make (etcd, `fileutil.PrivateDirMode`).
const DIRECTORY_MODE: u32 = 0o700;

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// An open file of the machine.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
}

impl OsDisk {
    /// The machine's file system.
    pub fn new() -> OsDisk {
        OsDisk
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true).mode(FILE_MODE);
            }
        }
        Ok(Box::new(OsFile { file: options.open(path)? }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name().into_string().map_err(|name| {
                let text = format!("{name:?} in {} is not UTF-8", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(found) => {
                let is_dir = found.is_dir();
                let len = if is_dir { 0 } else { found.len() };
                Ok(Some(Metadata { len, is_dir, mode: found.permissions().mode() & 0o7777 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // fsync and not fdatasync: names are the directory's own data on every
        // file system we know, but only fsync promises it.
        fs::File::open(path)?.sync_all()
    }

    fn room(&self, path: &Path) -> io::Result<Room> {
        let told = statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Ok(Room { total: bytes(told.f_blocks), free: bytes(told.f_bavail) })
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // Some network and overlay file systems cannot reserve blocks;
                // the length is then all we can give (etcd does the same).
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return if self.len()? < len { self.set_len(len) } else { Ok(()) };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        lock::try_exclusive(&self.file, kind)
    }

    fn forget(&self, at: u64, len: u64) {
        // Only a hint: whether it works does not matter.
        let len = std::num::NonZeroU64::new(len);
        let _ = fadvise(&self.file, at, len, Advice::DontNeed);
    }
}
