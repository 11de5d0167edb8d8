//! Which watchers a key concerns.
//!
//! Watchers of exactly the same range form a group, which is found once however
//! many they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_types::{KeyRange, RangeEnd};

use crate::interval::Intervals;

/// Watchers of one range.
pub(crate) struct Group {
    range: KeyRange,
    /// In no particular, but a determined, order.
    pub(crate) members: Vec<u32>,
    /// Scratch of one delivery: the events that concern the group.
    pub(crate) hits: Vec<(u32, u32)>,
}

/// Groups by key and by range.
#[derive(Default)]
pub(crate) struct Index {
    keys: BTreeMap<Bytes, u32>,
    ranges: Intervals,
    groups: Vec<Group>,
    free: Vec<u32>,
}

impl Index {
    /// Adds a member; returns its group and its place in it.
    pub(crate) fn add(&mut self, range: &KeyRange, member: u32) -> (u32, u32) {
        let known = match &range.end {
            RangeEnd::Single => self.keys.get(&range.start).copied(),
            RangeEnd::Before(end) => self.ranges.get(&range.start, &Some(end.clone())),
            RangeEnd::Unbounded => self.ranges.get(&range.start, &None),
        };
        let group = known.unwrap_or_else(|| self.new_group(range));
        let members = &mut self.groups[group as usize].members;
        members.push(member);
        (group, members.len() as u32 - 1)
    }

    /// Removes the member at a place; returns the member that moved to this place.
    pub(crate) fn remove(&mut self, group: u32, place: u32) -> Option<u32> {
        let members = &mut self.groups[group as usize].members;
        members.swap_remove(place as usize);
        let moved = members.get(place as usize).copied();
        if members.is_empty() {
            self.drop_group(group);
        }
        moved
    }

    /// Calls `found` with each group that `key` concerns.
    pub(crate) fn concerned(&mut self, key: &[u8], mut found: impl FnMut(u32, &mut Group)) {
        let groups = &mut self.groups;
        if let Some(&group) = self.keys.get(key) {
            found(group, &mut groups[group as usize]);
        }
        self.ranges.containing(key, &mut |group| found(group, &mut groups[group as usize]));
    }

    /// A group.
    pub(crate) fn group(&mut self, group: u32) -> &mut Group {
        &mut self.groups[group as usize]
    }

    fn new_group(&mut self, range: &KeyRange) -> u32 {
        let new = Group { range: range.clone(), members: Vec::new(), hits: Vec::new() };
        let group = match self.free.pop() {
            Some(group) => {
                self.groups[group as usize] = new;
                group
            }
            None => {
                self.groups.push(new);
                u32::try_from(self.groups.len() - 1).expect("fewer groups than watchers")
            }
        };
        let start = range.start.clone();
        match &range.end {
            RangeEnd::Single => {
                self.keys.insert(start, group);
            }
            RangeEnd::Before(end) => self.ranges.insert(start, Some(end.clone()), group),
            RangeEnd::Unbounded => self.ranges.insert(start, None, group),
        }
        group
    }

    fn drop_group(&mut self, group: u32) {
        let entry = &mut self.groups[group as usize];
        // `hits` stays: a delivery to the group may be under way.
        let range = std::mem::replace(&mut entry.range, KeyRange::single(Bytes::new()));
        match range.end {
            RangeEnd::Single => {
                self.keys.remove(&range.start);
            }
            RangeEnd::Before(end) => self.ranges.remove(&range.start, &Some(end)),
            RangeEnd::Unbounded => self.ranges.remove(&range.start, &None),
        }
        self.free.push(group);
    }
}

#[cfg(test)]
mod tests;
