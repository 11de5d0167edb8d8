//! A member at rest: its directory, copies of it, and what a start says of a damaged one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Member, Start, free_ports};
use mainstay_proto::etcdserverpb as pb;

use crate::raw::{Raw, talk};

/// How a start that failed ended.
pub(crate) struct Refusal {
    /// The exit status.
    pub(crate) code: Option<i32>,
    /// Standard error.
    pub(crate) log: String,
}

impl Refusal {
    #[track_caller]
    pub(crate) fn assert_says(&self, words: &[&str]) {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "exit status {:?}: {}",
            self.code,
            self.log
        );
        for word in words {
            assert!(self.log.contains(word), "{word:?} is not in:\n{}", self.log);
        }
        assert!(!self.log.contains("panicked"), "{}", self.log);
    }
}

/// Starts a command that must end by itself.
///
/// # Panics
/// When it does not.
pub(crate) fn refused(mut command: Command, log: &Path) -> Refusal {
    let file = fs::File::create(log).expect("a log");
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("our own program");
    let patience = Instant::now() + Duration::from_secs(40);
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if Instant::now() > patience {
            child.kill().expect("our own child");
            panic!("it runs; it logged:\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::yield_now();
    };
    Refusal { code: status.code(), log: fs::read_to_string(log).expect("the log") }
}

/// Keys in a directory at rest.
pub(crate) const KEYS: usize = 40;

/// A directory with [`KEYS`] keys and a few snapshots, at rest.
pub(crate) struct Rest {
    folder: Folder,
    start: Start,
}

impl Rest {
    pub(crate) fn new(name: &str) -> Rest {
        let folder = Folder::new(name);
        let start =
            Start::new(Kind::Ours, &folder.path().join("m.etcd")).flag("--snapshot-count=10");
        let member = start.run().expect("ours is never missing");
        talk(async {
            let raw = Raw::connect(&member.endpoint()).await;
            for n in 0..KEYS {
                let (key, value) = (format!("key-{n}").into(), vec![b'v'; 100].into());
                let put = pb::PutRequest { key, value, ..Default::default() };
                let _: pb::PutResponse = raw.ask("/etcdserverpb.KV/Put", &put).await;
            }
        });
        member.stop();
        Rest { folder, start }
    }

    /// The path of a file of the member.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.start.data_dir.join("member").join(below)
    }

    /// The newest file in a folder of the member whose name ends so.
    pub(crate) fn newest(&self, below: &str, end: &str) -> PathBuf {
        let entries = fs::read_dir(self.path(below)).expect("a folder");
        let paths = entries.map(|entry| entry.expect("listed").path());
        let named = |path: &PathBuf| path.to_string_lossy().ends_with(end);
        paths.filter(named).max().unwrap_or_else(|| panic!("no {end} in {below}"))
    }

    /// A start that is refused in these words, and changes nothing.
    #[track_caller]
    pub(crate) fn assert_refused(&self, words: &[&str]) {
        self.assert_refused_with(&[], words);
    }

    /// The same with more flags.
    #[track_caller]
    pub(crate) fn assert_refused_with(&self, flags: &[&str], words: &[&str]) {
        let before = contents(&self.start.data_dir);
        let log = self.folder.path().join("refused.log");
        let mut command = self.again().command().expect("ours is never missing");
        command.args(flags);
        let refusal = refused(command, &log);
        refusal.assert_says(words);
        let after = contents(&self.start.data_dir);
        let names = |all: &BTreeMap<PathBuf, u64>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after), "the same files");
        assert_eq!(before, after, "the same bytes");
    }

    /// A start that works, with every key there.
    pub(crate) fn assert_serves(&self) -> Member {
        let member = self.again().run().expect("ours is never missing");
        talk(async {
            let raw = Raw::connect(&member.endpoint()).await;
            let (key, range_end) = ("key-".into(), "key.".into());
            let all = pb::RangeRequest { key, range_end, ..Default::default() };
            let read: pb::RangeResponse = raw.ask("/etcdserverpb.KV/Range", &all).await;
            assert_eq!(read.kvs.len(), KEYS);
        });
        member
    }

    /// The next start: on other ports, as somebody else may have taken the old ones.
    fn again(&self) -> Start {
        Start { ports: free_ports(), ..self.start.clone() }
    }

    /// How it is started.
    pub(crate) fn start(&self) -> &Start {
        &self.start
    }
}

/// Every file and folder below `root`, with a sum of its bytes; but for the checksums of the
/// db's pages, which any opening takes anew of a db that somebody else has changed.
fn contents(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let sum = if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            todo.extend(entries.map(|entry| entry.expect("listed").path()));
            0
        } else if path.ends_with("mainstay/pages") {
            0
        } else {
            let bytes = fs::read(&path).expect("a file");
            // Segments are 64 MB of zeros at their ends: eight bytes at a time.
            let words = bytes.chunks(8).map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(word)
            });
            words.fold(bytes.len() as u64, |sum, word| {
                (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7)
            })
        };
        found.insert(path, sum);
    }
    found
}
