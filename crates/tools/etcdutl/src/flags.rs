//! The table of etcdutl's commands and flags.

use mainstay_print::args::{Command, Flag, Program};

/// The whole of etcdutl.
pub(crate) const ETCDUTL: &Program = &Program {
    name: "etcdutl",
    about: "an etcd directory or db file, without a server",
    commands: COMMANDS,
    groups: GROUPS,
    global: GLOBAL,
};

const GLOBAL: &[Flag] = &[
    Flag::text(
        "write-out",
        "simple",
        "form of the output: fields, json, protobuf, simple or table",
    )
    .letter('w'),
    Flag::time("timeout", "10s", "how long to wait for a file that is locked (0s: for ever)"),
];

const DATA_DIR: Flag =
    Flag::text("data-dir", "", "data directory that no server has open").required();
const WAL_DIR: Flag =
    Flag::text("wal-dir", "", "folder of the log, when it is not in the data directory");

const RESTORE: &[Flag] = &[
    Flag::text("data-dir", "", "directory to make (default NAME.etcd)"),
    Flag::text("wal-dir", "", "folder to make for the log (default in the data directory)"),
    Flag::text("initial-cluster", "default=http://localhost:2380", "members of the new cluster"),
    Flag::text("initial-cluster-token", "etcd-cluster", "token of the new cluster"),
    Flag::text("initial-advertise-peer-urls", "http://localhost:2380", "peer URLs of this member"),
    Flag::text("name", "default", "name of this member"),
    Flag::bool("skip-hash-check", "take a file without its checksum (a copied db file)"),
    Flag::uint(
        "initial-memory-map-size",
        "10737418240",
        "taken for the sake of scripts; nothing is mapped",
    ),
    Flag::uint("bump-revision", "0", "how far the revision is raised; with --mark-compacted"),
    Flag::bool("mark-compacted", "mark everything below the raised revision as compacted"),
    Flag::text("target-version", "", "storage version X.Y to write (default that of the snapshot)"),
];
const MIGRATE: &[Flag] = &[
    DATA_DIR,
    Flag::text("target-version", "", "storage version X.Y to change to").required(),
    Flag::bool("force", "write the version even where the log forbids it"),
];

