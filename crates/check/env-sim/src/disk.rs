//! The disk as programs see it, and the controls of the simulation.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_env::{Dice, Disk, File, LockKind, Metadata, OpenMode, Room};

use crate::clock::SimClock;
use crate::content::Unsynced;
use crate::dice::SimDice;
use crate::names::{Inode, NameChange};
use crate::state::{Slow, State, describe, error, power_cut};

/// A mutating call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// [`File::write_at`].
    Write,
    /// [`File::set_len`].
    SetLen,
    /// [`File::allocate`].
    Allocate,
    /// [`File::sync`].
    Sync,
    /// [`Disk::open`] that makes a file.
    Create,
    /// [`Disk::create_dir_all`] that makes a directory.
    CreateDir,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove_file`] or [`Disk::remove_dir_all`].
    Remove,
    /// [`Disk::sync_dir`].
    SyncDir,
}

/// A step that is about to be made.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number, as [`SimDisk::cut_at`] counts them: the first is 1.
    pub number: u64,
    /// What is called.
    pub kind: StepKind,
    /// On what; an open file is named as it was opened.
    pub path: PathBuf,
}

/// A kind of call that can be made to fail with EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailingCall {
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`]; part of the bytes may be written.
    Write,
    /// [`File::sync`]; afterwards nobody knows what is on the disk, and a later
    /// sync that succeeds does not write what this one left.
    Sync,
    /// [`Disk::sync_dir`].
    SyncDir,
}

type Observer = Arc<Mutex<dyn FnMut(&SimDisk, &Step) + Send>>;

