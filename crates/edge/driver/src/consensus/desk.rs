//! On whose thread raft's work is done.
//!
//! Raft has one owner at a time, but not always the same one: whoever brings something
//! for it sits down at the desk if it is free, works through all that waits there, and
//! leaves; whoever finds it taken rings, and the one who sits there looks again before
//! leaving (flat combining: Hendler, Incze, Shavit, Tzafrir, 2010). To wake a thread that
//! sleeps costs more than most of this work, and with other members to talk to a small
//! put took three such wake-ups on every member. The consensus thread is left with the
//! ticks, and with what would make others wait: see [`Desk::work_here`].

use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;

use super::{Command, Consensus, Flow};
use crate::queue::{Receiver, Refused, Sender};

/// How often somebody looks again before the rest is left to the consensus thread: a shard
/// has connections to serve.
fn passes(place: Place) -> usize {
    if place == Place::Shard { 2 } else { 8 }
}

/// Whose thread it is, which says what it may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The consensus thread's own.
    Own,
    /// A shard of the server: must not wait for a disk.
    Shard,
    /// Where other members' messages arrive: what they wait for is our disk anyway.
    Peer,
    /// The log thread.
    Log,
    /// The apply thread.
    Apply,
}

/// The desk, and the queue before it.
pub(crate) struct Desk {
    commands: Sender<Command>,
    seat: Mutex<Option<Consensus>>,
    /// Something has come that whoever sits there may have missed.
    rung: AtomicBool,
    /// Only the consensus thread may sit down.
    reserved: AtomicBool,
}

impl Desk {
    /// A desk at which nobody can sit down before [`Desk::open`].
    pub(crate) fn new(commands: Sender<Command>) -> Desk {
        Desk {
            commands,
            seat: Mutex::new(None),
            rung: AtomicBool::new(false),
            reserved: AtomicBool::new(true),
        }
    }

    /// Gives it what is worked on there.
    pub(crate) fn open(&self, consensus: Consensus) {
        *self.seat.lock() = Some(consensus);
    }

    /// Queues a command, and wakes the consensus thread.
    pub(crate) fn try_send(&self, command: Command) -> Result<(), Refused> {
        self.commands.try_send(command)
    }

    /// Queues a command, to be announced or worked on by the caller.
    pub(crate) fn try_send_quietly(&self, command: Command) -> Result<(), Refused> {
        self.commands.try_send_quietly(command)
    }

    /// Queues a command, waiting for room.
    pub(crate) fn send(&self, command: Command) -> Result<(), Refused> {
        self.commands.send(command)
    }

    /// Wakes the consensus thread if something waits for it.
    pub(crate) fn announce(&self) {
        self.commands.announce();
    }

    /// Wakes the consensus thread: progress is to be taken.
    pub(crate) fn wake(&self) {
        if self.commands.try_send(Command::Wake).is_err() {
            // Full of what was queued quietly: it may sleep all the same.
            self.commands.announce();
        }
    }

    /// Whether only the consensus thread may sit down: a lone voter writes its log there,
    /// which nobody else should wait for, and a member that ends wants no more work.
    pub(crate) fn reserve(&self, reserved: bool) {
        self.reserved.store(reserved, Ordering::Release);
    }

    /// Tells whoever sits there to look again.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        // `try_lock` may look at the lock without a barrier of its own; whoever leaves must
        // not miss the ring that was before that look.
        fence(Ordering::SeqCst);
    }

    /// Whether somebody rang. To be asked after the seat was left.
    fn is_rung(&self) -> bool {
        fence(Ordering::SeqCst);
        self.rung.load(Ordering::SeqCst)
    }

    /// Works through what waits, on the caller's thread if that may be; otherwise
    /// somebody else does.
    pub(crate) fn work_here(&self, place: Place) {
        if self.reserved.load(Ordering::Acquire) {
            return match place {
                // Theirs are in the queue.
                Place::Shard | Place::Peer => self.announce(),
                Place::Own | Place::Log | Place::Apply => self.wake(),
            };
        }
        self.ring();
        for _ in 0..passes(place) {
            // Taken: who sits there sees that it was rung.
            let Some(mut seat) = self.seat.try_lock() else { return };
            let Some(consensus) = seat.as_mut() else { return };
            if !consensus.is_calm() {
                break;
            }
            self.rung.swap(false, Ordering::SeqCst);
            if consensus.work(place) == Flow::End {
                // The rest of it is the consensus thread's.
                self.reserve(true);
                break;
            }
            drop(seat);
            if !self.is_rung() {
                return;
            }
        }
        self.wake();
    }

    /// The consensus thread, until the member is told to stop.
    pub(crate) fn run(&self, commands: &Receiver<Command>) {
        let mut patience = self.sit(Consensus::begin);
        loop {
            if !self.is_rung() {
                commands.wait(patience);
            }
            self.rung.swap(false, Ordering::SeqCst);
            let flow = self.sit(|consensus| {
                let flow = consensus.work(Place::Own);
                patience = consensus.patience();
                flow
            });
            if flow == Flow::End {
                break;
            }
        }
        self.sit(Consensus::settle);
        // What it holds holds this desk.
        let ended = self.seat.lock().take();
        if let Some(mut ended) = ended {
            ended.end();
        }
    }

    fn sit<T>(&self, work: impl FnOnce(&mut Consensus) -> T) -> T {
        let mut seat = self.seat.lock();
        work(seat.as_mut().expect("the desk is open until its thread ends"))
    }
}
