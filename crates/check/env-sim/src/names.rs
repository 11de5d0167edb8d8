//! Directories: the names that programs see, the names on the disk, and the
//! changes between, in order.
//!
//! A crash keeps a prefix of each directory's unsynced changes. A rename from
//! one directory to another is kept or lost in both. Files and directories have
//! numbers; each has one name at most (there are no hard links).

use std::collections::{BTreeMap, BTreeSet};

use mainstay_env::Dice;

use crate::content::Unsynced;
use crate::dice::SimDice;

/// A file or directory.
pub(crate) type Inode = u64;

/// The root directory.
pub(crate) const ROOT: Inode = 0;

/// For each directory its names.
pub(crate) type Tree = BTreeMap<Inode, BTreeMap<String, Inode>>;

/// A change of names.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Link { dir: Inode, name: String, inode: Inode },
    Unlink { dir: Inode, name: String },
    Rename { from_dir: Inode, from: String, to_dir: Inode, to: String },
}

impl NameChange {
    fn dirs(&self) -> [Inode; 2] {
        match self {
            NameChange::Link { dir, .. } | NameChange::Unlink { dir, .. } => [*dir, *dir],
            NameChange::Rename { from_dir, to_dir, .. } => [*from_dir, *to_dir],
        }
    }

    /// Makes the change; returns what lost its last name by it.
    fn apply(&self, tree: &mut Tree) -> Option<Inode> {
        match self {
            NameChange::Link { dir, name, inode } => {
                tree.entry(*dir).or_default().insert(name.clone(), *inode)
            }
            NameChange::Unlink { dir, name } => tree.entry(*dir).or_default().remove(name),
            NameChange::Rename { from_dir, from, to_dir, to } => {
                let moved = tree.entry(*from_dir).or_default().remove(from)?;
                tree.entry(*to_dir).or_default().insert(to.clone(), moved)
            }
        }
    }
}

/// All directories of a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// What programs see.
    pub(crate) live: Tree,
    /// What a crash cannot take away.
    durable: Tree,
    /// What was done to `durable` to make `live`, in order.
    pending: Vec<NameChange>,
}

impl Names {
    /// Names that are safe on the disk.
    pub(crate) fn synced(mut tree: Tree) -> Names {
        tree.entry(ROOT).or_default();
        Names { live: tree.clone(), durable: tree, pending: Vec::new() }
    }

    pub(crate) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    /// Makes a directory's changes durable, and with a rename between two
    /// directories everything before it in the other one. Returns what has no
    /// name any more.
    pub(crate) fn sync(&mut self, dir: Inode) -> Vec<Inode> {
        let mut dirs = BTreeSet::from([dir]);
        let mut forced = vec![false; self.pending.len()];
        for (position, change) in self.pending.iter().enumerate().rev() {
            if change.dirs().iter().any(|touched| dirs.contains(touched)) {
                forced[position] = true;
                dirs.extend(change.dirs());
            }
        }
        let mut gone = Vec::new();
        let mut forced = forced.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let now = forced.next().expect("one flag for each change");
            if now {
                gone.extend(change.apply(durable));
            }
            !now
        });
        gone
    }

    /// The names that the next boot finds.
    pub(crate) fn after_crash(&self, way: Unsynced, dice: &mut SimDice) -> Tree {
        let mut tree = self.durable.clone();
        let mut stopped = BTreeSet::new();
        let all = dice.below(self.pending.len() as u64 + 1);
        for (position, change) in self.pending.iter().enumerate() {
            let lost = match way {
                Unsynced::Kept => false,
                Unsynced::Lost => true,
                Unsynced::Ordered => position as u64 >= all,
                Unsynced::Scattered => dice.one_in(4),
            };
            let dirs = change.dirs();
            if lost || dirs.iter().any(|dir| stopped.contains(dir)) {
                stopped.extend(dirs);
            } else {
                change.apply(&mut tree);
            }
        }
        tree
    }
}
