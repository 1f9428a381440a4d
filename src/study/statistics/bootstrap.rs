//! The percentile bootstrap: how far the mean difference lies from itself when seeds, or examples,
//! are drawn anew from those that there are.

use super::summary::Interval;
use super::two_way::{Differences, add};
use crate::random::SplitMix64;

/// Fewer resamples than this have no value in their tails of 2.5 %.
const FEWEST: u32 = 40;
/// More resamples than this are not drawn.
const MOST: u32 = 1_000_000;

/// Intervals of [`super::paired()`] by resampling.
#[derive(Default)]
pub(super) struct Resampled {
    /// Other seeds, these examples; `None` for one seed.
    pub(super) over_seeds: Option<Interval>,
    /// Other examples, these models; `None` for one example.
    pub(super) over_examples: Option<Interval>,
}

impl Resampled {
    /// Draws so many resamples, from a seed of their own.
    pub(super) fn new(differences: &Differences, resamples: u32, seed: u64) -> Self {
        let Differences { cells, by_seed, by_example } = differences;
        let (seeds, examples) = (by_seed.len(), by_example.len());
        let resamples = resamples.min(MOST);
        if resamples < FEWEST || seeds * examples == 1 {
            return Self::default();
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let estimate = mean(by_seed);
        let widen = (seeds as f64 / (seeds.max(2) - 1) as f64).sqrt();
        let mut generator = SplitMix64(seed);
        let [mut over_seeds, mut over_examples] =
            [(); 2].map(|()| Vec::with_capacity(resamples as usize));
        let mut sums = vec![0.0; seeds];
        for _ in 0..resamples {
            sums.fill(0.0);
            for _ in 0..examples {
                let example = generator.below(examples as u64) as usize;
                add(&mut sums, &cells[example * seeds..][..seeds]);
            }
            over_examples.push(mean(&sums) / examples as f64);
            let mut total = 0.0;
            for _ in 0..seeds {
                total += by_seed[generator.below(seeds as u64) as usize];
            }
            over_seeds.push(estimate + widen * (total / seeds as f64 - estimate));
        }
        let interval = |values, enough: bool| enough.then(|| Interval::middle_of(values)).flatten();
        Self {
            over_seeds: interval(over_seeds, seeds > 1),
            over_examples: interval(over_examples, examples > 1),
        }
    }
}
