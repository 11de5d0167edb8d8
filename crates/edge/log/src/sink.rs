//! Where lines end up: streams, and files that start anew when they are full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{Output, time};

/// When a file is full and how much of the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would grow past this many bytes is put aside first. At least 1.
    pub bytes_max: u64,
    /// Files put aside that are kept, newest first; 0 keeps all.
    pub backups_max: usize,
    /// Days for which they are kept; 0 keeps them for ever.
    pub days_max: u32,
}

/// One destination.
pub(crate) enum Sink {
    Writer(Box<dyn Write + Send>),
    File(LogFile),
}

impl Sink {
    pub(crate) fn open(output: &Output, rotation: Option<Rotation>) -> io::Result<Sink> {
        Ok(match output {
            Output::Stderr => Sink::Writer(Box::new(io::stderr())),
            // Rust buffers standard output by line, and we write whole lines.
            Output::Stdout => Sink::Writer(Box::new(io::stdout())),
            Output::File(path) => Sink::File(LogFile::open(path, rotation, SHARED)?),
        })
    }

    pub(crate) fn write(&mut self, line: &[u8], now_micros: i64) -> io::Result<()> {
        match self {
            Sink::Writer(writer) => {
                writer.write_all(line)?;
                writer.flush()
            }
            Sink::File(file) => file.write(line, now_micros),
        }
    }
}

/// Mode of files that collectors of other users read, before the umask.
const SHARED: u32 = 0o666;

/// A file that is appended to, and put aside for a new one when it is full.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Option<Rotation>,
    mode: u32,
    /// Time in the name of the last file put aside here.
    last_stamp: i64,
}

impl LogFile {
    /// Opens the file at `path`, or makes it with `mode`, less the umask. One that is there keeps
    /// its mode.
    ///
    /// # Errors
    /// What the operating system says, with the path.
    pub fn open(path: &Path, rotation: Option<Rotation>, mode: u32) -> io::Result<LogFile> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let file = append_to(path, mode).map_err(named)?;
        let bytes = file.metadata().map_err(named)?.len();
        let (path, last_stamp) = (path.to_owned(), i64::MIN);
        Ok(LogFile { path, file, bytes, rotation, mode, last_stamp })
    }

    /// Opens the path anew when somebody else has moved the file away, as logrotate does.
    ///
    /// # Errors
    /// What the operating system says; then the file that is open goes on.
    pub fn follow_path(&mut self) -> io::Result<()> {
        let there = match fs::metadata(&self.path) {
            Ok(there) => Some((there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let own = self.file.metadata()?;
        if there != Some((own.dev(), own.ino())) {
            self.file = append_to(&self.path, self.mode)?;
            self.bytes = self.file.metadata()?.len();
        }
        Ok(())
    }

    /// Appends a line, or several, to one file; `now_micros` since 1970 is what the time in the
    /// name of a file that is put aside comes from.
    ///
    /// # Errors
    /// What the operating system says. Part of the line may stand there.
    pub fn write(&mut self, line: &[u8], now_micros: i64) -> io::Result<()> {
        let size = line.len() as u64;
        if let Some(rotation) = self.rotation
            && self.bytes > 0
            && self.bytes + size > rotation.bytes_max
        {
            // A rotation that fails leaves the line to the file that is open.
            let _ = self.rotate(rotation, now_micros);
        }
        self.file.write_all(line)?;
        self.bytes += size;
        Ok(())
    }

    fn rotate(&mut self, rotation: Rotation, now_micros: i64) -> io::Result<()> {
        // Two rotations within a millisecond would share a name, so later ones step ahead; never
        // back to a name whose file has gone, or the newest would look like the oldest.
        let mut stamp = now_micros.max(self.last_stamp.saturating_add(1000));
        while self.backup(stamp).exists() {
            stamp += 1000;
        }
        fs::rename(&self.path, self.backup(stamp))?;
        self.last_stamp = stamp;
        self.file = append_to(&self.path, self.mode)?;
        self.bytes = 0;
        self.drop_old(rotation, now_micros)
    }

    /// `dir/name-STAMP.ext`, the name that Go's lumberjack gives.
    fn backup(&self, micros: i64) -> PathBuf {
        let (stem, extension) = self.name_parts();
        self.path.with_file_name(format!("{stem}-{}{extension}", time::file_stamp(micros)))
    }

    /// Name without extension, and the extension with its dot.
    fn name_parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let extension = text(self.path.extension());
        let dotted = if extension.is_empty() { String::new() } else { format!(".{extension}") };
        (text(self.path.file_stem()), dotted)
    }

    /// Removes files put aside that are too many or too old. Names of the form [`Self::backup`]
    /// only, so that a neighbour's file is never taken for one.
    fn drop_old(&self, rotation: Rotation, now_micros: i64) -> io::Result<()> {
        let (stem, extension) = self.name_parts();
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mut stamps: Vec<String> = fs::read_dir(dir)?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()))
            .filter_map(|name| {
                let stamp =
                    name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension)?;
                is_stamp(stamp).then(|| stamp.to_owned())
            })
            .collect();
        // Stamps sort as their times do.
        stamps.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = time::file_stamp(now_micros - i64::from(rotation.days_max) * 86_400_000_000);
        for (rank, stamp) in stamps.iter().enumerate() {
            let many = rotation.backups_max > 0 && rank >= rotation.backups_max;
            let old = rotation.days_max > 0 && *stamp < oldest;
            if many || old {
                fs::remove_file(dir.join(format!("{stem}-{stamp}{extension}")))?;
            }
        }
        Ok(())
    }
}

/// Whether `text` has the form of [`time::file_stamp`].
fn is_stamp(text: &str) -> bool {
    let form = b"0000-00-00T00-00-00.000";
    text.len() == form.len()
        && text
            .bytes()
            .zip(form)
            .all(|(b, f)| if *f == b'0' { b.is_ascii_digit() } else { b == *f })
}

fn append_to(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)
}
