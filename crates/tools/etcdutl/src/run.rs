//! What a command works with: the disk, and where it prints.

use std::io::Write;
use std::panic::Location;
use std::sync::Arc;

use mainstay_env::{Clock as _, Disk};
use mainstay_env_os::OsClock;
use mainstay_print::json::Object;

use crate::exit::{BAD_FEATURE, Failure};

/// Form of the output, from `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Fields,
    Json,
    Protobuf,
    Simple,
    Table,
}

/// One run of the program.
pub struct Run<'a> {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: OsClock,
    pub(crate) form: Form,
    out: &'a mut dyn Write,
    log: &'a mut dyn Write,
}

impl<'a> Run<'a> {
    /// With a disk, standard output, and where messages go.
    pub fn new(disk: Arc<dyn Disk>, out: &'a mut dyn Write, log: &'a mut dyn Write) -> Run<'a> {
        Run { disk, clock: OsClock::new(), form: Form::Simple, out, log }
    }

    /// Takes the form of the output in.
    pub(crate) fn check_form(&mut self, text: &str) -> Result<(), Failure> {
        self.form = match text {
            "fields" => Form::Fields,
            "json" => Form::Json,
            "protobuf" => Form::Protobuf,
            "simple" => Form::Simple,
            "table" => Form::Table,
            _ => return Err(Failure::new(BAD_FEATURE, "unsupported output format")),
        };
        Ok(())
    }

    /// A line on standard output. A reader that went away is no failure.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    /// A line of bytes on standard output, as they are.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.out.write_all(bytes);
        let _ = self.out.write_all(b"\n");
    }

    /// A line on standard error, as it is.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.log, "{text}");
    }

    /// A line of the log, on standard error, as zap's console encoder prints it.
    #[track_caller]
    pub(crate) fn info(&mut self, message: &str, fields: Object) {
        self.note("info", Location::caller(), message, fields);
    }

    /// The same for a warning.
    #[track_caller]
    pub(crate) fn warn(&mut self, message: &str, fields: Object) {
        self.note("warn", Location::caller(), message, fields);
    }

    /// The same for an error that the program ends with.
    #[track_caller]
    pub(crate) fn error(&mut self, message: &str, fields: Object) {
        self.note("error", Location::caller(), message, fields);
    }

    fn note(&mut self, level: &str, at: &Location<'_>, message: &str, fields: Object) {
        let time = rfc3339(self.clock.wall().as_secs());
        let fields = match fields.end().spaced() {
            empty if empty == "{}" => String::new(),
            fields => format!("\t{fields}"),
        };
        let file = at.file().rsplit('/').next().unwrap_or_default();
        let caller = format!("etcdutl/{file}:{}", at.line());
        let _ = writeln!(self.log, "{time}\t{level}\t{caller}\t{message}{fields}");
    }
}

/// A time in UTC as RFC 3339 has it, to the second.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970-01-01: whole cycles of 400 years of 146,097
/// days, counted from a first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, of_cycle) = (days / 146_097, days % 146_097);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn days_are_counted() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_795_288_777), "2026-11-21T19:19:37Z");
    }
}
