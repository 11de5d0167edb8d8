//! The configuration file, YAML or JSON (which is YAML too).
//!
//! As in etcd, keys match without regard to case and unknown ones are passed over.

use serde_json::Value as Json;
use serde_saphyr::DuplicateKeyPolicy;

use crate::old::{REMOVED, RENAMED};
use crate::settings::{Settings, Value, kind_of_old, word_set};
use crate::table::{self, Flag, Kind};
use crate::url::Url;
use crate::{Gates, Invalid, Notice};

/// Reads the file's text.
///
/// # Errors
///
/// When it is not YAML, not a map, or a key has a value of the wrong kind.
pub(crate) fn read(document: &str, notices: &mut Vec<Notice>) -> Result<Settings, Invalid> {
    // As in etcd a key counts where it stands last. A piece of the file in an error would put
    // its secrets into the log.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let tree: Json = serde_saphyr::from_str_with_options(document, options)
        .map_err(|e| Invalid(format!("error parsing the configuration file: {e}")))?;
    let root = match tree {
        Json::Null => Json::Object(serde_json::Map::new()),
        Json::Object(_) => tree,
        _ => return Err(Invalid("the configuration file is not a map of keys".to_owned())),
    };
    let mut settings = Settings::default();
    for flag in table::all() {
        let Some(path) = flag.yaml else { continue };
        let Some(json) = look_up(&root, path)? else { continue };
        if keeps_default(flag, json) {
            continue;
        }
        // These two lists etcd reads from one text.
        let value = match flag.name {
            "cors" | "host-whitelist" => {
                text(json).and_then(|words| Value::parse(flag.kind, &words))
            }
            _ => value_of(flag.kind, json),
        }
        .map_err(|why| Invalid(format!("configuration file: {path}: {why}")))?;
        settings.set(flag, value);
    }
    for row in RENAMED {
        let Some(json) = look_up(&root, row.old)? else { continue };
        let value = value_of(kind_of_old(row), json)
            .map_err(|why| Invalid(format!("configuration file: {}: {why}", row.old)))?;
        settings.set_old(row, value);
    }
    for row in REMOVED {
        // etcd's sample file still lists dead keys with nothing or "off" in them.
        if let Some(json) = look_up(&root, row.name)?
            && !matches!(json.as_str(), Some("" | "off"))
            && json.as_bool() != Some(false)
        {
            notices.push(Notice::warn(format!(
                "{} in the configuration file is not used: {}",
                row.name, row.advice
            )));
        }
    }
    Ok(settings)
}

/// Whether an empty value leaves the default: URLs and the lists that etcd reads from one text.
fn keeps_default(flag: &Flag, json: &Json) -> bool {
    let from_text = flag.kind == Kind::Urls || matches!(flag.name, "cors" | "host-whitelist");
    from_text && json.as_str() == Some("")
}

/// What stands at the dotted `path`; nothing there, or null, is `None`.
fn look_up<'a>(root: &'a Json, path: &str) -> Result<Option<&'a Json>, Invalid> {
    let mut here = root;
    let mut walked = "";
    for part in path.split('.') {
        let map = match here {
            Json::Object(map) => map,
            Json::Null => return Ok(None),
            _ => return Err(Invalid(format!("invalid {walked}"))),
        };
        let exact = map.get(part);
        let folded = || map.iter().find(|(key, _)| key.eq_ignore_ascii_case(part)).map(|(_, v)| v);
        let Some(next) = exact.or_else(folded) else { return Ok(None) };
        here = next;
        walked = part;
    }
    Ok(if here.is_null() { None } else { Some(here) })
}

/// The value of a flag of `kind`, or what it should have been.
fn value_of(kind: Kind, json: &Json) -> Result<Value, String> {
    Ok(match kind {
        Kind::Bool => Value::Bool(boolean(json).ok_or("expected true or false")?),
        Kind::Text => Value::Text(text(json)?),
        Kind::Words => Value::Words(list(json)?),
        Kind::WordSet => Value::Words(word_set(list(json)?)),
        Kind::Origins => Value::parse(kind, &text(json)?)?,
        Kind::Urls => match json.as_str() {
            Some(urls) => Value::Urls(Url::parse_list(urls).map_err(|e| e.to_string())?),
            None => return Err("expected URLs in one text, with commas between them".to_owned()),
        },
        Kind::Uint => Value::Uint(json.as_u64().ok_or("expected a whole number, 0 or more")?),
        Kind::Uint32 => Value::Uint(
            json.as_u64()
                .filter(|n| *n <= u64::from(u32::MAX))
                .ok_or("expected a whole number of at most 4294967295")?,
        ),
        Kind::Int => Value::Int(json.as_i64().ok_or("expected a whole number")?),
        Kind::Duration => Value::Duration(
            json.as_i64().ok_or("expected a duration as a whole number of nanoseconds")?,
        ),
        Kind::Choice(choices) => {
            let word = text(json)?;
            match (word.as_str(), choices) {
                // etcd reads an empty state as new.
                ("", [first, ..]) => Value::Text((*first).to_owned()),
                (_, ["new", "existing"]) if !choices.contains(&word.as_str()) => {
                    return Err(format!("unexpected clusterState {word:?}"));
                }
                _ => Value::parse(kind, &word)?,
            }
        }
        Kind::Gates => Value::Gates(Gates::parse(&text(json)?)?),
    })
}

/// YAML 1.1 has more words for it, and etcd's reader takes them. A quoted `true` is a text to it.
fn boolean(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(on) => Some(*on),
        Json::String(word) => match word.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some(true),
            "no" | "off" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Only a text is a text, as in etcd: of an unquoted number the digits may be lost already
/// (`name: 010`), and a name or a token decides identity.
fn text(json: &Json) -> Result<String, String> {
    match json {
        Json::String(text) => Ok(text.clone()),
        Json::Number(_) | Json::Bool(_) => Err("expected a text; put it between quotes".to_owned()),
        _ => Err("expected a text".to_owned()),
    }
}

/// A list of texts. Like etcd, no single text with commas.
fn list(json: &Json) -> Result<Vec<String>, String> {
    match json {
        Json::Array(items) => items.iter().map(text).collect(),
        _ => Err("expected a list of texts".to_owned()),
    }
}
