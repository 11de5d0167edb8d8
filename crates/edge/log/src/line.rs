//! One event, one line.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use crate::{Format, time};

/// A field whose name ends so holds JSON; it is written bare, under the name without this.
///
/// In the name and not in the value, because values may come from clients.
pub const JSON_SUFFIX: &str = ".json";

/// `text` as a JSON string, quotes included.
pub fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// `items` as a JSON array of strings.
pub fn json_strings<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut out = String::from("[");
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        push_quoted(&mut out, item.as_ref());
    }
    out.push(']');
    out
}

/// Appends the line of `event`, newline included.
pub(crate) fn render(out: &mut String, format: Format, event: &Event<'_>, now_micros: i64) {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    match format {
        Format::Json => {
            out.push_str("{\"level\":\"");
            out.push_str(level_name(*metadata.level()));
            out.push_str("\",\"ts\":\"");
            time::push_timestamp(out, now_micros);
            out.push_str("\",\"caller\":");
            push_quoted(out, &caller(metadata));
            out.push_str(",\"msg\":");
            push_quoted(out, &fields.message);
            out.push_str(&fields.rest);
            out.push_str("}\n");
        }
        Format::Console => {
            time::push_timestamp(out, now_micros);
            let (level, caller) = (level_name(*metadata.level()), caller(metadata));
            let _ = write!(out, "\t{level}\t{caller}\t{}", OneLine(&fields.message));
            if let Some(rest) = fields.rest.strip_prefix(',') {
                let _ = write!(out, "\t{{{rest}}}");
            }
            out.push('\n');
        }
    }
}

/// Message and the other fields of an event; `rest` holds `,"key":value` for each.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn key(&mut self, name: &str) {
        self.rest.push(',');
        push_quoted(&mut self.rest, name);
        self.rest.push(':');
    }

    fn text(&mut self, name: &str, text: &str) {
        if name == "message" {
            self.message.push_str(text);
            return;
        }
        match name.strip_suffix(JSON_SUFFIX) {
            Some(name) => {
                self.key(name);
                // Raw line feeds would end the line; between JSON tokens a blank does as well.
                let bare = text.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c });
                self.rest.extend(bare);
            }
            None => {
                self.key(name);
                push_quoted(&mut self.rest, text);
            }
        }
    }

    fn bare(&mut self, name: &str, value: impl fmt::Display) {
        if name == "message" {
            let _ = write!(self.message, "{value}");
            return;
        }
        self.key(name);
        let _ = write!(self.rest, "{value}");
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field.name(), &value.to_string());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), value);
    }
    fn record_i128(&mut self, field: &Field, value: i128) {
        self.bare(field.name(), value);
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.bare(field.name(), value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field.name(), value);
        } else {
            // JSON has no such numbers; zap quotes them too.
            self.text(field.name(), &value.to_string());
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        // zap has nothing below debug.
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// `dir/file.rs:line`: the last two parts of the path, passing over `src`.
fn caller(metadata: &Metadata<'_>) -> String {
    let Some(path) = metadata.file() else { return metadata.target().to_owned() };
    let mut parts = path.rsplit(['/', '\\']).filter(|part| *part != "src");
    let file = parts.next().unwrap_or(path);
    let line = metadata.line().unwrap_or(0);
    match parts.next() {
        Some(dir) => format!("{dir}/{file}:{line}"),
        None => format!("{file}:{line}"),
    }
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Text whose control characters show as escapes.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
        })
    }
}
