//! The command line: `--name value` and `--name`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What stood on the command line after the command.
pub(crate) struct Options(BTreeMap<String, String>);

impl Options {
    /// The command and its options.
    pub(crate) fn read(args: &[String]) -> Result<(String, Options), String> {
        let command = args.first().cloned().unwrap_or_default();
        let mut found = BTreeMap::new();
        let mut rest = args.iter().skip(1).peekable();
        while let Some(arg) = rest.next() {
            let name = arg.strip_prefix("--").ok_or_else(|| format!("{arg:?} is not a flag"))?;
            let value = rest.next_if(|next| !next.starts_with("--")).cloned().unwrap_or_default();
            found.insert(name.to_owned(), value);
        }
        Ok((command, Options(found)))
    }

    /// Refuses a flag that is not in `known`, so that a slip does not measure something else.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("--{name} is not known here")),
            None => Ok(()),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, String> {
        self.text(name).map(PathBuf::from).ok_or_else(|| format!("--{name} is missing"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> Result<T, String>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name).map_or(Ok(otherwise), |text| {
            text.parse().map_err(|e| format!("--{name}: {text:?}: {e}"))
        })
    }

    /// Seconds, with a fraction.
    pub(crate) fn seconds(&self, name: &str, otherwise: f64) -> Result<Duration, String> {
        let seconds = self.number(name, otherwise)?;
        Duration::try_from_secs_f64(seconds).map_err(|e| format!("--{name}: {seconds}: {e}"))
    }

    /// Whether to run plain, with TLS, or one after the other.
    pub(crate) fn transports(&self) -> Vec<bool> {
        match (self.has("plain"), self.has("tls")) {
            (true, false) => vec![false],
            (false, true) => vec![true],
            _ => vec![false, true],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (String, Options) {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Options::read(&args).expect("a good line")
    }

    #[test]
    fn reads_values_and_switches() {
        let (command, options) = read("compare --tls --rounds 3 --seconds 0.5");
        assert_eq!(command, "compare");
        assert_eq!(options.transports(), [true]);
        assert_eq!(options.number("rounds", 2), Ok(3));
        assert_eq!(options.number("keys", 7), Ok(7));
        assert_eq!(options.seconds("seconds", 5.0), Ok(Duration::from_millis(500)));
        assert!(options.only(&["tls", "rounds", "seconds"]).is_ok());
        assert!(options.only(&["tls", "rounds"]).is_err());
    }

    #[test]
    fn both_transports_unless_told() {
        assert_eq!(read("compare").1.transports(), [false, true]);
        assert_eq!(read("compare --plain --tls").1.transports(), [false, true]);
        assert_eq!(read("compare --plain").1.transports(), [false]);
    }

    #[test]
    fn refuses_what_is_no_flag() {
        assert!(Options::read(&["run".into(), "put".into()]).is_err());
        let (_, options) = read("run --rounds many --seconds -1");
        assert!(options.number("rounds", 2_usize).is_err());
    }
}
