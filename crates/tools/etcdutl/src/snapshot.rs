//! `snapshot status` and `snapshot restore`; also behind etcdctl's commands of the same names.

mod peers;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use mainstay_backup::{BackupError, Event, Founders, Restore, Restored, Status, target_version};
use mainstay_print::args::Line;
use mainstay_print::json::{Json, Object};
use mainstay_print::size::humanized;
use mainstay_print::table::table;
use mainstay_types::Version;
use mainstay_wal::WalOptions;

use crate::exit::BAD_FEATURE;
use crate::run::Form;
use crate::{Failure, Run};

/// Prints what a snapshot file holds.
///
/// # Errors
/// When the file cannot be read or is damaged, or the form of the output is none that it has.
pub fn status(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let [file] = line.args.as_slice() else {
        return Err(Failure::bad_args("snapshot status requires exactly one argument"));
    };
    let path = Path::new(file);
    // In etcd's order: the file, the form, what the file holds.
    match run.disk.metadata(path) {
        Ok(Some(_)) => {}
        Ok(None) => return Err(Failure::error(format!("stat {file}: no such file or directory"))),
        Err(source) => {
            let error = BackupError::Disk { doing: "stat", path: path.to_owned(), source };
            return Err(Failure::error(error.to_string()));
        }
    }
    run.check_form(line.text("write-out"))?;
    let status = mainstay_backup::status(&*run.disk, path);
    show(&status.map_err(|error| Failure::error(error.to_string()))?, run)
}

fn show(status: &Status, run: &mut Run<'_>) -> Result<(), Failure> {
    let short = [
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_keys.to_string(),
        humanized(status.total_size),
        status.version.clone(),
    ];
    match run.form {
        Form::Simple => run.say(&short.join(", ")),
        Form::Table => {
            let head = ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"];
            run.say(&table(&head, &[short.to_vec()]));
        }
        Form::Json => {
            let object = Object::default()
                .number("hash", status.hash)
                .number("revision", status.revision)
                .number("totalKey", status.total_keys)
                .number("totalSize", status.total_size)
                .text("version", &status.version);
            run.say(&object.end().line());
        }
        Form::Fields => {
            run.say(&format!("\"Hash\" : {}", status.hash));
            run.say(&format!("\"Revision\" : {}", status.revision));
            run.say(&format!("\"Keys\" : {}", status.total_keys));
            run.say(&format!("\"Size\" : {}", status.total_size));
            run.say(&format!("\"Version\" : {}", status.version));
        }
        Form::Protobuf => {
            return Err(Failure::new(BAD_FEATURE, "protobuf not supported as output format"));
        }
    }
    Ok(())
}

/// Makes a data directory from a snapshot file.
///
/// # Errors
/// When the flags do not fit each other, a directory is in the way, or the file is damaged.
pub fn restore(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let asked = Asked::read(line)?;
    let founders = peers::founders(
        line.text("name"),
        line.text("initial-advertise-peer-urls"),
        line.text("initial-cluster"),
        line.text("initial-cluster-token"),
    )
    .map_err(Failure::error)?;
    let wanted = Restore {
        snapshot: &asked.file,
        data_dir: &asked.data_dir,
        wal_dir: Some(&asked.wal_dir),
        founders: &founders,
        skip_hash_check: line.is("skip-hash-check"),
        bump_revision: asked.bump_revision,
        target_version: asked.target,
        wal: WalOptions::default(),
    };
    let fields = || {
        let path = |path: &Path| path.display().to_string();
        Object::default()
            .text("path", &path(&asked.file))
            .text("wal-dir", &path(&asked.wal_dir))
            .text("data-dir", &path(&asked.data_dir))
            .text("snap-dir", &path(&asked.data_dir.join("member").join("snap")))
            .number("initial-memory-map-size", line.uint("initial-memory-map-size"))
    };
    let disk = run.disk.clone();
    let mut begun = false;
    let mut progress = Progress::new();
    let restored = mainstay_backup::restore(&disk, &wanted, &mut |event| {
        if !std::mem::replace(&mut begun, true) {
            run.info("restoring snapshot", fields());
        }
        progress.tell(event);
        log(run, event, &founders, asked.bump_revision);
    });
    progress.end();
    restored.map_err(|error| Failure::error(error.to_string()))?;
    run.info("restored snapshot", fields());
    Ok(())
}

