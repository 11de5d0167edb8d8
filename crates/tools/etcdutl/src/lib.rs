//! The commands of `etcdutl`. They need no server and start none; a directory that a
//! server has open is refused by its file locks.

mod complete;
mod exit;
mod flags;
mod run;
mod snapshot;
mod version;

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
        "snapshot status" => snapshot::status(&line, run)?,
        "snapshot restore" => snapshot::restore(&line, run)?,
        other => return Err(Failure::error(format!("{other} is not a command that runs"))),
    }
    Ok(())
}
