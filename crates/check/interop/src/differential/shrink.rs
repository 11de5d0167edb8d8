//! The shortest list of operations that still shows a difference.

use std::time::{Duration, Instant};

use super::{Difference, Op, Pair, Pairing};

/// Takes operations out, on a fresh pair each time, for as long as both still answer
/// something differently and there is `time`; the list that is left, with its
/// difference. `None` when the difference does not come again.
///
/// # Errors
/// In words, when a member cannot be talked to at all.
pub async fn shrink(
    pairing: Pairing,
    ops: &[Op],
    time: Duration,
) -> Result<Option<(Vec<Op>, Difference)>, String> {
    let end = Instant::now() + time;
    let mut ops = ops.to_vec();
    let Some(mut found) = try_once(pairing, &ops).await? else { return Ok(None) };
    ops.truncate(found.at + 1);
    let mut width = ops.len().div_ceil(2);
    loop {
        let mut at = 0;
        let mut removed = false;
        while at < ops.len() && Instant::now() < end {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + width).min(ops.len()));
            match try_once(pairing, &fewer).await? {
                Some(difference) => {
                    fewer.truncate(difference.at + 1);
                    (ops, found, removed) = (fewer, difference, true);
                }
                None => at += width,
            }
        }
        if Instant::now() >= end || (width == 1 && !removed) {
            return Ok(Some((ops, found)));
        }
        width = width.div_ceil(2);
    }
}

async fn try_once(pairing: Pairing, ops: &[Op]) -> Result<Option<Difference>, String> {
    let pair = Pair::start(pairing).ok_or("the real etcd has gone missing")?;
    Ok(pair.judge(ops).await?.difference)
}
