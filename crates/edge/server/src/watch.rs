//! The Watch service.
