//! Comparing and hashing passwords, away from every thread that serves or decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bcrypt::Version;
use mainstay_types::limits::{
    BCRYPT_PADDED_COST_MAX, LOGINS_JOINED_MAX, PASSWORD_BYTES_MAX, PASSWORD_THREADS_MAX,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::guesses::Guesses;
use crate::known::{Known, Sum, Sums};
use crate::origin::Origin;
use crate::queue::{Fate, Queue};

/// Why a password was neither compared nor hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait already.
    #[error("etcdserver: too many requests")]
    TooMany,
    /// Too many from there were wrong lately.
    #[error("etcdserver: too many failed logins from this address, try again later")]
    TooManyGuesses,
    /// bcrypt takes 72 bytes.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    /// The system has no threads or no random bytes.
    #[error("etcdserver: passwords cannot be checked now")]
    Unavailable,
}

/// A login to be looked at.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// Whose name was given.
    pub user: &'a str,
    /// The password that was given.
    pub password: &'a str,
    /// The one that is stored; `None` when there is no such user, or none with a password.
    pub stored: Option<&'a [u8]>,
    /// The highest bcrypt cost among all users' passwords: what being wrong costs, whoever is
    /// asked for.
    pub highest_cost: u32,
    /// Where it comes from.
    pub from: Origin,
    /// When, on a clock that only goes forward.
    pub now: Duration,
}

/// Threads that do nothing else; they begin with the first password, so that a cluster
/// without authentication has none.
///
/// A login that was right lately is known again at once ([`crate::known`]). Logins that are the
/// same and come at the same time are looked at once. Those that are wrong are bounded
/// ([`crate::guesses`]), and wait in turns ([`crate::queue`]).
pub struct Passwords {
    cost: u32,
    inner: Arc<Inner>,
    started: Mutex<bool>,
}

#[derive(Default)]
struct Inner {
    queue: Queue,
    guesses: Mutex<Guesses>,
    known: Mutex<Known>,
    /// Who waits for the answer to what is being looked at.
    joined: Mutex<HashMap<Sum, Vec<oneshot::Sender<Answer>>>>,
    /// [`Passwords::work_done`].
    work: AtomicU64,
    sums: Mutex<Option<Arc<Sums>>>,
}

type Answer = Result<bool, PasswordError>;

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.inner.queue.close();
    }
}

/// How many threads: half of the machine at most, so that logging in never keeps requests
/// from being served.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, PASSWORD_THREADS_MAX)
}

/// How much less the threads count than those that serve (the kernel's `nice`).
const NICE: i32 = 5;

impl Passwords {
    /// Hashes with `--bcrypt-cost` (4 to 31).
    pub fn new(cost: u32) -> Passwords {
        Passwords { cost, inner: Arc::default(), started: Mutex::new(false) }
    }

    /// Whether the password is the one that is stored. To be wrong always takes as much work,
    /// whether there is such a user or not.
    ///
    /// # Errors
    /// Too many wait, too many from there were wrong, or the system refuses a thread.
    pub async fn check(&self, attempt: Attempt<'_>) -> Answer {
        let Attempt { user, from, now, .. } = attempt;
        self.start()?;
        let sum = self.sums()?.of(user, attempt.stored.unwrap_or_default(), attempt.password);
        let inner = &self.inner;
        let (slot, answer) = oneshot::channel();
        {
            // The same lock for asking and for joining: what is asked twice is looked at once.
            let mut joined = inner.joined.lock();
            if let Some(others) = joined.get_mut(&sum) {
                if others.len() >= LOGINS_JOINED_MAX {
                    return Err(PasswordError::TooMany);
                }
                others.push(slot);
            } else {
                if !inner.guesses.lock().may_ask(from, user, now) {
                    return Err(PasswordError::TooManyGuesses);
                }
                if attempt.stored.is_some() && inner.known.lock().is_right(user, &sum, now) {
                    return Ok(true);
                }
                if !inner.guesses.lock().begin(from, user, now) {
                    return Err(PasswordError::TooManyGuesses);
                }
                joined.insert(sum, vec![slot]);
                drop(joined);
                self.look(attempt, sum);
            }
        }
        answer.await.map_err(|_| PasswordError::Unavailable)?
    }

    /// Has it looked at, for all who have joined.
    fn look(&self, attempt: Attempt<'_>, sum: Sum) {
        let inner = Arc::clone(&self.inner);
        let Attempt { from, highest_cost, now, .. } = attempt;
        let (user, password) = (attempt.user.to_owned(), attempt.password.to_owned());
        let stored = attempt.stored.map(<[u8]>::to_vec);
        self.inner.queue.add(
            from,
            Box::new(move |fate| {
                let answer = match fate {
                    Fate::Refused => Err(PasswordError::TooMany),
                    // Who has gone meanwhile costs nothing more.
                    Fate::Run if inner.nobody_waits(&sum) => Err(PasswordError::TooMany),
                    Fate::Run => Ok(inner.compare(&password, stored.as_deref(), highest_cost)),
                };
                if answer == Ok(true) {
                    inner.known.lock().add(&user, sum, now);
                }
                if answer != Ok(false) {
                    inner.guesses.lock().was_none(from, &user, now);
                }
                let joined = inner.joined.lock().remove(&sum);
                for slot in joined.into_iter().flatten() {
                    let _ = slot.send(answer);
                }
            }),
        );
    }

