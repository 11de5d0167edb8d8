//! Where one JSON value ends and the next begins, in a stream that comes in pieces.

use bytes::{Buf as _, Bytes, BytesMut};

/// Cuts a stream into objects. It looks at every byte once, however small the pieces;
/// whether an object is well-formed is the reader's to say.
#[derive(Debug, Default)]
pub struct Values {
    waiting: BytesMut,
    /// How much of `waiting` has been looked at.
    seen: usize,
    /// Braces and brackets that are open.
    depth: usize,
    in_text: bool,
    escaped: bool,
}

/// What [`Values::cut`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut {
    /// The bytes of an object.
    Object(Bytes),
    /// Its end has not come yet. `begun` tells whether anything of one has.
    More {
        /// Something other than white space is waiting.
        begun: bool,
    },
    /// Something that is no object.
    Other,
}

impl Values {
    /// Takes the next piece. The caller bounds [`Values::waiting`].
    pub fn add(&mut self, piece: &[u8]) {
        self.waiting.extend_from_slice(piece);
    }

    /// Bytes that were added and not handed out.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next object.
    pub fn cut(&mut self) -> Cut {
        if self.seen == 0 {
            let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            let spaces = self.waiting.iter().take_while(space).count();
            self.waiting.advance(spaces);
            match self.waiting.first() {
                None => return Cut::More { begun: false },
                Some(b'{') => {}
                Some(_) => return Cut::Other,
            }
        }
        while let Some(byte) = self.waiting.get(self.seen) {
            self.seen += 1;
            match (self.in_text, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_text = !self.in_text,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let object = self.waiting.split_to(std::mem::take(&mut self.seen));
                        return Cut::Object(object.freeze());
                    }
                }
                _ => {}
            }
        }
        Cut::More { begun: true }
    }
}
