//! One call, as a line.

use std::fmt::Write as _;

use mainstay_log::{json_string, push_timestamp};
use mainstay_types::limits::{AUDIT_KEY_BYTES_MAX, AUDIT_KEYS_BYTES_MAX};

/// By what a caller was known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// It showed nothing, or nobody asked, because authentication is off.
    #[default]
    Nothing,
    /// A token.
    Token,
    /// The common name of its certificate.
    Certificate,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            By::Nothing => "nothing",
            By::Token => "token",
            By::Certificate => "certificate",
        }
    }
}

/// One operation on keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is done: `put`, `range`, `delete_range`, `compare`, `watch`, ...
    pub op: &'static str,
    /// The key, as [`shown_key`] has it.
    pub key: String,
    /// The end of the range; empty for one key.
    pub range_end: String,
}

/// What a call asked for: everything but values and secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Operations on keys, in the order of the request.
    pub items: Vec<Item>,
    /// Operations that are not listed, because the list would be too long.
    pub more_items: usize,
    /// The user that it is about.
    pub user: Option<String>,
    /// The role that it is about.
    pub role: Option<String>,
    /// The lease that it is about.
    pub lease: Option<i64>,
    /// The member that it is about.
    pub member: Option<u64>,
    /// What else it says, such as a permission's type or a member's URLs.
    pub detail: Option<String>,
    /// Bytes of keys in `items`.
    bytes: usize,
}

impl Asked {
    /// One operation on keys.
    pub fn of_range(op: &'static str, key: &[u8], range_end: &[u8]) -> Asked {
        let mut asked = Asked::default();
        asked.item(op, key, range_end);
        asked
    }

    /// Something about a lease.
    pub fn of_lease(id: i64) -> Asked {
        Asked { lease: Some(id), ..Asked::default() }
    }

    /// Adds an operation, as long as there is room for its keys.
    pub fn item(&mut self, op: &'static str, key: &[u8], range_end: &[u8]) {
        let bytes = key.len().min(AUDIT_KEY_BYTES_MAX) + range_end.len().min(AUDIT_KEY_BYTES_MAX);
        // Empty keys cost room as well: the list must end.
        let bytes = bytes + op.len();
        if self.bytes + bytes > AUDIT_KEYS_BYTES_MAX {
            self.more_items += 1;
            return;
        }
        self.bytes += bytes;
        let (key, range_end) = (shown_key(key), shown_key(range_end));
        self.items.push(Item { op, key, range_end });
    }
}

/// A key as text: what is not printable UTF-8 is `\xNN`, a backslash is `\\`, and what is longer
/// than [`AUDIT_KEY_BYTES_MAX`] ends in `...`. Two keys below that bound never look the same.
pub fn shown_key(key: &[u8]) -> String {
    let cut = key.len() > AUDIT_KEY_BYTES_MAX;
    let key = &key[..key.len().min(AUDIT_KEY_BYTES_MAX)];
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => c.to_string().bytes().for_each(|b| push_byte(&mut text, b)),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_byte(&mut text, *byte));
    }
    if cut {
        text.push_str("...");
    }
    text
}

fn push_byte(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

/// A call that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it began, in microseconds since 1970.
    pub begun_micros: i64,
    /// How long it took, in microseconds.
    pub took_micros: u64,
    /// `package.Service/Method`.
    pub call: &'static str,
    /// Whether it came as JSON.
    pub gateway: bool,
    /// Where from; empty for a unix socket.
    pub remote: String,
    /// The common name of the certificate of the connection.
    pub certificate: Option<String>,
    /// Who; empty for nobody.
    pub user: String,
    /// By what this was seen.
    pub by: By,
    /// What it asked for; not asked for by the policy when `None`.
    pub asked: Option<Asked>,
    /// The name of the gRPC code; `OK` when it was done.
    pub code: &'static str,
    /// What the caller was told; empty when it was done.
    pub message: String,
    /// The revision of the answer's header.
    pub revision: Option<i64>,
}

impl Record {
    /// Appends the line, with its line feed.
    pub fn push_line(&self, out: &mut String) {
        out.push_str("{\"ts\":\"");
        push_timestamp(out, self.begun_micros);
        out.push('"');
        text(out, "call", self.call);
        text(out, "door", if self.gateway { "gateway" } else { "grpc" });
        text(out, "remote", &self.remote);
        some_text(out, "certificate", self.certificate.as_deref());
        text(out, "user", &self.user);
        text(out, "by", self.by.word());
        if let Some(asked) = &self.asked {
            push_asked(out, asked);
        }
        text(out, "code", self.code);
        if !self.message.is_empty() {
            text(out, "message", &self.message);
        }
        if let Some(revision) = self.revision {
            let _ = write!(out, ",\"revision\":{revision}");
        }
        let _ = writeln!(out, ",\"took_us\":{}}}", self.took_micros);
    }
}

fn push_asked(out: &mut String, asked: &Asked) {
    if !asked.items.is_empty() {
        out.push_str(",\"items\":[");
        for (n, item) in asked.items.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{{\"op\":\"{}\"", item.op);
            text(out, "key", &item.key);
            some_text(out, "range_end", Some(&*item.range_end).filter(|end| !end.is_empty()));
            out.push('}');
        }
        out.push(']');
    }
    if asked.more_items > 0 {
        let _ = write!(out, ",\"more_items\":{}", asked.more_items);
    }
    some_text(out, "about_user", asked.user.as_deref());
    some_text(out, "about_role", asked.role.as_deref());
    // As etcdctl prints them.
    some_text(out, "lease", asked.lease.map(|id| format!("{id:x}")).as_deref());
    some_text(out, "member", asked.member.map(|id| format!("{id:x}")).as_deref());
    some_text(out, "detail", asked.detail.as_deref());
}

fn text(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, ",\"{name}\":");
    out.push_str(&json_string(value));
}

fn some_text(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}
