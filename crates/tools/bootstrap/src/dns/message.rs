//! Messages of DNS: one question for SRV records, and the answer to it.

use crate::names::Service;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0 is well; see [`NAME_ERROR`].
    pub(super) code: u8,
    /// Whether there is more than fits.
    pub(super) truncated: bool,
    /// The SRV records among the answers.
    pub(super) services: Vec<Service>,
}

/// Bytes that are no message, or a name that cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed")]
pub(super) struct Malformed;

/// The code of a name that does not exist.
pub(super) const NAME_ERROR: u8 = 3;

const SRV: u16 = 33;
const INTERNET: u16 = 1;
/// Bytes before the question.
const HEADER: usize = 12;
/// Longest name on the wire (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// A question for the SRV records of `name`, which ends with a dot; recursion is wanted.
pub(super) fn question(id: u16, name: &str) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    out.extend(id.to_be_bytes());
    out.extend([1, 0]);
    out.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        match u8::try_from(label.len()) {
            Ok(len @ 1..=63) => out.push(len),
            _ => return Err(Malformed),
        }
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() - HEADER > NAME_BYTES_MAX {
        return Err(Malformed);
    }
    out.extend(SRV.to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    Ok(out)
}

/// Whether `answer` answers exactly this question: identity, the response bit, and the question
/// itself, in whichever case its letters come back.
pub(super) fn belongs(answer: &[u8], id: u16, question: &[u8]) -> bool {
    let asked = &question[HEADER..];
    answer.len() >= HEADER
        && answer[..2] == id.to_be_bytes()
        && answer[2] & 0x80 != 0
        && answer[4..6] == [0, 1]
        && answer.get(HEADER..question.len()).is_some_and(|q| q.eq_ignore_ascii_case(asked))
}

/// Reads an answer.
pub(super) fn read(message: &[u8]) -> Result<Answer, Malformed> {
    let header: &[u8; HEADER] = message.first_chunk().ok_or(Malformed)?;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let mut reader = Reader { message, at: HEADER };
    for _ in 0..count(4) {
        reader.name()?;
        reader.skip(4)?;
    }
    let truncated = header[2] & 0x02 != 0;
    let mut services = Vec::new();
    for _ in 0..count(6) {
        match reader.record() {
            Ok(Some(service)) => services.push(service),
            Ok(None) => {}
            // What was cut off is asked for again.
            Err(Malformed) if truncated => break,
            Err(Malformed) => return Err(Malformed),
        }
    }
    Ok(Answer { code: header[3] & 0x0f, truncated, services })
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) -> Result<&[u8], Malformed> {
        let end = self.at.checked_add(bytes).ok_or(Malformed)?;
        let found = self.message.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(found)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        let bytes = self.skip(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// One record; `None` when it is another kind.
    fn record(&mut self) -> Result<Option<Service>, Malformed> {
        self.name()?;
        let kind = (self.number()?, self.number()?);
        self.skip(4)?;
        let len = usize::from(self.number()?);
        let end = self.at + len;
        if kind != (SRV, INTERNET) {
            self.skip(len)?;
            return Ok(None);
        }
        let (priority, weight, port) = (self.number()?, self.number()?, self.number()?);
        let target = self.name()?;
        if self.at != end {
            return Err(Malformed);
        }
        Ok(Some(Service { priority, weight, port, target }))
    }

    /// A name, with the dot at its end. A pointer leads only backwards, so following ends; signs
    /// that are not ASCII become `?`, which is in no host's name.
    fn name(&mut self) -> Result<String, Malformed> {
        let mut text = String::new();
        let mut at = self.at;
        let mut after = None;
        let mut bytes = 1;
        loop {
            let len = *self.message.get(at).ok_or(Malformed)?;
            match len {
                0 => {
                    self.at = after.unwrap_or(at + 1);
                    return Ok(if text.is_empty() { ".".to_owned() } else { text });
                }
                1..=63 => {
                    let from = at + 1;
                    at = from + usize::from(len);
                    bytes += usize::from(len) + 1;
                    if bytes > NAME_BYTES_MAX {
                        return Err(Malformed);
                    }
                    let label = self.message.get(from..at).ok_or(Malformed)?;
                    // A dot inside a label would make two of one.
                    let sign = |&b: &u8| if b.is_ascii_graphic() && b != b'.' { b } else { b'?' };
                    text.extend(label.iter().map(|b| char::from(sign(b))));
                    text.push('.');
                }
                0xc0..=0xff => {
                    let low = *self.message.get(at + 1).ok_or(Malformed)?;
                    after.get_or_insert(at + 2);
                    let to = usize::from(len & 0x3f) << 8 | usize::from(low);
                    if to >= at {
                        return Err(Malformed);
                    }
                    at = to;
                }
                _ => return Err(Malformed),
            }
        }
    }
}
