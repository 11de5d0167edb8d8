//! Input that means harm, against the built binary: frames and messages of clients,
//! certificates, and the files of a data directory.
//!
//! A member refuses it in words that name the cause, changes nothing, takes no memory
//! for it, and goes on serving everybody else (faults.md, sections 4 and 6).

mod certificates;
mod first_boot;
mod folder;
mod raw;
mod requests;
mod rest;
