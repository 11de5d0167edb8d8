//! What it costs to be right and wrong, and who waits for whom.

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

const HERE: Origin = Origin::V4([10, 0, 0, 1]);
const THERE: Origin = Origin::V4([10, 0, 0, 2]);

fn attempt<'a>(user: &'a str, password: &'a str, stored: Option<&'a [u8]>) -> Attempt<'a> {
    let now = Duration::from_secs(1);
    Attempt { user, password, stored, highest_cost: 4, from: HERE, now }
}

#[test]
fn a_password_is_right_or_not() {
    let passwords = Passwords::new(4);
    block_on(async {
        let hash = passwords.hash("secret".into()).await.expect("hashed");
        assert!(hash.starts_with("$2a$04$") && hash.len() == 60, "as Go writes it");
        let other = passwords.hash("secret".into()).await.expect("hashed");
        assert_ne!(hash, other, "each has a salt of its own");
        let empty = passwords.hash(String::new()).await.expect("hashed");
        let broken = format!("{}!", &hash[..59]);
        for (n, (password, stored, right)) in [
            ("secret", Some(&*hash), true),
            ("Secret", Some(&*hash), false),
            ("", Some(&*hash), false),
            ("", Some(""), false),
            ("x", Some("$2a$99$nonsense"), false),
            ("secret", Some(&*broken), false),
            ("secret", None, false),
            ("", Some(&*empty), true),
        ]
        .into_iter()
        .enumerate()
        {
            let user = format!("user{n}");
            for _ in 0..2 {
                let stored = stored.map(str::as_bytes);
                let answer = passwords.check(attempt(&user, password, stored)).await;
                assert_eq!(answer, Ok(right), "{password:?} {stored:?}");
            }
        }
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(passwords.hash(long).await, Err(PasswordError::TooLong));
    });
}

/// Nobody learns from the time whether there is such a user: it is the same work, to the round.
#[test]
fn to_be_wrong_is_the_same_work_for_everybody() {
    block_on(async {
        let of_cost = async |cost| Passwords::new(cost).hash("secret".into()).await.expect("hash");
        let (cheap, dear) = (of_cost(4).await, of_cost(8).await);
        let passwords = Passwords::new(6);
        for (user, stored) in [
            ("known", Some(&*dear)),
            ("known with a cheaper password", Some(&*cheap)),
            ("unknown", None),
            ("without a password", None),
            ("with an empty one", Some("")),
            ("damaged", Some("$2a$04$")),
            (
                "damaged inside",
                Some("$2a$04$!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"),
            ),
        ] {
            let before = passwords.work_done();
            let stored = stored.map(str::as_bytes);
            let wrong = Attempt { highest_cost: 8, ..attempt(user, "wrong", stored) };
            assert_eq!(passwords.check(wrong).await, Ok(false), "{user}");
            assert_eq!(passwords.work_done() - before, 1 << 8, "{user}");
        }
    });
}

#[test]
fn what_was_right_is_known_until_the_password_changes() {
    let passwords = Passwords::new(4);
    block_on(async {
        let hash = passwords.hash("secret".into()).await.expect("hashed");
        let right = attempt("alice", "secret", Some(hash.as_bytes()));
        assert_eq!(passwords.check(right).await, Ok(true));
        let before = passwords.work_done();
        for _ in 0..1000 {
            assert_eq!(passwords.check(right).await, Ok(true));
            assert_eq!(passwords.check(Attempt { from: THERE, ..right }).await, Ok(true));
        }
        assert_eq!(passwords.work_done(), before, "no run of bcrypt");
        // The same password, stored anew: the old sum is of no use.
        let changed = passwords.hash("secret".into()).await.expect("hashed");
        let again = Attempt { stored: Some(changed.as_bytes()), ..right };
        assert_eq!(passwords.check(again).await, Ok(true));
        assert_eq!(passwords.work_done() - before, 1 << 4, "it was looked at");
        let other = passwords.hash("other".into()).await.expect("hashed");
        let old = Attempt { stored: Some(other.as_bytes()), ..right };
        assert_eq!(passwords.check(old).await, Ok(false), "and another is wrong");
        assert_eq!(passwords.check(Attempt { stored: None, ..right }).await, Ok(false));
    });
}

