//! A directory that knows of other members is refused: there is nobody to reach them with.

use std::path::Path;
use std::sync::Arc;

use mainstay_driver::{BootError, Driver, Options};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_raft::{ConfChange, ConfChangeKind, Entry, EntryKind, HardState};
use mainstay_types::{Index, MemberId};
use mainstay_wal::{SnapshotMark, Wal};

fn start(data_dir: &Path) -> Result<Driver, BootError> {
    let options = Options { data_dir: data_dir.to_owned(), ..Options::default() };
    Driver::start(options, Arc::new(OsDisk), Arc::new(OsClock::new()), &mut OsDice::new())
}

const OTHER: MemberId = MemberId(0xabc);

/// Adds a change of members to the end of the log, as a member that was killed before it applied
/// the change leaves it.
fn append(data_dir: &Path, kind: ConfChangeKind, committed: bool) {
    let options = Options { data_dir: data_dir.to_owned(), ..Options::default() };
    let from = SnapshotMark::default();
    let (mut wal, replay) = Wal::open(Arc::new(OsDisk), &options.wal_path(), &from).expect("a log");
    let last = replay.entries.last().expect("a member has published itself");
    let change = ConfChange { id: 1, kind, node: OTHER, ..ConfChange::default() };
    let entry = Entry {
        term: last.term,
        index: Index(last.index.0 + 1),
        kind: EntryKind::ConfChange,
        data: change.encode(),
    };
    let state = HardState { commit: entry.index, ..replay.hard_state };
    wal.save(committed.then_some(&state), &[entry], true).expect("saved");
}

#[test]
fn a_log_with_another_member_is_refused_until_that_one_is_removed() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for kind in [ConfChangeKind::AddNode, ConfChangeKind::AddLearnerNode] {
        let dir = std::env::temp_dir().join(format!("mainstay-others-{}", std::process::id()));
        // Left over from a run that failed.
        let _ = std::fs::remove_dir_all(&dir);
        let mut driver = start(&dir).expect("a new member");
        runtime.block_on(driver.ready());
        driver.stop();
        // A removal that is not committed would need the other one's vote.
        for change in [kind, ConfChangeKind::RemoveNode] {
            append(&dir, change, false);
            let Err(error) = start(&dir) else { panic!("{change:?}: it starts") };
            let text = error.to_string();
            assert!(text.contains("belongs to a cluster of 2 members"), "{text}");
            assert!(text.contains("abc"), "{text}");
        }
        append(&dir, ConfChangeKind::RemoveNode, true);
        start(&dir).expect("alone again").stop();
        std::fs::remove_dir_all(&dir).expect("our own folder");
    }
}
