//! The program of `--stream-decoder`: a line of hexadecimal in, `STATUS|TEXT` out.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::place::plain;
use crate::{Failure, Run};

/// A decoder that runs.
pub(super) struct Decoder {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Decoder {
    /// Starts the program, its arguments separated by spaces.
    pub(super) fn start(command: &str) -> Result<Decoder, Failure> {
        let mut words = command.split(' ');
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| plain(format!("stream-decoder {command}: {e}")))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let to = to.expect("it was asked for");
        let from = BufReader::new(from.expect("it was asked for"));
        Ok(Decoder { child, to, from })
    }

    /// Status and text for the data of one entry.
    pub(super) fn ask(&mut self, data: &[u8]) -> Result<(String, String), Failure> {
        let mut line = String::with_capacity(2 * data.len() + 1);
        for byte in data {
            // Writing to a String cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        let failed = |e: std::io::Error| plain(format!("stream-decoder: {e}"));
        self.to.write_all(line.as_bytes()).map_err(failed)?;
        self.to.flush().map_err(failed)?;
        let mut answer = Vec::new();
        if self.from.read_until(b'\n', &mut answer).map_err(failed)? == 0 {
            return Err(Failure::error("stream-decoder: EOF"));
        }
        let answer = String::from_utf8_lossy(&answer).trim_end_matches('\n').to_owned();
        let parts: Vec<&str> = answer.split('|').collect();
        Ok(match parts.as_slice() {
            [status, text] => ((*status).to_owned(), (*text).to_owned()),
            [text] => {
                let status = "decoder output format is not right, print output anyway";
                (status.to_owned(), (*text).to_owned())
            }
            [status, rest @ ..] => {
                let warning = "(*WARNING: data might contain deliminator used by etcd-dump-logs)";
                (format!("{status}{warning}"), rest.concat())
            }
            [] => (String::new(), String::new()),
        })
    }

    /// Ends the program and passes on what it complained of.
    pub(super) fn end(mut self, run: &mut Run<'_>) -> Result<(), Failure> {
        drop(self.to);
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            // What cannot be read is not passed on.
            let _ = errors.read_to_string(&mut said);
        }
        let status = self.child.wait().map_err(plain)?;
        if !said.is_empty() {
            run.complain(&format!("decoder stderr: {said}"));
        }
        match status.success() {
            true => Ok(()),
            false => Err(Failure::error(format!("stream-decoder: {status}"))),
        }
    }
}
