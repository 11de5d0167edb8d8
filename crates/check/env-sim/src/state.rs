//! Everything a simulated disk holds, behind one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::time::Duration;

use mainstay_env::{LockKind, Room};

use crate::clock::SimClock;
use crate::content::{Content, Unsynced};
use crate::dice::SimDice;
use crate::disk::{FailingCall, StepKind};
use crate::names::{Inode, NameChange, Names, ROOT, Tree};
use crate::pages::Pages;

/// One file.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) content: Content,
    /// How many open files look at it.
    handles: u64,
    /// Whether it has a name that programs see.
    linked: bool,
    /// Whether its last name is gone from the disk too.
    forgotten: bool,
    /// Which open file holds which lock; an index per [`LockKind`].
    locks: [Option<u64>; 2],
}

/// How slow the disk is.
#[derive(Debug)]
pub(crate) struct Slow {
    pub(crate) clock: SimClock,
    pub(crate) write: Duration,
    pub(crate) sync: Duration,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) dice: SimDice,
    pub(crate) nodes: BTreeMap<Inode, Node>,
    pub(crate) names: Names,
    next_inode: Inode,
    next_handle: u64,
    /// Mutating steps so far.
    pub(crate) steps: u64,
    /// The step at which the power goes.
    pub(crate) cut_at: Option<u64>,
    pub(crate) powered: bool,
    /// Bytes that all files together may have.
    pub(crate) capacity: Option<u64>,
    /// Calls that will fail: how many of the kind are still to succeed.
    pub(crate) failing: Vec<(FailingCall, u64)>,
    pub(crate) slow: Option<Slow>,
}

/// What was found at a path.
pub(crate) struct Place {
    pub(crate) dir: Inode,
    pub(crate) name: String,
    pub(crate) inode: Option<Inode>,
}

pub(crate) fn error(kind: ErrorKind, text: impl Into<String>) -> io::Error {
    io::Error::new(kind, text.into())
}

pub(crate) fn power_cut() -> io::Error {
    io::Error::other("simulated: the power is cut")
}

impl State {
    pub(crate) fn new(seed: u64) -> State {
        State::booted(SimDice::new(seed), Tree::new(), BTreeMap::new())
    }

    /// A disk just after boot, everything on it synced.
    fn booted(dice: SimDice, tree: Tree, nodes: BTreeMap<Inode, Node>) -> State {
        let highest = tree.keys().chain(nodes.keys()).copied().max().unwrap_or(ROOT);
        State {
            dice,
            nodes,
            names: Names::synced(tree),
            next_inode: highest + 1,
            next_handle: 1,
            steps: 0,
            cut_at: None,
            powered: true,
            capacity: None,
            failing: Vec::new(),
            slow: None,
        }
    }

