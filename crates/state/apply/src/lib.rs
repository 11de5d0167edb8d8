//! The replicated state machine: an entry in; rows, an outcome and events out
