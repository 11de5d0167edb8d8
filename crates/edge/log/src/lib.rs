//! Log lines in the shape that etcd's tools read: one JSON object per line, as zap writes them.
//!
//! ```text
//! {"level":"info","ts":"2026-01-02T15:04:05.000000Z","caller":"driver/boot.rs:7","msg":"ready","name":"m1"}
//! ```
//!
//! The whole is a [`tracing::Subscriber`], so every crate logs with `tracing`'s macros and knows
//! nothing of this one. Field names may be quoted literals (`"local-member-id" = %id`). Numbers
//! and booleans stay what they are; a field whose name ends in [`JSON_SUFFIX`] holds JSON that is
//! written as it stands under the name without the suffix (make it with [`json_strings`] or the
//! like). Times are UTC. Spans are not kept.

mod line;
mod sampler;
mod sink;
mod time;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber, span};

pub use line::{JSON_SUFFIX, json_string, json_strings};
pub use sink::{LogFile, Rotation};
pub use time::push_timestamp;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// Time, level, caller and message with tabs between, then the fields as JSON.
    Console,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to this file, which is created if missing.
    File(PathBuf),
}

/// What to log, how and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Lines of lesser weight are dropped. `OFF` is etcd's `panic` and `fatal`.
    pub level: LevelFilter,
    /// How lines look.
    pub format: Format,
    /// Every line goes to each of them.
    pub outputs: Vec<Output>,
    /// When files among the outputs start anew; never when `None`.
    pub rotation: Option<Rotation>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            level: LevelFilter::INFO,
            format: Format::Json,
            outputs: vec![Output::Stderr],
            rotation: None,
        }
    }
}

/// The level of etcd's `--log-level`; `None` for a word that is none.
pub fn level_named(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        "dpanic" | "panic" | "fatal" => LevelFilter::OFF,
        _ => return None,
    })
}

/// Makes a [`Logger`] of `settings` the logger of the whole process.
///
/// # Errors
///
/// When a file cannot be opened (the error names it), or the process has a logger already.
pub fn init(settings: &Settings) -> io::Result<()> {
    let logger = Logger::open(settings)?;
    tracing::subscriber::set_global_default(logger)
        .map_err(|_| io::Error::other("the process has a logger already"))
}

/// Writes events as lines.
pub struct Logger {
    level: LevelFilter,
    format: Format,
    sampler: sampler::Sampler,
    sinks: Mutex<Vec<sink::Sink>>,
}

impl Logger {
    /// Opens the outputs of `settings`.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened; the error names it.
    pub fn open(settings: &Settings) -> io::Result<Logger> {
        let sinks = settings
            .outputs
            .iter()
            .map(|output| sink::Sink::open(output, settings.rotation))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Logger::over(settings.level, settings.format, sinks))
    }

    /// A logger into `writer`, which gets each line in one call.
    pub fn into_writer(
        level: LevelFilter,
        format: Format,
        writer: Box<dyn io::Write + Send>,
    ) -> Logger {
        Logger::over(level, format, vec![sink::Sink::Writer(writer)])
    }

    fn over(level: LevelFilter, format: Format, sinks: Vec<sink::Sink>) -> Logger {
        Logger { level, format, sampler: sampler::Sampler::new(), sinks: Mutex::new(sinks) }
    }

    fn write(&self, line: &str, now_micros: i64) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        for sink in sinks.iter_mut() {
            // A log that cannot be written has nobody to be told to, and must not stop the member.
            let _ = sink.write(line.as_bytes(), now_micros);
        }
    }
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let now = now_micros();
        if !self.sampler.admits(event.metadata(), now) {
            return;
        }
        // Taken, not borrowed: a value may log while it is being formatted.
        let mut line = LINE.take();
        line.clear();
        line::render(&mut line, self.format, event, now);
        self.write(&line, now);
        if line.capacity() <= LINE_BYTES_KEPT {
            LINE.set(line);
        }
    }

    // Spans are never enabled; these answer for form's sake.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Microseconds since 1970; before it, 0.
fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

thread_local! {
    /// The line that this thread writes next, kept for its room.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// A line buffer larger than this is not kept for the next line.
const LINE_BYTES_KEPT: usize = 16 << 10;

#[cfg(test)]
mod tests;
