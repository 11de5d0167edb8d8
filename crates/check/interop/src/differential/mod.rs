//! The same operations to ours and to the real one, and every answer compared.
//!
//! One seed makes one list of operations; a fresh pair of members, each alone and on
//! loopback, is sent the list, and the answers must be the same in every field, in
//! every gRPC code and every text, but for [`EXCEPTIONS`]. What differs is cut down
//! to the shortest list that still differs, on fresh pairs.

mod answer;
mod dice;
mod exceptions;
mod generate;
mod op;
mod run;
mod shrink;
mod side;
mod stream;
mod tally;
#[cfg(test)]
mod tests;

use std::fmt;

pub use answer::{Answer, Delivered, Outcome, differences};
pub use exceptions::{EXCEPTIONS, Exception};
pub use generate::Generator;
pub use op::Op;
pub use run::{Plan, Report, run};
pub use shrink::shrink;
pub use stream::Item;
pub use tally::Tally;

use crate::{Folder, Kind, Member, Start};
use side::Side;

/// How many operations are sent before their answers are compared.
const CHUNK: usize = 250;

/// Changes an answer of the second member before it is compared: a test of the tester.
pub type Mutation = fn(&Op, &mut Outcome);

/// Whose members are compared.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    /// The first member's kind.
    pub left: Kind,
    /// The second member's kind.
    pub right: Kind,
    /// What happens to the second member's answers.
    pub mutation: Option<Mutation>,
}

impl Pairing {
    /// Ours against the real one.
    pub const OURS_AND_REAL: Pairing =
        Pairing { left: Kind::Ours, right: Kind::Real, mutation: None };
}

/// The first operation that was answered differently.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Its place in the list.
    pub at: usize,
    /// The operation, with the revisions that were meant.
    pub op: Op,
    /// The answers, one line each, fields named.
    pub lines: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "operation {}: {}", self.at, self.op)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// What one list of operations led to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `None` when both answered the same.
    pub difference: Option<Difference>,
    /// What was answered the same.
    pub tally: Tally,
}

/// Two fresh members with nothing in them.
pub struct Pair {
    pairing: Pairing,
    members: (Member, Member),
    _folder: Folder,
}

impl Pair {
    /// Starts both. `None` when the real etcd is missing.
    ///
    /// # Panics
    /// When one of them does not start.
    pub fn start(pairing: Pairing) -> Option<Pair> {
        let folder = Folder::new("differential");
        let run = |kind: Kind, name: &str| {
            Start::new(kind, &folder.path().join(name))
                .flag("--unsafe-no-fsync")
                .flag("--log-level=error")
                .run()
        };
        let members = (run(pairing.left, "left.etcd")?, run(pairing.right, "right.etcd")?);
        Some(Pair { pairing, members, _folder: folder })
    }

    /// Sends these operations to both and compares the answers. To be called once.
    ///
    /// # Errors
    /// In words, when a member cannot be talked to at all.
    pub async fn judge(&self, ops: &[Op]) -> Result<Verdict, String> {
        let mut left = Side::connect(&self.members.0).await?;
        let mut right = Side::connect(&self.members.1).await?;
        let mut tally = Tally::default();
        let mut ops = ops.to_vec();
        ops.push(Op::Settle);
        let mut done = 0;
        for chunk in ops.chunks(CHUNK) {
            let (ours, real) = tokio::join!(left.perform(chunk), right.perform(chunk));
            for (at, ((op, ours), mut real)) in chunk.iter().zip(ours).zip(real).enumerate() {
                if let Some(mutation) = self.pairing.mutation {
                    mutation(op, &mut real);
                }
                if let Err(mut difference) = compare(op, ours, real, &mut tally) {
                    difference.at = done + at;
                    return Ok(Verdict { difference: Some(*difference), tally });
                }
            }
            done += chunk.len();
        }
        Ok(Verdict { difference: None, tally })
    }
}

/// Counts the two when they are the same but for exceptions.
pub(crate) fn compare(
    op: &Op,
    mut ours: Outcome,
    mut real: Outcome,
    tally: &mut Tally,
) -> Result<(), Box<Difference>> {
    let op = op.at(ours.now);
    if ours != real {
        match exceptions::same(&op, &mut ours, &mut real) {
            Some(name) => tally.excuse(name),
            None => {
                let lines = differences(&ours, &real);
                return Err(Box::new(Difference { at: 0, op, lines }));
            }
        }
    }
    tally.count(&op, &ours);
    Ok(())
}
