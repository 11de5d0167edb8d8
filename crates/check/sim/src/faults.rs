//! What breaks, and when it is repaired.

use mainstay_env::Dice as _;
use mainstay_env_sim::FailingCall;
use mainstay_types::MemberId;

use crate::ctx::Ctx;
use crate::node::{Death, NodeEvent, RATE_OFF};
use crate::ops::What;
use crate::plan::{MS, SECOND};
use crate::schedule::Event;
use crate::world::World;

/// What is repaired.
#[derive(Debug)]
pub(crate) enum Repair {
    Net,
    Disk(MemberId),
    Room(MemberId),
    Bit(MemberId),
}

impl World {
    /// Something breaks.
    pub(crate) fn break_something(&mut self) {
        if self.healing {
            return;
        }
        let pause = self.ctx.about(2 * self.ctx.plan.fault_every);
        self.ctx.schedule.after(pause, Event::Fault);
        if self.eight.is_some() {
            return;
        }
        let victim = self.draw_victim();
        match self.ctx.dice.below(24) {
            0 | 1 => self.kill(victim, false),
            2 | 3 => self.kill(victim, true),
            4 | 5 => self.cut_power_soon(victim),
            6 | 7 => self.pause(victim),
            8 | 9 => self.isolate(victim, 30 * SECOND),
            10 => self.deafen(victim),
            11 => self.split(),
            12 => self.slow_links(victim),
            13 => self.slow_disk(victim),
            14 => self.fail_sync(victim),
            15 => self.fill_disk(victim),
            16 => self.flip_bit(victim),
            17 | 18 => self.transfer(victim),
            19 => self.figure_eight(),
            20 => self.shift_clocks(victim),
            21 => self.flip_meta(victim),
            22 => self.flip_row(victim),
            _ => self.kill_all(),
        }
    }

    /// Half of the time the leader.
    fn draw_victim(&mut self) -> MemberId {
        match self.leader() {
            Some(leader) if self.ctx.dice.one_in(2) => leader,
            _ => self.any_node(),
        }
    }

    /// Half of the time at once.
    pub(crate) fn boot_later(&mut self, id: MemberId, longest: u64) {
        let longest = if self.ctx.dice.one_in(2) { SECOND / 2 } else { longest };
        let delay = 20 * MS + self.ctx.dice.below(longest);
        self.ctx.schedule.after(delay, Event::Boot(id));
    }

    pub(crate) fn kill(&mut self, id: MemberId, power: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else { return };
        if power {
            node.power_off(&mut self.ctx);
            self.ctx.stats.count("fault: power off");
        } else {
            node.stop(&mut self.ctx);
            self.ctx.stats.count("fault: killed");
        }
        self.ctx.tell(|| format!("{id} is killed (power: {power})"));
        self.boot_later(id, 20 * SECOND);
    }

