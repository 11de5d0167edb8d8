//! What a member does about damage that it meets while it runs.
//!
//! Whoever reads a damaged page is refused, and nothing made of it goes anywhere. Beyond that:
//!
//! - With other voters, the member leaves a note and ends: the others go on, and the next start
//!   fetches the db of one of them. Staying would help nobody, because a member with a hole in its
//!   db cannot lead, apply, or give snapshots for long.
//! - Alone, it goes on with all that is sound. It raises no alarm: etcd's CORRUPT refuses every
//!   read and write of the whole cluster, and so would take from its clients what they can have.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use mainstay_backend::bolt::Error;
use parking_lot::Mutex;

use crate::damage::{Damage, marker_path, write_marker};
use crate::shared::Shared;

/// Damaged pages that are told apart; more of them are not logged one by one.
const PAGES_MAX: usize = 1024;

/// Listens for damaged pages from now on.
pub(crate) fn listen(shared: &Arc<Shared>) {
    let told = Arc::downgrade(shared);
    let met = Mutex::new(BTreeSet::new());
    shared.backend.on_damage(Arc::new(move |error| {
        let Some(shared) = told.upgrade() else { return };
        if let Error::Damaged { path, page, offset, expected } = error {
            let mut met = met.lock();
            if met.len() < PAGES_MAX && met.insert(*page) {
                shared.stats.damaged_pages.add(1);
                drop(met);
                found(&shared, path, (*page, *offset), expected);
            }
        }
    }));
}

fn found(shared: &Shared, path: &Path, (page, offset): (u64, u64), what: &str) {
    tracing::error!(
        path = %path.display(),
        page,
        offset,
        what,
        "found a damaged page of the database; nothing of it is answered"
    );
    let me = shared.identity.member;
    let others = shared.membership.load().voters().iter().any(|id| *id != me);
    if !others || !shared.options.repair_from_peers {
        tracing::warn!(
            "what is sound is served further; `etcdutl repair` says what can be saved, a snapshot \
             restores the rest"
        );
        return;
    }
    let damage = Damage {
        cluster: shared.identity.cluster,
        member: me,
        file: path.display().to_string(),
        offset,
        what: what.to_owned(),
    };
    let marker = marker_path(&shared.options.member_dir());
    if let Err(error) = write_marker(&*shared.disk, &marker, &damage) {
        tracing::error!(path = %marker.display(), %error, "failed to leave a note for the next start");
    }
    shared.stop.because(format!(
        "{} is damaged: page {page} at offset {offset}: {what}. The next start fetches the database \
         from another member",
        path.display()
    ));
}
