//! From calls to the file: a bounded queue, and one thread that writes.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_log::{LogFile, Rotation, push_timestamp};
use mainstay_types::limits::AUDIT_RECORDS_WAITING_MAX;
use tokio::sync::{mpsc, oneshot};

use crate::policy::{Detail, Policy};
use crate::record::Record;

/// Where lines go, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// When it starts anew; never when `None`.
    pub rotation: Option<Rotation>,
    /// What is recorded.
    pub policy: Policy,
}

/// Records since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that stand in the file.
    pub written: u64,
    /// Lines that could not be written, or found no room while their call was being given up.
    pub lost: u64,
}

/// The audit log of a member; clones share it. Its thread ends with the last of them.
#[derive(Clone)]
pub struct Trail {
    policy: Arc<Policy>,
    tally: Arc<Tally>,
    queue: mpsc::Sender<Said>,
}

/// What the thread is told.
enum Said {
    Record(Box<Record>),
    /// Answer once everything before it stands in the file.
    Flush(oneshot::Sender<()>),
}

#[derive(Default)]
struct Tally {
    written: AtomicU64,
    lost: AtomicU64,
}

/// Room for one record.
pub struct Slot(mpsc::OwnedPermit<Said>);

/// Mode of the file: what it tells is not for everybody.
const MODE: u32 = 0o600;
/// So many lines become one write.
const LINES_AT_ONCE: usize = 256;
/// Between two looks whether somebody has moved the file away.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Between two lines of the log about a file that cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Trail {
    /// Opens the file and starts to write.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not be started.
    pub fn start(settings: Settings) -> io::Result<Trail> {
        let file = LogFile::open(&settings.path, settings.rotation, MODE)?;
        let (queue, said) = mpsc::channel(AUDIT_RECORDS_WAITING_MAX);
        let tally = Arc::<Tally>::default();
        let writer = Writer {
            file,
            path: settings.path,
            tally: Arc::clone(&tally),
            told: 0,
            followed: Instant::now(),
            complained: None,
        };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        thread.spawn(move || writer.run(said))?;
        Ok(Trail { policy: Arc::new(settings.policy), tally, queue })
    }

    /// Whether a call of this name can come to be recorded.
    pub fn may_record(&self, call: &str) -> bool {
        self.policy.may_record(call)
    }

    /// Waits for room for one record. `None` when the thread has died: then nothing can be
    /// recorded, which is counted.
    pub async fn slot(&self) -> Option<Slot> {
        let slot = self.queue.clone().reserve_owned().await.ok().map(Slot);
        self.counted(slot)
    }

    /// Room for one record, if there is some now; without it the record is counted as lost.
    pub fn slot_now(&self) -> Option<Slot> {
        let slot = self.queue.clone().try_reserve_owned().ok().map(Slot);
        self.counted(slot)
    }

    fn counted(&self, slot: Option<Slot>) -> Option<Slot> {
        if slot.is_none() {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }

    /// Records a call as far as the policy wants it.
    pub fn record(&self, slot: Slot, mut record: Record) {
        match self.policy.detail_of(&record) {
            Detail::None => return,
            Detail::Call => record.asked = None,
            Detail::Keys => {}
        }
        slot.0.send(Said::Record(Box::new(record)));
    }

    /// Waits until everything that was recorded stands in the file.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Said::Flush(done)).await.is_ok() {
            // The thread has ended: then there is nothing to wait for.
            let _ = wait.await;
        }
    }

    /// How many lines there were.
    pub fn counts(&self) -> Counts {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Counts { written: read(&self.tally.written), lost: read(&self.tally.lost) }
    }
}

/// Turns what was recorded into lines.
struct Writer {
    file: LogFile,
    path: PathBuf,
    tally: Arc<Tally>,
    /// Lines lost so far that the file tells of.
    told: u64,
    followed: Instant,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, mut said: mpsc::Receiver<Said>) {
        let mut batch = Vec::with_capacity(LINES_AT_ONCE);
        while said.blocking_recv_many(&mut batch, LINES_AT_ONCE) > 0 {
            self.follow();
            let (mut lines, mut count, mut flushes) = (String::new(), 0, Vec::new());
            for said in batch.drain(..) {
                match said {
                    Said::Record(record) => {
                        record.push_line(&mut lines);
                        count += 1;
                    }
                    Said::Flush(done) => flushes.push(done),
                }
            }
            self.write(&lines, count);
            for done in flushes {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Takes up a new file when the old one was moved away.
    fn follow(&mut self) {
        if self.followed.elapsed() < FOLLOW_EVERY {
            return;
        }
        self.followed = Instant::now();
        if let Err(error) = self.file.follow_path() {
            self.complain(&error);
        }
    }

    fn write(&mut self, lines: &str, count: u64) {
        if count == 0 {
            return;
        }
        let now = now_micros();
        let lost = self.tally.lost.load(Ordering::Relaxed);
        let mut text = String::with_capacity(lines.len() + 80);
        if lost > self.told {
            push_gap(&mut text, now, lost - self.told);
        }
        text.push_str(lines);
        match self.file.write(text.as_bytes(), now) {
            Ok(()) => {
                self.told = lost;
                self.tally.written.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => {
                self.tally.lost.fetch_add(count, Ordering::Relaxed);
                self.complain(&error);
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY) {
            return;
        }
        self.complained = Some(Instant::now());
        tracing::error!(
            path = %self.path.display(),
            %error,
            lost = self.tally.lost.load(Ordering::Relaxed),
            "the audit log cannot be written; calls go on without it"
        );
    }
}

/// A line in the place of those that are missing.
fn push_gap(out: &mut String, now_micros: i64, lost: u64) {
    out.push_str("{\"ts\":\"");
    push_timestamp(out, now_micros);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\",\"lost\":{lost}}}");
}

/// Microseconds since 1970, by this machine's clock.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
