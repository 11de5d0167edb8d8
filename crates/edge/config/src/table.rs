//! The one table of flags; parser, environment, file, help, docs and refusals all read it.
//!
//! A flag that is not here does not exist. Rows live in `table/rows.rs`, in the order of
//! `etcd --help`; names that etcd used to have are in `old.rs`.

mod rows;

/// What a flag's text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Go's `ParseBool` words; on the command line a value needs `=`.
    Bool,
    /// Any text.
    Text,
    /// Comma-separated words, order kept.
    Words,
    /// Comma-separated words, sorted and without repeats.
    WordSet,
    /// Comma-separated URLs, sorted and without repeats; see [`crate::Url`].
    Urls,
    /// `*`, or URLs like [`Kind::Urls`] but at least one.
    Origins,
    /// 64-bit unsigned, base 0 (`0x10`, `0o17`, `1_000`).
    Uint,
    /// 32-bit unsigned, base 0.
    Uint32,
    /// 64-bit signed, base 0.
    Int,
    /// A Go duration (`1m30s`); in a file whole nanoseconds.
    Duration,
    /// One word of a closed list.
    Choice(&'static [&'static str]),
    /// `Name=bool,...`; see [`crate::Gates`].
    Gates,
}

/// What this release does with a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Does what it says.
    Works,
    /// Accepted; a value other than the default is warned about, since what it tunes is not here.
    Tunes,
    /// A value other than the default stops the start: it restricts access or decides identity,
    /// membership or placement, so passing over it would be dangerous.
    Refused,
    /// etcd accepts and forgets it, and so do we.
    Ignored,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Default, written as on the command line.
    pub default: &'static str,
    /// Dotted path in the configuration file; `None` when a file cannot set it.
    pub yaml: Option<&'static str>,
    /// What becomes of it here.
    pub status: Status,
    /// One or two sentences for people.
    pub help: &'static str,
}

impl Flag {
    /// The environment variable of this flag: `ETCD_`, upper case, `_` for `-`.
    pub fn variable(&self) -> String {
        variable_of(self.name)
    }

    /// Whether the flag stands alone on the command line (`--x`), as Go's boolean flags do.
    pub fn stands_alone(&self) -> bool {
        self.kind == Kind::Bool
    }
}

/// A titled group of rows, as `--help` shows them.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// Rows in order.
    pub flags: &'static [Flag],
}

/// Every section, every flag.
pub const SECTIONS: &[Section] = rows::SECTIONS;

/// The row of `name` (without dashes).
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// All rows in order.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

/// The environment variable that a flag name maps to.
pub fn variable_of(name: &str) -> String {
    format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Flags that etcd 3.7 warns about when they are set, with its words (tools match the first).
pub const DEPRECATED: &[(&str, &str)] = &[
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is \
         enforced, ignoring user input.",
    ),
];