/// What the flags say, before anything of the disk is looked at.
struct Asked {
    file: PathBuf,
    data_dir: PathBuf,
    wal_dir: PathBuf,
    bump_revision: u64,
    target: Option<Version>,
}

impl Asked {
    fn read(line: &Line) -> Result<Asked, Failure> {
        let [file] = line.args.as_slice() else {
            return Err(Failure::bad_args("snapshot restore requires exactly one argument"));
        };
        let bump_revision = line.uint("bump-revision");
        if (bump_revision > 0) != line.is("mark-compacted") {
            return Err(Failure::bad_args("--mark-compacted required if --revision-bump > 0"));
        }
        let target = match line.text("target-version") {
            "" => None,
            text => {
                let target = target_version(text);
                Some(target.map_err(|error| Failure::bad_args(error.to_string()))?)
            }
        };
        let data_dir = match line.text("data-dir") {
            "" => PathBuf::from(format!("{}.etcd", line.text("name"))),
            text => PathBuf::from(text),
        };
        let wal_dir = match line.text("wal-dir") {
            "" => data_dir.join("member").join("wal"),
            text => PathBuf::from(text),
        };
        Ok(Asked { file: PathBuf::from(file), data_dir, wal_dir, bump_revision, target })
    }
}

/// etcd's lines.
fn log(run: &mut Run<'_>, event: Event, founders: &Founders, bump: u64) {
    match event {
        Event::Copied { .. } => {}
        Event::Exchanging => {
            run.info("Trimming membership information from the backend...", Object::default());
        }
        Event::Exchanged(restored) => log_exchanged(run, &restored, bump),
        Event::Logged => {
            for member in founders.members() {
                let urls = member.peer_urls.iter().cloned().map(Json::Text).collect();
                let fields = Object::default()
                    .text("cluster-id", &founders.cluster().to_string())
                    .text("local-member-id", "0")
                    .text("added-peer-id", &member.id.to_string())
                    .with("added-peer-peer-urls", Json::List(urls))
                    .with("added-peer-is-learner", Json::Bool(false));
                run.info("added member", fields);
            }
        }
    }
}

fn log_exchanged(run: &mut Run<'_>, restored: &Restored, bump: u64) {
    if let Some(to) = restored.bumped {
        let fields = Object::default()
            .number("latest-revision", restored.latest.main)
            .number("bump-amount", bump)
            .number("new-latest-revision", to);
        run.info("bumping latest revision", fields);
        run.info("marking revision compacted", Object::default().number("revision", to));
    }
    let mut at = restored.schema_before;
    while at != restored.schema {
        at.minor = if at < restored.schema { at.minor + 1 } else { at.minor - 1 };
        let fields = Object::default().text("new-storage-version", &at.to_string());
        run.info("updated storage version", fields);
    }
}

/// How far the copy has come, on a terminal only.
struct Progress {
    is_shown: bool,
    percent: Option<u64>,
}

impl Progress {
    fn new() -> Progress {
        Progress { is_shown: std::io::stderr().is_terminal(), percent: None }
    }

    fn tell(&mut self, event: Event) {
        let Event::Copied { done, total } = event else {
            self.end();
            if event == Event::Exchanging && self.is_shown {
                eprintln!("checking every page and every revision");
            }
            return;
        };
        let percent = (u128::from(done) * 100 / u128::from(total.max(1))) as u64;
        if self.is_shown && self.percent.replace(percent) != Some(percent) {
            let (done, total) = (humanized(done), humanized(total));
            // Only decoration.
            let _ = write!(std::io::stderr(), "\r{done:>8} of {total} ({percent}%) ");
        }
    }

    /// Ends the line that was begun.
    fn end(&mut self) {
        if self.percent.take().is_some() && self.is_shown {
            eprintln!();
        }
    }
}
