//! The knobs of one run, drawn from its seed: every run is another world.

use mainstay_env::Dice;
use mainstay_env_sim::SimDice;

/// Simulated time in microseconds since the start of the run.
pub(crate) type Time = u64;

/// One millisecond.
pub(crate) const MS: Time = 1_000;
/// One second.
pub(crate) const SECOND: Time = 1_000 * MS;

/// How one run is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// First members.
    pub(crate) founders: usize,
    /// A raft tick.
    pub(crate) tick: Time,
    /// Ticks of an election timeout.
    pub(crate) election_ticks: u32,
    /// Messages lost, per thousand.
    pub(crate) loss: u64,
    /// Messages delivered twice, per thousand.
    pub(crate) duplicates: u64,
    /// Messages that take much longer than usual, per thousand.
    pub(crate) stragglers: u64,
    /// Usual longest delay of a message.
    pub(crate) delay: Time,
    /// Usual longest time of a sync.
    pub(crate) sync: Time,
    /// Usual longest time between committed and applied.
    pub(crate) apply: Time,
    /// Longest time between commits of the db.
    pub(crate) commit: Time,
    pub(crate) snapshot_count: u64,
    pub(crate) catchup_entries: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) max_snapshots: usize,
    pub(crate) max_wals: usize,
    pub(crate) pre_vote: bool,
    pub(crate) clients: usize,
    /// Longest rest of a client between two operations.
    pub(crate) rest: Time,
    pub(crate) keys: u64,
    pub(crate) watchers: usize,
    /// Average time between faults.
    pub(crate) fault_every: Time,
    /// One new leader in so many is killed soon.
    pub(crate) crown_kill: u64,
    /// Bytes of entries in a message.
    pub(crate) message_bytes: u64,
    /// Whether members come and go.
    pub(crate) membership: bool,
    /// Faults happen until here.
    pub(crate) end: Time,
}

impl Plan {
    pub(crate) fn draw(dice: &mut SimDice, minutes: u64) -> Plan {
        let tick = [100 * MS, 100 * MS, 250 * MS][dice.below(3) as usize];
        let calm = dice.one_in(3);
        let loss = if calm { 0 } else { [2, 10, 50, 150][dice.below(4) as usize] };
        Plan {
            founders: [3, 3, 3, 5][dice.below(4) as usize],
            tick,
            election_ticks: [4, 10, 10][dice.below(3) as usize],
            loss,
            duplicates: if calm { 0 } else { dice.below(30) },
            stragglers: if calm { 2 } else { dice.below(60) },
            delay: [2 * MS, 5 * MS, 30 * MS][dice.below(3) as usize],
            sync: [MS, 4 * MS, 20 * MS][dice.below(3) as usize],
            apply: [MS / 2, MS, 20 * MS][dice.below(3) as usize],
            commit: [100 * MS, SECOND, 5 * SECOND][dice.below(3) as usize],
            snapshot_count: [10, 30, 100][dice.below(3) as usize],
            catchup_entries: [1, 10, 60][dice.below(3) as usize],
            segment_bytes: [4096, 16_384, 65_536][dice.below(3) as usize],
            max_snapshots: 1 + dice.below(4) as usize,
            max_wals: 1 + dice.below(4) as usize,
            pre_vote: !dice.one_in(5),
            clients: 3 + dice.below(4) as usize,
            rest: [2, 4][dice.below(2) as usize] * SECOND,
            keys: [2, 6, 20][dice.below(3) as usize],
            watchers: 1 + dice.below(3) as usize,
            fault_every: [8, 15, 30][dice.below(3) as usize] * SECOND,
            crown_kill: [20, 8, 2][dice.below(3) as usize],
            message_bytes: [1 << 20, 1 << 20, 16][dice.below(3) as usize],
            membership: dice.one_in(2),
            end: minutes * 60 * SECOND,
        }
    }
}
