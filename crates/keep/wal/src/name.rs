//! The names of segments: `SEQ-INDEX.wal`, both sixteen digits of lowercase hex.

use std::path::Path;

use mainstay_env::Disk;
use mainstay_types::Index;

use crate::error::{Doing, WalError};

/// What a segment's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// Its place in the log, from 0.
    pub(crate) seq: u64,
    /// The entry that was expected first when it was made.
    pub(crate) first: Index,
}

impl SegmentName {
    /// Reads a name; `None` when it is no segment's.
    pub(crate) fn parse(name: &str) -> Option<SegmentName> {
        let (seq, first) = name.strip_suffix(".wal")?.split_once('-')?;
        let number = |text: &str| {
            let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        Some(SegmentName { seq: number(seq)?, first: Index(number(first)?) })
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.seq, self.first.0)
    }
}

/// The segments of a directory, oldest first. Other names are passed over.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentName>, WalError> {
    let names = disk.list(dir).doing("list", dir)?;
    let mut segments: Vec<SegmentName> =
        names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The segments to read when starting behind `index`: from the last that starts
/// at or before it. Their numbers must follow each other.
pub(crate) fn segments_from(
    disk: &dyn Disk,
    dir: &Path,
    index: Index,
) -> Result<Vec<SegmentName>, WalError> {
    let missing = |what: String| WalError::Missing { dir: dir.to_owned(), what };
    let mut all = segments(disk, dir)?;
    if all.is_empty() {
        return Err(missing("there is no segment (a file named SEQ-INDEX.wal)".into()));
    }
    let Some(start) = all.iter().rposition(|segment| segment.first <= index) else {
        return Err(missing(format!(
            "no segment starts at or before index {index}, the oldest is {}; when it is the log's end \
             that is damaged, the record of a snapshot behind that may be what is lost",
            all[0]
        )));
    };
    all.drain(..start);
    check_sequence(dir, &all)?;
    Ok(all)
}

/// Fails when a segment between two others is missing.
pub(crate) fn check_sequence(dir: &Path, segments: &[SegmentName]) -> Result<(), WalError> {
    for pair in segments.windows(2) {
        if pair[1].seq != pair[0].seq + 1 {
            let what = format!("no segment follows {}; the next is {}", pair[0], pair[1]);
            return Err(WalError::Missing { dir: dir.to_owned(), what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_etcds() {
        let name = SegmentName { seq: 10, first: Index(0xabc) };
        assert_eq!(name.to_string(), "000000000000000a-0000000000000abc.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        for other in ["0.tmp", "a-b.wal", "000000000000000a-0000000000000abc.wal.broken"] {
            assert_eq!(SegmentName::parse(other), None);
        }
    }
}
