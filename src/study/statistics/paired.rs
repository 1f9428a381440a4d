//! By how much the scores of two kinds of models differ, paired by seed and by example.

use super::bootstrap::Resampled;
use super::distribution::{Student, student};
use super::summary::{Interval, Summary, summary};
use super::two_way::Differences;
use serde::Serialize;

/// The largest score that is taken: its square, summed, is still a finite number.
const LARGEST_SCORE: f64 = 1e100;

/// By how much other scores differ from the dense ones, and how sure that is.
///
/// Every number is in the unit of the scores, other minus dense, and every interval is a 95 % one.
/// They answer different questions: only `over_both` speaks of other seeds *and* other examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedDifference {
    /// The mean difference over seeds and examples.
    pub estimate: f64,
    /// The differences of the seeds, each a mean over the examples.
    pub per_seed: Summary,
    /// How many examples each seed was scored on.
    pub examples: usize,
    /// Other seeds, these examples: percentile bootstrap. `None` for one seed.
    pub over_seeds: Option<Interval>,
    /// Other examples, these models: percentile bootstrap. `None` for one example.
    pub over_examples: Option<Interval>,
    /// Other seeds and other examples; what a verdict rests on. `None` for one seed or one example.
    pub over_both: Option<Interval>,
    /// Other seeds, these examples, with Student's quantiles. `None` for one seed.
    pub t: Option<Student>,
}

