//! The file locks that etcd's two libraries take.

use std::fs::File;
use std::io;

use mainstay_env::LockKind;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Takes an exclusive lock without waiting; `false` when someone else has it.
///
/// An open-file-description lock needs a file that is open for writing. Where
/// the kernel or the file system does not know these locks, `flock` is taken
/// instead, as etcd does (`client/pkg/fileutil/lock_linux.go`).
pub(crate) fn try_exclusive(file: &File, kind: LockKind) -> io::Result<bool> {
    match kind {
        LockKind::Flock => try_flock(file),
        LockKind::OpenFileDescription => match try_description_lock(file) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => try_flock(file),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(true),
        },
    }
}

fn try_description_lock(file: &File) -> Result<(), Errno> {
    let whole_file = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0, // to the end, however far the file grows
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file)).map(|_| ())
}

fn try_flock(file: &File) -> io::Result<bool> {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