/// Flags of `dump-logs`; also taken with one dash, as Go's flag package does.
pub(crate) const DUMP_LOGS: &[Flag] = &[
    Flag::text("start-snap", "", "base name of the .snap file to start from"),
    Flag::uint("start-index", "0", "first index to show (default behind the newest snapshot)"),
    Flag::uint("end-index", "18446744073709551615", "index to stop before"),
    WAL_DIR,
    Flag::text(
        "entry-type",
        "Normal,ConfigChange",
        "kinds of entries to show, separated by commas",
    ),
    Flag::text(
        "stream-decoder",
        "",
        "program that decodes the entries: hex line in, STATUS|hex line out",
    ),
    Flag::bool("raw", "every record of the log as it is stored"),
];
const COMMANDS: &[Command] = &[
    Command::new("snapshot status", "<file>", "what a snapshot file holds", &[]),
    Command::new(
        "snapshot restore",
        "<file>",
        "make a data directory from a snapshot file",
        RESTORE,
    ),
    Command::new("defrag", "", "give unused space of a db file back", &[DATA_DIR]),
    Command::new(
        "hashkv",
        "<file>",
        "the hash of the key-value history of a db file",
        &[Flag::int("rev", "up to this revision (0: the newest)")],
    ),
    Command::new("migrate", "", "change the storage version of a data directory", MIGRATE),
    Command::new(
        "verify",
        "",
        "check log, snapshots and db file, and that they agree",
        &[DATA_DIR, WAL_DIR],
    ),
    Command::new(
        "check v2store",
        "",
        "whether there is v2 data that newer versions refuse",
        &[DATA_DIR, WAL_DIR],
    ),
    Command::new(
        "repair",
        "",
        "say what is damaged and what would be lost; with --apply, mend it",
        &[DATA_DIR, WAL_DIR, Flag::bool("apply", "do it; the damaged originals are kept")],
    ),
    Command::new(
        "recover",
        "<data dir>...",
        "when the majority is lost: compare the survivors; with --apply, a cluster of one",
        &[
            Flag::text("to", "", "directory to make; the survivors' stay as they are"),
            Flag::bool("apply", "make it"),
        ],
    ),
    Command::new("dump-logs", "<data dir>", "the entries of a log, readable", DUMP_LOGS),
    Command::new("dump-db list-bucket", "<data dir or db>", "the buckets", &[]),
    Command::new(
        "dump-db iterate-bucket",
        "<data dir or db> <bucket>",
        "the rows of a bucket, from the last on",
        &[
            Flag::uint("limit", "0", "most rows (0: all)"),
            Flag::bool("decode", "show what the rows mean"),
        ],
    ),
    Command::new(
        "dump-db scan-keys",
        "<data dir or db> <revision>",
        "revisions found on any page, from one on",
        &[],
    ),
    Command::new("dump-db hash", "<data dir or db>", "the hash of all buckets", &[]),
    Command::new("bbolt check", "<file>", "whether the pages of a db file are sound", &[]),
    Command::new("bbolt info", "<file>", "page size and metas of a db file", &[]),
    Command::new("bbolt buckets", "<file>", "the buckets", &[]),
    Command::new("bbolt keys", "<file> <bucket>", "the keys of a bucket", BBOLT_FORMAT),
    Command::new("bbolt get", "<file> <bucket> <key>", "the value of a key", BBOLT_GET),
    Command::new("bbolt pages", "<file>", "every page with what it is", &[]),
    Command::new("bbolt page", "<file> [page]...", "what pages hold", BBOLT_PAGE),
    Command::new("bbolt stats", "<file>", "how full the pages are", &[]),
    Command::new("version", "", "versions of this program and the API", &[]),
    Command::new("completion bash", "", "completion script for bash", &[]),
    Command::new("completion zsh", "", "completion script for zsh", &[]),
    Command::new("completion fish", "", "completion script for fish", &[]),
    Command::new("completion powershell", "", "completion script for PowerShell", &[]),
    Command::new("options", "", "flags that every command takes", &[]),
    Command::new("help", "[command]", "help for a command", &[]),
];

const BBOLT_FORMAT: &[Flag] = &[FORMAT.letter('f')];
const BBOLT_PAGE: &[Flag] = &[
    Flag::text("format-value", "auto", "form of values, as --format of the other commands"),
    Flag::bool("all", "every page"),
];
const BBOLT_GET: &[Flag] = &[
    FORMAT,
    Flag::text("parse-format", "ascii-encoded", "form of the key given: ascii-encoded or hex"),
];
const FORMAT: Flag = Flag::text(
    "format",
    "auto",
    "form of keys and values: auto, ascii-encoded, hex, bytes or redacted",
);

const GROUPS: &[Command] = &[
    Command::group("snapshot"),
    Command::group("check"),
    Command::group("dump-db"),
    Command::group("bbolt"),
    Command::group("completion"),
];

/// The arguments with the command that the program's own name stands for, and with the
/// single dashes of `etcd-dump-logs` doubled.
pub(crate) fn under_its_name(called: &str, args: &[String]) -> Vec<String> {
    let name = called.rsplit('/').next().unwrap_or_default();
    let mut all: Vec<String> = match name {
        "etcd-dump-logs" => vec!["dump-logs".to_owned()],
        "etcd-dump-db" => vec!["dump-db".to_owned()],
        _ => Vec::new(),
    };
    all.extend_from_slice(args);
    if all.first().is_some_and(|first| first == "dump-logs") {
        for arg in &mut all[1..] {
            let Some(bare) = arg.strip_prefix('-').filter(|a| !a.starts_with('-')) else {
                continue;
            };
            let bare_name = bare.split('=').next().unwrap_or_default();
            if bare_name == "help" || DUMP_LOGS.iter().any(|flag| flag.name == bare_name) {
                *arg = format!("-{arg}");
            }
        }
    }
    all
}
