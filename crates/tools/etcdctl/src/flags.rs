//! One table of commands and flags, and the parser that it drives.
//!
//! The rules are pflag's and cobra's: `--flag value`, `--flag=value`, `-w json`,
//! `-wjson`; a bool takes a value only after `=`; flags and arguments mix; `--`
//! ends the flags; a command may be shortened to any prefix that is unambiguous.

use std::collections::BTreeMap;

use crate::exit::{self, Failure};
use crate::quote::quote;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Bool,
    Text,
    Int,
    Duration,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) takes: Takes,
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

/// One command; `name` may have several words.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) args: &'static str,
    pub(crate) help: &'static str,
    pub(crate) flags: &'static [Flag],
}

const fn bool(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Bool, default: "false", help }
}
const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Text, default, help }
}
const fn int(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Int, default: "0", help }
}
const fn time(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Duration, default, help }
}

/// Flags of every command; also set by `ETCDCTL_` and the name in capitals.
pub(crate) const GLOBAL: &[Flag] = &[
    text("endpoints", "127.0.0.1:2379", "where to find etcd, separated by commas"),
    bool("debug", "say on standard error what the client does"),
    Flag {
        name: "write-out",
        short: Some('w'),
        takes: Takes::Text,
        default: "simple",
        help: "form of the output: fields, json, protobuf, simple or table",
    },
    bool("hex", "print byte strings as hexadecimal"),
    time("dial-timeout", "2s", "how long a connection may take"),
    time("command-timeout", "5s", "how long a short command may take"),
    time("keepalive-time", "2s", "time without traffic before the connection is probed"),
    time("keepalive-timeout", "6s", "how long a probe may go unanswered"),
    int("max-request-bytes", "largest request in bytes (0: 2 MiB)"),
    int("max-recv-bytes", "largest answer in bytes (0: 2 GiB)"),
    Flag {
        name: "insecure-transport",
        short: None,
        takes: Takes::Bool,
        default: "true",
        help: "no TLS unless certificates are given",
    },
    Flag {
        name: "insecure-discovery",
        short: None,
        takes: Takes::Bool,
        default: "true",
        help: "take cleartext endpoints from discovery",
    },
    bool("insecure-skip-tls-verify", "take any server certificate (for tests)"),
    text("cert", "", "our certificate for TLS, in PEM"),
    text("key", "", "its key, in PEM"),
    text("cacert", "", "CA certificates that the server's must come from, in PEM"),
    text("auth-jwt-token", "", "a JWT to authenticate with"),
    text("user", "", "name, or name:password"),
    text("password", "", "password, when --user is only a name"),
    Flag {
        name: "discovery-srv",
        short: Some('d'),
        takes: Takes::Text,
        default: "",
        help: "domain whose SRV records name the endpoints",
    },
    text("discovery-srv-name", "", "service name to ask for with --discovery-srv"),
];

