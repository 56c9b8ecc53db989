//! Numbers that look random and repeat with their seed (splitmix64).

#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// A generator for each list of numbers.
    pub(super) fn new(seeds: &[u64]) -> Self {
        let mut dice = Self(0x5eed);
        for seed in seeds {
            dice = Self(dice.roll() ^ seed);
        }
        dice
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }
}
