//! Exit codes (etcdutl's own), and the errors that carry them.

use mainstay_print::args::Unreadable;

/// Any error.
pub(crate) const ERROR: u8 = 1;
/// A form of output that a command does not have.
pub(crate) const BAD_FEATURE: u8 = 4;
/// Wrong arguments.
pub(crate) const BAD_ARGS: u8 = 128;

/// Why the program ends with a code other than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code: 1, 4 or 128.
    pub code: u8,
    /// Printed behind `Error: ` when not empty.
    pub message: String,
    /// Printed behind the message, as it is.
    pub usage: String,
}

impl Failure {
    /// With an exit code and a message.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), usage: String::new() }
    }

    /// Code 1.
    pub fn error(message: impl Into<String>) -> Failure {
        Failure::new(ERROR, message)
    }

    /// Wrong arguments: code 128.
    pub fn bad_args(message: impl Into<String>) -> Failure {
        Failure::new(BAD_ARGS, message)
    }
}

impl From<Unreadable> for Failure {
    fn from(line: Unreadable) -> Failure {
        Failure { code: ERROR, message: line.message, usage: line.usage }
    }
}