const GET: &[Flag] = &[
    text("consistency", "l", "linearizable (l) or serializable (s)"),
    text("order", "", "ASCEND or DESCEND"),
    text("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
    int("limit", "most results"),
    bool("prefix", "keys with this prefix"),
    bool("from-key", "keys from this one on, in byte order"),
    int("rev", "read at this revision"),
    bool("keys-only", "no values"),
    bool("count-only", "only the count"),
    bool("print-value-only", "only values"),
    int("min-create-rev", "least create revision"),
    int("max-create-rev", "greatest create revision"),
    int("min-mod-rev", "least modification revision"),
    int("max-mod-rev", "greatest modification revision"),
    bool("stream", "receive the answer in pieces"),
];
const PUT: &[Flag] = &[
    text("lease", "0", "lease, in hexadecimal, that the key goes with"),
    bool("prev-kv", "also the pair that was replaced"),
    bool("ignore-value", "keep the value, change the lease"),
    bool("ignore-lease", "keep the lease, change the value"),
];
const DEL: &[Flag] = &[
    bool("prefix", "keys with this prefix"),
    bool("prev-kv", "also the pairs that were deleted"),
    bool("from-key", "keys from this one on, in byte order"),
    bool("range", "the second argument is the end of a range"),
];
const WATCH: &[Flag] = &[
    INTERACTIVE,
    bool("prefix", "keys with this prefix"),
    int("rev", "start at this revision"),
    bool("prev-kv", "also the pairs as they were before"),
    bool("progress-notify", "ask for periodic progress"),
];
const INTERACTIVE: Flag = Flag {
    name: "interactive",
    short: Some('i'),
    takes: Takes::Bool,
    default: "false",
    help: "read from standard input with prompts",
};
const PEER_URLS: Flag = text("peer-urls", "", "peer URLs of the member, separated by commas");
const MEMBER_ADD: &[Flag] = &[
    PEER_URLS,
    bool("learner", "without a vote, until it is promoted"),
    bool("promote-when-ready", "as a learner; wait until it is in sync, and promote it"),
];
const CLUSTER: Flag = bool("cluster", "ask every member of the cluster");

const fn command(
    name: &'static str,
    args: &'static str,
    help: &'static str,
    flags: &'static [Flag],
) -> Command {
    Command { name, args, help, flags }
}

/// Every command.
pub(crate) const COMMANDS: &[Command] = &[
    command("get", "<key> [range_end]", "read keys", GET),
    command("put", "<key> [value]", "write a key; the value may come on standard input", PUT),
    command("del", "<key> [range_end]", "delete keys", DEL),
    command("txn", "", "one transaction, from standard input", &[INTERACTIVE]),
    command(
        "compaction",
        "<revision>",
        "forget what is older than a revision",
        &[bool("physical", "wait until it is off the disk")],
    ),
    command("watch", "[key] [range_end] [-- command]", "follow changes of keys", WATCH),
    command("lease grant", "<ttl>", "make a lease of so many seconds", &[]),
    command("lease revoke", "<lease>", "end a lease and delete its keys", &[]),
    command(
        "lease timetolive",
        "<lease>",
        "what is left of a lease",
        &[bool("keys", "also the keys that go with it")],
    ),
    command("lease list", "", "all leases", &[]),
    command(
        "lease keep-alive",
        "<lease>",
        "renew a lease until stopped",
        &[bool("once", "renew it once")],
    ),
    command("member add", "<name>", "let a member join the cluster", MEMBER_ADD),
    command("member remove", "<member>", "let a member leave the cluster, for ever", &[]),
    command("member update", "<member>", "give a member other peer URLs", &[PEER_URLS]),
    command("member promote", "<member>", "give a learner a vote", &[]),
    command(
        "member list",
        "",
        "the members of the cluster",
        &[text("consistency", "l", "linearizable (l) or serializable (s)")],
    ),
    command("move-leader", "<member>", "hand leadership over to another member", &[]),
    command("downgrade validate", "<version>", "whether the cluster could be downgraded", &[]),
    command("downgrade enable", "<version>", "begin to downgrade the cluster", &[]),
    command("downgrade cancel", "", "end the downgrade under way", &[]),
    command("upgrade status", "", "what every member runs, and what holds the version", &[]),
    command("upgrade finalize", "", "raise the cluster's version to its members'", &[]),
    command("endpoint health", "", "whether the endpoints are healthy", &[CLUSTER]),
    command("endpoint status", "", "what the endpoints say of themselves", &[CLUSTER]),
    command(
        "endpoint hashkv",
        "",
        "the hash of the key-value history at each endpoint",
        &[CLUSTER, int("rev", "up to this revision (0: the newest)")],
    ),
    command("alarm list", "", "raised alarms", &[]),
    command("alarm disarm", "", "end all raised alarms", &[]),
    command("defrag", "", "give unused space of the db files back", &[CLUSTER]),
    command("snapshot save", "<file>", "write a snapshot of one endpoint to a file", &[]),
    command("version", "", "versions of this program and the API", &[]),
    command("options", "", "flags that every command takes", &[]),
    command("help", "[command]", "help for a command", &[]),
];

/// Words that only group commands.
const GROUPS: &[Command] = &[
    command("lease", "", "", &[]),
    command("member", "", "", &[]),
    command("endpoint", "", "", &[]),
    command("alarm", "", "", &[]),
    command("snapshot", "", "", &[]),
    command("downgrade", "", "", &[]),
    command("upgrade", "", "", &[]),
];

/// A command line, read.
pub(crate) struct Line {
    pub(crate) command: &'static Command,
    pub(crate) args: Vec<String>,
    /// What stood after `--`, when there was one.
    pub(crate) after_dashes: Option<Vec<String>>,
    values: BTreeMap<&'static str, String>,
    pub(crate) help: bool,
}

impl Line {
    /// Reads the arguments of the program.
    pub(crate) fn read(args: &[String]) -> Result<Line, Failure> {
        let split = args.iter().position(|a| a == "--");
        let (before, after) = match split {
            Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
            None => (args, None),
        };
        let (command, used) = find_command(before)?;
        let mut line = Line {
            command,
            args: Vec::new(),
            after_dashes: after,
            values: BTreeMap::new(),
            help: false,
        };
        let mut rest = before.iter().enumerate();
        while let Some((at, arg)) = rest.next() {
            if used.contains(&at) {
                continue;
            }
            let mut next = || rest.next().map(|(_, value)| value.clone());
            line.take(arg, &mut next)
                .map_err(|failure| Failure { usage: help(Some(command)) + "\n", ..failure })?;
        }
        Ok(line)
    }

    /// Reads the flags and arguments of one known command (a line of `txn` or `watch -i`).
    pub(crate) fn read_as(name: &str, args: &[String]) -> Result<Line, Failure> {
        let mut all: Vec<String> = name.split(' ').map(str::to_owned).collect();
        all.extend_from_slice(args);
        let line = Line::read(&all)?;
        // Such a line has the command's own flags and no others.
        match GLOBAL.iter().find(|flag| line.given(flag.name)) {
            Some(Flag { short: Some(letter), .. }) => {
                Err(Failure::error(format!("unknown shorthand flag: '{letter}' in -{letter}")))
            }
            Some(flag) => Err(Failure::error(format!("unknown flag: --{}", flag.name))),
            None => Ok(line),
        }
    }

    fn take(&mut self, arg: &str, next: &mut dyn FnMut() -> Option<String>) -> Result<(), Failure> {
        if arg == "-h" || arg == "--help" {
            self.help = true;
            return Ok(());
        }
        let (flag, value) = if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let flag = self.flag(|f| f.name == name);
            (flag.ok_or_else(|| Failure::error(format!("unknown flag: --{name}")))?, value)
        } else if let Some(short) = arg.strip_prefix('-').filter(|s| !s.is_empty()) {
            let letter = short.chars().next().unwrap_or('-');
            let flag = self.flag(|f| f.short == Some(letter)).ok_or_else(|| {
                Failure::error(format!("unknown shorthand flag: '{letter}' in {arg}"))
            })?;
            let value = &short[letter.len_utf8()..];
            let value = value.strip_prefix('=').unwrap_or(value);
            (flag, (!value.is_empty()).then(|| value.to_owned()))
        } else {
            self.args.push(arg.to_owned());
            return Ok(());
        };
        let value = match value {
            Some(value) => value,
            None if flag.takes == Takes::Bool => "true".to_owned(),
            None => next().ok_or_else(|| match arg.strip_prefix("--") {
                Some(_) => Failure::error(format!("flag needs an argument: {arg}")),
                None => Failure::error(format!(
                    "flag needs an argument: {:?} in {arg}",
                    flag.short.unwrap_or('-')
                )),
            })?,
        };
        check(&flag, &value)?;
        self.values.insert(flag.name, value);
        Ok(())
    }

    fn flag(&self, is: impl Fn(&Flag) -> bool) -> Option<Flag> {
        self.command.flags.iter().chain(GLOBAL).find(|f| is(f)).copied()
    }

    /// Whether a flag was given on the command line.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Sets a flag that was not given, from the environment.
    pub(crate) fn set(&mut self, flag: &Flag, value: String) -> Result<(), Failure> {
        check(flag, &value)?;
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// A flag's value, or its default.
    pub(crate) fn text(&self, name: &str) -> &str {
        if let Some(value) = self.values.get(name) {
            return value;
        }
        self.flag(|f| f.name == name).map_or("", |f| f.default)
    }

    /// A bool flag.
    pub(crate) fn is(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// An integer flag.
    pub(crate) fn int(&self, name: &str) -> i64 {
        read_int(self.text(name)).unwrap_or(0)
    }

    /// A duration flag.
    pub(crate) fn duration(&self, name: &str) -> std::time::Duration {
        crate::duration::parse(self.text(name)).unwrap_or_default()
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), Failure> {
    let wrong = |parser: &str| {
        format!("strconv.{parser}: parsing {}: invalid syntax", quote(value.as_bytes()))
    };
    let why = match flag.takes {
        Takes::Bool => parse_bool(value).is_none().then(|| wrong("ParseBool")),
        Takes::Int => read_int(value).err(),
        Takes::Duration => crate::duration::parse(value)
            .is_none()
            .then(|| format!("time: invalid duration {}", quote(value.as_bytes()))),
        Takes::Text => None,
    };
    let Some(why) = why else { return Ok(()) };
    let short = flag.short.map(|c| format!("-{c}, ")).unwrap_or_default();
    let value = quote(value.as_bytes());
    Err(Failure::error(format!(
        "invalid argument {value} for \"{short}--{}\" flag: {why}",
        flag.name
    )))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// With Go's prefixes of other bases.
fn read_int(text: &str) -> Result<i64, String> {
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        _ => (text, 10),
    };
    exit::parse_int(digits, radix).map_err(|_| exit::parse_int(text, 10).err().unwrap_or_default())
}

/// The command that the first words name, and which of the arguments they are.
fn find_command(args: &[String]) -> Result<(&'static Command, Vec<usize>), Failure> {
    let words = command_words(args);
    let mut candidates: Vec<&'static Command> = COMMANDS.iter().collect();
    let mut used = Vec::new();
    for (depth, (at, word)) in words.iter().enumerate() {
        let part = |c: &Command| c.name.split(' ').nth(depth);
        if candidates.iter().all(|c| part(c).is_none()) {
            break;
        }
        let exact: Vec<_> =
            candidates.iter().copied().filter(|c| part(c) == Some(word.as_str())).collect();
        let fitting: Vec<_> = if exact.is_empty() {
            let by_prefix =
                |c: &&'static Command| part(c).is_some_and(|p| p.starts_with(word.as_str()));
            candidates.iter().copied().filter(by_prefix).collect()
        } else {
            exact
        };
        let first = fitting.first().and_then(|c| part(c));
        if first.is_none() || fitting.iter().any(|c| part(c) != first) {
            if depth == 0 {
                return Err(unknown_command(word));
            }
            // As cobra: what a group does not know is an argument of its help.
            break;
        }
        used.push(*at);
        candidates = fitting;
    }
    match candidates.as_slice() {
        [one] if one.name.split(' ').count() == used.len() => Ok((one, used)),
        _ if used.is_empty() => Ok((help_command(), used)),
        group => {
            let group = group.first().and_then(|c| c.name.split(' ').next()).unwrap_or_default();
            let known = GROUPS.iter().find(|c| c.name == group);
            Ok((known.expect("every group has its line in GROUPS"), used))
        }
    }
}

/// Arguments that are neither flags nor values of flags, up to two.
fn command_words(args: &[String]) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut skip = false;
    for (at, arg) in args.iter().enumerate() {
        if skip {
            skip = false;
        } else if let Some(flag) = arg.strip_prefix('-').filter(|f| !f.is_empty()) {
            let long = flag.strip_prefix('-');
            let all = || COMMANDS.iter().flat_map(|c| c.flags).chain(GLOBAL);
            skip = match long {
                Some(name) => all().any(|f| f.name == name && f.takes != Takes::Bool),
                None => all().any(|f| {
                    f.takes != Takes::Bool && f.short.is_some_and(|c| flag == c.to_string())
                }),
            };
        } else {
            words.push((at, arg.clone()));
            if words.len() == 2 {
                break;
            }
        }
    }
    words
}

fn help_command() -> &'static Command {
    COMMANDS.iter().find(|c| c.name == "help").expect("the table has help")
}

fn unknown_command(word: &str) -> Failure {
    let message = format!("unknown command {} for \"etcdctl\"", quote(word.as_bytes()));
    Failure::unreadable(message, "Run 'etcdctl --help' for usage.\n")
}

/// Whether this is a group and no command.
pub(crate) fn is_group(command: &Command) -> bool {
    GROUPS.iter().any(|group| group.name == command.name)
}

fn group_help(group: &str) -> String {
    let mut out = format!("NAME:\n\t{group} - a group of commands\n\nCOMMANDS:\n");
    for command in COMMANDS.iter().filter(|c| c.name.split(' ').next() == Some(group)) {
        out.push_str(&format!("\t{:20} {}\n", command.name, command.help));
    }
    out
}

/// Help for one command, or for all.
pub(crate) fn help(command: Option<&Command>) -> String {
    let mut out = String::new();
    match command {
        Some(group) if is_group(group) => out = group_help(group.name),
        Some(command) => {
            out.push_str(&format!("NAME:\n\t{} - {}\n\n", command.name, command.help));
            let flags = if command.flags.is_empty() { "" } else { " [options]" };
            out.push_str(&format!("USAGE:\n\tetcdctl {}{flags} {}\n", command.name, command.args));
            if !command.flags.is_empty() {
                out.push_str("\nOPTIONS:\n");
                flag_lines(command.flags, &mut out);
            }
            out.push_str("\nThe flags of every command: etcdctl options\n");
        }
        None => {
            out.push_str("NAME:\n\tetcdctl - talk to etcd from the command line\n\n");
            out.push_str("USAGE:\n\tetcdctl [flags] COMMAND\n\nCOMMANDS:\n");
            for command in COMMANDS {
                out.push_str(&format!("\t{:20} {}\n", command.name, command.help));
            }
            out.push_str("\nOPTIONS:\n");
            flag_lines(GLOBAL, &mut out);
        }
    }
    out
}

/// Lines for a list of flags.
pub(crate) fn flag_lines(flags: &[Flag], out: &mut String) {
    for flag in flags {
        let short = flag.short.map_or("    ".to_owned(), |c| format!("-{c}, "));
        let default = match flag.default {
            "" | "false" | "0" => String::new(),
            value => format!(" (default {value})"),
        };
        out.push_str(&format!("  {short}--{:26} {}{default}\n", flag.name, flag.help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Line, Failure> {
        Line::read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_arguments_mix() {
        let line = read("get --prefix a -w json --limit=5").expect("reads");
        assert_eq!((line.command.name, line.args.as_slice()), ("get", &["a".to_owned()][..]));
        assert!(line.is("prefix") && line.text("write-out") == "json" && line.int("limit") == 5);
    }

    #[test]
    fn commands_may_be_short_but_not_ambiguous() {
        assert_eq!(read("endp st").expect("reads").command.name, "endpoint status");
        assert_eq!(read("--endpoints a:1 member list").expect("reads").command.name, "member list");
        assert!(read("nonsense").is_err());
        assert_eq!(read("endpoint h").expect("a group").command.name, "endpoint");
        assert!(read("l").is_ok() && read("e x").is_ok(), "only one command begins so");
    }

    #[test]
    fn what_follows_the_dashes_is_a_command() {
        let line = read("watch a -- echo --hi").expect("reads");
        assert_eq!(line.after_dashes, Some(vec!["echo".to_owned(), "--hi".to_owned()]));
    }

    #[test]
    fn bad_values_name_the_flag() {
        let error = read("get a --limit x").err().expect("refused").message;
        assert!(error.contains("--limit"), "{error}");
        assert!(read("get a --nope").is_err());
        assert!(read("get a --limit").is_err());
    }
}
