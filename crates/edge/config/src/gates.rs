//! Feature gates: `--feature-gates=Name=true,Other=false`.

use std::fmt;

use crate::number::parse_bool;

/// How ripe etcd 3.7 calls a feature; `AllAlpha` and `AllBeta` switch a whole stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

/// One switchable feature of etcd 3.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The leader compares the compaction hashes of its followers.
    CompactHashCheck,
    /// Keepalives do not wait for the applied index.
    FastLeaseKeepAlive,
    /// Compare with other members before serving.
    InitialCorruptCheck,
    /// The leader tells its followers how long leases still run.
    LeaseCheckpoint,
    /// Those checkpoints are kept on disk.
    LeaseCheckpointPersist,
    /// Revokes and the like may run further ahead of apply under load.
    PriorityRequest,
    /// Connections to members leave from the advertised address.
    SetMemberLocalAddr,
    /// Health says not serving while a defragmentation runs.
    StopGRPCServiceOnDefrag,
    /// Write transactions share the read buffer.
    TxnModeWriteWithSharedBuffer,
}

impl Gate {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The gate of a name.
    pub fn find(name: &str) -> Option<Gate> {
        GATES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Every gate in order of name.
    pub fn all() -> impl Iterator<Item = Gate> {
        GATES.iter().map(|row| row.0)
    }

    /// Whether etcd 3.7 has it on.
    pub fn default_on(self) -> bool {
        self.row().3
    }

    /// Whether switching it changes something here. The others are taken with a warning.
    pub fn works(self) -> bool {
        self.row().4
    }

    fn row(self) -> &'static Row {
        GATES.iter().find(|row| row.0 == self).expect("every gate has its row; a test counts them")
    }
}

type Row = (Gate, &'static str, Stage, bool, bool);

// Gate, name, stage, default, whether it works here.
const GATES: &[Row] = &[
    (Gate::CompactHashCheck, "CompactHashCheck", Stage::Alpha, false, true),
    (Gate::FastLeaseKeepAlive, "FastLeaseKeepAlive", Stage::Beta, true, false),
    (Gate::InitialCorruptCheck, "InitialCorruptCheck", Stage::Alpha, false, true),
    (Gate::LeaseCheckpoint, "LeaseCheckpoint", Stage::Alpha, false, true),
    (Gate::LeaseCheckpointPersist, "LeaseCheckpointPersist", Stage::Alpha, false, true),
    (Gate::PriorityRequest, "PriorityRequest", Stage::Alpha, false, false),
    (Gate::SetMemberLocalAddr, "SetMemberLocalAddr", Stage::Alpha, false, true),
    (Gate::StopGRPCServiceOnDefrag, "StopGRPCServiceOnDefrag", Stage::Alpha, false, true),
    (Gate::TxnModeWriteWithSharedBuffer, "TxnModeWriteWithSharedBuffer", Stage::Beta, true, false),
];

/// What was asked of the gates. Gates not named follow their stage, else their default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gates {
    named: Vec<(Gate, bool)>,
    all_alpha: Option<bool>,
    all_beta: Option<bool>,
}

impl Gates {
    /// Reads the value of `--feature-gates`; the message is etcd's.
    pub fn parse(text: &str) -> Result<Gates, String> {
        let mut gates = Gates::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("missing bool value for {}", part.trim()))?;
            let (name, value) = (name.trim(), value.trim());
            let on = parse_bool(value).map_err(|_| {
                format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")
            })?;
            match (name, Gate::find(name)) {
                ("AllAlpha", _) => gates.all_alpha = Some(on),
                ("AllBeta", _) => gates.all_beta = Some(on),
                (_, Some(gate)) => gates.set(gate, on),
                (_, None) => return Err(format!("unrecognized feature gate: {name}")),
            }
        }
        Ok(gates)
    }

    /// Whether `gate` is on.
    pub fn on(&self, gate: Gate) -> bool {
        let stage = match gate.row().2 {
            Stage::Alpha => self.all_alpha,
            Stage::Beta => self.all_beta,
        };
        self.named(gate).or(stage).unwrap_or(gate.default_on())
    }

    /// Name, stage and whether it is on, of every gate and of the two that switch a whole
    /// stage, as etcd shows them.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let stages = [
            ("AllAlpha", "ALPHA", self.all_alpha.unwrap_or(false)),
            ("AllBeta", "BETA", self.all_beta.unwrap_or(false)),
        ];
        let gates = GATES.iter().map(|row| {
            let stage = match row.2 {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
            };
            (row.1, stage, self.on(row.0))
        });
        stages.into_iter().chain(gates)
    }

    /// What was said of `gate` by name.
    pub fn named(&self, gate: Gate) -> Option<bool> {
        self.named.iter().find(|(named, _)| *named == gate).map(|(_, on)| *on)
    }

    /// Says it by name; the last word counts.
    pub fn set(&mut self, gate: Gate, on: bool) {
        self.named.retain(|(named, _)| *named != gate);
        self.named.push((gate, on));
        self.named.sort();
    }
}

impl fmt::Display for Gates {
    /// What was asked, by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = [("AllAlpha", self.all_alpha), ("AllBeta", self.all_beta)];
        let stages = stages.into_iter().filter_map(|(name, on)| Some((name, on?)));
        let named = self.named.iter().map(|(gate, on)| (gate.name(), *on));
        for (n, (name, on)) in stages.chain(named).enumerate() {
            write!(f, "{}{name}={on}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
