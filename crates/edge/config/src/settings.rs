//! What was set and to what, by name, before it becomes a [`crate::Config`].

use std::collections::BTreeMap;

use crate::gates::Gates;
use crate::number;
use crate::old::{New, Renamed};
use crate::table::{self, Flag, Kind};
use crate::url::Url;
use crate::{Invalid, Notice};

/// A flag's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Text(String),
    Words(Vec<String>),
    Urls(Vec<Url>),
    Uint(u64),
    Int(i64),
    /// Nanoseconds.
    Duration(i64),
    Gates(Gates),
}

impl Value {
    /// Reads a value as the command line and the environment write it; the error is Go's text.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
        let numeric = |e: number::NumberError| e.to_string();
        Ok(match kind {
            Kind::Bool => Value::Bool(number::parse_bool(text).map_err(numeric)?),
            Kind::Text => Value::Text(text.to_owned()),
            Kind::Words => Value::Words(words(text)),
            Kind::WordSet => Value::Words(word_set(words(text))),
            Kind::Origins => Value::Words(origins(text)?),
            Kind::Urls => Value::Urls(Url::parse_list(text).map_err(|e| e.to_string())?),
            Kind::Uint => Value::Uint(number::parse_uint(text).map_err(numeric)?),
            Kind::Uint32 => {
                let wide = number::parse_uint(text).map_err(numeric)?;
                if wide > u64::from(u32::MAX) {
                    return Err(number::NumberError::Range.to_string());
                }
                Value::Uint(wide)
            }
            Kind::Int => Value::Int(number::parse_int(text).map_err(numeric)?),
            Kind::Duration => Value::Duration(number::parse_duration(text).map_err(numeric)?),
            Kind::Choice(choices) => {
                if !choices.contains(&text) {
                    return Err(format!("invalid value, one of {}", choices.join(", ")));
                }
                Value::Text(text.to_owned())
            }
            Kind::Gates => Value::Gates(Gates::parse(text)?),
        })
    }
}

impl std::fmt::Display for Value {
    /// As the command line would write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Bool(on) => on.fmt(f),
            Value::Text(text) => f.write_str(text),
            Value::Words(words) => f.write_str(&words.join(",")),
            Value::Urls(urls) => {
                f.write_str(&urls.iter().map(Url::as_str).collect::<Vec<_>>().join(","))
            }
            Value::Uint(n) => n.fmt(f),
            Value::Int(n) => n.fmt(f),
            Value::Duration(nanos) => f.write_str(&number::format_duration(*nanos)),
            Value::Gates(gates) => gates.fmt(f),
        }
    }
}

/// Values that were set; all others have their default.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Value>,
    old: Vec<(&'static Renamed, Value)>,
}

impl Settings {
    pub(crate) fn set(&mut self, flag: &'static Flag, value: Value) {
        self.values.insert(flag.name, value);
    }

    /// Remembers a value given under an old name until [`Self::rename`].
    pub(crate) fn set_old(&mut self, row: &'static Renamed, value: Value) {
        self.old.retain(|(other, _)| other.old != row.old);
        self.old.push((row, value));
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether nothing at all was set.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.old.is_empty()
    }

    /// The value of `flag`: what was set, else its default.
    pub(crate) fn value(&self, flag: &Flag) -> Value {
        self.values.get(flag.name).cloned().unwrap_or_else(|| default_of(flag))
    }

    /// Gives values that came under old names to the new ones.
    ///
    /// # Errors
    ///
    /// When both names were given, in the words of etcd 3.6.
    pub(crate) fn rename(&mut self, notices: &mut Vec<Notice>) -> Result<(), Invalid> {
        let old = std::mem::take(&mut self.old);
        for (row, value) in old {
            notices.push(Notice::warn(format!(
                "--{} is deprecated in v3.6 and decommissioned in v3.7. Use '{}' instead.",
                row.old,
                row.advice()
            )));
            match row.new {
                New::Flag(name) => {
                    let flag = table::find(name).expect("a test looks up every new name");
                    if let Some(present) = self.values.get(name) {
                        return Err(both(row.old, &value, &format!("{name}={present}")));
                    }
                    self.set(flag, value);
                }
                New::Gate(gate) => {
                    let Value::Bool(on) = value else { continue };
                    let flag = table::find("feature-gates").expect("it has its row");
                    let Value::Gates(mut gates) = self.value(flag) else { continue };
                    if let Some(present) = gates.named(gate) {
                        let new = format!("feature-gates={}={present}", gate.name());
                        return Err(both(row.old, &value, &new));
                    }
                    gates.set(gate, on);
                    self.set(flag, Value::Gates(gates));
                }
            }
        }
        Ok(())
    }
}

/// The default of `flag`.
pub(crate) fn default_of(flag: &Flag) -> Value {
    match (flag.kind, flag.default) {
        (Kind::Bool, "") => Value::Bool(false),
        (kind, text) => Value::parse(kind, text).expect("a test parses every default"),
    }
}

/// The type of an old name's value.
pub(crate) fn kind_of_old(row: &Renamed) -> Kind {
    match row.new {
        New::Flag(name) => table::find(name).expect("a test looks up every new name").kind,
        New::Gate(_) => Kind::Bool,
    }
}

/// `*` alone, or origins as URLs with a port, as etcd takes them.
fn origins(text: &str) -> Result<Vec<String>, String> {
    if text == "*" {
        return Ok(vec![text.to_owned()]);
    }
    let one = |url: &str| Url::parse(url).map(|url| url.to_string()).map_err(|e| e.to_string());
    text.split(',').map(one).collect::<Result<_, _>>().map(word_set)
}

pub(crate) fn words(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|word| word.trim().to_owned()).collect()
}

pub(crate) fn word_set(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words.dedup();
    words
}

fn both(old: &str, value: &Value, new: &str) -> Invalid {
    Invalid(format!(
        "cannot specify both flags: --{old}={value} and --{new} at the same time, please just \
         use --{new}"
    ))
}
