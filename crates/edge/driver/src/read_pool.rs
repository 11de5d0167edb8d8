//! A few threads for disk reads and long scans, so that a shard never blocks.

use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::handle::RequestError;

/// Work for the pool.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// Work that may wait; past it the asker is refused (ours).
const QUEUE_MAX: usize = 4096;

/// The pool. Its threads end once every sender is gone and the queue is empty.
pub(crate) struct ReadPool {
    queue: Sender<Work>,
}

impl ReadPool {
    /// Starts `threads` threads; their handles are the caller's to join.
    pub(crate) fn start(threads: usize) -> std::io::Result<(ReadPool, Vec<JoinHandle<()>>)> {
        let (queue, work) = bounded::<Work>(QUEUE_MAX);
        let mut joins = Vec::new();
        for n in 0..threads {
            let work = work.clone();
            let run = move || {
                for job in work {
                    job();
                }
            };
            joins.push(std::thread::Builder::new().name(format!("read-{n}")).spawn(run)?);
        }
        Ok((ReadPool { queue }, joins))
    }

    /// Queues work.
    pub(crate) fn run(&self, work: Work) -> Result<(), RequestError> {
        self.queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => RequestError::TooManyRequests,
            TrySendError::Disconnected(_) => RequestError::Stopped,
        })
    }
}
