//! JSON into a message's bytes.

use std::fmt;

use mainstay_proto::prost::encoding::{encode_varint, encoded_len_varint};
use mainstay_proto::shape::{Field, Kind, Shape};
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Number;

use crate::base64;

/// Why a text is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No JSON, or not of the message's shape.
    #[error("{0}")]
    Malformed(String),
    /// The message would be longer than it may.
    #[error("the message is longer than {max} bytes")]
    TooLong {
        /// What it may be.
        max: usize,
    },
}

/// The bytes of the message that `text` describes, of at most `max` bytes. A name may be
/// the original one or the one in camel case; what is null is left out; a field given twice
/// is an error, as are two of one `oneof`. Nesting is bounded (by 128 levels of JSON).
///
/// # Errors
/// When it is none.
pub fn read(shape: &'static Shape, text: &[u8], max: usize) -> Result<Vec<u8>, ReadError> {
    let mut out = Out { bytes: Vec::new(), max };
    let mut json = serde_json::Deserializer::from_slice(text);
    let body = Body { shape, out: &mut out };
    match json.deserialize_map(body).and_then(|()| json.end()) {
        Ok(()) => Ok(out.bytes),
        Err(_) if out.bytes.len() > max => Err(ReadError::TooLong { max }),
        Err(error) => Err(ReadError::Malformed(format!("proto: {error}"))),
    }
}

struct Out {
    bytes: Vec<u8>,
    max: usize,
}

impl Out {
    fn number(&mut self, field: &Field, value: u64) {
        encode_varint(u64::from(field.number) << 3, &mut self.bytes);
        encode_varint(value, &mut self.bytes);
    }

    /// Begins a field of bytes; [`Out::end`] puts its length there.
    fn begin(&mut self, field: &Field) -> usize {
        encode_varint(u64::from(field.number) << 3 | 2, &mut self.bytes);
        self.bytes.len()
    }

    fn end(&mut self, begun: usize) {
        let len = (self.bytes.len() - begun) as u64;
        let mut encoded = Vec::with_capacity(encoded_len_varint(len));
        encode_varint(len, &mut encoded);
        self.bytes.splice(begun..begun, encoded);
    }

    fn check<E: Error>(&self) -> Result<(), E> {
        if self.bytes.len() > self.max { Err(E::custom("too long")) } else { Ok(()) }
    }
}

/// The fields of a message.
struct Body<'a> {
    shape: &'static Shape,
    out: &'a mut Out,
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.shape.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut seen, mut oneofs) = (0u64, 0u64);
        while let Some(found) = map.next_key_seed(Name(self.shape))? {
            let Some(at) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let field = &self.shape.fields[at];
            let value = Value { field, out: self.out, place: Place::of(field) };
            if !map.next_value_seed(value)? {
                continue;
            }
            self.out.check()?;
            let twice = |bits: &mut u64, at: usize| {
                let bit = 1 << at;
                std::mem::replace(bits, *bits | bit) & bit != 0
            };
            if twice(&mut seen, at) {
                return Err(A::Error::custom(format_args!("duplicate field {:?}", field.name)));
            }
            if field.oneof.is_some_and(|oneof| twice(&mut oneofs, usize::from(oneof))) {
                let text = format_args!("{:?}: another of its oneof is already set", field.name);
                return Err(A::Error::custom(text));
            }
        }
        Ok(())
    }
}

/// A field by one of its names.
struct Name(&'static Shape);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().position(|field| field.name == name || field.json == name))
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of a field that holds one.
    Single,
    /// Of a field that holds many: their list.
    List,
    /// In such a list.
    Element,
}

impl Place {
    fn of(field: &Field) -> Place {
        if field.repeated { Place::List } else { Place::Single }
    }
}

