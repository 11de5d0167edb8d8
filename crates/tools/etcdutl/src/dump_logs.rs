//! `dump-logs`: what `etcd-dump-logs` prints.

mod decoder;
mod raw;

use std::fmt::Write as _;
use std::path::Path;

use mainstay_print::args::Line;
use mainstay_print::json::{Json, Object};
use mainstay_print::quote::quote;
use mainstay_proto::{Message as _, raftpb};
use mainstay_raft::{ConfState, Snapshot};
use mainstay_types::MemberId;
use mainstay_wal::{WalError, snap};

use crate::log::{self, Said};
use crate::place::{DataDir, about, plain};
use crate::wire::{self, CONF_CHANGE, INTERNAL_RAFT_REQUEST, REQUEST};
use crate::{Failure, Run};
use decoder::Decoder;

/// What `--entry-type` may name: the type, and the field of an InternalRaftRequest.
const REQUEST_KINDS: &[(&str, u64)] = &[
    ("IRRRange", 3),
    ("IRRPut", 4),
    ("IRRDeleteRange", 5),
    ("IRRTxn", 6),
    ("IRRCompaction", 7),
    ("IRRLeaseGrant", 8),
    ("IRRLeaseRevoke", 9),
    ("IRRLeaseCheckpoint", 11),
];
/// Field of InternalRaftRequest whose password is not shown.
const CHANGE_PASSWORD: &str = "auth_user_change_password:<";

/// Prints the entries of a log.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let [root] = line.args.as_slice() else {
        let args = line.args.join(" ");
        return Err(Failure::error(format!("Must provide data-dir argument (got [{args}])")));
    };
    let dir = DataDir::at(Path::new(root), line.text("wal-dir"));
    let from_index = line.given("start-index");
    if !line.text("start-snap").is_empty() && line.uint("start-index") != 0 {
        return Err(Failure::error("start-snap and start-index flags cannot be used together."));
    }
    if line.is("raw") {
        let others = ["start-snap", "entry-type", "stream-decoder"];
        if others.iter().any(|name| line.given(name)) {
            return Err(Failure::error(
                "Flags --entry-type, --stream-decoder, --start-snap not supported in the RAW mode.",
            ));
        }
        return raw::run(run, &dir.wal, from_index.then(|| line.uint("start-index")));
    }
    let behind = match from_index {
        true => {
            let first = line.uint("start-index");
            run.say(&format!("Start dumping log entries from index {first}."));
            first.saturating_sub(1)
        }
        false => start_snapshot(line, run, &dir)?,
    };
    let said = log::said(run, &dir.wal, behind)?;
    let end = line.uint("end-index");
    heading(run, &said);
    let entries: Vec<&raftpb::Entry> =
        said.entries.iter().filter(|entry| entry.index.unwrap_or(0) < end).collect();
    run.say(&format!("WAL entries: {}", entries.len()));
    if let Some(last) = entries.last() {
        run.say(&format!("lastIndex={}", last.index.unwrap_or(0)));
    }
    list(line, run, &entries)?;
    ended(&said, behind, from_index, end)
}

/// What was not all of the log.
fn ended(said: &Said, behind: u64, from_index: bool, end: u64) -> Result<(), Failure> {
    if let Some(damage) = &said.damage {
        let file = damage.path.display();
        let (at, why) = (damage.offset, &damage.why);
        return Err(Failure::error(format!(
            "Failed reading WAL: {file} is damaged at offset {at}: {why}; what is printed is all before it"
        )));
    }
    if !from_index && behind > 0 && !said.snapshots.iter().any(|(index, _)| *index == behind) {
        return Err(Failure::error("Failed reading WAL: wal: snapshot not found"));
    }
    match said.gap {
        Some((before, next)) if end == u64::MAX => Err(Failure::error(format!(
            "Failed reading WAL: entries between index {before} and {next} are missing"
        ))),
        _ => Ok(()),
    }
}

/// Prints the snapshot to start behind, and returns its index.
fn start_snapshot(line: &Line, run: &mut Run<'_>, dir: &DataDir) -> Result<u64, Failure> {
    let named = line.text("start-snap");
    let snapshot = match named.is_empty() {
        true => newest_snapshot(run, dir)?,
        false => {
            let names = snap::list(&*run.disk, &dir.snap).map_err(plain)?;
            let name = names.into_iter().find(|name| name.to_string() == named);
            let missing =
                || about("open", &dir.snap.join(named), &std::io::ErrorKind::NotFound.into());
            let name = name.ok_or_else(missing)?;
            let loaded = snap::load(&*run.disk, &dir.snap, name);
            Some(loaded.map_err(|e| plain(format!("Failed loading snapshot: {e}")))?)
        }
    };
    run.say("Snapshot:");
    let index = match &snapshot {
        None => {
            run.say("empty");
            0
        }
        Some(Snapshot { index, term, conf_state, .. }) => {
            let nodes: Vec<String> = conf_state.voters.iter().map(MemberId::to_string).collect();
            run.say(&format!(
                "term={term} index={index} nodes=[{}] confstate={}",
                nodes.join(" "),
                conf_state_json(conf_state).line()
            ));
            index.0
        }
    };
    run.say("Start dumping log entries from snapshot.");
    Ok(index)
}

