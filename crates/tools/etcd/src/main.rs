//! `etcd`: reads the configuration, starts the log, and runs one member.

mod audit;
mod checks;
#[cfg(feature = "failpoints")]
mod failpoints;
mod report;
mod run;
mod self_made;
mod tokens;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;

use mainstay_config::{Config, Input, Loaded, LogFormat, greeting, load};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(proxy @ ("gateway" | "grpc-proxy")) = args.first().map(String::as_str) {
        return say(1, "", &format!("etcd {proxy} is not part of this release\n"));
    }
    let env: Vec<(String, String)> = std::env::vars_os()
        .map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()))
        .collect();
    let loaded = load(&Input {
        args: &args,
        env: &env,
        read_file: &|path| std::fs::read_to_string(path),
        default_host: &default_host,
    });
    match loaded {
        Loaded::Print { code, stdout, stderr } => say(code, &stdout, &stderr),
        Loaded::Refused { invalid, notices } => {
            // The log that was asked for is not known yet: standard error, JSON.
            if let Err(e) = mainstay_log::init(&mainstay_log::Settings::default()) {
                return say(1, "", &format!("etcd: {e}\n"));
            }
            report::notices(&notices);
            report::running(&args);
            tracing::warn!(error = %invalid, "failed to verify flags");
            ExitCode::FAILURE
        }
        Loaded::Run { config, notices } => start(*config, &args, &notices),
    }
}

/// Starts the log and the member.
fn start(mut config: Config, args: &[String], notices: &[mainstay_config::Notice]) -> ExitCode {
    let greets = config.all_defaults && io::stderr().is_terminal();
    if greets {
        config.log.format = LogFormat::Console;
        config.log.level = "error".to_owned();
    }
    if let Err(e) = mainstay_log::init(&report::log_settings(&config.log)) {
        return say(1, "", &format!("etcd: opening the log: {e}\n"));
    }
    end_on_panic();
    #[cfg(feature = "failpoints")]
    if let Err(e) = failpoints::start() {
        return say(1, "", &format!("etcd: failure points: {e}\n"));
    }
    report::started(&config, args, notices);
    let greet = |config: &Config, is_new: bool| {
        if greets {
            say(0, "", &greeting(config, is_new));
        }
    };
    match run::run(&config, greet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = %e, "failed to start etcd");
            ExitCode::FAILURE
        }
    }
}

/// A panic on any thread ends the process, with its text on standard error and Go's exit code:
/// what the member holds may be wrong from then on, so nobody is to be answered from it.
fn end_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::exit(PANIC_CODE);
    }));
}

/// Exit code of a Go program that panicked.
const PANIC_CODE: i32 = 2;

/// Prints, and gives the exit code. A closed stream is nobody to complain to.
fn say(code: u8, stdout: &str, stderr: &str) -> ExitCode {
    let _ = io::stderr().write_all(stderr.as_bytes());
    let _ = io::stdout().write_all(stdout.as_bytes());
    ExitCode::from(code)
}

/// The address that the default route leaves from. Connecting a UDP socket sends nothing; the
/// address is one of those set aside for documentation (RFC 5737).
fn default_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests;
