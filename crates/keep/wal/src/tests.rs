//! Tests of the log as a whole.

mod crashes;
mod damage;
mod golden;
mod model;
mod salvage;
mod snaps;
mod support;
mod writing;