/// The newest `.snap` file that can be read; nothing is renamed.
fn newest_snapshot(run: &mut Run<'_>, dir: &DataDir) -> Result<Option<Snapshot>, Failure> {
    if run.disk.metadata(&dir.snap).map_err(|e| about("stat", &dir.snap, &e))?.is_none() {
        return Ok(None);
    }
    for name in snap::list(&*run.disk, &dir.snap).map_err(plain)?.into_iter().rev() {
        match snap::load(&*run.disk, &dir.snap, name) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error @ WalError::Corrupt { .. }) => {
                let fields = Object::default().text("error", &error.to_string());
                run.warn("a snapshot file is damaged; an older one is taken", fields);
            }
            Err(error) => return Err(plain(error)),
        }
    }
    Ok(None)
}

/// As Go prints a configuration.
fn conf_state_json(state: &ConfState) -> Json {
    let ids = |ids: &[MemberId]| ids.iter().map(|id| Json::Number(i128::from(id.0))).collect();
    Object::default()
        .opt_list("voters", ids(&state.voters))
        .opt_list("learners", ids(&state.learners))
        .opt_list("voters_outgoing", ids(&state.voters_outgoing))
        .opt_list("learners_next", ids(&state.learners_next))
        .with("auto_leave", Json::Bool(state.auto_leave))
        .end()
}

fn heading(run: &mut Run<'_>, said: &Said) {
    let (metadata, state) = (&said.metadata, &said.state);
    run.say("WAL metadata:");
    run.say(&format!(
        "nodeID={:x} clusterID={:x} term={} commitIndex={} vote={:x}",
        metadata.node_id.unwrap_or(0),
        metadata.cluster_id.unwrap_or(0),
        state.term.unwrap_or(0),
        state.commit.unwrap_or(0),
        state.vote.unwrap_or(0)
    ));
}

fn list(line: &Line, run: &mut Run<'_>, entries: &[&raftpb::Entry]) -> Result<(), Failure> {
    let types = line.text("entry-type");
    let wanted = Wanted::read(types, run);
    let mut decoder = match line.text("stream-decoder") {
        "" => None,
        command => Some(Decoder::start(command)?),
    };
    let more = if decoder.is_some() { "\tdecoder_status\tdecoded_data" } else { "" };
    run.say(&format!("term\t     index\ttype\tdata{more}"));
    let mut count = 0;
    for entry in entries {
        let what = What::of(entry);
        if !wanted.takes(&what) {
            continue;
        }
        count += 1;
        let (term, index) = (entry.term.unwrap_or(0), entry.index.unwrap_or(0));
        let mut row = format!("{term:4}\t{index:10}\t{}", shown(entry, &what));
        if let Some(decoder) = &mut decoder {
            let (status, decoded) = decoder.ask(entry.data.as_deref().unwrap_or_default())?;
            // Writing to a String cannot fail.
            let _ = write!(row, "\t{status}\t{decoded}");
        }
        run.say(&row);
    }
    if let Some(decoder) = decoder {
        decoder.end(run)?;
    }
    run.say(&format!("\nEntry types ({types}) count is : {count}"));
    Ok(())
}

/// What an entry is.
enum What {
    ConfChange,
    ConfChangeV2,
    /// An InternalRaftRequest with these fields.
    Internal(Vec<u64>),
    /// A request of the v2 API.
    V2,
    Unknown,
}

impl What {
    fn of(entry: &raftpb::Entry) -> What {
        let data = entry.data.as_deref().unwrap_or_default();
        match entry.r#type.unwrap_or(0) {
            1 => What::ConfChange,
            2 => What::ConfChangeV2,
            0 => match wire::has(&INTERNAL_RAFT_REQUEST, data) {
                Some(fields) => What::Internal(fields),
                None if wire::has(&REQUEST, data).is_some() => What::V2,
                None => What::Unknown,
            },
            _ => What::Unknown,
        }
    }
}

/// What `--entry-type` asks for.
#[derive(Default)]
struct Wanted {
    conf: bool,
    internal: bool,
    v2: bool,
    unknown: bool,
    fields: Vec<u64>,
}

