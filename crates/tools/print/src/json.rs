//! JSON as Go's encoding/json prints etcd's messages: fields in order, zero fields
//! left out, 64-bit numbers as numbers, bytes in base64, HTML's signs escaped.

/// A JSON value with its fields in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of up to 64 bits.
    Number(i128),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object, its fields in this order.
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// Bytes, in base64.
    pub fn bytes(bytes: &[u8]) -> Json {
        Json::Text(base64(bytes))
    }

    /// On one line, without spaces.
    pub fn line(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, "");
        out
    }

    /// On one line, with a space behind each comma and colon: as zap's console encoder has it.
    pub fn spaced(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, " ");
        out
    }

    fn write(&self, out: &mut String, space: &str) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(value) => out.push_str(&value.to_string()),
            Json::Text(text) => write_text(text, out),
            Json::List(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                        out.push_str(space);
                    }
                    item.write(out, space);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                out.push('{');
                for (n, (name, value)) in fields.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                        out.push_str(space);
                    }
                    write_text(name, out);
                    out.push(':');
                    out.push_str(space);
                    value.write(out, space);
                }
                out.push('}');
            }
        }
    }
}

/// Builds an object; `opt_` methods leave zero values out, as `omitempty` does.
#[derive(Default)]
pub struct Object(Vec<(&'static str, Json)>);

impl Object {
    /// A field.
    pub fn with(mut self, name: &'static str, value: Json) -> Object {
        self.0.push((name, value));
        self
    }

    /// A number.
    pub fn number(self, name: &'static str, value: impl Into<i128>) -> Object {
        let value = value.into();
        self.with(name, Json::Number(value))
    }

    /// A number that is not 0.
    pub fn opt_number(self, name: &'static str, value: impl Into<i128>) -> Object {
        let value = value.into();
        if value == 0 { self } else { self.with(name, Json::Number(value)) }
    }

    /// Bytes that are not empty, in base64.
    pub fn opt_bytes(self, name: &'static str, value: &[u8]) -> Object {
        if value.is_empty() { self } else { self.with(name, Json::bytes(value)) }
    }

    /// A text.
    pub fn text(self, name: &'static str, value: &str) -> Object {
        self.with(name, Json::Text(value.to_owned()))
    }

    /// A text that is not empty.
    pub fn opt_text(self, name: &'static str, value: &str) -> Object {
        if value.is_empty() { self } else { self.text(name, value) }
    }

    /// `true`, or nothing.
    pub fn opt_true(self, name: &'static str, value: bool) -> Object {
        if value { self.with(name, Json::Bool(true)) } else { self }
    }

    /// A list that is not empty.
    pub fn opt_list(self, name: &'static str, items: Vec<Json>) -> Object {
        if items.is_empty() { self } else { self.with(name, Json::List(items)) }
    }

    /// A value, or nothing.
    pub fn opt(self, name: &'static str, value: Option<Json>) -> Object {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The object.
    pub fn end(self) -> Json {
        Json::Object(self.0)
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let b = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let n = u32::from(b[0]) << 16 | u32::from(b[1]) << 8 | u32::from(b[2]);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(SIGNS[(n >> (18 - 6 * i)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn zero_fields_are_left_out_and_signs_escaped() {
        let json =
            Object::default().opt_number("a", 0).number("b", u64::MAX).text("c", "<\"&\n").end();
        assert_eq!(json.line(), r#"{"b":18446744073709551615,"c":"\u003c\"\u0026\n"}"#);
    }
}
