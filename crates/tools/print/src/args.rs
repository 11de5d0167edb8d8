//! A table of commands and flags, and the parser and help that it drives.
//!
//! The rules are pflag's and cobra's: `--flag value`, `--flag=value`, `-w json`,
//! `-wjson`; a bool takes a value only after `=`; flags and arguments mix; `--`
//! ends the flags; a command may be shortened to any prefix that is unambiguous.

use std::collections::BTreeMap;

use crate::number::{parse_flag_int, parse_flag_uint};
use crate::quote::quote;

#[cfg(test)]
mod tests;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Bool,
    /// Any text.
    Text,
    /// A whole number.
    Int,
    /// A whole number from 0 to 2^64 - 1.
    Uint,
    /// A duration as Go writes them.
    Duration,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// Its value when it is not given.
    pub default: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// What it is for.
    pub help: &'static str,
}

impl Flag {
    const fn of(
        name: &'static str,
        takes: Takes,
        default: &'static str,
        help: &'static str,
    ) -> Flag {
        Flag { name, short: None, takes, default, required: false, help }
    }

    /// A flag that is either there or not.
    pub const fn bool(name: &'static str, help: &'static str) -> Flag {
        Flag::of(name, Takes::Bool, "false", help)
    }

    /// A flag with a text.
    pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag::of(name, Takes::Text, default, help)
    }

    /// A flag with a whole number, 0 by default.
    pub const fn int(name: &'static str, help: &'static str) -> Flag {
        Flag::of(name, Takes::Int, "0", help)
    }

    /// A flag with a whole number of 64 bits without a sign.
    pub const fn uint(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag::of(name, Takes::Uint, default, help)
    }

    /// A flag with a duration.
    pub const fn time(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag::of(name, Takes::Duration, default, help)
    }

    /// The same with a letter.
    pub const fn letter(self, letter: char) -> Flag {
        Flag { short: Some(letter), ..self }
    }

    /// The same with another default.
    pub const fn or(self, default: &'static str) -> Flag {
        Flag { default, ..self }
    }

    /// The same, which must be given.
    pub const fn required(self) -> Flag {
        Flag { required: true, ..self }
    }
}

/// One command; `name` may have several words.
#[derive(Debug)]
pub struct Command {
    /// The words that call it.
    pub name: &'static str,
    /// Its arguments, as help shows them.
    pub args: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Its own flags.
    pub flags: &'static [Flag],
}

impl Command {
    /// One command.
    pub const fn new(
        name: &'static str,
        args: &'static str,
        help: &'static str,
        flags: &'static [Flag],
    ) -> Command {
        Command { name, args, help, flags }
    }

    /// A word that only groups commands.
    pub const fn group(name: &'static str) -> Command {
        Command { name, args: "", help: "", flags: &[] }
    }
}

/// A whole command line program.
#[derive(Debug)]
pub struct Program {
    /// The name that calls it.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// All commands; one must be named `help`.
    pub commands: &'static [Command],
    /// Every first word of the commands of several words.
    pub groups: &'static [Command],
    /// Flags that every command takes.
    pub global: &'static [Flag],
}

/// A command line that cannot be read; ends a program with code 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Printed behind `Error: `.
    pub message: String,
    /// Printed behind the message, as it is.
    pub usage: String,
}

impl Unreadable {
    fn new(message: String) -> Unreadable {
        Unreadable { message, usage: String::new() }
    }
}

/// A command line, read.
#[derive(Debug)]
pub struct Line {
    /// The command that it names.
    pub command: &'static Command,
    /// What is neither command nor flag.
    pub args: Vec<String>,
    /// What stood after `--`, when there was one.
    pub after_dashes: Option<Vec<String>>,
    /// Whether help is asked for.
    pub help: bool,
    program: &'static Program,
    values: BTreeMap<&'static str, String>,
}

