//! One run, with its failure caught.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::bug::Bug;
use crate::stats::Stats;
use crate::world::World;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Simulated minutes during which things break.
    pub minutes: u64,
    /// A bug to put back.
    pub bug: Option<Bug>,
    /// Tell on the error output what happens.
    pub trace: bool,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What a judge, or an assertion of the product, said.
    pub story: String,
}

thread_local! {
    static STORY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of runs are stories, not noise.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("main")) {
                before(info);
            }
            let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
            let text = info.payload_as_str().unwrap_or("a panic without words");
            let story = format!("{text} ({})", place.unwrap_or_default());
            STORY.with(|slot| *slot.borrow_mut() = Some(story));
        }));
    });
}

/// Runs one seed.
///
/// # Errors
/// The story of what went wrong; the same options tell it again.
pub fn run(options: Options) -> Result<Stats, Failure> {
    listen();
    let Options { seed, minutes, bug, trace } = options;
    let done = catch_unwind(AssertUnwindSafe(|| World::new(seed, minutes, bug, trace).run()));
    done.map_err(|_| {
        let story = STORY.with(|slot| slot.borrow_mut().take()).unwrap_or_default();
        Failure { seed, story }
    })
}
