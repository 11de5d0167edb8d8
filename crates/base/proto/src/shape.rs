//! What the messages of the client API look like, as tables.
//!
//! [`CALLS`] and the shapes that it leads to are generated from the descriptors (`cargo
//! xtask codegen`). Whoever translates messages into another form reads these tables
//! instead of naming each message.

mod generated {
    use super::{Call, Enum, Field, Kind, Shape};
    include!("generated/shapes.rs");
}

pub use generated::CALLS;

/// A call of the client API, with the shapes of its messages.
#[derive(Debug)]
pub struct Call {
    /// `/<package>.<Service>/<Method>`.
    pub path: &'static str,
    /// What the client sends.
    pub request: &'static Shape,
    /// What the server sends.
    pub response: &'static Shape,
}

/// A message. It has at most 64 fields, so that a word can tell which of them were seen.
pub struct Shape {
    /// `<package>.<Message>`.
    pub name: &'static str,
    /// Its fields, as declared.
    pub fields: &'static [Field],
}

impl std::fmt::Debug for Shape {
    /// Only the name: a shape may lead back to itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// Its name in the `.proto` file.
    pub name: &'static str,
    /// Its other name in JSON (`lowerCamelCase`).
    pub json: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether there may be many.
    pub repeated: bool,
    /// Which `oneof` of the message it belongs to: then it is there or not, also as zero.
    pub oneof: Option<u8>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `bool`.
    Bool,
    /// `int32`.
    Int32,
    /// `uint32`.
    Uint32,
    /// `int64`.
    Int64,
    /// `uint64`.
    Uint64,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// An enumeration.
    Enum(&'static Enum),
    /// A message.
    Message(&'static Shape),
}

/// An enumeration.
#[derive(Debug)]
pub struct Enum {
    /// Its values by name, as declared.
    pub values: &'static [(&'static str, i32)],
}

/// The call with this path.
pub fn call(path: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.path == path)
}
