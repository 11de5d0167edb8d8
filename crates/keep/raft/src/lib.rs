//! The raft protocol as a pure state machine with plain types
