//! Go's bbolt opens, checks and changes our files, and we open its. Needs `go`
//! and the module `go.etcd.io/bbolt`; says loudly when they are missing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use mainstay_bolt::{Bolt, Error, Goal, Reader, WriteBatch, write_compacted};
use mainstay_env_sim::SimDisk;

use crate::support::{Generator, PATH, State, open, options, read_all};

/// The Go program, built once, in a directory of its own.
struct Go {
    dir: PathBuf,
}

impl Go {
    fn build() -> Option<Self> {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gobolt");
        std::fs::create_dir_all(&dir).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gobolt");
        let built = Command::new("go")
            .args(["build", "-buildvcs=false", "-o"])
            .arg(dir.join("gobolt"))
            .arg(".")
            .current_dir(source)
            .output();
        let reason = match built {
            Ok(output) if output.status.success() => return Some(Self { dir }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => format!("no go here: {error}"),
        };
        // Straight to the handle: what a passing test prints with a macro is swallowed.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "\nSKIPPED, NOTHING CHECKED AGAINST GO'S BBOLT: {reason}").unwrap();
        None
    }

    /// Runs a command on a file with these bytes; what it printed and the file afterwards.
    fn run(&self, name: &str, bytes: &[u8], command: &str, args: &[&str]) -> (String, Vec<u8>) {
        let path = self.dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        let output = Command::new(self.dir.join("gobolt"))
            .env("BBOLT_VERIFY", "all")
            .arg(command)
            .arg(&path)
            .args(args)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gobolt {command} {}: {errors}", path.display());
        (String::from_utf8(output.stdout).unwrap(), std::fs::read(&path).unwrap())
    }
}

/// What `gobolt check` prints.
fn listing(state: &State) -> String {
    let mut out = String::new();
    for (name, rows) in state {
        writeln!(out, "{}", hex(name)).unwrap();
        for (key, value) in rows {
            writeln!(out, "{} {} {:016x}", hex(name), hex(key), fnv1a(value)).unwrap();
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn files_go_back_and_forth() {
    let Some(go) = Go::build() else { return };
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        let mut generator = Generator::new(seed);
        let mut state = State::new();
        for round in 0..4 {
            let mut bolt = open(&disk, 4096);
            for i in 0..12 {
                if seed % 2 == 1 && i % 4 == 0 {
                    let bytes = bolt.reader().in_use();
                    bolt.shrink(Goal { bytes, pack: i == 4 });
                }
                bolt.commit_moving(generator.batch(&mut state), 64 << 10).unwrap();
            }
            drop(bolt);
            let name = format!("db-{seed}");
            let ours = disk.contents(PATH).unwrap();
            let (printed, _) = go.run(&name, &ours, "check", &[]);
            assert!(printed == listing(&state), "seed {seed}, round {round}");
            let round = format!("{round}");
            let (_, mut theirs) = go.run(&name, &ours, "change", &[&round, "20"]);
            if seed % 2 == 0 {
                (_, theirs) = go.run(&name, &theirs, "freelist", &[]);
                disk.install("/stored", &theirs);
                let reader = Reader::open(&disk, "/stored".as_ref()).unwrap();
                assert_eq!(reader.check().unwrap(), [], "against the stored free list");
            }
            let (printed, theirs) = go.run(&name, &theirs, "check", &[]);
            disk.install(PATH, &theirs);
            let bolt = Bolt::open(&disk, PATH.as_ref(), options(4096)).unwrap();
            assert_eq!(bolt.check().unwrap(), []);
            state = read_all(&bolt.reader());
            assert!(printed == listing(&state), "seed {seed}, round {round}");
        }
    }
}

#[test]
fn nested_buckets_are_read_and_kept() {
    let Some(go) = Go::build() else { return };
    let disk = SimDisk::new(1);
    drop(open(&disk, 4096));
    let (_, made) = go.run("nested", &disk.contents(PATH).unwrap(), "nest", &[]);
    disk.install(PATH, &made);
    let mut bolt = open(&disk, 4096);
    let changed = |reader: &Reader| {
        let outer = reader.bucket(b"outer").unwrap().unwrap();
        assert_eq!(outer.buckets().unwrap(), ["deep", "inner"]);
        let inner = outer.bucket(b"inner").unwrap().unwrap();
        assert_eq!(inner.sequence(), 42);
        assert_eq!(inner.get(b"k").unwrap().unwrap(), "v");
        assert_eq!(outer.get(b"inner").unwrap(), None);
        let deep = outer.bucket(b"deep").unwrap().unwrap();
        assert_eq!(deep.buckets().unwrap(), ["deeper"]);
        let deeper = deep.bucket(b"deeper").unwrap().unwrap();
        let mut cursor = deeper.cursor();
        let mut rows = 0;
        while cursor.next().unwrap().is_some() {
            rows += 1;
        }
        assert_eq!(rows, 100);
    };
    changed(&bolt.reader());
    let mut batch = WriteBatch::new();
    for i in 0..300 {
        let key = Bytes::from(format!("row-{i:03}"));
        batch.put(b"outer", key, Bytes::from(vec![1; 200]));
    }
    bolt.commit(batch).unwrap();
    changed(&bolt.reader());
    bolt.shrink(Goal { bytes: 0, pack: true });
    for _ in 0..8 {
        bolt.commit_moving(WriteBatch::new(), 64 << 10).unwrap();
    }
    changed(&bolt.reader());
    assert_eq!(bolt.check().unwrap(), []);
    let (printed, _) = go.run("nested", &disk.contents(PATH).unwrap(), "check", &[]);
    assert_eq!(printed.lines().count(), 1 + 2 + 300);

    let mut batch = WriteBatch::new();
    batch.delete(b"outer", Bytes::from_static(b"inner"));
    assert!(matches!(bolt.commit(batch), Err(Error::Incompatible { .. })));
    let copied = write_compacted(&bolt.reader(), &disk, "/small".as_ref(), options(4096));
    assert!(matches!(copied, Err(Error::Nested { .. })));
    let mut batch = WriteBatch::new();
    batch.delete_bucket(b"outer");
    bolt.commit(batch).unwrap();
    assert_eq!(bolt.check().unwrap(), [], "the pages of nested buckets are free");
    assert_eq!(bolt.reader().in_use(), 3 * 4096);
}
