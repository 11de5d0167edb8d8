//! A few threads for disk reads and long scans, so that a shard never blocks.

use std::thread::JoinHandle;

use crate::handle::RequestError;
use crate::queue::{Refused, Sender, bounded};

/// Work for the pool.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

enum Order {
    Work(Work),
    Stop,
}

/// Work that may wait; past it the asker is refused (ours).
const QUEUE_MAX: usize = 4096;

/// The pool.
pub(crate) struct ReadPool {
    queue: Sender<Order>,
    threads: usize,
}

impl ReadPool {
    /// Starts `threads` threads; their handles are the caller's to join.
    pub(crate) fn start(threads: usize) -> std::io::Result<(ReadPool, Vec<JoinHandle<()>>)> {
        let (queue, work) = bounded(QUEUE_MAX);
        let mut joins = Vec::new();
        for n in 0..threads {
            let work = work.clone();
            let run = move || {
                while let Ok(Order::Work(job)) = work.recv() {
                    job();
                }
            };
            joins.push(std::thread::Builder::new().name(format!("read-{n}")).spawn(run)?);
        }
        Ok((ReadPool { queue, threads }, joins))
    }

    /// Queues work.
    pub(crate) fn run(&self, work: Work) -> Result<(), RequestError> {
        self.queue.try_send(Order::Work(work)).map_err(|error| match error {
            Refused::Full => RequestError::TooManyRequests,
            Refused::Closed => RequestError::Stopped,
        })
    }

    /// Ends the threads after what is queued.
    pub(crate) fn stop(&self) {
        for _ in 0..self.threads {
            // A closed queue means that they have ended.
            let _ = self.queue.send(Order::Stop);
        }
    }
}