impl Line {
    /// Reads the arguments of the program. Without a command it is that for help.
    pub fn read(program: &'static Program, args: &[String]) -> Result<Line, Unreadable> {
        let split = args.iter().position(|a| a == "--");
        let (before, after) = match split {
            Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
            None => (args, None),
        };
        let (command, used) = program.find(before)?;
        let mut line = Line {
            command,
            args: Vec::new(),
            after_dashes: after,
            help: false,
            program,
            values: BTreeMap::new(),
        };
        let usage = |failure| Unreadable { usage: program.help(Some(command)) + "\n", ..failure };
        let mut rest = before.iter().enumerate();
        while let Some((at, arg)) = rest.next() {
            if used.contains(&at) {
                continue;
            }
            let mut next = || rest.next().map(|(_, value)| value.clone());
            line.take(arg, &mut next).map_err(usage)?;
        }
        let missing: Vec<String> = command
            .flags
            .iter()
            .filter(|flag| flag.required && !line.given(flag.name))
            .map(|flag| format!("\"{}\"", flag.name))
            .collect();
        if !line.help && !missing.is_empty() {
            let message = format!("required flag(s) {} not set", missing.join(", "));
            return Err(usage(Unreadable::new(message)));
        }
        Ok(line)
    }

    /// Reads the flags and arguments of one known command (a line of `txn` or `watch -i`),
    /// which has the command's own flags and no others.
    pub fn read_as(
        program: &'static Program,
        name: &str,
        args: &[String],
    ) -> Result<Line, Unreadable> {
        let mut all: Vec<String> = name.split(' ').map(str::to_owned).collect();
        all.extend_from_slice(args);
        let line = Line::read(program, &all)?;
        match program.global.iter().find(|flag| line.given(flag.name)) {
            Some(Flag { short: Some(letter), .. }) => {
                Err(Unreadable::new(format!("unknown shorthand flag: '{letter}' in -{letter}")))
            }
            Some(flag) => Err(Unreadable::new(format!("unknown flag: --{}", flag.name))),
            None => Ok(line),
        }
    }

