//! Dice that roll the same for the same seed.

use mainstay_env::Dice;

/// Dice that roll the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct SimDice {
    state: u64,
}

impl SimDice {
    /// Dice for one seed; every seed is as good as another.
    pub fn new(seed: u64) -> SimDice {
        SimDice { state: seed }
    }

    /// Dice of their own for a part of a simulation, so that one part's rolls
    /// do not shift another's.
    pub fn fork(&mut self) -> SimDice {
        SimDice::new(self.roll())
    }

    /// True once in `sides` on average; `sides` must not be 0.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }
}

impl Dice for SimDice {
    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
