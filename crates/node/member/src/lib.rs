//! A member's mind: raft, the proposal table, read rounds, snapshot policy
