//! A program under test: its folder, its arguments, its log line by line, its end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

/// Nothing here takes longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh folder, removed at the end of a test that passes.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a unix socket has room for about a hundred bytes.
        let path = std::env::temp_dir().join(format!("etcd-start-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder below the temporary one");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of `name` in it, as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a temporary path is UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).expect("the folder takes files");
        self.at(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.0.display());
        } else {
            // A left-over folder in the temporary one is no failure.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Our own binary.
pub(crate) fn ours() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Flags of a member that listens on any port, with its data in `folder`.
pub(crate) fn anywhere(folder: &Folder) -> Vec<String> {
    let mut flags = vec!["--name=m1".to_owned(), format!("--data-dir={}", folder.at("data"))];
    flags.extend(any_ports());
    flags
}

/// Flags that listen on any port.
pub(crate) fn any_ports() -> Vec<String> {
    [
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:0",
        "--listen-peer-urls=http://127.0.0.1:0",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[derive(Default)]
struct Told {
    lines: Vec<String>,
    /// The stream has ended: nothing will be added.
    closed: bool,
}

/// A running program whose lines are collected as they come.
pub(crate) struct Program {
    child: Child,
    told: Arc<(Mutex<Told>, Condvar)>,
}

impl Program {
    /// Starts `command` and collects what it writes to standard error.
    pub(crate) fn start(mut command: Command) -> Program {
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stream = child.stderr.take().expect("it is piped");
        Program { child, told: collect(stream) }
    }

    /// Starts `command` with a terminal as its standard output and error.
    pub(crate) fn start_on_terminal(mut command: Command) -> Program {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("a terminal that we may use");
        unlockpt(&ours).expect("a terminal that opens");
        let name = ptsname(&ours, Vec::new()).expect("the terminal has a name");
        let name = name.to_str().expect("its name is ASCII").to_owned();
        let open = || File::options().read(true).write(true).open(&name).expect("it opens");
        command.stdout(open()).stderr(open());
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        // Our copies of the child's end; while they live the terminal never ends.
        drop(command);
        Program { child, told: collect(File::from(ours)) }
    }

    /// Waits until `found` finds something among the lines.
    pub(crate) fn wait<T>(&self, what: &str, found: impl Fn(&[String]) -> Option<T>) -> T {
        let (told, changed) = &*self.told;
        let deadline = Instant::now() + PATIENCE;
        let mut told = told.lock().expect("no reader panics");
        loop {
            if let Some(found) = found(&told.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let lines = told.lines.join("\n");
            assert!(!told.closed && !left.is_zero(), "no {what} in\n{lines}");
            told = changed.wait_timeout(told, left).expect("no reader panics").0;
        }
    }

    /// Waits for a log line with `part` in its message.
    pub(crate) fn wait_line(&self, part: &str) -> Json {
        self.wait(part, |lines| line_with(lines, part))
    }

    /// Waits until it serves; the URLs under `key` of the line that says where.
    pub(crate) fn serving(&self, key: &str) -> Vec<String> {
        self.wait_line("ready to serve client requests");
        let line = self.wait_line("now serving peer/client/metrics");
        let urls = line[key].as_array().unwrap_or_else(|| panic!("no {key} in {line}"));
        urls.iter().map(|url| url.as_str().expect("a URL").to_owned()).collect()
    }

    /// Waits until it serves; its first client URL.
    pub(crate) fn client_url(&self) -> String {
        self.serving("listen-client-urls").remove(0)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child");
    }

    /// Waits for its end; the status and everything it said.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let (told, changed) = &*self.told;
        let mut told = told.lock().expect("no reader panics");
        while !told.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no end; it said\n{}", told.lines.join("\n"));
            told = changed.wait_timeout(told, left).expect("no reader panics").0;
        }
        let status = self.child.wait().expect("our own child");
        (status, told.lines.clone())
    }

    /// Ends it as an operator does and holds that it ended by the signal, and well.
    pub(crate) fn stop(self) -> Vec<String> {
        self.signal(Signal::TERM);
        let (status, lines) = self.end();
        assert_eq!(status.signal(), Some(15), "{status}: {lines:#?}");
        lines
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<(Mutex<Told>, Condvar)> {
    let told = Arc::new((Mutex::new(Told::default()), Condvar::new()));
    let shared = Arc::clone(&told);
    std::thread::spawn(move || {
        let (told, changed) = &*shared;
        // A terminal whose last writer has gone answers with an error instead of an end.
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            told.lock().expect("no test panics holding it").lines.push(line);
            changed.notify_all();
        }
        told.lock().expect("no test panics holding it").closed = true;
        changed.notify_all();
    });
    told
}

/// The first line with `part` in its message.
pub(crate) fn line_with(lines: &[String], part: &str) -> Option<Json> {
    lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok())
        .find(|line| line["msg"].as_str().is_some_and(|msg| msg.contains(part)))
}

/// Runs a command that ends by itself: exit code, standard output, standard error.
pub(crate) fn outcome(mut command: Command) -> (i32, String, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut program = Program::start(command);
    let mut stdout = program.child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let (status, lines) = program.end();
    let stdout = reader.join().expect("no panic in it").expect("etcd speaks UTF-8");
    (status.code().unwrap_or(-1), stdout, lines.join("\n"))
}
