//! `grpc-message`: printable ASCII as it is, the rest as `%XX` (gRPC over HTTP/2).

use http::HeaderValue;

/// Encodes a status text for the `grpc-message` trailer.
pub(crate) fn encode(text: &str) -> HeaderValue {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(is_plain) {
        return HeaderValue::from_str(text).expect("printable ASCII is a header value");
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    HeaderValue::from_str(&out).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn only_what_must_be_is_encoded() {
        assert_eq!(encode("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(encode("100%\nü"), "100%25%0A%C3%BC");
        assert_eq!(encode(""), "");
    }
}
