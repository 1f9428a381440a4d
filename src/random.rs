//! The one generator of random numbers on the host.

/// SplitMix64 (Steele, Lea and Flood, 2014): a counter that steps by the golden ratio, and a mixer.
///
/// It is written out here, and pinned by a test, because the order of an epoch must be the same on
/// every platform and in every later version: a run is resumed and compared by its seed.
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The golden ratio in 64 bits: the step from one state to the next.
    pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The next output.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, every one equally likely: the high half of a 128-bit product, drawn
    /// again in the few cases that would favour some numbers (Lemire, 2019).
    pub fn below(&mut self, bound: u64) -> u64 {
        // 2^64 mod bound: how many low halves have to be refused.
        let refuse = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.word()) * u128::from(bound);
            if product as u64 >= refuse {
                return (product >> 64) as u64;
            }
        }
    }
}