    fn kill_all(&mut self) {
        self.ctx.stats.count("fault: power off everywhere");
        let ids: Vec<MemberId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.kill(id, true);
        }
    }

    fn cut_power_soon(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.life.is_some()) else { return };
        self.ctx.stats.count("fault: power cut at a step");
        node.disk.cut_at(node.disk.steps() + 1 + self.ctx.dice.below(60));
    }

    fn pause(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_up()) else { return };
        self.ctx.stats.count("fault: paused");
        node.troubles.paused = true;
        if self.ctx.dice.one_in(3) {
            // The whole machine sleeps, and its clock with it.
            node.troubles.asleep_since = Some(self.ctx.schedule.now());
        }
        let longest = [3, 15, 60][self.ctx.dice.below(3) as usize] * SECOND;
        let delay = SECOND + self.ctx.dice.below(longest);
        self.ctx.tell(|| format!("{id} is paused for {} ms", delay / MS));
        self.ctx.schedule.after(delay, Event::Resume(id));
        self.ctx.schedule.after(delay - 20 * MS, Event::AskPaused(id));
    }

    /// A paused node goes on, and at once somebody reads there.
    pub(crate) fn resume(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        self.ctx.tell(|| format!("{id} goes on"));
        node.resume(&mut self.ctx);
        if !self.healing {
            self.ask_read(id);
        }
    }

    /// What clients ask of a paused node waits for it in its sockets.
    pub(crate) fn ask_paused(&mut self, id: MemberId) {
        if self.healing {
            return;
        }
        self.ask_read(id);
        for lease in self.ctx.judge.kv.leases().collect::<Vec<_>>() {
            self.ask(id, None, What::KeepAlive(lease));
        }
    }

    fn ask_read(&mut self, id: MemberId) {
        let request = mainstay_proto::etcdserverpb::RangeRequest {
            key: b"k".as_slice().into(),
            range_end: b"l".as_slice().into(),
            ..Default::default()
        };
        self.ask(id, None, What::Range { request, serializable: false });
    }

    /// New leaders are asked at once, and do not always live long.
    pub(crate) fn greet_leaders(&mut self) {
        for id in std::mem::take(&mut self.ctx.crowned) {
            if self.healing {
                continue;
            }
            if self.eight.is_some() {
                self.eight_crowned(id);
                continue;
            }
            if self.ctx.dice.one_in(2) {
                self.ask_read(id);
            }
            if self.ctx.dice.one_in(self.ctx.plan.crown_kill) {
                self.isolate(id, 8 * SECOND);
            }
            self.ctx.maybe_kill(self.ctx.plan.crown_kill, id, "fault: killed as a new leader");
        }
    }

    /// The leader, as it knows itself.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        let leads = |node: &&crate::node::Node| {
            let life = node.life.as_ref();
            life.is_some_and(|life| life.mind.status().leader == Some(node.id))
        };
        self.nodes.values().find(leads).map(|node| node.id)
    }

    pub(crate) fn others(&self, id: MemberId) -> Vec<MemberId> {
        self.nodes.keys().copied().filter(|other| *other != id).collect()
    }

    fn mend_later(&mut self, longest: u64) {
        let delay = SECOND / 4 + self.ctx.dice.below(longest);
        self.ctx.schedule.after(delay, Event::Repair(Repair::Net));
    }

    fn isolate(&mut self, id: MemberId, longest: u64) {
        self.ctx.stats.count("fault: isolated");
        self.ctx.tell(|| format!("{id} is isolated"));
        for other in self.others(id) {
            self.ctx.net.cut(id, other);
            self.ctx.net.cut(other, id);
        }
        self.mend_later(longest);
    }

    fn deafen(&mut self, id: MemberId) {
        self.ctx.stats.count("fault: one-way partition");
        let deaf = self.ctx.dice.one_in(2);
        self.ctx.tell(|| format!("{id} is {}", if deaf { "deaf" } else { "mute" }));
        for other in self.others(id) {
            if deaf {
                self.ctx.net.cut(other, id);
            } else {
                self.ctx.net.cut(id, other);
            }
        }
        self.mend_later(30 * SECOND);
    }

    fn split(&mut self) {
        self.ctx.stats.count("fault: split");
        let sides = self.ctx.dice.below(u64::MAX);
        let ids: Vec<MemberId> = self.nodes.keys().copied().collect();
        for (n, from) in ids.iter().enumerate() {
            for (m, to) in ids.iter().enumerate() {
                if (sides >> n) & 1 != (sides >> m) & 1 {
                    self.ctx.net.cut(*from, *to);
                }
            }
        }
        self.ctx.tell(|| format!("split {sides:b}"));
        self.mend_later(30 * SECOND);
    }

    fn slow_links(&mut self, id: MemberId) {
        self.ctx.stats.count("fault: slow links");
        for other in self.others(id) {
            self.ctx.net.slow(id, other);
            self.ctx.net.slow(other, id);
        }
        self.mend_later(20 * SECOND);
    }

    fn slow_disk(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        self.ctx.stats.count("fault: slow disk");
        node.troubles.slow_disk = 20 + self.ctx.dice.below(200);
        let delay = SECOND + self.ctx.dice.below(30 * SECOND);
        self.ctx.schedule.after(delay, Event::Repair(Repair::Disk(id)));
    }

    fn fail_sync(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else { return };
        self.ctx.stats.count("fault: sync fails");
        node.troubles.sync_fails = true;
        node.disk.fail(FailingCall::Sync, 1 + self.ctx.dice.below(5));
    }

    fn fill_disk(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else { return };
        self.ctx.stats.count("fault: disk full");
        self.ctx.tell(|| format!("{id}: disk full"));
        node.troubles.full = true;
        // To the last byte, or with a little left that others take.
        let left = if self.ctx.dice.one_in(2) { self.ctx.dice.below(64 << 10) } else { 0 };
        let used = if left > 0 { node.disk.used() } else { 1 };
        node.disk.set_capacity(Some(used + left));
        let delay = SECOND + self.ctx.dice.below(30 * SECOND);
        self.ctx.schedule.after(delay, Event::Repair(Repair::Room(id)));
    }

    /// A bit of a file that carries checksums flips while nobody looks.
    fn flip_bit(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else { return };
        node.power_off(&mut self.ctx);
        let guarded = |path: &String| path.ends_with(".wal") || path.ends_with(".snap");
        let files: Vec<String> = node.disk.paths().into_iter().filter(guarded).collect();
        if !files.is_empty() {
            let path = files[self.ctx.dice.below(files.len() as u64) as usize].clone();
            let bytes = node.disk.contents(&path).unwrap_or_default();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
            if used > 0 {
                self.ctx.stats.count("fault: flipped bit");
                let (at, bit) = (self.ctx.dice.below(used), self.ctx.dice.below(8) as u8);
                self.ctx.tell(|| format!("{id}: bit {bit} of {path} at {at} of {used} flips"));
                node.disk.flip(&path, at, bit);
                node.troubles.flipped = Some((path, at, bit));
            }
        }
        self.boot_later(id, 5 * SECOND);
    }

    /// A clock goes at another rate, or the time of day jumps, back or on.
    fn shift_clocks(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let now = self.ctx.schedule.now();
        if self.ctx.dice.one_in(2) {
            self.ctx.stats.count("fault: clock goes at another rate");
            let rate = self.ctx.dice.below(2 * RATE_OFF + 1);
            return node.set_clocks(node.clocks().with_rate(now, rate));
        }
        self.ctx.stats.count("fault: time of day jumps");
        let longest = [2, 60, 86_400][self.ctx.dice.below(3) as usize] * SECOND;
        let by = self.ctx.dice.below(longest) as i64;
        let by = if self.ctx.dice.one_in(2) { by } else { -by };
        self.ctx.tell(|| format!("the time of day of {id} jumps by {} ms", by / MS as i64));
        node.set_clocks(node.clocks().jumped(by));
    }

    fn transfer(&mut self, to: MemberId) {
        self.ctx.stats.count("leader transfers asked for");
        let at = self.any_node();
        self.ctx.at_node(0, at, 0, NodeEvent::Transfer(to));
    }

    pub(crate) fn repair(&mut self, repair: Repair) {
        match repair {
            // Figure 8 mends what it has cut.
            Repair::Net if self.eight.is_some() => {}
            Repair::Net => self.ctx.net.mend(),
            Repair::Disk(id) => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.troubles.slow_disk = 0;
                }
            }
            Repair::Room(id) => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.troubles.full = false;
                    node.disk.set_capacity(None);
                }
            }
            Repair::Bit(id) => self.flip_back(id),
        }
    }

    /// The operator brings the file back as it was.
    fn flip_back(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_none()) else { return };
        let Some((path, at, bit)) = node.troubles.flipped.take() else { return };
        // Whatever was planned for this disk is off.
        node.disk = node.disk.crash();
        self.ctx.tell(|| format!("{id}: {path} is brought back"));
        let aside = format!("{path}.broken");
        if node.disk.contents(&path).is_none() && node.disk.contents(&aside).is_some() {
            use mainstay_env::Disk as _;
            let moved = node.disk.rename(aside.as_ref(), path.as_ref());
            moved.expect("both are in the same folder");
            node.disk.sync_dir(&crate::node::snap_dir()).expect("a healthy disk");
        }
        if node.disk.contents(&path).is_some_and(|bytes| (bytes.len() as u64) > at) {
            node.disk.flip(&path, at, bit);
        }
    }

    /// What follows from the end of members.
    pub(crate) fn bury(&mut self) {
        for (id, death) in std::mem::take(&mut self.ctx.died) {
            if death == Death::Removed {
                self.gone.insert(id);
                continue;
            }
            self.ctx.stats.count("members stopped by their disk");
            let Some(node) = self.nodes.get(&id) else { continue };
            if node.troubles.flipped.is_some() && !node.disk.is_cut() {
                self.ctx.schedule.after(2 * SECOND, Event::Repair(Repair::Bit(id)));
            }
            let longest = if self.healing { SECOND } else { 15 * SECOND };
            self.boot_later(id, longest + 2 * SECOND);
        }
    }
}

/// Everything is repaired.
pub(crate) fn end_of_faults(ctx: &mut Ctx) {
    ctx.faults = false;
    ctx.net.mend();
    ctx.net.calm = true;
}
