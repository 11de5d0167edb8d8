//! The commands of `etcdutl`. They need no server and start none; a directory that a
//! server has open is refused by its file locks.

mod bbolt;
mod complete;
mod defrag;
mod dump_db;
mod dump_logs;
mod exit;
mod flags;
mod hashkv;
mod log;
mod migrate;
mod pages;
mod place;
mod recover;
mod repair;
mod run;
pub mod snapshot;
mod v2store;
mod verify;
mod version;
mod wire;

pub use exit::Failure;
pub use run::Run;

use flags::ETCDUTL;
use mainstay_print::args::Line;

/// Reads a command line and does what it says. `called` is the name of the program as
/// it was called.
pub fn run(called: &str, args: &[String], run: &mut Run<'_>) -> Result<(), Failure> {
    let args = flags::under_its_name(called, args);
    let line = Line::read(ETCDUTL, &args)?;
    if line.help || ETCDUTL.is_group(line.command) {
        let command = Some(line.command).filter(|c| c.name != "help");
        run.say(ETCDUTL.help(command).trim_end());
        return Ok(());
    }
    run.check_form(line.text("write-out"))?;
    match line.command.name {
        "help" => run.say(ETCDUTL.help_for(&line.args).trim_end()),
        "options" => run.say(ETCDUTL.options().trim_end()),
        "version" => version::show(run),
        "completion bash" | "completion zsh" | "completion fish" | "completion powershell" => {
            complete::show(line.command.name, run);
        }
        "defrag" => defrag::run(&line, run)?,
        "hashkv" => hashkv::run(&line, run)?,
        "migrate" => migrate::run(&line, run)?,
        "verify" => verify::run(&line, run)?,
        "check v2store" => v2store::run(&line, run)?,
        "recover" => recover::run(&line, run)?,
        "repair" => repair::run(&line, run)?,
        "dump-db list-bucket" => dump_db::list_bucket(&line, run)?,
        "dump-db iterate-bucket" => dump_db::iterate_bucket(&line, run)?,
        "dump-db scan-keys" => dump_db::scan_keys(&line, run)?,
        "dump-db hash" => dump_db::hash_all(&line, run)?,
        "bbolt check" => bbolt::check(&line, run)?,
        "bbolt info" => bbolt::info(&line, run)?,
        "bbolt buckets" => bbolt::buckets(&line, run)?,
        "bbolt keys" => bbolt::keys(&line, run)?,
        "bbolt get" => bbolt::get(&line, run)?,
        "bbolt pages" => bbolt::pages(&line, run)?,
        "bbolt page" => bbolt::page(&line, run)?,
        "bbolt stats" => bbolt::stats(&line, run)?,
        "dump-logs" => dump_logs::run(&line, run)?,
        "snapshot status" => snapshot::status(&line, run)?,
        "snapshot restore" => snapshot::restore(&line, run)?,
        other => return Err(Failure::error(format!("{other} is not a command that runs"))),
    }
    Ok(())
}
