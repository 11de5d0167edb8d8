//! `migrate`: a directory's storage version (disk.md 9).

use bytes::Bytes;
use mainstay_backend::bolt::{Bolt, Options, Reader, WriteBatch};
use mainstay_backend::{Bucket, meta};
use mainstay_print::args::Line;
use mainstay_print::json::Object;
use mainstay_print::quote::quote;
use mainstay_proto::{Message as _, etcdserverpb};
use mainstay_raft::EntryKind;
use mainstay_types::{SPOKEN_VERSION, Version};

use crate::place::{DataDir, lock_db, no_arguments, open_db, plain};
use crate::{Failure, Run};

const V3_5: Version = Version::line(3, 5);
/// The first schema that says its version.
const V3_6: Version = Version::line(3, 6);

/// Changes the storage version.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    no_arguments(line)?;
    let target = target_version(line.text("target-version"))?;
    let dir = DataDir::of(line);
    let lock = lock_db(run, line, &dir.db)?;
    let reader = open_db(run, &dir.db)?;
    let current = detect(&reader).inspect_err(|_| {
        run.error(
            "failed to detect storage version. Please make sure you are using data dir from etcd v3.5 and older",
            Object::default(),
        );
    })?;
    if current == target {
        let version = format!("{}.{}", current.major, current.minor);
        let fields = Object::default().text("storage-version", &version);
        run.info("storage version up-to-date", fields);
        return Ok(());
    }
    let needed = version_of_log(run, &dir).inspect_err(|failure| {
        let fields = Object::default().text("error", &failure.message);
        run.error("Failed to finalize config", fields);
    })?;
    // Where the version may go without force, step by step.
    let way = plan(current, target)
        .and_then(|steps| may_go_down(current, target, needed).map(|()| steps));
    let steps = match way {
        Ok(steps) => steps,
        Err(failure) if line.is("force") => {
            let fields = Object::default().text("error", &failure.message);
            run.info("normal migrate failed, trying with force", fields);
            vec![target]
        }
        Err(failure) => return Err(failure),
    };
    drop((reader, lock));
    write_version(run, &dir, target)?;
    for step in steps {
        let fields = Object::default().text("new-storage-version", &step.to_string());
        run.info("updated storage version", fields);
    }
    Ok(())
}

/// `X.Y`, from 3.5 on.
fn target_version(text: &str) -> Result<Version, Failure> {
    if text.matches('.').count() != 1 {
        let text = quote(text.as_bytes());
        let what = format!("wrong target version format, expected \"X.Y\", got {text}");
        return Err(Failure::bad_args(what));
    }
    let version: Version = text
        .parse()
        .map_err(|e| Failure::bad_args(format!("failed to parse target version: {e}")))?;
    if version < V3_5 {
        let (major, minor) = (version.major, version.minor);
        let what = format!("target version \"{major}.{minor}\" not supported. Minimal \"3.5\"");
        return Err(Failure::bad_args(what));
    }
    Ok(version)
}

/// The storage version that a db has.
pub(crate) fn detect(reader: &Reader) -> Result<Version, Failure> {
    let get = |key| reader.get(Bucket::Meta.name(), key).map_err(plain);
    if let Some(text) = get(meta::STORAGE_VERSION)?
        && let Some(version) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
    {
        return Ok(version);
    }
    match get(meta::TERM)? {
        Some(term) if term.iter().any(|byte| *byte != 0) => Ok(V3_5),
        _ => Err(Failure::error("missing term information")),
    }
}

/// The versions on the way, the last one the target.
fn plan(current: Version, target: Version) -> Result<Vec<Version>, Failure> {
    if current.major != target.major {
        return Err(Failure::error(
            "cannot create migration plan: changing major storage version is not supported",
        ));
    }
    let highest = current.minor.max(target.minor);
    if highest > SPOKEN_VERSION.minor {
        // Named is the first step that is not known.
        let unknown = match current.minor > target.minor {
            true => current.minor,
            false => current.minor.max(SPOKEN_VERSION.minor) + 1,
        };
        let version = Version::line(current.major, unknown);
        return Err(Failure::error(format!(
            "cannot create migration plan: version \"{version}\" is not supported"
        )));
    }
    let line = |minor| Version::line(current.major, minor);
    Ok(match current.minor < target.minor {
        true => (current.minor + 1..=target.minor).map(line).collect(),
        false => (target.minor..current.minor).rev().map(line).collect(),
    })
}

fn may_go_down(current: Version, target: Version, needed: Option<Version>) -> Result<(), Failure> {
    match needed {
        Some(needed) if target < current && target < needed => Err(Failure::error(format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version \
             ({target}) is lower than the version ({needed}) detected from WAL logs"
        ))),
        _ => Ok(()),
    }
}

/// The oldest etcd that understands the entries behind the newest snapshot; `None` when
/// 3.5, the oldest target, does.
fn version_of_log(run: &Run<'_>, dir: &DataDir) -> Result<Option<Version>, Failure> {
    let mark = dir
        .newest_mark(run)
        .map_err(|e| plain(format!("failed to get the lastest snapshot: {}", e.message)))?;
    let replay = mainstay_wal::read(&*run.disk, &dir.wal, &mark)
        .map_err(|e| plain(format!("failed to read wal: {e}")))?;
    let mut newest = None;
    for entry in replay.entries.iter().filter(|entry| entry.kind == EntryKind::Normal) {
        // What does not parse is a request of 3.5's v2 store, which 3.5 reads.
        let Ok(request) = etcdserverpb::InternalRaftRequest::decode(entry.data.clone()) else {
            continue;
        };
        // The only thing in a log that 3.5 does not know.
        if let Some(test) = request.downgrade_version_test {
            let says = test.ver.parse::<Version>().unwrap_or(V3_6);
            newest = newest.max(Some(says.max(V3_6)));
        }
    }
    Ok(newest)
}

fn write_version(run: &mut Run<'_>, dir: &DataDir, target: Version) -> Result<(), Failure> {
    let mut bolt = Bolt::open(&*run.disk, &dir.db, Options::default()).map_err(plain)?;
    let mut batch = WriteBatch::new();
    let key = Bytes::from_static(meta::STORAGE_VERSION);
    match target < V3_6 {
        true => batch.delete(Bucket::Meta.name(), key),
        false => batch.put(Bucket::Meta.name(), key, Bytes::from(target.to_string())),
    }
    bolt.commit(batch).map_err(plain)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_one_minor_at_a_time() {
        let line = |minor| Version::line(3, minor);
        assert_eq!(plan(line(5), line(7)), Ok(vec![line(6), line(7)]));
        assert_eq!(plan(line(7), line(5)), Ok(vec![line(6), line(5)]));
        let says = |from, to| plan(from, to).expect_err("refused").message;
        let unknown = "cannot create migration plan: version \"3.8.0\" is not supported";
        assert_eq!(says(line(5), line(9)), unknown);
        assert_eq!(says(line(8), line(5)), unknown);
        assert!(says(line(5), Version::line(4, 0)).contains("major"));
    }
}
