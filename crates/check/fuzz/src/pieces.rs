//! Taking an input apart, and naming the kind of an outcome.

/// Cuts an input into numbers and byte strings. What is missing reads as zeros, so
/// that every input means something.
pub struct Pieces<'a> {
    rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// All of `input`.
    pub fn new(input: &'a [u8]) -> Pieces<'a> {
        Pieces { rest: input }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// The next eight bytes, little-endian.
    pub fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        number.fill_with(|| self.byte());
        u64::from_le_bytes(number)
    }

    /// A length of two bytes and as many bytes, or as many as there are.
    pub fn string(&mut self) -> &'a [u8] {
        let len = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// Appends what [`Pieces::string`] reads.
///
/// # Panics
/// When it is longer than 64 KiB.
pub fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    let len = u16::try_from(string.len()).expect("seeds are small");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(string);
}

/// Sums up how an input fared, step by step.
#[derive(Clone, Copy)]
pub struct Kind(u64);

impl Default for Kind {
    fn default() -> Kind {
        Kind(0xcbf2_9ce4_8422_2325)
    }
}

impl Kind {
    /// Adds a small number: a count of few values, or a variant.
    pub fn add(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a message, without its numbers and what it quotes of the input, of which there
    /// are too many.
    pub fn add_text(&mut self, text: &str) {
        let mut quoted = false;
        for byte in text.bytes().take(160) {
            quoted = match byte {
                b'"' | b'`' => !quoted,
                b'[' => true,
                b']' => false,
                _ => quoted,
            };
            if !quoted && byte.is_ascii_alphabetic() {
                self.add(u64::from(byte));
            }
        }
    }

    /// Adds the order of magnitude of a count.
    pub fn add_size(&mut self, count: usize) {
        self.add(u64::from((count as u64 + 1).ilog2()));
    }

    /// The sum.
    pub fn end(self) -> u64 {
        self.0
    }
}
