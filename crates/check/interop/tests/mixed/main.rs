//! Members of ours and of the real etcd in one cluster, live.

mod auth;
mod control;
mod hostile;
mod joining;
mod leases;
mod removal;
mod rolling;
mod rounds;
mod script;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One cluster at a time: they are judged by the time that they take, too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
