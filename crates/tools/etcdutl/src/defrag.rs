//! `defrag`: the db file without its free pages.

use mainstay_backend::bolt::{Options, Reader, write_compacted};
use mainstay_backend::hash;
use mainstay_print::args::Line;
use mainstay_print::json::Object;

use crate::place::{
    DataDir, about, folder_of, forget_sums, keep_owner, lock_db, no_arguments, open_db,
    open_own_db, plain,
};
use crate::{Failure, Run};

/// The name of the file while it is made; a server removes one that was left behind.
const ON_ITS_WAY: &str = "db.tmp.0";

/// Defragments the db file of a data directory that no server has open.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    no_arguments(line)?;
    let dir = DataDir::of(line);
    defragment(line, run, &dir).map_err(|failure| {
        let dir = line.text("data-dir");
        let why = failure.message;
        Failure { message: format!("Failed to defragment etcd data[{dir}] ({why})"), ..failure }
    })
}

fn defragment(line: &Line, run: &mut Run<'_>, dir: &DataDir) -> Result<(), Failure> {
    let _lock = lock_db(run, line, &dir.db)?;
    let before = open_own_db(run, &dir.db)?;
    let next = dir.db.with_file_name(ON_ITS_WAY);
    if run.disk.metadata(&next).map_err(|e| about("stat", &next, &e))?.is_some() {
        run.disk.remove_file(&next).map_err(|e| about("remove", &next, &e))?;
    }
    let began = mainstay_env::Clock::now(&run.clock);
    let sizes = Object::default()
        .text("path", &dir.db.display().to_string())
        .number("current-db-size-bytes", i128::from(before.size()));
    run.info("defragmenting", sizes);
    let made = compact(run, &before, &next);
    let after = match made {
        Ok(after) => after,
        Err(failure) => {
            // Best effort: what stays is removed by the next run or server.
            let _ = run.disk.remove_file(&next);
            return Err(failure);
        }
    };
    keep_owner(&dir.db, &next);
    forget_sums(run, &dir.db)?;
    run.disk.rename(&next, &dir.db).map_err(|e| about("rename", &next, &e))?;
    let folder = folder_of(&dir.db);
    run.disk.sync_dir(folder).map_err(|e| about("sync", folder, &e))?;
    let took = mainstay_env::Clock::now(&run.clock).saturating_sub(began);
    let sizes = Object::default()
        .text("path", &dir.db.display().to_string())
        .number("current-db-size-bytes-diff", i128::from(after) - i128::from(before.size()))
        .number("current-db-size-bytes", i128::from(after))
        .text("took", &mainstay_print::duration::show(took));
    run.info("finished defragmenting directory", sizes);
    Ok(())
}

/// Writes the copy, and believes it only when it holds the same rows. Its size in bytes.
fn compact(run: &Run<'_>, before: &Reader, next: &std::path::Path) -> Result<u64, Failure> {
    let options = Options { page_size: before.page_size(), ..Options::default() };
    write_compacted(before, &*run.disk, next, options).map_err(plain)?;
    let after = open_db(run, next)?;
    let (was, is) = (hash(before).map_err(plain)?, hash(&after).map_err(plain)?);
    if was != is {
        let what = format!("the copy has hash {is}, the db {was}; the db was left as it is");
        return Err(Failure::error(what));
    }
    Ok(after.size())
}