/// Compares scores that are paired by seed and by example: `dense[seed][example]` and
/// `other[seed][example]` are the same seed's models on the same example (1 for right and 0 for
/// wrong, or a loss).
///
/// `None` where there are no seeds or no examples, where the two sides do not have the same seeds
/// and every seed the same number of examples, and where a score is not a number within ±10^100.
/// Fewer than 40 `resamples` give no bootstrap interval (their tails would be empty), and more than
/// 1,000,000 are taken as 1,000,000.
///
/// In what follows `S` is the number of seeds, `n` that of examples, `D[s,e]` the difference of the
/// scores, and a dot is a mean over that index.
///
/// # The intervals
/// `t` is the paired t interval (Student, 1908) of the `S` values `D[s,·]`.
///
/// `over_examples` resamples examples, the same for every seed, and takes percentiles of the mean
/// (Efron and Tibshirani, 1993, chapter 13).
///
/// `over_seeds` resamples seeds. The resampled mean of `S` values has `(S − 1) / S` of the variance
/// that it should have, so its distance from the estimate is multiplied by `√(S / (S − 1))`. That
/// makes up for the variance, not for having estimated it from few seeds: below about 10 seeds it
/// is still too narrow, and below about 6 it has only a few distinct values. Believe `t` instead.
///
/// `over_both` is not a bootstrap: one that resamples both was tried, and covers badly
/// (`docs/rejected.md`). It takes `D[s,e]` for a sum of independent effects of seed, example and
/// both, with variances `a`, `b` and `c`, so that the variance of the mean is `a/S + b/n + c/Sn`,
/// and has those parts from the mean squares of the two-way table (analysis of variance; Searle,
/// Casella and McCulloch, 1992, chapter 4):
///
/// ```text
/// A = n Σ (D[s,·] − D[·,·])² / (S − 1)                               expected: n a + c
/// B = S Σ (D[·,e] − D[·,·])² / (n − 1)                               expected: S b + c
/// C = Σ (D[s,e] − D[s,·] − D[·,e] + D[·,·])² / ((S − 1)(n − 1))      expected: c
///
/// half the width = √(max(t² A + u² max(B − C, 0), u² B) / (S n))
/// ```
///
/// with Student's quantiles 0.975, `t` for `S − 1` and `u` for `n − 1` degrees of freedom. Giving
/// each part its own quantile is Banerjee's (1960) way of joining variances known with unequal
/// precision; it errs towards too wide. The interval is never narrower than `t` (it adds the
/// examples to it), nor than the one for these models alone, `u² B`: few seeds agree by chance now
/// and then.
///
/// # Coverage
/// How often a nominal 95 % interval held the true difference in simulated experiments is in
/// `docs/sparsity.md`; the test `the_coverage_in_the_documentation` holds that table to what it
/// measures.
pub fn paired(
    dense: &[Vec<f64>],
    other: &[Vec<f64>],
    resamples: u32,
    seed: u64,
) -> Option<PairedDifference> {
    let (seeds, examples) = (dense.len(), dense.first()?.len());
    let fits = |rows: &[Vec<f64>]| {
        rows.len() == seeds
            && rows.iter().all(|row| {
                row.len() == examples && row.iter().all(|score| score.abs() <= LARGEST_SCORE)
            })
    };
    if examples == 0 || !fits(dense) || !fits(other) {
        return None;
    }

    let differences = Differences::new(dense, other, seeds, examples);
    let per_seed = summary(&differences.by_seed)?;
    let Resampled { over_seeds, over_examples } = Resampled::new(&differences, resamples, seed);
    Some(PairedDifference {
        estimate: per_seed.mean,
        per_seed,
        examples,
        over_seeds,
        over_examples,
        over_both: differences.over_both(&per_seed),
        t: student(&per_seed),
    })
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::{close, range};
    use super::*;
    use crate::random::SplitMix64;

    fn contains(interval: Interval, value: f64) -> bool {
        interval.low <= value && value <= interval.high
    }

    fn rows<const N: usize>(rows: &[[f64; N]]) -> Vec<Vec<f64>> {
        rows.iter().map(|row| row.to_vec()).collect()
    }

    /// Zeros, for scores that are their own differences.
    fn nothing(seeds: usize, examples: usize) -> Vec<Vec<f64>> {
        vec![vec![0.0; examples]; seeds]
    }

    /// Mean squares and intervals from NumPy and scipy, by the formulas in the documentation.
    #[test]
    fn the_intervals_over_both_are_those_of_the_two_way_table() {
        // A = 2.130, B = 0.979, C = 0.0469: seeds first, examples added.
        let other =
            rows(&[[1.0, 0.5, 0.0, -0.25], [2.0, 1.25, 0.75, 1.0], [0.5, 0.25, -0.5, -1.0]]);
        let got = paired(&nothing(3, 4), &other, 0, 0).unwrap();
        close(got.estimate, 0.458_333_333_333_333_3, 1e-15);
        assert_eq!((got.per_seed.count, got.examples), (3, 4));
        range(got.over_both, -1.559_883_317_997_762_7, 2.476_549_984_664_429_4);
        assert_eq!((got.over_seeds, got.over_examples), (None, None));

        // Every seed gains one example of five: a t interval without width. B = 4/15.
        let dense = rows(&[
            [1.0, 0.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, 0.0, 1.0, 0.0],
            [0.0, 1.0, 1.0, 1.0, 0.0],
        ]);
        let other = rows(&[
            [1.0, 1.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, 1.0, 0.0, 1.0],
            [1.0, 1.0, 1.0, 1.0, 0.0],
        ]);
        let got = paired(&dense, &other, 0, 0).unwrap();
        range(got.t.map(|t| t.interval), 0.2, 0.2);
        range(got.over_both, -0.170_192_680_693_039_06, 0.570_192_680_693_039_1);
    }

    /// Small enough that the resampled distributions can be counted out.
    #[test]
    fn the_bootstrap_resamples_what_it_says() {
        // Seeds only: 0, 0.5 and 1. All three alike at an end has chance 1/27 > 2.5 %, so the ends
        // are 0.5 ± 0.5, widened by √(3/2). The examples are all alike.
        let got =
            paired(&nothing(3, 2), &rows(&[[0.0; 2], [0.5; 2], [1.0; 2]]), 10_000, 7).unwrap();
        range(got.over_seeds, 0.5 - 0.5 * 1.5_f64.sqrt(), 0.5 + 0.5 * 1.5_f64.sqrt());
        range(got.over_examples, 0.5, 0.5);

        // Examples only: of the 256 resampled means of these four, 1.2 % lie below 0.
        let means = [3.5 / 3.0, 2.0 / 3.0, 0.25 / 3.0, -0.25 / 3.0];
        let got = paired(&nothing(2, 4), &rows(&[means; 2]), 10_000, 7).unwrap();
        range(got.over_examples, 0.0, 11.0 / 12.0);
        range(got.over_seeds, got.estimate, got.estimate);

        // Two seeds, two examples: each twice has chance 1/4. The seeds' means are -1 and 3.5,
        // widened by √2.
        let got = paired(&nothing(2, 2), &rows(&[[-3.0, 1.0], [2.0, 5.0]]), 10_000, 7).unwrap();
        let half = 2.25 * 2.0_f64.sqrt();
        range(got.over_seeds, 1.25 - half, 1.25 + half);
        range(got.over_examples, -0.5, 3.0);
    }

    #[test]
    fn the_same_seed_gives_the_same_intervals() {
        // Losses, whose means are nearly all different.
        let mut world = World::new(3, 0.3, 0.01, 0.06);
        let mut losses = || -> Vec<Vec<f64>> {
            (0..4).map(|_| (0..50).map(|_| world.normal()).collect()).collect()
        };
        let (dense, other) = (losses(), losses());
        let run = |seed| paired(&dense, &other, 500, seed).unwrap();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).over_examples, run(2).over_examples);
        // Nothing drawn, nothing changed.
        assert_eq!((run(1).over_both, run(1).t), (run(2).over_both, run(2).t));
    }

    #[test]
    fn swapped_sides_mirror_the_difference_and_equal_ones_have_none() {
        let (dense, other) = World::new(3, 0.3, 0.01, 0.06).draw(4, 50, 1.0);
        let one = paired(&dense, &other, 500, 1).unwrap();
        let two = paired(&other, &dense, 500, 1).unwrap();
        let mirrored =
            |interval: Option<Interval>| interval.map(|range| range.scaled(-1.0)).unwrap();
        close(one.estimate, -two.estimate, 1e-12);
        for (one, two) in [
            (one.over_seeds, two.over_seeds),
            (one.over_examples, two.over_examples),
            (one.over_both, two.over_both),
            (one.t.map(|t| t.interval), two.t.map(|t| t.interval)),
        ] {
            assert!(contains(one.unwrap(), -0.5 * (two.unwrap().low + two.unwrap().high)));
            range(one, mirrored(two).low, mirrored(two).high);
        }
        let none = paired(&dense, &dense, 500, 1).unwrap();
        assert_eq!(none.over_both, Some(Interval { low: 0.0, high: 0.0 }));
        assert_eq!((none.estimate, none.t.unwrap().p), (0.0, 1.0));
    }

    #[test]
    fn what_cannot_be_compared_is_none() {
        let one = vec![vec![1.0, 0.0]];
        let two = vec![vec![1.0, 0.0], vec![0.0, 0.0]];
        let ragged = vec![vec![1.0, 0.0], vec![0.0]];
        for (dense, other) in [
            (&vec![], &vec![]),
            (&vec![vec![]], &vec![vec![]]),
            (&one, &two),
            (&two, &one),
            (&ragged, &two),
            (&two, &ragged),
            (&two, &vec![]),
            (&one, &vec![vec![f64::NAN, 0.0]]),
            (&vec![vec![f64::INFINITY, 0.0]], &one),
            (&one, &vec![vec![1e101, 0.0]]),
        ] {
            assert_eq!(paired(dense, other, 100, 0), None, "{dense:?} {other:?}");
        }

        let seedless = paired(&one, &[vec![1.0, 1.0]], 100, 0).unwrap();
        assert_eq!((seedless.over_seeds, seedless.over_both, seedless.t), (None, None, None));
        assert!(seedless.over_examples.is_some());
        let single = paired(&nothing(2, 1), &rows(&[[1.0], [0.0]]), 100, 0).unwrap();
        assert_eq!((single.over_examples, single.over_both), (None, None));
        assert!(single.over_seeds.is_some() && single.t.is_some());
        let least = paired(&nothing(1, 1), &nothing(1, 1), 100, 0).unwrap();
        assert_eq!((least.estimate, least.over_examples, least.over_seeds), (0.0, None, None));
        assert_eq!(paired(&nothing(2, 2), &nothing(2, 2), 39, 0).unwrap().over_seeds, None);
        // Large scores overflow nothing.
        let huge = paired(&nothing(2, 2), &rows(&[[1e100, -1e100], [3e99, 1e100]]), 40, 0).unwrap();
        assert!(huge.over_both.unwrap().high.is_finite());
    }

    /// Right and wrong answers of dense and other models, out of a normal variable for each: the
    /// example's difficulty, the method's (`b` of the variance, for each example), the seed's and
    /// what is left (`c` of the variance).
    struct World {
        generator: SplitMix64,
        seeds: f64,
        b: f64,
        c: f64,
    }

    impl World {
        /// `points` is the standard deviation between the seeds' true differences.
        fn new(seed: u64, points: f64, b: f64, c: f64) -> Self {
            // At 91 % the normal distribution rises by one point in 0.0616; two models make √2.
            Self {
                generator: SplitMix64(seed),
                seeds: points * 0.0616 / std::f64::consts::SQRT_2,
                b,
                c,
            }
        }

        /// Box and Muller (1958).
        fn normal(&mut self) -> f64 {
            let mut uniform = || ((self.generator.word() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            let (radius, turn) = (uniform(), uniform());
            (-2.0 * libm::log(radius)).sqrt() * libm::cos(std::f64::consts::TAU * turn)
        }

        /// 91 % against `91 + gain` %, `gain` being 0 or 1.
        fn draw(
            &mut self,
            seeds: usize,
            examples: usize,
            gain: f64,
        ) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
            // Normal quantiles 0.91 and 0.92, of a variance of 1 and what the seeds add.
            let quantiles = [1.340_755_033_690_216_5, 1.405_071_560_309_632_9];
            let scale = (1.0 + self.seeds * self.seeds).sqrt();
            let shared = (1.0 - self.b - self.c).sqrt();
            let difficulty: Vec<f64> = (0..examples).map(|_| shared * self.normal()).collect();
            let [dense, other] = [0.0, gain].map(|gain| {
                let middle = scale * quantiles[usize::from(gain > 0.0)];
                let (b, c, between) = (self.b.sqrt(), self.c.sqrt(), self.seeds);
                let own: Vec<f64> =
                    difficulty.iter().map(|shared| middle + shared + b * self.normal()).collect();
                let mut seed = || -> Vec<f64> {
                    let seed = between * self.normal();
                    own.iter().map(|own| f64::from(own + seed + c * self.normal() > 0.0)).collect()
                };
                (0..seeds).map(|_| seed()).collect()
            });
            (dense, other)
        }
    }

    /// The share of experiments whose interval holds the truth, and the mean half width in points,
    /// for `over_both` and the t interval.
    fn coverage(mut world: World, seeds: usize, gain: f64, experiments: u32) -> [(f64, f64); 2] {
        let mut sums = [(0.0, 0.0); 2];
        for _ in 0..experiments {
            let (dense, other) = world.draw(seeds, 872, gain);
            let got = paired(&dense, &other, 0, 0).unwrap();
            for (sum, interval) in sums.iter_mut().zip([got.over_both, got.t.map(|t| t.interval)]) {
                let interval = interval.unwrap();
                sum.0 += f64::from(contains(interval, gain / 100.0)) / f64::from(experiments);
                sum.1 += 50.0 * (interval.high - interval.low) / f64::from(experiments);
            }
        }
        sums
    }

    /// 120 experiments for each; with a true coverage of 96 %, 88 % is more than 4 deviations away.
    #[test]
    fn the_interval_over_both_covers_the_truth() {
        for (seeds, gain) in [(3, 0.0), (5, 1.0), (10, 0.0)] {
            let world = World::new(seeds as u64, 0.3, 0.01, 0.06);
            let [(covered, half), _] = coverage(world, seeds, gain, 120);
            assert!(covered >= 0.88, "{seeds} seeds: {covered}");
            // And it is still of use: as narrow as it can be from so few seeds.
            assert!(half < [2.2, 1.2, 0.8][seeds / 4], "{seeds} seeds: ±{half}");
        }
    }

    /// The table in `docs/sparsity.md`, row by row.
    #[test]
    #[ignore = "36,000 simulated experiments: a minute in release"]
    fn the_coverage_in_the_documentation() {
        let documentation = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sparsity.md");
        let documentation = std::fs::read_to_string(documentation).unwrap();
        for seeds in [3, 5, 10] {
            for (gain, points, b, c, harder) in [
                (0.0, 0.0, 0.0, 0.06, ""),
                (0.0, 0.3, 0.01, 0.06, ""),
                (1.0, 0.3, 0.01, 0.06, ""),
                (0.0, 1.0, 0.01, 0.06, ""),
                (1.0, 3.0, 0.01, 0.06, ""),
                (0.0, 0.3, 0.05, 0.03, ", harder"),
            ] {
                let [both, t] = coverage(World::new(11, points, b, c), seeds, gain, 2000)
                    .map(|(share, half)| format!("{:.1} (±{half:.2})", 100.0 * share));
                let row = format!("| {seeds} | {gain} | {points:.1}{harder} | {both} | {t} |\n");
                print!("{row}");
                assert!(documentation.contains(&row), "not in docs/sparsity.md: {row}");
            }
        }
    }
}
