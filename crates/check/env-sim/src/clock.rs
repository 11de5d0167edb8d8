//! A clock that moves only when told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_env::Clock;

/// A clock that moves only when told. Clones show the same time.
#[derive(Clone, Debug)]
pub struct SimClock {
    time: Arc<Mutex<Time>>,
}

#[derive(Debug)]
struct Time {
    now: Duration,
    wall: Duration,
}

impl SimClock {
    /// A clock whose monotonic time is zero and whose time of day is `wall`
    /// after the Unix epoch.
    pub fn new(wall: Duration) -> SimClock {
        SimClock { time: Arc::new(Mutex::new(Time { now: Duration::ZERO, wall })) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut time = self.lock();
        time.now += by;
        time.wall += by;
    }

    /// Sets the time of day, which may jump either way; monotonic time goes on.
    pub fn set_wall(&self, wall: Duration) {
        self.lock().wall = wall;
    }

    fn lock(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn wall(&self) -> Duration {
        self.lock().wall
    }
}
