//! `completion`: scripts for shells.

use mainstay_print::completion::{Shell, script};

use crate::Run;
use crate::flags::ETCDUTL;

/// Prints the script for the shell that the command names.
pub(crate) fn show(command: &str, run: &mut Run<'_>) {
    let shell = match command {
        "completion bash" => Shell::Bash,
        "completion zsh" => Shell::Zsh,
        "completion fish" => Shell::Fish,
        _ => Shell::PowerShell,
    };
    run.say(script(ETCDUTL, shell).trim_end());
}
