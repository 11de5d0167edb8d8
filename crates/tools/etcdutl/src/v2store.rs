//! `check v2store`: keys of etcd's v2 API, which 3.6 and later refuse to start with.

use mainstay_membership::V2Snapshot;
use mainstay_print::args::Line;
use mainstay_proto::{Message as _, etcdserverpb};
use mainstay_raft::{Entry, EntryKind};
use mainstay_wal::{SnapshotMark, snap, valid_snapshots};

use crate::place::{DataDir, no_arguments, plain};
use crate::wire::{self, INTERNAL_RAFT_REQUEST, Value};
use crate::{Failure, Run};

const NOTHING: &str = "No custom content found in v2store.";
/// Where the v2 store keeps members and version (etcd, `storePrefix`).
const MEMBERSHIP: &str = "/0";
/// Field of an InternalRaftRequest with a request of the v2 API.
const V2: u64 = 2;

/// Says whether the newest snapshot, or the log behind it, holds v2 keys.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    no_arguments(line)?;
    let dir = DataDir::of(line);
    // Missing files are named before anything is looked at, as etcd does.
    run.disk.list(&dir.wal).map_err(|e| crate::place::about("open", &dir.wal, &e))?;
    if !mainstay_wal::exists(&*run.disk, &dir.wal).map_err(plain)? {
        run.say(NOTHING);
        return Ok(());
    }
    let marks = valid_snapshots(&*run.disk, &dir.wal).map_err(plain)?;
    let mut start = SnapshotMark::default();
    for name in snap::list(&*run.disk, &dir.snap).map_err(plain)?.into_iter().rev() {
        let known = marks.iter().find(|mark| (mark.index, mark.term) == (name.index, name.term));
        let Some(mark) = known else { continue };
        let snapshot = snap::load(&*run.disk, &dir.snap, name).map_err(plain)?;
        if V2Snapshot::parse(&snapshot.data).map_err(plain)?.has_v2_keys {
            return Err(found(&format!("{name}")));
        }
        start = mark.clone();
        break;
    }
    let replay = mainstay_wal::read(&*run.disk, &dir.wal, &start).map_err(plain)?;
    if let Some(entry) = replay.entries.iter().find(|entry| writes_v2_key(entry)) {
        return Err(found(&format!("the log, index {}", entry.index)));
    }
    run.say(NOTHING);
    Ok(())
}

fn found(place: &str) -> Failure {
    Failure::error(format!(
        "detected custom content in v2store ({place}); etcd 3.6 and later will not start with it"
    ))
}

/// Whether an entry changes a key of the v2 API, and not the membership that 3.5 keeps there.
fn writes_v2_key(entry: &Entry) -> bool {
    if entry.kind != EntryKind::Normal || entry.data.is_empty() {
        return false;
    }
    // Alone, as 3.5 writes it, or inside a request, as others have.
    let request = match wire::has(&INTERNAL_RAFT_REQUEST, &entry.data) {
        None => etcdserverpb::Request::decode(entry.data.clone()).ok(),
        Some(_) => wire::fields(&entry.data).unwrap_or_default().iter().find_map(|field| {
            let (V2, Value::Bytes(inner)) = *field else { return None };
            etcdserverpb::Request::decode(inner).ok()
        }),
    };
    let Some(request) = request else { return false };
    let path = request.path.unwrap_or_default();
    let writes = matches!(request.method.as_deref(), Some("PUT" | "POST" | "DELETE"));
    let ours = path == MEMBERSHIP || path.starts_with("/0/");
    writes && !ours
}
