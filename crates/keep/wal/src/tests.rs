//! Tests of the log as a whole.

mod support;
mod writing;
