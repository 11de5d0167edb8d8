//! The real disk, clock and dice
