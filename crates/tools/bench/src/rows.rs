//! The rows of a table: a load, how many clients, and whether the loop is open.

use std::fmt;

use crate::loads::Kind;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) loop_: Loop,
}

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loop {
    /// Each of so many clients sends when it has its answer.
    Closed(usize),
    /// So many a second, whatever the answers do.
    Open(f64),
}

/// In an open loop: how many requests may be in flight before the next one waits.
const OPEN_CLIENTS: usize = 256;
/// Puts a second beside the pages of an older revision.
pub(crate) const WRITES_BESIDE: f64 = 200.0;

/// The rows that `bench cluster` runs unless told otherwise.
pub(crate) const CLUSTER: &str =
    "put@1,put@64,put@1000,range@1,range@64,range@1000,range-serializable@64";

/// The rows that `bench compare` runs unless told otherwise.
pub(crate) const DEFAULT: &str = "put@1,put@64,put@1000,put@2000/s,\
    range@1,range@64,range@1000,range@2000/s,txn@1,txn@64,txn@1000,txn@2000/s,\
    page500@4,page1000@4,page500-pinned@4,count@4,keepalive@64,\
    watch1000s1@50/s,watch1000s100@50/s,watch1000s100@4,watchkeys10000s10@500/s";

impl Row {
    /// Reads `LOAD@CLIENTS` or `LOAD@RATE/s`.
    pub(crate) fn parse(text: &str) -> Result<Row, String> {
        let wrong = || format!("{text:?} is no row: LOAD@CLIENTS or LOAD@RATE/s is");
        let (name, how) = text.trim().split_once('@').ok_or_else(wrong)?;
        let kind = Kind::parse(name).ok_or_else(|| format!("no load is named {name:?}"))?;
        let loop_ = match how.strip_suffix("/s") {
            Some(rate) => Loop::Open(rate.parse().map_err(|_| wrong())?),
            None => Loop::Closed(how.parse().map_err(|_| wrong())?),
        };
        match loop_ {
            Loop::Closed(0) => Err(wrong()),
            Loop::Open(rate) if !(0.01..=1e6).contains(&rate) => Err(wrong()),
            _ => Ok(Row { kind, loop_ }),
        }
    }

    /// Reads a list of them, in order.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Row>, String> {
        text.split(',').map(Row::parse).collect()
    }

    /// Requests in flight: the most of an open loop.
    pub(crate) fn clients(self) -> usize {
        match self.loop_ {
            Loop::Closed(clients) => clients,
            Loop::Open(_) => OPEN_CLIENTS,
        }
    }

    /// Connections that the clients share, as the baseline has them: 9 for 64, 30 for 1000.
    /// A watch has those of its streams, and one for the puts.
    pub(crate) fn connections(self) -> usize {
        if let Kind::Watch(fan) = self.kind {
            return fan.connections() + 1;
        }
        match self.loop_ {
            Loop::Open(_) => 9,
            Loop::Closed(clients @ 0..=8) => clients.max(1),
            Loop::Closed(9..=100) => 9,
            Loop::Closed(_) => 30,
        }
    }

    /// What CPU and what p99, at most, this row should take of theirs. Pages and counts
    /// have their targets at a million keys; see [`crate::big`].
    pub(crate) fn targets(self) -> Option<[f64; 2]> {
        matches!(self.kind, Kind::Put | Kind::Range | Kind::Txn).then_some([0.5, 1.0])
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loop_ {
            Loop::Closed(clients) => write!(f, "{} c{clients}", self.kind),
            Loop::Open(rate) => write!(f, "{} open {rate}/s", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_row_is_one() {
        let rows = Row::parse_list(DEFAULT).expect("good rows");
        assert_eq!(rows.len(), DEFAULT.split(',').count());
        let connections = |text| Row::parse(text).expect("a row").connections();
        assert_eq!(
            ["put@1", "put@64", "put@1000", "put@9/s", "watch9s3@1", "watch99s99@1"]
                .map(connections),
            [1, 9, 30, 9, 4, 11],
        );
        assert!(rows.iter().all(|row| row.connections() >= 1));
    }

    #[test]
    fn reads_closed_and_open() {
        let row = Row::parse("put@64").expect("a row");
        assert_eq!((row.kind, row.loop_), (Kind::Put, Loop::Closed(64)));
        assert_eq!(row.to_string(), "put c64");
        let row = Row::parse("watch1000s100@50/s").expect("a row");
        assert_eq!(row.loop_, Loop::Open(50.0));
        assert_eq!(row.to_string(), "watch1000s100 open 50/s");
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["put", "put@", "put@0", "put@x", "put@0/s", "put@-1/s", "pet@1", "watch0s1@1"]
        {
            assert!(Row::parse(text).is_err(), "{text}");
        }
    }
}