    /// The disk that the next boot finds.
    pub(crate) fn crash(&self, way: Unsynced, mut dice: SimDice) -> State {
        let tree = self.names.after_crash(way, &mut dice);
        // Only what the root reaches is there; the rest is what fsck drops.
        let (mut kept, mut nodes) = (Tree::new(), BTreeMap::new());
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            let names = tree.get(&dir).cloned().unwrap_or_default();
            for inode in names.values() {
                match self.nodes.get(inode) {
                    Some(node) => {
                        let bytes = node.content.after_crash(way, &mut dice);
                        let content = Content::synced(bytes);
                        nodes.insert(*inode, Node { content, linked: true, ..Node::default() });
                    }
                    None => todo.push(*inode),
                }
            }
            kept.insert(dir, names);
        }
        State::booted(dice, kept, nodes)
    }

    /// Counts a mutating step. `Ok(true)` when the power goes during it: its
    /// effect is then pending like any unsynced one, and the caller fails.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        self.check_power()?;
        self.steps += 1;
        let cut = self.cut_at == Some(self.steps);
        if cut {
            self.powered = false;
        }
        Ok(cut)
    }

    pub(crate) fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(power_cut()) }
    }

    /// Whether this call is the one that fails.
    pub(crate) fn fails(&mut self, call: FailingCall) -> bool {
        let mut hit = false;
        self.failing.retain_mut(|(kind, left)| {
            if *kind != call {
                return true;
            }
            *left -= 1;
            hit |= *left == 0;
            *left > 0
        });
        hit
    }

    pub(crate) fn pass_time(&self, kind: StepKind) {
        if let Some(slow) = &self.slow {
            slow.clock.advance(match kind {
                StepKind::Sync | StepKind::SyncDir => slow.sync,
                _ => slow.write,
            });
        }
    }

    /// Fails when the files together would grow past the capacity.
    pub(crate) fn check_room(&self, inode: Inode, new_len: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let old_len = self.node(inode).content.live.len();
        if new_len <= old_len {
            return Ok(());
        }
        if self.used() + (new_len - old_len) > capacity {
            return Err(error(ErrorKind::StorageFull, "simulated: no space left on device"));
        }
        Ok(())
    }

    /// Bytes of all files together.
    pub(crate) fn used(&self) -> u64 {
        let kept = self.nodes.values().filter(|node| node.linked || node.handles > 0);
        kept.map(|node| node.content.live.len()).sum()
    }

    pub(crate) fn room(&self) -> Room {
        let total = self.capacity.unwrap_or(u64::MAX);
        Room { total, free: total.saturating_sub(self.used()) }
    }

    pub(crate) fn node(&self, inode: Inode) -> &Node {
        self.nodes.get(&inode).expect("an open file's node stays until it is closed")
    }

    pub(crate) fn node_mut(&mut self, inode: Inode) -> &mut Node {
        self.nodes.get_mut(&inode).expect("an open file's node stays until it is closed")
    }

    /// Finds a path; its parent must be there.
    pub(crate) fn find(&self, path: &Path) -> io::Result<Place> {
        let parts = components(path)?;
        let Some((last, above)) = parts.split_last() else {
            return Ok(Place { dir: ROOT, name: String::new(), inode: Some(ROOT) });
        };
        let mut dir = ROOT;
        for part in above {
            dir = match self.names.live.get(&dir).and_then(|names| names.get(part)) {
                Some(inode) if self.names.live.contains_key(inode) => *inode,
                Some(_) => return Err(error(ErrorKind::NotADirectory, describe(path))),
                None => return Err(error(ErrorKind::NotFound, describe(path))),
            };
        }
        let inode = self.names.live.get(&dir).and_then(|names| names.get(last)).copied();
        Ok(Place { dir, name: last.clone(), inode })
    }

    /// Finds a directory.
    pub(crate) fn find_dir(&self, path: &Path) -> io::Result<Inode> {
        match self.find(path)?.inode {
            Some(inode) if self.is_dir(inode) => Ok(inode),
            Some(_) => Err(error(ErrorKind::NotADirectory, describe(path))),
            None => Err(error(ErrorKind::NotFound, describe(path))),
        }
    }

    pub(crate) fn is_dir(&self, inode: Inode) -> bool {
        self.names.live.contains_key(&inode)
    }

    /// Makes a file or directory.
    pub(crate) fn create(&mut self, place: &Place, dir: bool) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        if dir {
            self.names.live.insert(inode, BTreeMap::new());
        } else {
            self.nodes.insert(inode, Node { linked: true, ..Node::default() });
        }
        let name = place.name.clone();
        self.names.change(NameChange::Link { dir: place.dir, name, inode });
        inode
    }

    /// Removes a name and, below a directory, all names.
    pub(crate) fn unlink(&mut self, dir: Inode, name: &str, inode: Inode) {
        let below = self.names.live.get(&inode).cloned().unwrap_or_default();
        for (name, child) in below {
            self.unlink(inode, &name, child);
        }
        self.names.change(NameChange::Unlink { dir, name: name.to_owned() });
        self.names.live.remove(&inode);
        self.without_name(inode);
    }

    /// Remembers that programs see no name of this file any more.
    pub(crate) fn without_name(&mut self, inode: Inode) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.linked = false;
        }
    }

    pub(crate) fn sync_dir(&mut self, dir: Inode) {
        for inode in self.names.sync(dir) {
            if let Some(node) = self.nodes.get_mut(&inode) {
                node.forgotten = true;
            }
            self.drop_unused(inode);
        }
    }

    pub(crate) fn opened(&mut self, inode: Inode) -> u64 {
        self.node_mut(inode).handles += 1;
        self.next_handle += 1;
        self.next_handle
    }

    pub(crate) fn closed(&mut self, inode: Inode, handle: u64) {
        let node = self.node_mut(inode);
        node.handles -= 1;
        for lock in &mut node.locks {
            lock.take_if(|holder| *holder == handle);
        }
        self.drop_unused(inode);
    }

    fn drop_unused(&mut self, inode: Inode) {
        if self.nodes.get(&inode).is_some_and(|node| node.forgotten && node.handles == 0) {
            self.nodes.remove(&inode);
        }
    }

    pub(crate) fn try_lock(&mut self, inode: Inode, handle: u64, kind: LockKind) -> bool {
        let lock = &mut self.node_mut(inode).locks[match kind {
            LockKind::OpenFileDescription => 0,
            LockKind::Flock => 1,
        }];
        *lock.get_or_insert(handle) == handle
    }

    /// Every file with its path, sorted.
    pub(crate) fn files(&self) -> Vec<(String, Inode)> {
        let mut files = Vec::new();
        let mut todo = vec![(String::new(), ROOT)];
        let mut seen = BTreeSet::new();
        while let Some((path, dir)) = todo.pop() {
            assert!(seen.insert(dir), "directories make a tree");
            for (name, inode) in self.names.live.get(&dir).into_iter().flatten() {
                let path = format!("{path}/{name}");
                if self.is_dir(*inode) {
                    todo.push((path, *inode));
                } else {
                    files.push((path, *inode));
                }
            }
        }
        files.sort_unstable();
        files
    }

    /// Puts a synced file at a path, directories included.
    pub(crate) fn install(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.make_dirs(path.parent().unwrap_or(Path::new("/")))?;
        let place = self.find(path)?;
        let inode = match place.inode {
            Some(inode) if self.is_dir(inode) => {
                return Err(error(ErrorKind::IsADirectory, describe(path)));
            }
            Some(inode) => inode,
            None => self.create(&place, false),
        };
        self.node_mut(inode).content = Content::synced(Pages::from_bytes(bytes));
        let dirs: Vec<Inode> = self.names.live.keys().copied().collect();
        for dir in dirs {
            self.sync_dir(dir);
        }
        Ok(())
    }

    /// Makes missing directories; returns whether there were any.
    pub(crate) fn make_dirs(&mut self, path: &Path) -> io::Result<bool> {
        let mut dir = ROOT;
        let mut made = false;
        for name in components(path)? {
            let inode = self.names.live.get(&dir).and_then(|names| names.get(&name)).copied();
            dir = match inode {
                Some(inode) if self.is_dir(inode) => inode,
                Some(_) => return Err(error(ErrorKind::NotADirectory, describe(path))),
                None => {
                    made = true;
                    self.create(&Place { dir, name, inode }, true)
                }
            };
        }
        Ok(made)
    }
}

pub(crate) fn describe(path: &Path) -> String {
    format!("simulated: {}", path.display())
}

/// The names on the way from the root; a relative path starts at the root.
fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => match name.to_str() {
                Some(name) => names.push(name.to_owned()),
                None => return Err(error(ErrorKind::InvalidInput, describe(path))),
            },
            Component::ParentDir | Component::Prefix(_) => {
                return Err(error(ErrorKind::InvalidInput, describe(path)));
            }
        }
    }
    Ok(names)
}
