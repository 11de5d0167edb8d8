//! Exit codes (etcdctl's own), and the errors that carry them.

use mainstay_print::args::Unreadable;

pub(crate) use mainstay_print::number::parse_int;

/// Any server or other error.
pub(crate) const ERROR: u8 = 1;
/// No connection.
pub(crate) const BAD_CONNECTION: u8 = 2;
/// Input that cannot be read.
pub(crate) const INVALID_INPUT: u8 = 3;
/// A value or form that is not supported.
pub(crate) const BAD_FEATURE: u8 = 4;
/// Ended from outside.
pub(crate) const INTERRUPTED: u8 = 5;
/// Wrong arguments.
pub(crate) const BAD_ARGS: u8 = 128;

/// Why the program ends with a code other than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Printed behind `Error: ` when not empty.
    pub(crate) message: String,
    /// Printed behind the message, as it is.
    pub(crate) usage: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), usage: String::new() }
    }

    pub(crate) fn error(message: impl Into<String>) -> Failure {
        Failure::new(ERROR, message)
    }

    pub(crate) fn bad_args(message: impl Into<String>) -> Failure {
        Failure::new(BAD_ARGS, message)
    }
}

impl From<Unreadable> for Failure {
    fn from(line: Unreadable) -> Failure {
        Failure { code: ERROR, message: line.message, usage: line.usage }
    }
}

impl From<tonic::Status> for Failure {
    /// clientv3 turns known texts into plain errors; others print as gRPC's.
    fn from(status: tonic::Status) -> Failure {
        Failure::error(status_text(&status))
    }
}

/// Texts of etcd's that its client does not know, and prints with their code.
const STRANGE: &[&str] = &[
    "etcdserver: invalid client api version",
    "etcdserver: watch canceled",
    "etcdserver: permission not given",
    "etcdserver: request timed out, waiting for the applied index took too long",
    "etcdserver: request timed out, leader transfer took too long",
    "etcdserver: request canceled",
    "etcdserver: context deadline exceeded",
    "etcdserver: unknown method",
];

/// A status as Go's client prints it.
pub(crate) fn status_text(status: &tonic::Status) -> String {
    use tonic::Code;
    let message = status.message();
    if status.code() == Code::DeadlineExceeded && !message.starts_with("etcdserver") {
        return "context deadline exceeded".to_owned();
    }
    if message.starts_with("etcdserver:") && !STRANGE.contains(&message) {
        return message.to_owned();
    }
    // Ours speak for themselves.
    if message.starts_with("mainstay:") {
        return message.to_owned();
    }
    format!("rpc error: code = {:?} desc = {message}", status.code())
}
