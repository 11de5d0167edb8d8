//! A thread that reads certificates again when they change, also while nobody connects:
//! connections whose certificates are revoked are to end, and what expires is to be told.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Tls;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The thread; it ends when this is dropped.
pub(crate) struct Looking {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Looking {
    /// Begins to look at the files of these, each once; with none there is nothing to do.
    ///
    /// # Errors
    /// A thread could not be started.
    pub(crate) fn start<'a>(
        tls: impl Iterator<Item = &'a Arc<Tls>>,
    ) -> io::Result<Option<Looking>> {
        let mut all: Vec<Arc<Tls>> = Vec::new();
        for one in tls {
            if !all.iter().any(|known| Arc::ptr_eq(known, one)) {
                all.push(Arc::clone(one));
            }
        }
        if all.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let look = move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                all.iter().for_each(|tls| tls.look());
            }
        };
        let thread = std::thread::Builder::new().name("certificates".to_owned()).spawn(look)?;
        Ok(Some(Looking { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::error!("the thread that looks at certificates has panicked");
        }
    }
}
