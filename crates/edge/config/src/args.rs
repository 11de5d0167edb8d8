//! The command line, read as Go's `flag` package reads it.

use crate::old::{self, Renamed};
use crate::settings::{Settings, Value, kind_of_old};
use crate::table::{self, Flag, Kind, Status};

/// What a command line says.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) settings: Settings,
    /// The first word that belongs to no flag; reading stops there.
    pub(crate) leftover: Option<String>,
    /// Names as given, old ones too, for the check against the environment.
    pub(crate) given: Vec<String>,
}

/// Why there is no [`Args`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `-h` or `--help`.
    Help,
    /// A flag that cannot be read: this line, the usage, exit 2.
    Usage(String),
}

/// A name that may stand on a command line.
enum Known {
    Flag(&'static Flag),
    Old(&'static Renamed),
}

/// Reads `args`, which do not include the program's name.
pub(crate) fn read(args: &[String]) -> Result<Args, Stop> {
    let mut out = Args::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            out.leftover = Some(arg.clone());
            break;
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if arg == "--" {
            out.leftover = rest.next().cloned();
            break;
        }
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(Stop::Usage(format!("bad flag syntax: {arg}")));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let known = look_up(name)?;
        let kind = known.kind();
        let value = match inline {
            Some(value) => value,
            None if kind == Kind::Bool => "true",
            None => rest
                .next()
                .ok_or_else(|| Stop::Usage(format!("flag needs an argument: -{name}")))?,
        };
        out.take(known, name, kind, value)?;
    }
    Ok(out)
}

impl Args {
    fn take(&mut self, known: Known, name: &str, kind: Kind, text: &str) -> Result<(), Stop> {
        if let Known::Flag(flag) = &known
            && flag.status == Status::Ignored
        {
            return Ok(());
        }
        let value = Value::parse(kind, text).map_err(|why| {
            Stop::Usage(match kind {
                Kind::Bool => format!("invalid boolean value {text:?} for -{name}: {why}"),
                _ => format!("invalid value {text:?} for flag -{name}: {why}"),
            })
        })?;
        self.given.push(name.to_owned());
        match known {
            Known::Flag(flag) => self.settings.set(flag, value),
            Known::Old(row) => self.settings.set_old(row, value),
        }
        Ok(())
    }
}

impl Known {
    fn kind(&self) -> Kind {
        match self {
            Known::Flag(flag) => flag.kind,
            Known::Old(row) => kind_of_old(row),
        }
    }
}

fn look_up(name: &str) -> Result<Known, Stop> {
    if let Some(flag) = table::find(name) {
        return Ok(Known::Flag(flag));
    }
    if let Some(row) = old::renamed(name) {
        return Ok(Known::Old(row));
    }
    if matches!(name, "h" | "help") {
        return Err(Stop::Help);
    }
    let hint = old::removed(name).map(|row| format!("\n--{name} was removed: {}", row.advice));
    Err(Stop::Usage(format!("flag provided but not defined: -{name}{}", hint.unwrap_or_default())))
}
