//! How a member is configured: one table of flags, and everything read from it.
//!
//! [`table`] lists every flag with its type, default, file key, status and help. The command
//! line, the environment, the YAML or JSON file, `--help`, `docs/flags.md` and the refusals are
//! all driven by it. [`load`] turns them into a typed [`Config`] that was checked by etcd's rules.
//!
//! Reads nothing by itself: arguments, variables and files arrive in an [`Input`].

mod args;
mod build;
mod ciphers;
mod config;
mod file;
pub mod gates;
mod greeting;
mod help;
pub mod number;
pub mod old;
mod rules;
mod settings;
pub mod table;
pub mod url;
mod variables;

use std::io;
use std::net::IpAddr;

pub use config::{
    AuditConfig, AuthConfig, AutoCompaction, BackendConfig, ClusterState, CompactionConfig, Config,
    DiscoveryConfig, KeepaliveConfig, LogConfig, LogFormat, LogOutput, LogRotation, Password,
    TlsFiles, TlsVersion,
};
pub use gates::{Gate, Gates};
pub use greeting::greeting;
pub use help::{flags_markdown, help, usage, version_lines};
pub use url::{Scheme, Url, UrlError};

/// Everything that decides a configuration, handed in by the program.
pub struct Input<'a> {
    /// Arguments without the program's name.
    pub args: &'a [String],
    /// The environment.
    pub env: &'a [(String, String)],
    /// Reads a file, for `--config-file`.
    pub read_file: &'a dyn Fn(&str) -> io::Result<String>,
    /// The address that this machine's default route leaves from. Asked only when a member that
    /// listens on every address has to say where it is.
    pub default_host: &'a dyn Fn() -> Option<IpAddr>,
}

/// What a start comes to.
#[derive(Debug)]
pub enum Loaded {
    /// Start with this.
    Run {
        /// The whole configuration, checked.
        config: Box<Config>,
        /// To be logged first.
        notices: Vec<Notice>,
    },
    /// Print and leave with `code`.
    Print {
        /// 0 for help and version, 2 for a command line that cannot be read.
        code: u8,
        /// For standard output.
        stdout: String,
        /// For standard error.
        stderr: String,
    },
    /// Log and leave with 1.
    Refused {
        /// Why.
        invalid: Invalid,
        /// To be logged first.
        notices: Vec<Notice>,
    },
}

/// A configuration that cannot be run, in etcd's words where tools or people know them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Something to log about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// For information.
    Info(String),
    /// Somebody should look.
    Warn(String),
    /// A variable that counted.
    UsedVariable {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// An `ETCD_` variable that means nothing here; a warning.
    UnknownVariable {
        /// Its name.
        name: String,
        /// What to use instead, when etcd once knew it.
        advice: Option<&'static str>,
    },
    /// A file that counted, and that arguments and variables did not.
    UsedFile {
        /// As given.
        path: String,
    },
}

impl Notice {
    pub(crate) fn warn(message: impl Into<String>) -> Notice {
        Notice::Warn(message.into())
    }
}

/// Reads, merges and checks everything.
pub fn load(input: &Input<'_>) -> Loaded {
    let args = match args::read(input.args) {
        Ok(args) => args,
        Err(args::Stop::Help) => {
            return Loaded::Print { code: 0, stdout: help(), stderr: usage() };
        }
        Err(args::Stop::Usage(line)) => {
            return Loaded::Print {
                code: 2,
                stdout: String::new(),
                stderr: format!("{line}\n{}", usage()),
            };
        }
    };
    let mut notices = Vec::new();
    match finish(args, input, &mut notices) {
        Ok(Some(config)) => Loaded::Run { config: Box::new(config), notices },
        Ok(None) => Loaded::Print { code: 0, stdout: version_lines(), stderr: String::new() },
        Err(invalid) => Loaded::Refused { invalid, notices },
    }
}

/// `None` asks for the version.
fn finish(
    mut args: args::Args,
    input: &Input<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Option<Config>, Invalid> {
    if let Some(word) = args.leftover {
        return Err(Invalid(format!("{word:?} is not a valid flag")));
    }
    let flag = |name| table::find(name).expect("both have their rows");
    if args.settings.value(flag("version")) == settings::Value::Bool(true) {
        return Ok(None);
    }
    let given = match args.settings.value(flag("config-file")) {
        settings::Value::Text(path) if !path.is_empty() => Some(path),
        _ => input.env.iter().find(|(name, _)| name == "ETCD_CONFIG_FILE").map(|(_, v)| v.clone()),
    };
    let mut settings = match given.filter(|path| !path.is_empty()) {
        Some(path) => {
            let text =
                (input.read_file)(&path).map_err(|e| Invalid(format!("open {path}: {e}")))?;
            let settings = file::read(&text, notices)?;
            notices.push(Notice::UsedFile { path });
            build::Source { settings, is_file: true }
        }
        None => {
            variables::apply(&mut args, input.env, notices)?;
            build::Source { settings: args.settings, is_file: false }
        }
    };
    settings.settings.rename(notices)?;
    let config = build::build(&settings, input.default_host, notices)?;
    rules::check(&config, &settings, notices)?;
    Ok(Some(config))
}

#[cfg(test)]
mod tests;
