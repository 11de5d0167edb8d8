//! `snapshot status` and `snapshot restore`.

use mainstay_print::args::Line;

use crate::{Failure, Run};

/// What a snapshot file holds.
pub(crate) fn status(_line: &Line, _run: &mut Run<'_>) -> Result<(), Failure> {
    Err(Failure::error("snapshot status: not yet"))
}

/// A data directory from a snapshot file.
pub(crate) fn restore(_line: &Line, _run: &mut Run<'_>) -> Result<(), Failure> {
    Err(Failure::error("snapshot restore: not yet"))
}