    /// The text that is stored for a password.
    ///
    /// # Errors
    /// It is too long, too many wait, or the system refuses a thread or random bytes.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| PasswordError::Unavailable)?;
        let cost = self.cost;
        let hashed = self.run(move || bcrypt::hash_with_salt(password, cost, salt)).await?;
        let parts = hashed.map_err(|_| PasswordError::Unavailable)?;
        Ok(parts.format_for_version(Version::TwoA))
    }

    /// Does work of those who have shown who they are on the threads, before all logins.
    ///
    /// # Errors
    /// Too many wait, or the system refuses a thread.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        self.start()?;
        let (slot, answer) = oneshot::channel();
        self.inner.queue.add_own(Box::new(move |fate| {
            if !slot.is_closed() {
                let _ = slot.send(match fate {
                    Fate::Run => Ok(work()),
                    Fate::Refused => Err(PasswordError::TooMany),
                });
            }
        }));
        answer.await.map_err(|_| PasswordError::Unavailable)?
    }

    /// Rounds of bcrypt that logins have taken: two to the power of the cost for each run.
    pub fn work_done(&self) -> u64 {
        self.inner.work.load(Ordering::Relaxed)
    }

    /// Forgets logins that have to be looked at again anyway.
    pub fn forget_old(&self, now: Duration) {
        self.inner.known.lock().forget_old(now);
    }

    fn sums(&self) -> Result<Arc<Sums>, PasswordError> {
        let mut sums = self.inner.sums.lock();
        if let Some(sums) = &*sums {
            return Ok(Arc::clone(sums));
        }
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| PasswordError::Unavailable)?;
        Ok(Arc::clone(sums.insert(Arc::new(Sums::new(&key)))))
    }

    fn start(&self) -> Result<(), PasswordError> {
        let mut started = self.started.lock();
        if *started {
            return Ok(());
        }
        for n in 0..threads() {
            let inner = Arc::clone(&self.inner);
            // They end when the queue is closed; nobody waits for them.
            let spawned = std::thread::Builder::new().name("passwords".into()).spawn(move || {
                // On Linux that is this thread alone. Without it everything works, too.
                let _ = rustix::process::nice(NICE);
                inner.queue.work();
            });
            match spawned {
                Ok(_) => {}
                // Fewer do.
                Err(_) if n > 0 => break,
                Err(_) => return Err(PasswordError::Unavailable),
            }
        }
        *started = true;
        Ok(())
    }
}

impl Inner {
    fn nobody_waits(&self, sum: &Sum) -> bool {
        let joined = self.joined.lock();
        joined.get(sum).is_none_or(|slots| slots.iter().all(oneshot::Sender::is_closed))
    }

    /// Compares; what is wrong takes as many rounds as the highest cost has, as far as that is
    /// bearable.
    fn compare(&self, password: &str, stored: Option<&[u8]>, highest_cost: u32) -> bool {
        let highest = highest_cost.clamp(4, BCRYPT_PADDED_COST_MAX);
        let stored = stored.and_then(|stored| std::str::from_utf8(stored).ok());
        let stored = stored.and_then(|stored| Some((stored, cost_of(stored.as_bytes())?)));
        let Some((stored, cost)) = stored else {
            self.spend(password, highest);
            return false;
        };
        match bcrypt::verify(password, stored) {
            Ok(true) => {
                self.count(cost);
                return true;
            }
            Ok(false) => {
                self.count(cost);
                // 2^cost, and then 2^cost + 2^(cost+1) + ..., is 2^highest.
                (cost..highest).for_each(|cost| self.spend(password, cost));
            }
            // Looks like one, and is none.
            Err(_) => self.spend(password, highest),
        }
        false
    }

    /// Hashes for nobody.
    fn spend(&self, password: &str, cost: u32) {
        self.count(cost);
        let _ = std::hint::black_box(bcrypt::hash_with_salt(password, cost, [0; 16]));
    }

    fn count(&self, cost: u32) {
        self.work.fetch_add(1 << cost, Ordering::Relaxed);
    }
}

/// The bcrypt cost of a stored password, if it is one.
pub fn cost_of(stored: &[u8]) -> Option<u32> {
    let rest = std::str::from_utf8(stored).ok()?.strip_prefix("$2")?;
    let (version, rest) = rest.split_once('$')?;
    let (cost, rest) = rest.split_once('$')?;
    let cost: u32 = cost.parse().ok()?;
    (version.len() <= 1 && rest.len() == 53 && (4..=31).contains(&cost)).then_some(cost)
}

#[cfg(test)]
mod tests;