impl Wanted {
    fn read(types: &str, run: &mut Run<'_>) -> Wanted {
        let mut wanted = Wanted::default();
        for name in types.split(',').filter(|name| !name.is_empty()) {
            match name {
                "ConfigChange" => wanted.conf = true,
                "Normal" => {
                    (wanted.internal, wanted.v2, wanted.unknown) = (true, true, true);
                }
                "Request" => wanted.v2 = true,
                "InternalRaftRequest" => wanted.internal = true,
                other => match REQUEST_KINDS.iter().find(|(kind, _)| *kind == other) {
                    Some((_, field)) => wanted.fields.push(*field),
                    None => {
                        let kinds: Vec<&str> =
                            REQUEST_KINDS.iter().map(|(kind, _)| *kind).collect();
                        run.complain(&format!(
                            "[{other}] is not a valid entry-type, ignored.\nPlease set entry-type to one or more of the following:\nConfigChange, Normal, Request, InternalRaftRequest, {}",
                            kinds.join(", ")
                        ));
                    }
                },
            }
        }
        wanted
    }

    fn takes(&self, what: &What) -> bool {
        match what {
            What::ConfChange | What::ConfChangeV2 => self.conf,
            What::Internal(fields) => {
                self.internal || fields.iter().any(|field| self.fields.contains(field))
            }
            What::V2 => self.v2,
            What::Unknown => self.unknown,
        }
    }
}

/// Type and data of an entry.
fn shown(entry: &raftpb::Entry, what: &What) -> String {
    let data = entry.data.as_deref().unwrap_or_default();
    match what {
        What::ConfChange => format!("conf\t{}", conf_change(data)),
        What::ConfChangeV2 => {
            let text = wire::text(&wire::CONF_CHANGE_V2, data);
            format!("conf\t{}", text.as_deref().map_or("???", str::trim_end))
        }
        What::Internal(_) => {
            let text = wire::text(&INTERNAL_RAFT_REQUEST, data).unwrap_or_default();
            format!("norm\t{}", without_password(&text))
        }
        What::V2 => format!("norm\t{}", v2_request(data)),
        What::Unknown => "norm\t???".to_owned(),
    }
}

fn conf_change(data: &[u8]) -> String {
    let Some(text) = wire::text(&CONF_CHANGE, data) else { return "???".to_owned() };
    let change = raftpb::ConfChange::decode(data).unwrap_or_default();
    let kind = match change.r#type.unwrap_or(0) {
        0 => "ConfChangeAddNode".to_owned(),
        1 => "ConfChangeRemoveNode".to_owned(),
        2 => "ConfChangeUpdateNode".to_owned(),
        3 => "ConfChangeAddLearnerNode".to_owned(),
        _ => text,
    };
    format!("method={kind} id={:x}", change.node_id.unwrap_or(0))
}

/// Takes the password out of a change of one.
fn without_password(text: &str) -> String {
    const PASSWORD: &str = "password:\"";
    let change = text.find(CHANGE_PASSWORD).map(|at| at + CHANGE_PASSWORD.len());
    let start = change.and_then(|at| text[at..].find(PASSWORD).map(|to| at + to + PASSWORD.len()));
    let Some(start) = start else { return text.to_owned() };
    // Up to the quote that is not escaped.
    let mut escaped = false;
    let end = text[start..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    match end {
        Some(0) | None => text.to_owned(),
        Some(end) => format!("{}<value removed>{}", &text[..start], &text[start + end..]),
    }
}

/// A request of the v2 API as 3.4 and 3.5 show it.
fn v2_request(data: &[u8]) -> String {
    let Ok(request) = mainstay_proto::etcdserverpb::Request::decode(data) else {
        return "???".to_owned();
    };
    let (path, value) = (request.path.unwrap_or_default(), request.val.unwrap_or_default());
    match request.method.as_deref().unwrap_or_default() {
        "" => "noop".to_owned(),
        "SYNC" => {
            let nanos = request.time.unwrap_or(0).max(0).unsigned_abs();
            let time =
                crate::run::rfc3339(nanos / 1_000_000_000).replace('T', " ").replace('Z', "");
            let mut fraction = format!(".{:09}", nanos % 1_000_000_000);
            fraction.truncate(fraction.trim_end_matches(['0', '.']).len());
            format!("method=SYNC time=\"{time}{fraction} +0000 UTC\"")
        }
        method @ ("QGET" | "DELETE") => format!("method={method} path={}", excerpt(&path, 64, 64)),
        method => {
            format!(
                "method={method} path={} val={}",
                excerpt(&path, 64, 64),
                excerpt(&value, 128, 0)
            )
        }
    }
}

/// The beginning and the end of a long text.
fn excerpt(text: &str, head: usize, tail: usize) -> String {
    let bytes = text.as_bytes();
    if bytes.len() <= head + tail {
        return quote(bytes);
    }
    let mut out = format!("{}...", quote(&bytes[..head]));
    if tail > 0 {
        out.push_str(&quote(&bytes[bytes.len() - tail..]));
    }
    out
}

#[cfg(test)]
mod tests;
