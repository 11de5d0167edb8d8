//! A seeded disk, clock and dice: torn, lost, slow, flipped, full
