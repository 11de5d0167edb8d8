//! Requests about users, roles and permissions, and who may ask for what.

mod execute;
pub mod permission;
mod request;

pub use request::AuthRequest;

#[cfg(test)]
mod tests;