/// A field's value. It yields whether the field is there now: null is not, nor is a name
/// that an enumeration does not know.
struct Value<'a> {
    field: &'static Field,
    out: &'a mut Out,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl Value<'_> {
    fn integer<E: Error>(self, value: i128, shown: Unexpected<'_>) -> Result<bool, E> {
        let range = match self.field.kind {
            _ if self.place == Place::List => return Err(E::invalid_type(shown, &self)),
            Kind::Int32 | Kind::Enum(_) => i128::from(i32::MIN)..=i128::from(i32::MAX),
            Kind::Uint32 => 0..=i128::from(u32::MAX),
            Kind::Int64 => i128::from(i64::MIN)..=i128::from(i64::MAX),
            Kind::Uint64 => 0..=i128::from(u64::MAX),
            Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) => {
                return Err(E::invalid_type(shown, &self));
            }
        };
        if !range.contains(&value) {
            return Err(E::invalid_value(shown, &self));
        }
        // Negative ones are sign-extended to 64 bits on the wire.
        self.out.number(self.field, value as u64);
        Ok(true)
    }

    fn float<E: Error>(self, value: f64) -> Result<bool, E> {
        let shown = Unexpected::Float(value);
        // Beyond, a float cannot be any of our integers.
        if value.fract() != 0.0 || value.abs() > u64::MAX as f64 {
            return Err(E::invalid_value(shown, &self));
        }
        self.integer(value as i128, shown)
    }

    /// A number that is written as a string.
    fn quoted<E: Error>(self, text: &str) -> Result<bool, E> {
        let shown = Unexpected::Str(text);
        let number = if text.trim() == text { serde_json::from_str(text).ok() } else { None };
        let Some(number): Option<Number> = number else {
            return Err(E::invalid_value(shown, &self));
        };
        let integer = number.as_u64().map(i128::from).or(number.as_i64().map(i128::from));
        match (integer, number.as_f64()) {
            (Some(integer), _) => self.integer(integer, shown),
            (None, Some(float)) => self.float(float),
            (None, None) => Err(E::invalid_value(shown, &self)),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.field.kind {
            Kind::Bool => "a bool",
            Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 => "an integer in its range",
            Kind::String => "a string",
            Kind::Bytes => "bytes in base64",
            Kind::Enum(_) => "a name or number",
            Kind::Message(_) => "an object",
        };
        let list = if self.place == Place::List { "a list, each " } else { "" };
        write!(f, "{list}{kind} for field {:?}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        match self.place {
            Place::Single | Place::List => Ok(false),
            Place::Element => Err(E::invalid_type(Unexpected::Unit, &self)),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        match self.field.kind {
            Kind::Bool if self.place != Place::List => {
                self.out.number(self.field, u64::from(value));
                Ok(true)
            }
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.integer(value.into(), Unexpected::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.integer(value.into(), Unexpected::Signed(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.float(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        let shown = Unexpected::Str("…");
        match self.field.kind {
            _ if self.place == Place::List => Err(E::invalid_type(shown, &self)),
            Kind::String => {
                let begun = self.out.begin(self.field);
                self.out.bytes.extend_from_slice(text.as_bytes());
                self.out.end(begun);
                Ok(true)
            }
            Kind::Bytes => {
                let begun = self.out.begin(self.field);
                if base64::decode(text, &mut self.out.bytes).is_none() {
                    return Err(E::invalid_value(shown, &self));
                }
                self.out.end(begun);
                Ok(true)
            }
            Kind::Enum(listed) => {
                let found = listed.values.iter().find(|(name, _)| *name == text);
                found.map_or(Ok(false), |(_, number)| self.integer((*number).into(), shown))
            }
            Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 => self.quoted(text),
            Kind::Bool | Kind::Message(_) => Err(E::invalid_type(shown, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let Kind::Message(shape) = self.field.kind else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        if self.place == Place::List {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let begun = self.out.begin(self.field);
        Body { shape, out: self.out }.visit_map(map)?;
        self.out.end(begun);
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        if self.place != Place::List {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        let (field, out) = (self.field, self.out);
        while let Some(_there) =
            list.next_element_seed(Value { field, out, place: Place::Element })?
        {
            out.check()?;
        }
        Ok(true)
    }
}