/// A disk made from a seed. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    observer: Arc<Mutex<Option<Observer>>>,
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    disk: SimDisk,
    inode: Inode,
    handle: u64,
    path: PathBuf,
    writable: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_state(State::new(seed))
    }

    fn from_state(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)), observer: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mutating calls so far: every one that was made while the power was on,
    /// also those that failed for another reason.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Cuts the power during the step with this number (the first is 1): it and
    /// every later call fail. What it would have done is unsynced.
    pub fn cut_at(&self, step: u64) {
        self.lock().cut_at = Some(step);
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.lock().powered = false;
    }

    /// Takes a cut back, as if only the program had died at that step: what it
    /// wrote is in the system's cache, and still not synced. No cut is planned then.
    pub fn revive(&self) {
        let mut state = self.lock();
        state.powered = true;
        state.cut_at = None;
    }

    /// Whether the power was cut.
    pub fn is_cut(&self) -> bool {
        !self.lock().powered
    }

    /// The disk that the next boot finds if the power goes now. What becomes of
    /// unsynced changes follows from the seed and from how often this was asked.
    /// This disk goes on unchanged. Settings (capacity, faults) are not taken over.
    pub fn crash(&self) -> SimDisk {
        let mut state = self.lock();
        let mut dice = state.dice.fork();
        let way = Unsynced::any(&mut dice);
        let after = state.crash(way, dice);
        drop(state);
        SimDisk::from_state(after)
    }

    /// As [`SimDisk::crash`], with the fate of unsynced changes chosen; the same
    /// seed gives the same disk.
    pub fn crash_with(&self, way: Unsynced, seed: u64) -> SimDisk {
        let after = self.lock().crash(way, SimDice::new(seed));
        SimDisk::from_state(after)
    }

    /// A disk with the same files, all synced, as after a clean shutdown.
    pub fn copy(&self) -> SimDisk {
        self.crash_with(Unsynced::Kept, 0)
    }

    /// Calls `observer` before every step. It may look at the disk and crash
    /// copies of it, so that one run of a trace tries a cut at every step.
    pub fn observe(&self, observer: impl FnMut(&SimDisk, &Step) + Send + 'static) {
        let observer: Observer = Arc::new(Mutex::new(observer));
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    /// Makes the `nth` next call of a kind fail with EIO; the very next is 1.
    pub fn fail(&self, call: FailingCall, nth: u64) {
        assert!(nth > 0, "calls are counted from 1");
        self.lock().failing.push((call, nth));
    }

    /// Lets all files together have this many bytes; growing further fails with
    /// `StorageFull`. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes of all files together. Not counted, works without power.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Makes every step advance a clock.
    pub fn set_slow(&self, clock: SimClock, write: Duration, sync: Duration) {
        self.lock().slow = Some(Slow { clock, write, sync });
    }

    /// Flips a bit at rest. Panics when there is no such byte.
    pub fn flip(&self, path: impl AsRef<Path>, offset: u64, bit: u8) {
        let mut state = self.lock();
        let found = state.find(path.as_ref()).ok().and_then(|place| place.inode);
        let inode = found.expect("a file to flip a bit of");
        let content = &mut state.node_mut(inode).content;
        assert!(offset < content.live.len() && bit < 8, "a bit that is there");
        content.flip(offset, bit);
    }

    /// A file's bytes, or `None`. Not counted, works without power.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.find(path.as_ref()).ok()?.inode?;
        Some(state.nodes.get(&inode)?.content.live.to_bytes())
    }

    /// Puts a synced file at a path, and makes every name on the disk durable.
    /// Not counted. Panics when a directory is in the way.
    pub fn install(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.lock().install(path.as_ref(), bytes).expect("no directory in the way");
    }

    /// The paths of all files, sorted. Not counted.
    pub fn paths(&self) -> Vec<String> {
        self.lock().files().into_iter().map(|(path, _)| path).collect()
    }

    /// Counts a step, calls the observer and runs `action`; fails afterwards
    /// when the power goes during it.
    fn step<T>(
        &self,
        kind: StepKind,
        path: &Path,
        action: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer
            && !self.is_cut()
        {
            let step = Step { number: self.steps() + 1, kind, path: path.to_owned() };
            observer.lock().unwrap_or_else(PoisonError::into_inner)(self, &step);
        }
        let mut state = self.lock();
        let cut = state.step()?;
        if cut && matches!(kind, StepKind::Sync | StepKind::SyncDir) {
            return Err(power_cut());
        }
        state.pass_time(kind);
        let done = action(&mut state)?;
        if cut { Err(power_cut()) } else { Ok(done) }
    }

    fn open_file(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let find = |state: &State| -> io::Result<Inode> {
            match state.find(path)?.inode {
                Some(inode) if state.is_dir(inode) => {
                    Err(error(ErrorKind::IsADirectory, describe(path)))
                }
                Some(inode) => Ok(inode),
                None => Err(error(ErrorKind::NotFound, describe(path))),
            }
        };
        let (inode, handle) = if mode == OpenMode::CreateNew {
            self.step(StepKind::Create, path, |state| {
                let place = state.find(path)?;
                if place.inode.is_some() {
                    return Err(error(ErrorKind::AlreadyExists, describe(path)));
                }
                let inode = state.create(&place, false);
                // The file is not given out when the power goes.
                Ok((inode, if state.powered { state.opened(inode) } else { 0 }))
            })?
        } else {
            let mut state = self.lock();
            state.check_power()?;
            let inode = find(&state)?;
            (inode, state.opened(inode))
        };
        let writable = mode != OpenMode::Read;
        Ok(SimFile { disk: self.clone(), inode, handle, path: path.to_owned(), writable })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        Ok(Box::new(self.open_file(path, mode)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        {
            let state = self.lock();
            state.check_power()?;
            if state.find_dir(path).is_ok() {
                return Ok(());
            }
        }
        self.step(StepKind::CreateDir, path, |state| state.make_dirs(path).map(|_| ()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(StepKind::Rename, from, |state| {
            let source = state.find(from)?;
            let target = state.find(to)?;
            let Some(moved) = source.inode else {
                return Err(error(ErrorKind::NotFound, describe(from)));
            };
            if let Some(replaced) = target.inode {
                if replaced == moved {
                    return Ok(());
                }
                match (state.is_dir(moved), state.names.live.get(&replaced)) {
                    (_, Some(names)) if !names.is_empty() => {
                        return Err(error(ErrorKind::DirectoryNotEmpty, describe(to)));
                    }
                    (true, None) => return Err(error(ErrorKind::NotADirectory, describe(to))),
                    (false, Some(_)) => return Err(error(ErrorKind::IsADirectory, describe(to))),
                    (true, Some(_)) => {
                        state.names.live.remove(&replaced);
                    }
                    (false, None) => state.without_name(replaced),
                }
            }
            state.names.change(NameChange::Rename {
                from_dir: source.dir,
                from: source.name,
                to_dir: target.dir,
                to: target.name,
            });
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(StepKind::Remove, path, |state| {
            let place = state.find(path)?;
            match place.inode {
                Some(inode) if state.is_dir(inode) => {
                    Err(error(ErrorKind::IsADirectory, describe(path)))
                }
                Some(inode) => {
                    state.unlink(place.dir, &place.name, inode);
                    Ok(())
                }
                None => Err(error(ErrorKind::NotFound, describe(path))),
            }
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.step(StepKind::Remove, path, |state| {
            let inode = state.find_dir(path)?;
            let place = state.find(path)?;
            state.unlink(place.dir, &place.name, inode);
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.check_power()?;
        let dir = state.find_dir(path)?;
        Ok(state.names.live[&dir].keys().cloned().collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let state = self.lock();
        state.check_power()?;
        let found = match state.find(path) {
            Ok(place) => place.inode,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(found.map(|inode| match state.nodes.get(&inode) {
            Some(node) => Metadata { len: node.content.live.len(), is_dir: false, mode: 0o600 },
            None => Metadata { len: 0, is_dir: true, mode: 0o700 },
        }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(StepKind::SyncDir, path, |state| {
            let dir = state.find_dir(path)?;
            if state.fails(FailingCall::SyncDir) {
                return Err(broken("sync of a directory"));
            }
            state.sync_dir(dir);
            Ok(())
        })
    }

    fn room(&self, _path: &Path) -> io::Result<Room> {
        let state = self.lock();
        state.check_power()?;
        Ok(state.room())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("simulated: EIO: {what} failed"))
}

impl SimFile {
    fn mutate<T>(
        &self,
        kind: StepKind,
        action: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        if !self.writable {
            let text = format!("{} is open for reading only", describe(&self.path));
            return Err(error(ErrorKind::PermissionDenied, text));
        }
        self.disk.step(kind, &self.path, action)
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.check_power()?;
        Ok(state.node(self.inode).content.live.len())
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.check_power()?;
        if state.fails(FailingCall::Read) {
            return Err(broken("read"));
        }
        Ok(state.node(self.inode).content.live.read(at, buf))
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.mutate(StepKind::Write, |state| {
            state.check_room(self.inode, at + buf.len() as u64)?;
            if state.fails(FailingCall::Write) {
                let part = state.dice.below(buf.len() as u64 + 1) as usize;
                state.node_mut(self.inode).content.write(at, &buf[..part]);
                return Err(broken("write"));
            }
            state.node_mut(self.inode).content.write(at, buf);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.mutate(StepKind::SetLen, |state| {
            state.check_room(self.inode, len)?;
            state.node_mut(self.inode).content.set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.mutate(StepKind::Allocate, |state| {
            state.check_room(self.inode, len)?;
            let content = &mut state.node_mut(self.inode).content;
            content.set_len(len.max(content.live.len()));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        // A file open for reading may be synced too.
        self.disk.step(StepKind::Sync, &self.path, |state| {
            let fails = state.fails(FailingCall::Sync);
            let mut dice = state.dice.fork();
            let content = &mut state.node_mut(self.inode).content;
            if fails {
                content.fail_sync(&mut dice);
                return Err(broken("fdatasync"));
            }
            content.sync();
            Ok(())
        })
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        let mut state = self.disk.lock();
        state.check_power()?;
        Ok(state.try_lock(self.inode, self.handle, kind))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().closed(self.inode, self.handle);
    }
}
