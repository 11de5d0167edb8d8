//! The transport's thread: everything between members happens on it, each stream in
//! both directions and what the member decides about its messages, so that none of it
//! waits for another thread to wake up.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use mainstay_server::Guest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

/// How work gets onto the thread. As much waits there as its callers let begin.
#[derive(Clone)]
pub(crate) struct Thread(mpsc::UnboundedSender<Guest>);

/// A task of the thread; it ends when this is dropped.
pub(crate) struct Task(oneshot::Sender<Infallible>);

impl Task {
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_closed()
    }
}

/// Ends the thread when it is told to, or dropped.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    join: JoinHandle<()>,
}

impl Thread {
    pub(crate) fn start() -> io::Result<(Thread, Running)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (guests, mut waiting) = mpsc::unbounded_channel::<Guest>();
        let (stop, mut stopped) = oneshot::channel();
        let join = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async {
                loop {
                    tokio::select! {
                        biased;
                        // A dropped sender is a stop as well.
                        _ = &mut stopped => return,
                        Some(guest) = waiting.recv() => drop(tokio::task::spawn_local(guest())),
                    }
                }
            });
            drop(local);
            // Reads of a file under way may take a moment; nobody waits for them.
            runtime.shutdown_background();
        })?;
        Ok((Thread(guests), Running { stop, join }))
    }

    /// Runs a task there until it or the thread ends.
    pub(crate) fn host(&self, guest: Guest) {
        // The thread has ended, and with it all of its tasks.
        let _ = self.0.send(guest);
    }

    /// Runs `future` there, for as long as the task is kept.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let (task, dropped) = oneshot::channel();
        self.host(Box::new(move || {
            Box::pin(async move {
                tokio::select! {
                    biased;
                    _ = dropped => {}
                    () = future => {}
                }
            })
        }));
        Task(task)
    }
}

impl Running {
    /// Ends the thread and all its tasks.
    pub(crate) fn stop(self) {
        // It may have ended already.
        let _ = self.stop.send(());
        if self.join.join().is_err() {
            tracing::error!("the thread of the peer transport has panicked");
        }
    }
}
