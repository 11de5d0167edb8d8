//! Comparing and hashing passwords, away from every thread that serves or decides.

use bcrypt::Version;
use crossbeam_channel::{Sender, TrySendError, bounded};
use mainstay_types::limits::{PASSWORD_BYTES_MAX, PASSWORDS_WAITING_MAX};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Why a password was neither compared nor hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait already.
    #[error("etcdserver: too many requests")]
    TooMany,
    /// bcrypt takes 72 bytes.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    /// The system has no threads or no random bytes.
    #[error("etcdserver: passwords cannot be checked now")]
    Unavailable,
}

/// Threads that do nothing else; they begin with the first password, so that a cluster
/// without authentication has none.
pub struct Passwords {
    cost: u32,
    jobs: Mutex<Option<Sender<Job>>>,
    /// A hash of the usual cost that no password has.
    nobody: String,
}

type Job = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("cost", &self.cost).finish()
    }
}

/// How many threads: half of the machine at most, so that logging in never keeps requests
/// from being served.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, 4)
}

impl Passwords {
    /// Hashes with `--bcrypt-cost` (4 to 31).
    pub fn new(cost: u32) -> Passwords {
        // A salt and a sum of zeros, in bcrypt's base64.
        let nobody = format!("$2a${cost:02}${}", ".".repeat(53));
        Passwords { cost, jobs: Mutex::new(None), nobody }
    }

    /// Whether `password` is the one that `hash` was made of. Without a hash (there is no
    /// such user, or none that has a password) it takes just as long, and the answer is no;
    /// `like`, another user's hash, says what is usual here.
    ///
    /// # Errors
    /// Too many wait, or the system refuses a thread.
    pub async fn compare(
        &self,
        password: String,
        hash: Option<Vec<u8>>,
        like: Option<Vec<u8>>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let usual = match like.and_then(text).as_deref().and_then(cost_of) {
            Some(cost) => format!("$2a${cost:02}{}", &self.nobody[6..]),
            None => self.nobody.clone(),
        };
        let hash = hash.and_then(text).filter(|hash| cost_of(hash).is_some());
        let (known, hash) = (known && hash.is_some(), hash.unwrap_or(usual));
        self.run(move || bcrypt::verify(password, &hash).unwrap_or(false) && known).await
    }

    /// The text that is stored for a password.
    ///
    /// # Errors
    /// As [`Passwords::compare`], and for one that is too long.
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

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (slot, answer) = oneshot::channel();
        let job = Box::new(move || {
            // Who has gone meanwhile costs nothing more.
            if !slot.is_closed() {
                let _ = slot.send(work());
            }
        });
        match self.jobs()?.try_send(job) {
            Ok(()) => answer.await.map_err(|_| PasswordError::Unavailable),
            Err(TrySendError::Full(_)) => Err(PasswordError::TooMany),
            Err(TrySendError::Disconnected(_)) => Err(PasswordError::Unavailable),
        }
    }

    fn jobs(&self) -> Result<Sender<Job>, PasswordError> {
        let mut jobs = self.jobs.lock();
        if let Some(jobs) = &*jobs {
            return Ok(jobs.clone());
        }
        let (sender, receiver) = bounded::<Job>(PASSWORDS_WAITING_MAX);
        for _ in 0..threads() {
            let jobs = receiver.clone();
            // They end when the sender is gone; nobody waits for them.
            std::thread::Builder::new()
                .name("passwords".into())
                .spawn(move || jobs.into_iter().for_each(|job| job()))
                .map_err(|_| PasswordError::Unavailable)?;
        }
        Ok(jobs.insert(sender).clone())
    }
}

/// The cost that a hash was made with, if it is one.
fn cost_of(hash: &str) -> Option<u32> {
    let rest = hash.strip_prefix("$2")?;
    let (version, rest) = rest.split_once('$')?;
    let (cost, rest) = rest.split_once('$')?;
    let cost: u32 = cost.parse().ok()?;
    (version.len() <= 1 && rest.len() == 53 && (4..=31).contains(&cost)).then_some(cost)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(future)
    }

    #[test]
    fn a_password_is_right_or_not() {
        let passwords = Passwords::new(4);
        block_on(async {
            let hash = passwords.hash("secret".into()).await.expect("hashed");
            assert!(hash.starts_with("$2a$04$") && hash.len() == 60, "as Go writes it");
            let other = passwords.hash("secret".into()).await.expect("hashed");
            assert_ne!(hash, other, "each has a salt of its own");
            let compare = |password: &str, hash: Option<&str>| {
                passwords.compare(password.into(), hash.map(Into::into), None)
            };
            assert_eq!(compare("secret", Some(&hash)).await, Ok(true));
            assert_eq!(compare("Secret", Some(&hash)).await, Ok(false));
            assert_eq!(compare("", Some(&hash)).await, Ok(false));
            assert_eq!(compare("", Some("")).await, Ok(false), "no hash is no password");
            assert_eq!(compare("x", Some("$2a$99$nonsense")).await, Ok(false));
            assert_eq!(compare("secret", None).await, Ok(false));
            let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
            assert_eq!(passwords.hash(long).await, Err(PasswordError::TooLong));
            let empty = passwords.hash(String::new()).await.expect("hashed");
            assert_eq!(compare("", Some(&empty)).await, Ok(true), "etcd allows it");
        });
    }

    /// Nobody learns from the time whether there is such a user.
    #[test]
    fn who_is_nobody_takes_as_long_as_somebody() {
        let passwords = Passwords::new(4);
        block_on(async {
            let like = Passwords::new(9).hash("secret".into()).await.expect("hashed");
            let like = like.into_bytes();
            let took = async |hash: Option<Vec<u8>>| {
                let mut fastest = Duration::MAX;
                for _ in 0..5 {
                    let begun = Instant::now();
                    let right =
                        passwords.compare("wrong".into(), hash.clone(), Some(like.clone())).await;
                    assert_eq!(right, Ok(false));
                    fastest = fastest.min(begun.elapsed());
                }
                fastest
            };
            let (known, unknown) = (took(Some(like.clone())).await, took(None).await);
            let ratio = known.as_secs_f64() / unknown.as_secs_f64();
            assert!((0.5..2.0).contains(&ratio), "{known:?} and {unknown:?}");
        });
    }

    #[test]
    fn more_than_the_bound_are_refused_and_none_is_lost() {
        let passwords = Passwords::new(4);
        block_on(async {
            let mut waiting = Vec::new();
            for _ in 0..PASSWORDS_WAITING_MAX + 64 {
                waiting.push(Box::pin(passwords.compare("p".into(), None, None)));
            }
            let mut refused = 0;
            let mut pending = Vec::new();
            for mut one in waiting {
                let polled =
                    std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx)));
                match polled.await {
                    std::task::Poll::Ready(Err(PasswordError::TooMany)) => refused += 1,
                    std::task::Poll::Ready(answer) => assert_eq!(answer, Ok(false)),
                    std::task::Poll::Pending => pending.push(one),
                }
            }
            assert!(refused > 0, "the queue is bounded");
            for one in pending {
                assert_eq!(one.await, Ok(false));
            }
        });
    }
}
