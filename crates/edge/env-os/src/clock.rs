//! The machine's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_env::Clock;

/// The machine's clocks: `now` counts from when this value was made.
#[derive(Clone, Copy, Debug)]
pub struct OsClock {
    start: Instant,
}

impl OsClock {
    /// A clock whose `now` is zero at this moment.
    pub fn new() -> OsClock {
        OsClock { start: Instant::now() }
    }
}

impl Default for OsClock {
    fn default() -> OsClock {
        OsClock::new()
    }
}

impl Clock for OsClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Duration {
        // A machine set to before 1970 reads as 1970: nothing we keep is older.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
