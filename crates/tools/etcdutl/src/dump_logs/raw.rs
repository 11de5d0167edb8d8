//! `dump-logs --raw`: every record of every segment.

use std::path::Path;

use mainstay_proto::{Message as _, raftpb, walpb};

use crate::log::{self, CRC, ENTRY, Frame, METADATA, SNAPSHOT, STATE, Stop};
use crate::wire::{self, HARD_STATE};
use crate::{Failure, Run};

/// Prints the records, those of entries from `from` on.
pub(super) fn run(run: &mut Run<'_>, wal: &Path, from: Option<u64>) -> Result<(), Failure> {
    let (names, others) = log::names(run, wal)?;
    for other in others {
        run.complain(&format!("Warning: Ignoring not .wal file: {other}"));
    }
    let mut crc = None;
    for (at, name) in names.iter().enumerate() {
        let segment = log::load(run, wal, name)?;
        let mut offset = 0;
        loop {
            let frame = match segment.frame(offset) {
                Ok(frame) => frame,
                Err(Stop::End) => break,
                Err(Stop::Broken(why)) => {
                    let file = segment.path.display();
                    run.say(&format!(
                        "ErrUnexpectedEOF: The last record might be corrupted, error: {file} at offset {offset}: {why}."
                    ));
                    let more = names.len() - at - 1;
                    let more =
                        if more > 0 { format!("; {more} segments follow") } else { String::new() };
                    let what = format!("{file} is damaged at offset {offset}: {why}{more}");
                    return Err(Failure::error(what));
                }
            };
            check(run, &frame, &mut crc);
            show(run, &frame, from);
            offset = frame.end;
        }
    }
    run.say("EOF: All entries were processed.");
    Ok(())
}

/// Complains once of a checksum that does not fit, until a new one begins.
fn check(run: &mut Run<'_>, frame: &Frame, crc: &mut Option<u32>) {
    if frame.kind == CRC {
        *crc = Some(frame.crc);
        return;
    }
    if let Some(before) = *crc {
        let is = crc32c::crc32c_append(before, &frame.data);
        if is != frame.crc {
            let (at, stored) = (frame.offset, frame.crc);
            run.complain(&format!(
                "Error: Reading entry failed with CRC error: offset {at}: crc {stored} stored, {is} computed"
            ));
            *crc = None;
        } else {
            *crc = Some(is);
        }
    }
}

fn show(run: &mut Run<'_>, frame: &Frame, from: Option<u64>) {
    let data = &frame.data;
    let wanted = |index: u64| from.is_none_or(|from| index >= from);
    let unreadable = |kind: &str| format!("{kind}: ??? at offset {}", frame.offset);
    match frame.kind {
        METADATA => {
            let text = wire::text(&wire::METADATA, data);
            run.say(
                &text.map_or_else(|| unreadable("Metadata"), |text| format!("Metadata: {text}")),
            );
        }
        CRC => run.say(&format!("CRC: {}", frame.crc)),
        ENTRY => match raftpb::Entry::decode(data.clone()) {
            Ok(entry) => {
                let index = entry.index.unwrap_or(0);
                if wanted(index) {
                    run.say(&entry_line(&entry, index));
                }
            }
            Err(_) => run.say(&unreadable("Entry")),
        },
        SNAPSHOT => match walpb::Snapshot::decode(data.clone()) {
            Ok(mark) => {
                let (index, term) = (mark.index.unwrap_or(0), mark.term.unwrap_or(0));
                if wanted(index) {
                    run.say(&format!("Snapshot: index:{index} term:{term}"));
                }
            }
            Err(_) => run.say(&unreadable("Snapshot")),
        },
        STATE => match (raftpb::HardState::decode(data.clone()), wire::text(&HARD_STATE, data)) {
            (Ok(state), Some(text)) => {
                if wanted(state.commit.unwrap_or(0)) {
                    run.say(&format!("HardState: {text}"));
                }
            }
            _ => run.say(&unreadable("HardState")),
        },
        other => run.complain(&format!("Unexpected WAL log type: {other}")),
    }
}

fn entry_line(entry: &raftpb::Entry, index: u64) -> String {
    let kind = match entry.r#type.unwrap_or(0) {
        0 => String::new(),
        1 => " Type:EntryConfChange".to_owned(),
        2 => " Type:EntryConfChangeV2".to_owned(),
        other => format!(" Type:{other}"),
    };
    let data = match entry.data.as_deref().unwrap_or_default() {
        [] => String::new(),
        data => format!(" Data:{} ", wire::escaped(data)),
    };
    format!("Entry: Term:{} Index:{index}{kind}{data}", entry.term.unwrap_or(0))
}
