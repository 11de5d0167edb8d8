//! A request's headers as the metadata of the call that it makes.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::grpc::timeout;
use crate::status::{Code, Status};

/// Headers with this prefix are metadata, without it.
const PREFIX: &str = "grpc-metadata-";

/// What the call is told: `Authorization` as it is, and every `Grpc-Metadata-NAME` as NAME.
/// Values that are not printable are passed over, as are the names of gRPC's own headers.
pub(crate) fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut told = marked();
    for (name, value) in headers {
        let inner = name.as_str().strip_prefix(PREFIX).map(str::as_bytes);
        let name = match inner.map(HeaderName::from_bytes) {
            Some(Ok(inner)) if !inner.as_str().starts_with("grpc-") => inner,
            None if name == AUTHORIZATION => AUTHORIZATION,
            _ => continue,
        };
        if is_printable(value) {
            told.append(name, value.clone());
        }
    }
    told
}

/// Metadata that says that the call comes through the gateway: its connection's certificate
/// is nobody's identity then (CVE-2018-16886).
pub(crate) fn marked() -> HeaderMap {
    let mut told = HeaderMap::new();
    told.insert(MARK, HeaderValue::from_static("*/*"));
    told
}

/// etcd's own mark.
pub(crate) const MARK: HeaderName = HeaderName::from_static("grpcgateway-accept");

fn is_printable(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte))
}

/// How long the client will wait (`Grpc-Timeout`).
///
/// # Errors
/// When it is not a time.
pub(crate) fn patience(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match timeout::parse(value.as_bytes()) {
        // Zero is none, not one that has passed (grpc-gateway).
        Ok(patience) => Ok(Some(patience).filter(|patience| !patience.is_zero())),
        Err(_) => {
            let shown = String::from_utf8_lossy(value.as_bytes());
            let text = format!("invalid grpc-timeout: {shown}");
            Err(Status::new(Code::InvalidArgument, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_the_call_gets_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "t1"),
            ("grpc-metadata-token", "t2"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-timeout", "1S"),
            ("grpc-metadata-", "x"),
            ("token", "stolen"),
            ("hasleader", "true"),
        ] {
            let value = HeaderValue::from_static(value);
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
        }
        let bad = HeaderValue::from_bytes(b"\xff").expect("opaque");
        headers.append("grpc-metadata-bad", bad);
        let told = metadata(&headers);
        let text = |value: &HeaderValue| value.to_str().expect("ASCII").to_owned();
        let mut names: Vec<_> =
            told.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        names.sort_by_key(|(name, _)| *name);
        let told = [
            ("authorization", "t1"),
            ("grpcgateway-accept", "*/*"),
            ("hasleader", "true"),
            ("token", "t2"),
        ];
        assert_eq!(names, told.map(|(name, value)| (name, value.to_owned())));
    }
}
