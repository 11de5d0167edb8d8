//! Gathered traffic between one thread's tasks and the member's threads.
//!
//! A wake-up of a sleeping thread is a system call on one side and a context
//! switch on the other; for each of a thousand puts in flight that was a third of
//! their cost. A thread that runs [`Handle::gather_here`](crate::Handle::gather_here)
//! announces what its tasks proposed once they have all had their turn, and gets
//! the answers of a whole apply turn with one wake-up.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::handle::RequestError;
use crate::waiters::Answer;

/// An answer and where it goes. Who asked may have given up; then nobody wants it.
pub(crate) enum Letter {
    /// To a proposal.
    Reply(oneshot::Sender<Answer>, Answer),
    /// To a read.
    Read(oneshot::Sender<Result<(), RequestError>>, Result<(), RequestError>),
}

impl Letter {
    fn hand_out(self) {
        match self {
            Letter::Reply(slot, answer) => drop(slot.send(answer)),
            Letter::Read(slot, answer) => drop(slot.send(answer)),
        }
    }
}

/// Letters by the thread they go to, which wakes once for all of its own. They leave
/// when this is dropped.
#[derive(Default)]
pub(crate) struct Post {
    /// As many as shards of the server.
    groups: Vec<(Arc<Mailbox>, Vec<Letter>)>,
}

impl Post {
    /// Takes a letter; without a mailbox it is handed out at once.
    pub(crate) fn add(&mut self, mailbox: Option<Arc<Mailbox>>, letter: Letter) {
        let Some(mailbox) = mailbox else { return letter.hand_out() };
        match self.groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &mailbox)) {
            Some((_, letters)) => letters.push(letter),
            None => self.groups.push((mailbox, vec![letter])),
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        for (mailbox, letters) in self.groups.drain(..) {
            mailbox.deliver(letters);
        }
    }
}

/// Answers on their way to the tasks of one thread. They are as many as proposals and
/// reads of that thread, which are bounded where they wait.
#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    letters: Vec<Letter>,
    courier: Option<Waker>,
    closed: bool,
}

impl Mailbox {
    /// Takes answers over; the thread wakes once for all of them.
    pub(crate) fn deliver(&self, letters: Vec<Letter>) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return hand_out(letters);
        }
        if state.letters.is_empty() {
            state.letters = letters;
        } else {
            state.letters.extend(letters);
        }
        let courier = state.courier.take();
        drop(state);
        if let Some(courier) = courier {
            courier.wake();
        }
    }

    /// What has arrived; with nothing there, `cx` is woken by the next delivery.
    fn collect(&self, cx: &Context<'_>) -> Vec<Letter> {
        let mut state = self.state.lock();
        if state.letters.is_empty() {
            state.courier = Some(cx.waker().clone());
        }
        std::mem::take(&mut state.letters)
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let letters = std::mem::take(&mut state.letters);
        drop(state);
        hand_out(letters);
    }
}

fn hand_out(letters: Vec<Letter>) {
    letters.into_iter().for_each(Letter::hand_out);
}

/// What a thread that gathers knows.
struct Here {
    mailbox: Arc<Mailbox>,
    /// The gathering task, from this thread.
    task: Option<Waker>,
    /// Something was sent that the receiver has not been woken for.
    owes: bool,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The mailbox of the calling thread, if it gathers.
pub(crate) fn mailbox() -> Option<Arc<Mailbox>> {
    HERE.with_borrow(|here| here.as_ref().map(|here| Arc::clone(&here.mailbox)))
}

/// Whether the calling thread will announce what was sent; if not, the caller must.
pub(crate) fn owe() -> bool {
    HERE.with_borrow_mut(|here| {
        let Some(Here { task: Some(task), owes, .. }) = here else { return false };
        if !std::mem::replace(owes, true) {
            task.wake_by_ref();
        }
        true
    })
}

/// Ends the gathering of a thread when its task goes away.
struct Seat;

impl Seat {
    fn take(mailbox: &Arc<Mailbox>) -> Seat {
        let here = Here { mailbox: Arc::clone(mailbox), task: None, owes: false };
        let before = HERE.replace(Some(here));
        assert!(before.is_none(), "a thread gathers once");
        Seat
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(here) = HERE.take() {
            here.mailbox.close();
        }
    }
}

/// Gathers for the calling thread until dropped; `announce` wakes the receiver of
/// what was sent.
pub(crate) async fn gather(announce: impl Fn()) {
    let mailbox = Arc::<Mailbox>::default();
    // Dropped before `announce`: what is owed then is announced by the next tick.
    let _seat = Seat::take(&mailbox);
    poll_fn(|cx| {
        let owes = HERE.with_borrow_mut(|here| {
            let here = here.as_mut().expect("the seat is taken");
            if here.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
                here.task = Some(cx.waker().clone());
            }
            std::mem::take(&mut here.owes)
        });
        if owes {
            announce();
        }
        loop {
            let letters = mailbox.collect(cx);
            if letters.is_empty() {
                return Poll::<()>::Pending;
            }
            hand_out(letters);
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::handle::RequestError;

    #[tokio::test(flavor = "current_thread")]
    async fn many_sends_are_announced_once_and_answers_arrive_together() {
        tokio::task::LocalSet::new()
            .run_until(async {
                assert!(!owe() && mailbox().is_none(), "nobody gathers yet");
                let announced = Rc::new(Cell::new(0));
                let count = Rc::clone(&announced);
                let task = tokio::task::spawn_local(gather(move || count.set(count.get() + 1)));
                tokio::task::yield_now().await;
                assert!(owe() && owe());
                tokio::task::yield_now().await;
                assert_eq!(announced.get(), 1);

                let (first, one) = oneshot::channel();
                let (second, two) = oneshot::channel();
                let (third, three) = oneshot::channel();
                let mut post = Post::default();
                let mailbox = mailbox().expect("this thread gathers");
                let there = || Some(Arc::clone(&mailbox));
                post.add(there(), Letter::Reply(first, Err(RequestError::TooLarge)));
                post.add(there(), Letter::Read(second, Err(RequestError::NoLeader)));
                post.add(None, Letter::Read(third, Ok(())));
                assert_eq!(three.await, Ok(Ok(())), "nobody gathers there");
                std::thread::spawn(move || drop(post)).join().expect("delivered");
                assert_eq!(one.await, Ok(Err(RequestError::TooLarge)));
                assert_eq!(two.await, Ok(Err(RequestError::NoLeader)));

                task.abort();
                tokio::task::yield_now().await;
                assert!(!owe());
                let (late, four) = oneshot::channel();
                mailbox.deliver(vec![Letter::Reply(late, Err(RequestError::Stopped))]);
                assert_eq!(four.await, Ok(Err(RequestError::Stopped)));
            })
            .await;
    }
}
