//! Command lines and what becomes of them, as transcripts in `testdata/`; the table's own rules;
//! and that nothing anybody types makes the reader panic.
//!
//! A transcript block is: lines of a file `conf.yaml` (after `| `), then `$ VAR=x etcd --flag`,
//! then the answer: notices, and the fields that differ from a bare `etcd`. `UPDATE=1` writes
//! the answers again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::old::{New, REMOVED, RENAMED};
use crate::settings::Value;
use crate::table::{Kind, SECTIONS, Status};

fn load_with(args: &[String], env: &[(String, String)], yaml: &str) -> Loaded {
    load(&Input {
        args,
        env,
        read_file: &|path| match path {
            "conf.yaml" => Ok(yaml.to_owned()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file or directory")),
        },
        default_host: &|| Some("10.1.2.3".parse().unwrap()),
    })
}

/// Words of a line; `'...'` keeps blanks together.
fn words(line: &str) -> Vec<String> {
    let mut out = vec![];
    let (mut word, mut begun, mut quoted) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if std::mem::take(&mut begun) {
                    out.push(std::mem::take(&mut word));
                }
            }
            _ => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        out.push(word);
    }
    out
}

fn run(line: &str, yaml: &str) -> Loaded {
    let words = words(line);
    let at = words.iter().position(|word| word == "etcd").expect("a line runs etcd");
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').expect("NAME=value before etcd");
        (name.to_owned(), value.to_owned())
    };
    let env: Vec<_> = words[..at].iter().map(pair).collect();
    load_with(&words[at + 1..], &env, yaml)
}

fn config_of(line: &str) -> Config {
    match run(line, "") {
        Loaded::Run { config, .. } => *config,
        other => panic!("{line}: {other:?}"),
    }
}

/// Top-level fields of a configuration, each on one line.
fn fields(config: &Config) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut name = String::new();
    for line in format!("{config:#?}").lines().filter(|line| line.starts_with("    ")) {
        if let Some((field, rest)) = line[4..].split_once(": ")
            && !line[4..].starts_with(' ')
        {
            name = field.to_owned();
            out.insert(name.clone(), rest.to_owned());
        } else if let Some(text) = out.get_mut(&name) {
            text.push(' ');
            text.push_str(line.trim());
        }
    }
    out.into_iter().map(|(k, v)| (k, v.trim_end_matches(',').to_owned())).collect()
}

fn answer(line: &str, yaml: &str) -> String {
    let mut out = String::new();
    let (notices, end) = match run(line, yaml) {
        Loaded::Print { code, stdout, stderr } => {
            let first = |text: &str| {
                text.lines()
                    .take_while(|line| !line.starts_with("Usage"))
                    .collect::<Vec<_>>()
                    .join(" / ")
            };
            (
                vec![],
                format!("exit {code} stdout={:?} stderr={:?}\n", first(&stdout), first(&stderr)),
            )
        }
        Loaded::Refused { invalid, notices } => (notices, format!("refused: {invalid}\n")),
        Loaded::Run { config, notices } => {
            let bare = fields(&config_of("etcd"));
            let changed = fields(&config).into_iter().filter(|(k, v)| bare.get(k) != Some(v));
            let lines = changed.map(|(k, v)| format!("  {k}: {v}\n")).collect::<String>();
            (notices, format!("run\n{lines}"))
        }
    };
    for notice in &notices {
        let _ = writeln!(out, "{notice:?}");
    }
    out + &end
}

fn check_file(path: &Path, current: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, current).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let differs = kept.lines().zip(current.lines()).find(|(a, b)| a != b);
    assert!(
        kept == current,
        "{} is not current (UPDATE=1 rewrites it): {differs:?}",
        path.display()
    );
}

fn replay(path: &Path) {
    let script = std::fs::read_to_string(path).unwrap();
    let mut out = String::new();
    let mut yaml = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if let Some(text) = line.strip_prefix("| ") {
            yaml.push_str(text);
            yaml.push('\n');
        } else if let Some(command) = line.strip_prefix("$ ") {
            while lines.peek().is_some_and(|line| !line.is_empty()) {
                lines.next();
            }
            out.push_str(&answer(command, &yaml));
            yaml.clear();
        }
    }
    check_file(path, &out);
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn transcripts_hold() {
    let mut paths: Vec<_> =
        std::fs::read_dir(here("testdata")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 6, "{paths:?}");
    paths.iter().for_each(|path| replay(path));
}

#[test]
fn the_document_of_flags_is_current() {
    check_file(&here("../../../docs/flags.md"), &flags_markdown());
}

#[test]
fn every_row_is_sound() {
    let mut seen = std::collections::BTreeSet::new();
    for section in SECTIONS {
        for flag in section.flags {
            assert!(seen.insert(flag.name), "{} twice", flag.name);
            settings::default_of(flag);
            let ignored = flag.status == Status::Ignored;
            assert_eq!(flag.help.is_empty(), ignored, "{}", flag.name);
        }
    }
    for row in RENAMED {
        assert!(seen.insert(row.old), "{} twice", row.old);
        if let New::Flag(name) = row.new {
            assert!(table::find(name).is_some(), "{name}");
        }
    }
    assert!(REMOVED.iter().all(|row| seen.insert(row.name)));
    assert_eq!(Gate::all().map(Gate::name).collect::<std::collections::BTreeSet<_>>().len(), 9);
    for gate in Gate::all() {
        assert_eq!(Gate::find(gate.name()), Some(gate));
    }
}

