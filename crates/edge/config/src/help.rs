//! Texts that the table writes: usage, `--help`, `--version`, `docs/flags.md`.

use std::fmt::Write as _;

use crate::Gate;
use crate::old::{REMOVED, RENAMED};
use crate::table::{Flag, Kind, SECTIONS, Status};

/// The short usage, for standard error.
pub fn usage() -> String {
    "Usage:\n\
     \n\
     \x20 etcd [flags]\n\
     \x20   Start an etcd server.\n\
     \n\
     \x20 etcd --version\n\
     \x20   Show the versions.\n\
     \n\
     \x20 etcd -h | --help\n\
     \x20   Show every flag.\n\
     \n\
     \x20 etcd --config-file FILE\n\
     \x20   Start from a YAML or JSON file; other flags and variables are then ignored, and\n\
     \x20   durations are whole nanoseconds.\n"
        .to_owned()
}

/// Every flag, for standard output.
pub fn help() -> String {
    let mut out = String::new();
    for section in SECTIONS.iter().filter(|section| has_help(section.flags)) {
        let _ = writeln!(out, "\n{}:", section.title);
        for flag in section.flags {
            let default = if flag.name == "data-dir" { "${name}.etcd" } else { flag.default };
            let _ = writeln!(out, "  --{} '{default}'\n    {}", flag.name, flag.help);
            if let Some(note) = note(flag.status) {
                let _ = writeln!(out, "    {note}");
            }
        }
    }
    out
}

/// The answer to `--version`: etcd's four lines, then ours.
pub fn version_lines() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let ours = env!("CARGO_PKG_VERSION");
    format!(
        "etcd Version: {}\nGit SHA: mainstay-{ours}\nGo Version: none (Rust)\nGo OS/Arch: {}/{arch}\n\
         Mainstay Version: {ours}\n",
        mainstay_types::SPOKEN_VERSION,
        std::env::consts::OS,
    )
}

/// The text of `docs/flags.md`.
pub fn flags_markdown() -> String {
    let mut out = String::from(
        "# Flags\n\n\
         Written by the table in `crates/edge/config/src/table/rows.rs`; do not edit \
         (`UPDATE=1 cargo test -p mainstay-config` writes it again).\n\n\
         Every flag `--x-y` is also the variable `ETCD_X_Y`. With `--config-file` only the file \
         counts. *refused*: another value than the default stops the start. *no effect yet*: \
         accepted, with a warning.\n\n\
         In a file, keys match without regard to case, unknown ones are passed over, durations \
         are whole nanoseconds, a text that looks like a number needs quotes, and an empty URL \
         leaves the default.\n",
    );
    for section in SECTIONS.iter().filter(|section| has_help(section.flags)) {
        let _ = writeln!(out, "\n## {}\n", section.title);
        out.push_str(
            "| Flag | Type | Default | File key | Here | Meaning |\n|---|---|---|---|---|---|\n",
        );
        for flag in section.flags {
            let default = if flag.default.is_empty() { String::new() } else { code(flag.default) };
            let _ = writeln!(
                out,
                "| `--{}` | {} | {default} | {} | {} | {} |",
                flag.name,
                kind_name(flag.kind),
                flag.yaml.map_or(String::new(), code),
                status_name(flag.status),
                flag.help,
            );
        }
    }
    out.push_str("\n## Feature gates\n\n| Gate | Default | Here |\n|---|---|---|\n");
    for gate in Gate::all() {
        let here = if gate.works() { "works" } else { "no effect yet" };
        let _ = writeln!(out, "| `{}` | {} | {here} |", gate.name(), gate.default_on());
    }
    out.push_str("\n## Old names that still work\n\n| Old | New |\n|---|---|\n");
    for row in RENAMED {
        let _ = writeln!(out, "| `--{}` | `{}` |", row.old, row.advice());
    }
    out.push_str("\n## Removed\n\n| Flag | Instead |\n|---|---|\n");
    for row in REMOVED {
        let _ = writeln!(out, "| `--{}` | {} |", row.name, row.advice);
    }
    let ignored: Vec<String> = crate::table::all()
        .filter(|flag| flag.status == Status::Ignored)
        .map(|flag| code(flag.name))
        .collect();
    let _ = writeln!(out, "\n## Accepted and ignored\n\nAs etcd does: {}.", ignored.join(", "));
    out
}

fn has_help(flags: &[Flag]) -> bool {
    flags.iter().any(|flag| flag.status != Status::Ignored)
}

fn note(status: Status) -> Option<&'static str> {
    match status {
        Status::Works | Status::Ignored => None,
        Status::Tunes => Some("(no effect in this release)"),
        Status::Refused => Some("(only the default is supported in this release)"),
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Works => "works",
        Status::Tunes => "no effect yet",
        Status::Refused => "refused",
        Status::Ignored => "ignored",
    }
}

fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Bool => "bool".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Words | Kind::WordSet => "list".to_owned(),
        Kind::Urls => "URLs".to_owned(),
        Kind::Origins => "`*` or URLs".to_owned(),
        Kind::Uint => "uint".to_owned(),
        Kind::Uint32 => "uint32".to_owned(),
        Kind::Int => "int".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Choice(choices) => choices.join(", "),
        Kind::Gates => "gates".to_owned(),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