    fn take(
        &mut self,
        arg: &str,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), Unreadable> {
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
            (flag.ok_or_else(|| Unreadable::new(format!("unknown flag: --{name}")))?, value)
        } else if let Some(short) = arg.strip_prefix('-').filter(|s| !s.is_empty()) {
            let letter = short.chars().next().unwrap_or('-');
            let flag = self.flag(|f| f.short == Some(letter)).ok_or_else(|| {
                Unreadable::new(format!("unknown shorthand flag: '{letter}' in {arg}"))
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
                Some(_) => Unreadable::new(format!("flag needs an argument: {arg}")),
                None => Unreadable::new(format!(
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
        self.command.flags.iter().chain(self.program.global).find(|f| is(f)).copied()
    }

    /// Whether a flag was given on the command line.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Sets a flag that was not given, from the environment.
    pub fn set(&mut self, flag: &Flag, value: String) -> Result<(), Unreadable> {
        check(flag, &value)?;
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// A flag's value, or its default.
    pub fn text(&self, name: &str) -> &str {
        if let Some(value) = self.values.get(name) {
            return value;
        }
        self.flag(|f| f.name == name).map_or("", |f| f.default)
    }

    /// A bool flag.
    pub fn is(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// An integer flag.
    pub fn int(&self, name: &str) -> i64 {
        parse_flag_int(self.text(name)).unwrap_or(0)
    }

    /// An unsigned flag.
    pub fn uint(&self, name: &str) -> u64 {
        parse_flag_uint(self.text(name)).unwrap_or(0)
    }

    /// A duration flag.
    pub fn duration(&self, name: &str) -> std::time::Duration {
        crate::duration::parse(self.text(name)).unwrap_or_default()
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), Unreadable> {
    let wrong = |parser: &str| {
        format!("strconv.{parser}: parsing {}: invalid syntax", quote(value.as_bytes()))
    };
    let why = match flag.takes {
        Takes::Bool => parse_bool(value).is_none().then(|| wrong("ParseBool")),
        Takes::Int => parse_flag_int(value).err(),
        Takes::Uint => parse_flag_uint(value).err(),
        Takes::Duration => crate::duration::parse(value)
            .is_none()
            .then(|| format!("time: invalid duration {}", quote(value.as_bytes()))),
        Takes::Text => None,
    };
    let Some(why) = why else { return Ok(()) };
    let short = flag.short.map(|c| format!("-{c}, ")).unwrap_or_default();
    let value = quote(value.as_bytes());
    Err(Unreadable::new(format!(
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

impl Program {
    /// The command that the first words name, and which of the arguments they are.
    fn find(&self, args: &[String]) -> Result<(&'static Command, Vec<usize>), Unreadable> {
        let words = self.command_words(args);
        let mut candidates: Vec<&'static Command> = self.commands.iter().collect();
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
                    return Err(self.unknown_command(word));
                }
                // As cobra: what a group does not know is an argument of its help.
                break;
            }
            used.push(*at);
            candidates = fitting;
        }
        match candidates.as_slice() {
            [one] if one.name.split(' ').count() == used.len() => Ok((one, used)),
            _ if used.is_empty() => {
                let help = self.commands.iter().find(|c| c.name == "help");
                Ok((help.expect("every table has help"), used))
            }
            group => {
                let group = group.first().and_then(|c| c.name.split(' ').next());
                let known = self.groups.iter().find(|c| Some(c.name) == group);
                Ok((known.expect("every group has its line in the table"), used))
            }
        }
    }

    /// Arguments that are neither flags nor values of flags, up to two.
    fn command_words(&self, args: &[String]) -> Vec<(usize, String)> {
        let mut words = Vec::new();
        let mut skip = false;
        for (at, arg) in args.iter().enumerate() {
            if skip {
                skip = false;
            } else if let Some(flag) = arg.strip_prefix('-').filter(|f| !f.is_empty()) {
                let long = flag.strip_prefix('-');
                let all = || self.commands.iter().flat_map(|c| c.flags).chain(self.global);
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

    fn unknown_command(&self, word: &str) -> Unreadable {
        Unreadable {
            message: format!("unknown command {} for \"{}\"", quote(word.as_bytes()), self.name),
            usage: format!("Run '{} --help' for usage.\n", self.name),
        }
    }

    /// Whether this is a group and no command.
    pub fn is_group(&self, command: &Command) -> bool {
        self.groups.iter().any(|group| group.name == command.name)
    }

    fn group_help(&self, group: &str) -> String {
        let mut out = format!("NAME:\n\t{group} - a group of commands\n\nCOMMANDS:\n");
        for command in self.commands.iter().filter(|c| c.name.split(' ').next() == Some(group)) {
            out.push_str(&format!("\t{:20} {}\n", command.name, command.help));
        }
        out
    }

    /// Help for one command, or for all.
    pub fn help(&self, command: Option<&Command>) -> String {
        let mut out = String::new();
        let program = self.name;
        match command {
            Some(group) if self.is_group(group) => out = self.group_help(group.name),
            Some(command) => {
                out.push_str(&format!("NAME:\n\t{} - {}\n\n", command.name, command.help));
                let flags = if command.flags.is_empty() { "" } else { " [options]" };
                let (name, args) = (command.name, command.args);
                out.push_str(&format!("USAGE:\n\t{program} {name}{flags} {args}\n"));
                if !command.flags.is_empty() {
                    out.push_str("\nOPTIONS:\n");
                    flag_lines(command.flags, &mut out);
                }
                out.push_str(&format!("\nThe flags of every command: {program} options\n"));
            }
            None => {
                out.push_str(&format!("NAME:\n\t{program} - {}\n\n", self.about));
                out.push_str(&format!("USAGE:\n\t{program} [flags] COMMAND\n\nCOMMANDS:\n"));
                for command in self.commands {
                    out.push_str(&format!("\t{:20} {}\n", command.name, command.help));
                }
                out.push_str("\nOPTIONS:\n");
                flag_lines(self.global, &mut out);
            }
        }
        out
    }

    /// What the command `help` says when it is asked for the command of these words.
    pub fn help_for(&self, words: &[String]) -> String {
        let name = words.join(" ");
        let all = || self.commands.iter().chain(self.groups);
        self.help(all().find(|c| !name.is_empty() && c.name == name))
    }

    /// What the command `options` says.
    pub fn options(&self) -> String {
        let mut out = String::from("The following options can be passed to any command:\n\n");
        flag_lines(self.global, &mut out);
        out
    }
}

/// Lines for a list of flags.
fn flag_lines(flags: &[Flag], out: &mut String) {
    for flag in flags {
        let short = flag.short.map_or("    ".to_owned(), |c| format!("-{c}, "));
        let default = match flag.default {
            "" | "false" | "0" => String::new(),
            value => format!(" (default {value})"),
        };
        let required = if flag.required { "required; " } else { "" };
        out.push_str(&format!("  {short}--{:26} {required}{}{default}\n", flag.name, flag.help));
    }
}
