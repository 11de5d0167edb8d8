//! Passwords, from a terminal that does not show them or from a pipe.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::exit::Failure;

/// Shows the terminal's input again, whatever happens.
struct Hidden<'a, F: AsFd>(&'a F, rustix::termios::Termios);

impl<F: AsFd> Drop for Hidden<'_, F> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(self.0, OptionalActions::Now, &self.1);
    }
}

/// Asks on the terminal, which does not show what is typed. Without a terminal a line of
/// standard input is taken.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn ask(prompt: &str) -> Result<String, String> {
    let stdin = std::io::stdin();
    let mut out = std::io::stdout();
    let asked = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
    asked.map_err(|error| error.to_string())?;
    let modes = tcgetattr(&stdin).ok();
    let hidden = modes.map(|modes| {
        let mut quiet = modes.clone();
        quiet.local_modes &= !LocalModes::ECHO;
        quiet.local_modes |= LocalModes::ECHONL;
        // Who cannot be quiet is asked all the same, as etcdctl does.
        let _ = tcsetattr(&stdin, OptionalActions::Now, &quiet);
        Hidden(&stdin, modes)
    });
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    drop(hidden);
    match read {
        Ok(0) => Err("EOF".to_owned()),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks for a new password, twice.
pub(crate) fn ask_new(user: &str) -> Result<String, Failure> {
    let asked = |prompt: &str| {
        ask(prompt).map_err(|why| Failure::bad_args(format!("failed to ask password: {why}")))
    };
    let password = asked(&format!("Password of {user}: "))?;
    if password.is_empty() {
        return Err(Failure::bad_args("empty password"));
    }
    let again = asked(&format!("Type password of {user} again for confirmation: "))?;
    if password != again {
        return Err(Failure::bad_args("given passwords are different"));
    }
    Ok(password)
}

/// The first word of standard input (`--interactive=false`).
pub(crate) fn first_word() -> String {
    let mut word = Vec::new();
    for byte in std::io::stdin().lock().bytes() {
        match byte {
            Ok(b' ' | b'\t' | b'\r') if word.is_empty() => {}
            Ok(byte) if !byte.is_ascii_whitespace() => word.push(byte),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&word).into_owned()
}