#[test]
fn logins_that_come_together_are_looked_at_once() {
    let passwords = Passwords::new(4);
    block_on(async {
        let hash = passwords.hash("secret".into()).await.expect("hashed");
        let before = passwords.work_done();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let _blocked = Blocked::new(&passwords, stopped);
        let mut all: Vec<_> = (0..LOGINS_JOINED_MAX)
            .map(|_| Box::pin(passwords.check(attempt("alice", "secret", Some(hash.as_bytes())))))
            .collect();
        for one in &mut all {
            assert!(poll(one).await.is_none(), "none is refused");
        }
        let more = passwords.check(attempt("alice", "secret", Some(hash.as_bytes()))).await;
        assert_eq!(more, Err(PasswordError::TooMany), "this queue is bounded, too");
        drop(stop);
        for one in all {
            assert_eq!(one.await, Ok(true));
        }
        assert_eq!(passwords.work_done() - before, 1 << 4);
    });
}

/// Keeps all threads from what waits, until the sender is gone.
struct Blocked;

impl Blocked {
    fn new(passwords: &Passwords, until: std::sync::mpsc::Receiver<()>) -> Blocked {
        passwords.start().expect("threads");
        let until = Arc::new(Mutex::new(until));
        for _ in 0..threads() {
            let until = Arc::clone(&until);
            passwords.inner.queue.add_own(Box::new(move |_| {
                let _ = until.lock().recv();
            }));
        }
        Blocked
    }
}

async fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(answer) => Some(answer),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn who_guesses_is_stopped_and_nobody_else() {
    let passwords = Passwords::new(4);
    block_on(async {
        let hash = passwords.hash("secret".into()).await.expect("hashed");
        let right = attempt("alice", "secret", Some(hash.as_bytes()));
        let mut wrong = 0;
        let refused = loop {
            let guess = format!("guess {wrong}");
            match passwords.check(Attempt { password: &guess, ..right }).await {
                Ok(false) => wrong += 1,
                other => break other,
            }
        };
        assert_eq!(refused, Err(PasswordError::TooManyGuesses));
        assert_eq!(wrong, mainstay_types::limits::GUESSES_BURST);
        let work = passwords.work_done();
        assert_eq!(passwords.check(right).await, Err(PasswordError::TooManyGuesses));
        assert_eq!(passwords.work_done(), work, "a refusal costs nothing");
        assert_eq!(passwords.check(Attempt { from: THERE, ..right }).await, Ok(true));
        // Also when it is known to be right: else guesses would cost nothing.
        assert_eq!(passwords.check(right).await, Err(PasswordError::TooManyGuesses));
        let later = Duration::from_secs(60);
        assert_eq!(passwords.check(Attempt { now: later, ..right }).await, Ok(true));
    });
}

#[test]
fn more_than_the_bound_are_refused_and_none_is_lost() {
    use mainstay_types::limits::PASSWORDS_WAITING_MAX;
    let passwords = Passwords::new(4);
    block_on(async {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let _blocked = Blocked::new(&passwords, stopped);
        let names: Vec<String> = (0..PASSWORDS_WAITING_MAX + 40).map(|n| n.to_string()).collect();
        let mut waiting: Vec<_> =
            names.iter().map(|name| Box::pin(passwords.check(attempt(name, "p", None)))).collect();
        let mut refused = 0;
        let mut pending = Vec::new();
        for mut one in waiting.drain(..) {
            match poll(&mut one).await {
                Some(Err(PasswordError::TooMany)) => refused += 1,
                Some(answer) => panic!("{answer:?}"),
                None => pending.push(one),
            }
        }
        assert_eq!(refused, 40, "the queue is bounded");
        // From elsewhere there is room, at the cost of who takes all of it.
        let other = Attempt { from: THERE, ..attempt("alice", "p", None) };
        let mut other = Box::pin(passwords.check(other));
        assert!(poll(&mut other).await.is_none());
        drop(stop);
        assert_eq!(other.await, Ok(false));
        let mut answers = Vec::new();
        for one in pending {
            answers.push(one.await);
        }
        assert_eq!(answers.iter().filter(|one| **one == Err(PasswordError::TooMany)).count(), 1);
        assert!(answers.iter().all(|one| matches!(one, Ok(false) | Err(PasswordError::TooMany))));
    });
}
