//! Ways to break a disk under a process.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_interop::tool;

/// Waits for a condition.
///
/// # Panics
/// When it does not come true within 20 seconds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// strace attached to a process, answering calls on one path in the kernel's place.
pub(crate) struct Injection {
    strace: Child,
}

impl Injection {
    /// From now on `call` of `pid` on `path` fails with `error`. `None` when strace
    /// is missing, which was said.
    ///
    /// # Panics
    /// When strace may not attach.
    pub(crate) fn into(pid: u32, call: &str, error: &str, path: &str) -> Option<Injection> {
        Injection::of(pid, call, &format!("error={error}"), path)
    }

    /// From now on `call` of `pid` on `path` does what strace calls `what`. `None` as there.
    ///
    /// # Panics
    /// As there.
    pub(crate) fn of(pid: u32, call: &str, what: &str, path: &str) -> Option<Injection> {
        let strace = tool("strace", "--version")?;
        let mut command = Command::new(strace);
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string(), "-P", path])
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:{what}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut strace = command.spawn().expect("strace starts");
        until("strace holds every thread", || {
            if let Ok(Some(status)) = strace.try_wait() {
                let mut why = String::new();
                let stderr = strace.stderr.as_mut().expect("piped");
                // What it said so far is enough.
                let _ = stderr.read_to_string(&mut why);
                panic!("strace ended with {status}: {why}");
            }
            is_traced(pid)
        });
        Some(Injection { strace })
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It ends with the process that it watches; gone already is as good.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    })
}

/// A small disk in a mount namespace of its own: it goes away with the process that
/// holds the namespace, even when the test is killed.
pub(crate) struct Tmpfs {
    holder: Child,
    path: PathBuf,
}

/// Mounts, says so, and stays until its input ends.
const HOLD: &str = r#"mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && cat"#;

impl Tmpfs {
    /// A disk of so many megabytes at `folder`. `None` when the system allows no mounts,
    /// which was said.
    ///
    /// # Panics
    /// When it is not allowed while `MAINSTAY_REQUIRE_PEERS` is set.
    pub(crate) fn new(folder: &Path, megabytes: u64) -> Option<Tmpfs> {
        let at = folder.join("disk");
        fs::create_dir_all(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
        for flags in ["-m", "-rm"] {
            let mut command = Command::new("unshare");
            command
                .args([flags, "--propagation", "private", "sh", "-c", HOLD, "sh"])
                .arg(&at)
                .arg(format!("{megabytes}m"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let Ok(mut holder) = command.spawn() else { continue };
            let mut told = String::new();
            let stdout = holder.stdout.take().expect("piped");
            // No answer is as good as a refusal.
            let _ = BufReader::new(stdout).read_line(&mut told);
            if told.trim() == "mounted" {
                // Seen from outside through the holder.
                let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
                let path = root.join(at.strip_prefix("/").expect("absolute"));
                return Some(Tmpfs { holder, path });
            }
            // It has ended, or does now.
            let _ = holder.kill();
            let _ = holder.wait();
        }
        let message = "DID NOT RUN: no small disk, because unshare and mount are not allowed here";
        assert!(std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(), "{message}");
        eprintln!("\n*** {message}\n");
        None
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes what room is left, down to the last page.
    ///
    /// # Panics
    /// When it does not fill up.
    pub(crate) fn fill(&self) {
        let mut zeros = std::io::repeat(0);
        let ballast = self.ballast();
        let mut file = fs::File::create(&ballast).expect("there is room for a name");
        let error = std::io::copy(&mut zeros, &mut file).expect_err("the disk fills up");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{}", ballast.display());
    }

    /// Gives it back.
    ///
    /// # Panics
    /// When it was not filled.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Its input ends as well; gone already is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
