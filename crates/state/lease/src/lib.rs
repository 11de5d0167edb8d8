//! The lease book, and the leader's expiry timer