/// A value other than the flag's default.
fn other_value(flag: &table::Flag) -> &'static str {
    match flag.kind {
        Kind::Bool => unreachable!("flipped by the caller"),
        Kind::Text | Kind::Words | Kind::WordSet => "other",
        Kind::Urls | Kind::Origins => "http://127.0.0.1:9",
        Kind::Uint | Kind::Uint32 | Kind::Int => "7",
        Kind::Duration => "7s",
        Kind::Choice(choices) => choices.iter().find(|word| **word != flag.default).unwrap(),
        Kind::Gates => "AllAlpha=true",
    }
}

/// A flag that restricts or places is never passed over in silence, by whichever way it comes.
#[test]
fn refused_flags_are_refused_and_tuning_flags_warned_about() {
    for flag in table::all() {
        let value = match settings::default_of(flag) {
            Value::Bool(on) => (!on).to_string(),
            _ => other_value(flag).to_owned(),
        };
        let arg = run(&format!("etcd --{}={value}", flag.name), "");
        let var = run(&format!("{}={value} etcd", flag.variable()), "");
        match flag.status {
            Status::Refused => assert!(
                matches!((&arg, &var), (Loaded::Refused { .. }, Loaded::Refused { .. })),
                "{}: {arg:?} {var:?}",
                flag.name
            ),
            Status::Tunes => {
                let Loaded::Run { notices, .. } = arg else { panic!("{}: {arg:?}", flag.name) };
                let named = notices.iter().any(|n| format!("{n:?}").contains(flag.name));
                assert!(named, "{}: {notices:?}", flag.name);
            }
            Status::Works | Status::Ignored => {}
        }
    }
}

/// A row that says it works reaches the configuration: another value makes another one, or is
/// at least checked.
#[test]
fn working_flags_reach_the_configuration() {
    let bare = config_of("etcd --name=default");
    // Read by the loader, or a word that only the rules look at.
    let elsewhere = ["config-file", "version", "logger", "log-rotation-config-json"];
    let works = table::all().filter(|flag| flag.status == Status::Works);
    for flag in works.filter(|flag| !elsewhere.contains(&flag.name)) {
        let value = match (flag.name, settings::default_of(flag)) {
            (_, Value::Bool(on)) => (!on).to_string(),
            ("metrics", _) => "extensive".to_owned(),
            _ => other_value(flag).to_owned(),
        };
        match run(&format!("etcd --name=default --{}={value}", flag.name), "") {
            Loaded::Run { config, .. } => assert_ne!(*config, bare, "{}={value}", flag.name),
            Loaded::Refused { .. } => {}
            other => panic!("{}: {other:?}", flag.name),
        }
    }
}

#[test]
fn the_greeting_is_short_and_says_where_things_are() {
    let text = greeting(&config_of("etcd"), true);
    assert!(text.lines().count() < 15 && text.contains("default.etcd"), "{text}");
    assert!(text.contains("etcdctl put greeting hello"), "{text}");
}

/// Arguments that are likely to mean something.
fn argument() -> impl Strategy<Value = String> {
    let names: Vec<String> = table::all()
        .map(|flag| flag.name.to_owned())
        .chain(RENAMED.iter().map(|row| row.old.to_owned()))
        .collect();
    let value = prop_oneof![
        any::<String>(),
        Just(String::new()),
        "[0-9a-z_.-]{0,6}",
        "-?[0-9]{1,20}(ns|ms|h)?",
        r"(http|unix|https)://[\[\]a-z0-9.:/]{0,12}(,[a-z:/0-9]{0,8})?",
        "[A-Za-z]{0,9}=(true|x)?",
    ];
    prop_oneof![
        4 => (prop::sample::select(names), value).prop_map(|(n, v)| format!("--{n}={v}")),
        1 => any::<String>(),
        1 => "-{0,3}[a-z=-]{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_argument_panics(args in prop::collection::vec(argument(), 0..6)) {
        if let Loaded::Run { config, .. } = load_with(&args, &[], "") {
            let _ = greeting(&config, true);
        }
    }

    #[test]
    fn no_variable_panics(args in prop::collection::vec(argument(), 0..4)) {
        let env: Vec<_> = args
            .iter()
            .filter_map(|arg| arg.strip_prefix("--")?.split_once('='))
            .map(|(name, value)| (table::variable_of(name), value.to_owned()))
            .collect();
        load_with(&[], &env, "");
    }

    #[test]
    fn no_file_panics(args in prop::collection::vec(argument(), 0..5), noise in any::<String>()) {
        let lines = args.iter().filter_map(|arg| arg.strip_prefix("--")?.split_once('='));
        let mut yaml = String::new();
        for (name, value) in lines {
            let _ = writeln!(yaml, "{name}: {value}");
        }
        let args = ["--config-file=conf.yaml".to_owned()];
        load_with(&args, &[], &yaml);
        load_with(&args, &[], &(yaml + &noise));
    }
}
