//! The global flags, the environment, and the connections that they describe.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_client::{Client, ConnectError, Login, Options};

use crate::exit::{BAD_ARGS, BAD_CONNECTION, BAD_FEATURE, Failure};
use crate::flags::GLOBAL;
use crate::password;
use crate::show::{Show, complain};
use mainstay_print::args::Line;

/// One run of the program.
pub(crate) struct Session {
    pub(crate) line: Line,
    pub(crate) show: Show,
    login: Option<Login>,
}

impl Session {
    /// Takes the environment in and checks the global flags.
    pub(crate) fn new(mut line: Line) -> Result<Session, Failure> {
        take_environment(&mut line)?;
        let mut show = Show::new(line.text("write-out"), line.is("hex"))?;
        show.value_only = line.command.name == "get" && line.is("print-value-only");
        for name in ["cert", "key", "cacert"] {
            if line.given(name) && line.text(name).is_empty() {
                let message = format!("empty string is passed to --{name} option");
                return Err(Failure::new(BAD_ARGS, message));
            }
        }
        if !line.text("discovery-srv").is_empty() {
            let message = "--discovery-srv is not supported yet; give --endpoints";
            return Err(Failure::new(BAD_FEATURE, message));
        }
        if line.is("debug") {
            for flag in GLOBAL.iter().filter(|f| line.given(f.name)) {
                complain(&format!("{}={}", variable(flag.name), line.text(flag.name)));
            }
        }
        let login = login(&line)?;
        Ok(Session { line, show, login })
    }

    /// The endpoints, trimmed.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.line.text("endpoints").split(',').map(|e| e.trim().to_owned()).collect()
    }

    /// A connection to the first endpoint that answers.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        match self.first_of(&self.endpoints()).await {
            Ok(client) => Ok(client),
            Err(ConnectError::Refused(status)) => {
                Err(Failure { code: BAD_CONNECTION, ..status.into() })
            }
            Err(ConnectError::Transport(_)) => Err(Failure::error("context deadline exceeded")),
            Err(error) => Err(Failure::new(BAD_CONNECTION, error.to_string())),
        }
    }

    /// A connection to one endpoint.
    pub(crate) async fn connect(&self, endpoint: &str) -> Result<Client, ConnectError> {
        self.first_of(&[endpoint.to_owned()]).await
    }

    /// One attempt to connect.
    pub(crate) async fn try_connect(&self, endpoint: &str) -> Result<Client, ConnectError> {
        Client::connect(endpoint, &self.options()).await
    }

    /// A connection to the first of some endpoints that answers. Who refuses is tried
    /// again until the command's time is over, as Go's client does.
    async fn first_of(&self, endpoints: &[String]) -> Result<Client, ConnectError> {
        let patience = tokio::time::Instant::now() + self.line.duration("command-timeout");
        loop {
            let mut last = None;
            for endpoint in endpoints {
                match self.try_connect(endpoint).await {
                    Ok(client) => return Ok(client),
                    Err(error) => last = Some(error),
                }
            }
            match last {
                Some(ConnectError::Transport(_)) if tokio::time::Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Some(error) => return Err(error),
                // The list has an entry, be it an empty one.
                None => return Err(ConnectError::Endpoint(String::new())),
            }
        }
    }

    fn options(&self) -> Options {
        let line = &self.line;
        let path = |name: &str| Some(line.text(name)).filter(|p| !p.is_empty()).map(PathBuf::from);
        let or = |n: i64, otherwise| if n > 0 { n as usize } else { otherwise };
        let defaults = Options::default();
        Options {
            dial_timeout: line.duration("dial-timeout"),
            keepalive_time: line.duration("keepalive-time"),
            keepalive_timeout: line.duration("keepalive-timeout"),
            send_bytes_max: or(line.int("max-request-bytes"), defaults.send_bytes_max),
            receive_bytes_max: or(line.int("max-recv-bytes"), defaults.receive_bytes_max),
            ca_file: path("cacert"),
            identity: path("cert").zip(path("key")),
            skip_verify: line.is("insecure-skip-tls-verify"),
            login: self.login.clone(),
        }
    }

    /// Runs a short command within `--command-timeout`.
    pub(crate) async fn timed<T>(
        &self,
        work: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.line.duration("command-timeout"), work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(Failure::error("context deadline exceeded")),
        }
    }
}

/// Who the flags say the user is. A token goes before a password; a name alone is asked for
/// its password.
fn login(line: &Line) -> Result<Option<Login>, Failure> {
    let token = line.text("auth-jwt-token");
    if !token.is_empty() {
        return Ok(Some(Login::Token(token.to_owned())));
    }
    let (user, password) = (line.text("user"), line.text("password"));
    let (user, password) = match user.split_once(':') {
        _ if user.is_empty() => return Ok(None),
        _ if !password.is_empty() => (user, password.to_owned()),
        Some((user, password)) => (user, password.to_owned()),
        None => (user, password::ask("Password: ").map_err(Failure::error)?),
    };
    Ok(Some(Login::Password { user: user.to_owned(), password }))
}

fn variable(flag: &str) -> String {
    format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"))
}

/// `ETCDCTL_` variables are global flags; giving both is refused, unknown ones warn.
fn take_environment(line: &mut Line) -> Result<(), Failure> {
    let known_elsewhere: &[&str] = match line.command.name {
        "watch" => &["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"],
        _ => &[],
    };
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("ETCDCTL_")) {
        let Some(flag) = GLOBAL.iter().find(|f| variable(f.name) == name) else {
            if !known_elsewhere.contains(&name.as_str()) {
                complain(&format!(
                    "{{\"level\":\"warn\",\"msg\":\"unrecognized environment variable\",\"environment-variable\":{:?}}}",
                    format!("{name}={value}")
                ));
            }
            continue;
        };
        if line.given(flag.name) {
            // A line of the log and no error, as etcdctl's.
            complain(&format!(
                "{{\"level\":\"fatal\",\"msg\":\"conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))\",\"environment-variable\":{name:?}}}"
            ));
            return Err(Failure::error(""));
        }
        if value.is_empty() {
            continue;
        }
        line.set(flag, value)?;
    }
    Ok(())
}
