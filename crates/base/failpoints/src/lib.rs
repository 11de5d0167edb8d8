//! Failure points: named places where a test may stop or delay a running member, with the
//! names and the terms of etcd's own (gofail), so that its chaos tests can drive ours.
//!
//! A place is marked by [`fail_point!`], by [`fail_value!`] where the test may say what went
//! wrong, or by [`fail_delay!`] where nobody may block the thread. Without the feature `on` both are nothing: no call, no name, no text. With
//! it a point that is off costs a look at one number.
//!
//! | term | what the point does |
//! | --- | --- |
//! | `off` | nothing |
//! | `panic` | ends the process |
//! | `sleep(100)`, `sleep("1s")` | sleeps so many milliseconds, or so long in Go's notation |
//! | `return`, `return("x")` | gives a value to [`fail_value!`] |
//! | `3*TERM` | does so three times, then the next in the chain |
//! | `25%TERM` | does so in a quarter of the cases, else the next in the chain |
//! | `A->B` | A, or B when A does not want to any more |

#[cfg(feature = "on")]
mod points;
#[cfg(feature = "on")]
mod terms;

#[cfg(feature = "on")]
pub use points::{
    FailPointError, NAMES, clear, count, delay, hit, list, parse_many, quiet, set, terms,
};

/// Marks a place where a test may stop or delay the member.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {{
        // Only a panic or a delay makes sense here.
        let _ = $crate::hit($name);
    }};
}

/// Marks a place where a test may stop or delay the member. Here: nothing.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {{}};
}

/// As [`fail_point!`], but a test may also make something go wrong: the `Option<String>`
/// says what.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! fail_value {
    ($name:literal) => {
        $crate::hit($name)
    };
}

/// As [`fail_point!`], with a value that a test chooses. Here: never one.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! fail_value {
    ($name:literal) => {
        None::<String>
    };
}

/// As [`fail_point!`], for a task that must not block its thread: the `Option<Duration>` says
/// how long it shall wait.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! fail_delay {
    ($name:literal) => {
        $crate::delay($name)
    };
}

/// As [`fail_point!`], with a delay that is the caller's to keep. Here: never one.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! fail_delay {
    ($name:literal) => {
        None::<std::time::Duration>
    };
}
