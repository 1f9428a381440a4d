//! Does one way of attending score differently from another? Paired differences over seeds and
//! examples, intervals for them, McNemar's test, and a verdict in words.
//!
//! Pure functions of numbers: no files, no device, and the same seed gives the same result.

use crate::random::SplitMix64;
use serde::Serialize;

/// The gain in accuracy that the paper reports for sparse attention, in percentage points.
pub const PAPER_GAIN_POINTS: f64 = 0.97;

/// The chance that each tail of an interval leaves out.
const TAIL: f64 = 0.025;

/// Fewer resamples than this have no value in their tails of 2.5 %.
const FEWEST_RESAMPLES: u32 = 40;

/// More resamples than this are not drawn.
const MOST_RESAMPLES: u32 = 1_000_000;

/// The largest score that is taken: its square, summed, is still a finite number.
const LARGEST_SCORE: f64 = 1e100;

/// How many values there are, where they lie and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many values.
    pub count: usize,
    /// `Σ x / count`.
    pub mean: f64,
    /// The sample's standard deviation, `√(Σ (x − mean)² / (count − 1))`; `None` for one value.
    pub deviation: Option<f64>,
}

/// Sums up values. `None` where there are none, and where a value or a sum is not a finite number.
///
/// Equal values have a deviation of exactly 0.
pub fn summary(values: &[f64]) -> Option<Summary> {
    let (&first, count) = (values.first()?, values.len());
    let equal = values.iter().all(|value| *value == first);
    let mean = if equal { first } else { values.iter().sum::<f64>() / count as f64 };
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
    (mean.is_finite() && squares.is_finite()).then_some(Summary { count, mean, deviation })
}

/// The middle one of some values, the upper of two; no number for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A range of values, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether the value is in the range; the ends are.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The range in another unit: 100 turns shares into percentage points. A negative factor swaps
    /// the ends.
    pub fn scaled(&self, factor: f64) -> Self {
        let (one, two) = (self.low * factor, self.high * factor);
        Self { low: one.min(two), high: one.max(two) }
    }

    fn around(middle: f64, half: f64) -> Self {
        Self { low: middle - half, high: middle + half }
    }

    /// What the middle 95 % of the values span: the quantiles 0.025 and 0.975, interpolated between
    /// the order statistics at `(count − 1) · quantile` (type 7 of Hyndman and Fan, 1996). `None`
    /// for no values.
    fn middle_of(mut values: Vec<f64>) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        values.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| {
            let place = last as f64 * share;
            let below = (place as usize).min(last);
            let above = (below + 1).min(last);
            values[below] + (values[above] - values[below]) * (place - below as f64)
        };
        Some(Self { low: quantile(TAIL), high: quantile(1.0 - TAIL) })
    }
}

/// Student's paired test over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Student {
    /// Degrees of freedom, `seeds − 1`.
    pub freedom: usize,
    /// `mean ± t · deviation / √seeds`, `t` being Student's quantile 0.975.
    pub interval: Interval,
    /// The chance of a mean at least as far from 0, were the true one 0. Where the seeds' differences
    /// are all equal, 1 if they are 0 and 0 if not.
    pub p: f64,
}

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
    /// Other seeds and other examples: the crossed bootstrap, to compare `over_both` with.
    pub pigeonhole: Option<Interval>,
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
/// `pigeonhole` resamples both, independently (Owen, 2007, "The pigeonhole bootstrap"), as published.
/// Where `D[s,e]` is a sum of independent effects of seed, example and both, with variances `a`, `b`
/// and `c`, the variance of the mean is `a/S + b/n + c/Sn`, but that of the resampled mean is about
/// `a (S − 1)/S² + b/n + 3 c/Sn`. It is conservative where `c` is the largest part, as it is in
/// fine-tuning, and too narrow where there are few seeds that differ much.
///
/// `over_both` therefore takes the parts from the mean squares of the two-way table (analysis of
/// variance; Searle, Casella and McCulloch, 1992, chapter 4):
///
/// ```text
/// A = n Σ (D[s,·] − D[·,·])² / (S − 1)                               expected: n a + c
/// B = S Σ (D[·,e] − D[·,·])² / (n − 1)                               expected: S b + c
/// C = Σ (D[s,e] − D[s,·] − D[·,e] + D[·,·])² / ((S − 1)(n − 1))      expected: c
///
/// half the width = √(max(t² A + u² max(B − C, 0), u² B) / (S n))
/// ```
///
/// with Student's quantiles 0.975, `t` for `S − 1` and `u` for `n − 1` degrees of freedom. Giving each
/// part its own quantile is Banerjee's (1960) way of joining variances known with unequal precision;
/// it errs towards too wide. The interval is never narrower than `t` (it adds the examples to it),
/// nor than the one for these models alone, `u² B`: few seeds agree by chance now and then.
///
/// # Coverage, measured
/// How often a nominal 95 % interval held the true difference, in %, in 2,000 simulated experiments
/// each, with the mean half width in points in brackets: right or wrong on 872 examples at 91 %, dense
/// and other differing on about 5 % of the examples. "seeds differ by" is the standard deviation
/// between the seeds' true differences, in points; in rows with "hard" the other model is besides
/// better on some examples and worse on others, whatever the seed. (`t` is for these examples only,
/// so it need not cover; the pigeonhole bootstrap had 400 resamples.) The test
/// `the_coverage_in_the_documentation` prints the table.
///
/// ```text
/// seeds  true gain  seeds differ by     over_both             t    pigeonhole
///     3          0         0.0        98.1 [1.65]   94.1 [1.58]   99.6 [1.23]
///     3          0         0.3        98.2 [1.82]   93.9 [1.72]   98.7 [1.32]
///     3          1         0.3        98.6 [1.80]   93.6 [1.69]   98.8 [1.30]
///     3          0         1.0        97.5 [2.75]   94.8 [2.70]   95.3 [1.54]
///     3          1         3.0        95.3 [6.40]   94.9 [6.37]   81.2 [2.62]
///     3          0         0.3 hard   98.4 [1.84]   89.1 [1.51]   97.9 [1.41]
///     5          0         0.0        97.9 [0.89]   94.5 [0.83]   99.7 [1.00]
///     5          0         0.3        97.4 [1.02]   92.9 [0.90]   99.5 [1.10]
///     5          1         0.3        97.7 [1.01]   91.8 [0.88]   99.3 [1.09]
///     5          0         1.0        96.7 [1.50]   95.1 [1.44]   97.4 [1.31]
///     5          1         3.0        95.9 [3.46]   95.6 [3.43]   89.6 [2.35]
///     5          0         0.3 hard   96.8 [1.24]   78.3 [0.78]   97.3 [1.27]
///    10          0         0.0        97.4 [0.53]   94.7 [0.50]   99.7 [0.73]
///    10          0         0.3        96.4 [0.68]   88.0 [0.53]   99.1 [0.85]
///    10          1         0.3        96.3 [0.68]   87.0 [0.52]   98.8 [0.84]
///    10          0         1.0        95.1 [0.94]   91.6 [0.84]   96.6 [1.01]
///    10          1         3.0        94.6 [2.07]   93.5 [2.03]   91.7 [1.81]
///    10          0         0.3 hard   95.9 [1.05]   62.0 [0.47]   97.1 [1.12]
/// ```
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

    let table = Table::new(dense, other, seeds, examples);
    let per_seed = summary(&table.by_seed)?;
    let (over_seeds, over_examples, pigeonhole) =
        table.bootstrap(resamples.min(MOST_RESAMPLES), seed);
    Some(PairedDifference {
        estimate: per_seed.mean,
        per_seed,
        examples,
        over_seeds,
        over_examples,
        over_both: table.over_both(&per_seed),
        pigeonhole,
        t: student(&per_seed),
    })
}

/// The t interval and test of a mean against 0; `None` for one value.
fn student(of: &Summary) -> Option<Student> {
    let error = of.deviation? / (of.count as f64).sqrt();
    let freedom = of.count - 1;
    let half = student_quantile(1.0 - TAIL, freedom)? * error;
    let p = if error > 0.0 {
        student_tails(of.mean.abs() / error, freedom as f64)
    } else {
        f64::from(of.mean == 0.0)
    };
    Some(Student { freedom, interval: Interval::around(of.mean, half), p })
}

/// The differences of two sets of scores, and their means.
struct Table {
    /// `[examples, seeds]`.
    cells: Vec<f64>,
    /// `[seeds]`.
    by_seed: Vec<f64>,
    /// `[examples]`.
    by_example: Vec<f64>,
}

impl Table {
    /// Takes the differences of rows that are `[seeds][examples]` on both sides.
    fn new(dense: &[Vec<f64>], other: &[Vec<f64>], seeds: usize, examples: usize) -> Self {
        let mut cells = vec![0.0; seeds * examples];
        for (seed, (dense, other)) in dense.iter().zip(other).enumerate() {
            for (example, (dense, other)) in dense.iter().zip(other).enumerate() {
                cells[example * seeds + seed] = other - dense;
            }
        }
        let mut by_seed = vec![0.0; seeds];
        for row in cells.chunks_exact(seeds) {
            add(&mut by_seed, row);
        }
        by_seed.iter_mut().for_each(|sum| *sum /= examples as f64);
        let by_example =
            cells.chunks_exact(seeds).map(|row| row.iter().sum::<f64>() / seeds as f64).collect();
        Self { cells, by_seed, by_example }
    }

    /// The interval of [`paired`] for other seeds and other examples.
    fn over_both(&self, per_seed: &Summary) -> Option<Interval> {
        let per_example = summary(&self.by_example)?;
        let (mean, seeds, examples) =
            (per_seed.mean, per_seed.count as f64, per_example.count as f64);
        let (of_seeds, of_examples) = (per_seed.deviation?, per_example.deviation?);
        let mut residual = 0.0;
        for (row, by_example) in self.cells.chunks_exact(per_seed.count).zip(&self.by_example) {
            for (cell, by_seed) in row.iter().zip(&self.by_seed) {
                let left = (cell - by_seed) - (by_example - mean);
                residual += left * left;
            }
        }
        let a = examples * of_seeds * of_seeds;
        let b = seeds * of_examples * of_examples;
        let c = residual / ((seeds - 1.0) * (examples - 1.0));
        let t = student_quantile(1.0 - TAIL, per_seed.count - 1)?;
        let u = student_quantile(1.0 - TAIL, per_example.count - 1)?;
        let square = (t * t * a + u * u * (b - c).max(0.0)).max(u * u * b);
        Some(Interval::around(mean, (square / (seeds * examples)).sqrt()))
    }

    /// Percentile intervals over seeds, over examples and over both, from the same resamples.
    fn bootstrap(
        &self,
        resamples: u32,
        seed: u64,
    ) -> (Option<Interval>, Option<Interval>, Option<Interval>) {
        let (seeds, examples) = (self.by_seed.len(), self.by_example.len());
        if resamples < FEWEST_RESAMPLES || seeds * examples == 1 {
            return (None, None, None);
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let estimate = mean(&self.by_seed);
        let widen = (seeds as f64 / (seeds.max(2) - 1) as f64).sqrt();
        let mut generator = SplitMix64(seed);
        let [mut over_seeds, mut over_examples, mut over_both] =
            [(); 3].map(|()| Vec::with_capacity(resamples as usize));
        let mut sums = vec![0.0; seeds];
        for _ in 0..resamples {
            sums.fill(0.0);
            for _ in 0..examples {
                let example = generator.below(examples as u64) as usize;
                add(&mut sums, &self.cells[example * seeds..][..seeds]);
            }
            let (mut of_means, mut of_sums) = (0.0, 0.0);
            for _ in 0..seeds {
                let seed = generator.below(seeds as u64) as usize;
                of_means += self.by_seed[seed];
                of_sums += sums[seed];
            }
            over_seeds.push(estimate + widen * (of_means / seeds as f64 - estimate));
            over_examples.push(mean(&sums) / examples as f64);
            over_both.push(of_sums / (seeds as f64 * examples as f64));
        }
        let give = |values, enough: bool| enough.then(|| Interval::middle_of(values)).flatten();
        (
            give(over_seeds, seeds > 1),
            give(over_examples, examples > 1),
            give(over_both, seeds > 1 && examples > 1),
        )
    }
}

fn add(sums: &mut [f64], row: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

/// By how much two models may differ in accuracy on other examples although they agree on all of these: with
/// no disagreement in n examples its rate may still be 1 − 0.025^(1/n), at a level of 2.5 % (Clopper and
/// Pearson, 1934). No interval for a difference of accuracy should be narrower.
pub fn unseen_disagreement(examples: usize) -> f64 {
    if examples == 0 { 1.0 } else { 1.0 - TAIL.powf(1.0 / examples as f64) }
}

/// How many examples only dense attention has right (`b`), and how many only the other (`c`), in
/// McNemar's (1947) letters. `None` where the two do not have the same number of examples.
pub fn discordant(dense: &[bool], other: &[bool]) -> Option<(u64, u64)> {
    let count = |wanted| dense.iter().zip(other).filter(|pair| *pair == wanted).count() as u64;
    (dense.len() == other.len()).then(|| (count((&true, &false)), count((&false, &true))))
}

/// McNemar's exact two-sided test of one pair of models: the chance of a split of the discordant
/// examples at least as uneven as `b` to `c`, were each as likely to fall on either side.
///
/// `min(1, 2 Σ_{k ≤ min(b, c)} C(b + c, k) / 2^(b + c))` (McNemar, 1947, in its binomial form), which
/// is 1 for equal counts.
/// Right to 1 part in 50,000,000. Above 10,000,000 discordant examples it is the normal approximation
/// with continuity correction, `erfc((|b − c| − 1) / √(2 (b + c)))`.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    if b == c {
        return 1.0;
    }
    let few = b.min(c) as f64;
    let all = b as f64 + c as f64;
    if all > 1e7 {
        let z = (b.abs_diff(c) as f64 - 1.0) / all.sqrt();
        return libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2).min(1.0);
    }
    // The last term of the sum, then the ones before it, in proportion to it: they only get smaller.
    let choose = libm::lgamma(all + 1.0) - libm::lgamma(few + 1.0) - libm::lgamma(all - few + 1.0);
    let last = libm::exp(choose - all * std::f64::consts::LN_2);
    let (mut sum, mut term, mut k) = (1.0, 1.0, few);
    while k > 0.0 && term > 1e-17 * sum {
        term *= k / (all - k + 1.0);
        sum += term;
        k -= 1.0;
    }
    (2.0 * last * sum).min(1.0)
}

/// The `t` that a variable of Student's distribution with `freedom` degrees of freedom stays below
/// with the given probability; by bisection of the distribution function, to about 11
/// digits (8 for a million degrees of freedom).
///
/// `None` for no degrees of freedom, and for a probability that is not between 10^-9 and 1 − 10^-9.
/// More than 10,000,000 degrees of freedom are taken as 10,000,000.
pub fn student_quantile(probability: f64, freedom: usize) -> Option<f64> {
    if freedom == 0 || !(1e-9..=1.0 - 1e-9).contains(&probability) {
        return None;
    }
    let freedom = freedom.min(10_000_000) as f64;
    let upper = probability > 0.5;
    let tails = 2.0 * if upper { 1.0 - probability } else { probability };
    let (mut low, mut high) = (0.0, 1.0);
    while student_tails(high, freedom) > tails {
        (low, high) = (high, 2.0 * high);
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if student_tails(middle, freedom) > tails {
            low = middle;
        } else {
            high = middle;
        }
    }
    // The median comes out of the loop as the smallest number above 0.
    Some(if probability == 0.5 { 0.0 } else { high.copysign(if upper { 1.0 } else { -1.0 }) })
}

/// The chance that a variable of Student's distribution is at least `t ≥ 0` away from 0:
/// `I_x(freedom / 2, 1 / 2)` at `x = freedom / (freedom + t²)` (Abramowitz and Stegun, 26.7.1).
fn student_tails(t: f64, freedom: f64) -> f64 {
    // Divided so that no square of a large t overflows.
    let share = if t > 1e150 { 0.0 } else { freedom / (freedom + t * t) };
    let rest = if t > 1e150 { 1.0 } else { t * t / (freedom + t * t) };
    incomplete_beta(share, rest, 0.5 * freedom, 0.5)
}

/// The regularised incomplete beta function `I_x(a, b)`, `y` being `1 − x`: the continued fraction
/// DLMF 8.17.22, evaluated from the front by the modified method of Lentz (Thompson and Barnett,
/// 1986), on whichever side it converges fast.
fn incomplete_beta(x: f64, y: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || y <= 0.0 {
        return f64::from(y <= 0.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta_fraction(y, x, b, a);
    }
    incomplete_beta_fraction(x, y, a, b)
}

fn incomplete_beta_fraction(x: f64, y: f64, a: f64, b: f64) -> f64 {
    let beta = libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    let front = libm::exp(a * libm::log(x) + b * libm::log(y) - beta) / a;
    let never_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut fraction, mut numerator, mut denominator) = (1.0, 1.0, 0.0);
    for step in 1..=20_000_u32 {
        let m = f64::from(step / 2);
        let coefficient = if step % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        denominator = 1.0 / never_zero(1.0 + coefficient * denominator);
        numerator = never_zero(1.0 + coefficient / numerator);
        let change = numerator * denominator;
        fraction *= change;
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front / fraction
}

/// What a difference in accuracy says, in two or three sentences, with the numbers it rests on.
///
/// `difference_points` and the 95 % interval are percentage points of accuracy, other minus dense;
/// the interval is [`PairedDifference::over_both`], or [`PairedDifference::over_examples`] for one
/// seed. The ends are rounded outwards to hundredths first, and the verdict is that of the rounded
/// interval, so that the words never say more than the numbers beside them:
///
/// - it excludes 0: better, or worse;
/// - it includes 0 and lies between −1 and +1: a difference of 1 point or more is excluded;
/// - it includes 0 and reaches −1 or +1: no difference was shown, and which of a gain and a loss of
///   1 point cannot be excluded.
///
/// Then where [`PAPER_GAIN_POINTS`] lies, and for one seed what that leaves open. An interval that
/// is not two finite numbers in order counts as none.
pub fn verdict(
    name: &str,
    difference_points: f64,
    interval_points: Option<Interval>,
    seeds: usize,
    examples: usize,
) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let counts = format!("{seeds} seed{}, {examples} example{}", plural(seeds), plural(examples));
    if seeds == 0 || examples == 0 || !difference_points.is_finite() {
        return format!("{name}: nothing to compare with dense attention was measured ({counts}).");
    }
    let difference = signed(hundredths(difference_points, f64::round));
    let one_seed = "One seed does not tell how far seeds differ.";

    let usable = interval_points.filter(|interval| {
        interval.low <= interval.high && interval.low.is_finite() && interval.high.is_finite()
    });
    let Some(interval) = usable else {
        let mut text = format!(
            "{name}: {difference} points against dense attention ({counts}); without an interval \
             this neither shows nor excludes a difference."
        );
        if seeds == 1 {
            text = format!("{text} {one_seed}");
        }
        return text;
    };

    // A value that is a hundredth but for its last bits stays that hundredth.
    let low = hundredths(interval.low, |value| (value + 1e-6).floor());
    let high = hundredths(interval.high, |value| (value - 1e-6).ceil());
    let finding = if low > 0.0 {
        " is better than dense attention"
    } else if high < 0.0 {
        " is worse than dense attention"
    } else {
        match (low <= -1.0, high >= 1.0) {
            (false, false) => {
                ": no difference from dense attention was shown, and a difference of 1 point or more is \
                 excluded"
            }
            (false, true) => {
                ": no difference from dense attention was shown, but a gain of 1 point cannot be \
                 excluded"
            }
            (true, false) => {
                ": no difference from dense attention was shown, but a loss of 1 point cannot be \
                 excluded"
            }
            (true, true) => {
                ": no difference from dense attention was shown, and neither a gain nor a loss of 1 \
                 point can be excluded"
            }
        }
    };
    let paper = if PAPER_GAIN_POINTS < low {
        "below"
    } else if PAPER_GAIN_POINTS > high {
        "above"
    } else {
        "inside"
    };
    let mut text = format!(
        "{name}{finding} ({difference} points, 95 % interval {} to {}, {counts}). The paper's gain of \
         {} points lies {paper} this interval.",
        signed(low),
        signed(high),
        signed(PAPER_GAIN_POINTS),
    );
    if seeds == 1 {
        text = format!(
            "For this one pair of models, {text} {one_seed} The interval covers other examples, not \
             other seeds."
        );
    }
    text
}

/// Rounds to hundredths, the given way; a 0 has no sign.
fn hundredths(value: f64, round: impl Fn(f64) -> f64) -> f64 {
    round(value * 100.0) / 100.0 + 0.0
}

/// Two decimals and a sign, which 0 has not.
fn signed(value: f64) -> String {
    if value == 0.0 { "0.00".into() } else { format!("{value:+.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs(), "{got} is not {want}");
    }

    fn range(got: Option<Interval>, low: f64, high: f64) {
        let got = got.unwrap();
        let near = |got: f64, want: f64| (got - want).abs() < 1e-10;
        assert!(near(got.low, low) && near(got.high, high), "{got:?} is not {low} to {high}");
    }

    fn rows<const N: usize>(rows: &[[f64; N]]) -> Vec<Vec<f64>> {
        rows.iter().map(|row| row.to_vec()).collect()
    }

    /// Zeros, for scores that are their own differences.
    fn nothing(seeds: usize, examples: usize) -> Vec<Vec<f64>> {
        vec![vec![0.0; examples]; seeds]
    }

    #[test]
    fn a_summary_has_the_sample_deviation() {
        let got = summary(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!((got.count, got.mean), (8, 5.0));
        close(got.deviation.unwrap(), (32.0_f64 / 7.0).sqrt(), 1e-15);
        assert_eq!(summary(&[3.5]), Some(Summary { count: 1, mean: 3.5, deviation: None }));
        // Three times 0.1, summed and divided, is not 0.1.
        let equal = Summary { count: 3, mean: 0.1, deviation: Some(0.0) };
        assert_eq!(summary(&[0.1; 3]), Some(equal));
        for bad in [&[][..], &[f64::NAN], &[f64::INFINITY; 2], &[1.0, f64::NAN], &[1e308, -1e308]] {
            assert_eq!(summary(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_interval_holds_its_ends_and_changes_unit() {
        let interval = Interval { low: -0.5, high: 2.0 };
        assert!(interval.contains(-0.5) && interval.contains(2.0) && interval.contains(0.0));
        assert!(!interval.contains(2.1) && !interval.contains(f64::NAN));
        assert_eq!(interval.scaled(100.0), Interval { low: -50.0, high: 200.0 });
        assert_eq!(interval.scaled(-1.0), Interval { low: -2.0, high: 0.5 });
        // 0 to 40: the quantiles 0.025 and 0.975 are 1 and 39; of two values they lie between them.
        range(Interval::middle_of((0..=40).rev().map(f64::from).collect()), 1.0, 39.0);
        range(Interval::middle_of(vec![1.0, 0.0]), 0.025, 0.975);
        range(Interval::middle_of(vec![7.0]), 7.0, 7.0);
        assert_eq!(Interval::middle_of(Vec::new()), None);
    }

    /// From scipy 1.17 (`t.ppf`); those of 0.975 again to 17 digits from mpmath.
    #[test]
    fn student_quantiles_are_those_of_the_tables() {
        for (freedom, at_600, at_975, at_995) in [
            (1, 0.324_919_696_232_906_34, 12.706_204_736_174_705, 63.656_741_162_871_526),
            (2, 0.288_675_134_594_812_8, 4.302_652_729_749_464, 9.924_843_200_918_287),
            (4, 0.270_722_294_707_597_6, 2.776_445_105_197_794_4, 4.604_094_871_349_992),
            (9, 0.260_955_336_473_911, 2.262_157_162_798_205_5, 3.249_835_541_592_126),
            (30, 0.255_605_364_951_912_8, 2.042_272_456_301_238, 2.749_995_653_567_225_4),
            (871, 0.253_424_501_853_140_7, 1.962_691_326_822_751_2, 2.581_485_683_416_725_2),
            (1_000_000, 0.253_347_170_537_841_84, 1.959_966_356_814_107, 2.575_834_220_105_334_4),
        ] {
            for (probability, want) in [(0.6, at_600), (0.975, at_975), (0.995, at_995)] {
                let tolerance = if freedom > 1000 { 1e-8 } else { 1e-11 };
                close(student_quantile(probability, freedom).unwrap(), want, tolerance);
                close(student_quantile(1.0 - probability, freedom).unwrap(), -want, tolerance);
            }
            assert_eq!(student_quantile(0.5, freedom), Some(0.0));
        }
        // One degree of freedom is Cauchy's distribution: cot(π / 10^9).
        close(student_quantile(1e-9, 1).unwrap(), -318_309_886.183_790_7, 1e-11);
        for probability in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY, 1e-10] {
            assert_eq!(student_quantile(probability, 4), None);
        }
        assert_eq!(student_quantile(0.975, 0), None);
        assert!(student_quantile(1.0 - 1e-9, usize::MAX).unwrap() < 6.0);
    }

    /// `scipy.stats.ttest_1samp([0.5, 1.25, -0.25, 2, 0.75], 0)`.
    #[test]
    fn the_paired_test_is_student_s() {
        let values = [0.5, 1.25, -0.25, 2.0, 0.75];
        let got = student(&summary(&values).unwrap()).unwrap();
        assert_eq!(got.freedom, 4);
        close(got.p, 0.086_522_779_946_012_03, 1e-12);
        // 0.85 ± 2.776445 · 0.840387 / √5.
        let half = 2.776_445_105_197_794_4 * 0.840_386_815_698_580_5 / 5.0_f64.sqrt();
        range(Some(got.interval), 0.85 - half, 0.85 + half);

        let of = |values: &[f64]| student(&summary(values).unwrap());
        assert_eq!(of(&[1.0]), None);
        assert_eq!(of(&[0.0; 3]).unwrap().p, 1.0);
        assert_eq!(of(&[0.1; 3]).unwrap().p, 0.0);
        assert_eq!(of(&[0.1; 3]).unwrap().interval, Interval { low: 0.1, high: 0.1 });
    }

    /// From exact fractions in Python (`math.comb`); the large ones from mpmath with 40 digits.
    #[test]
    fn mcnemar_is_the_exact_binomial_test() {
        for (b, c, want) in [
            (0, 0, 1.0),
            (3, 3, 1.0),
            (30, 31, 1.0),
            (1, 0, 1.0),
            (5, 0, 0.0625),
            (6, 0, 0.03125),
            (10, 2, 0.038_574_218_75),
            (7, 1, 0.070_312_5),
            (26, 17, 0.222_052_820_156_022_8),
            (121, 59, 4.434_449_263_755_176e-6),
            (3000, 3200, 0.011_488_253_770_871_206),
            (400, 800, 2.973_479_334_597_153e-31),
            (50_500, 49_500, 0.001_582_359_878_651_595_6),
            (498_700, 501_300, 0.009_349_543_380_097_061),
            (495_000, 505_000, 1.538_155_504_390_735e-23),
            (4_498_000, 4_502_000, 0.182_531_800_654_157_8),
            (9_996_000, 10_004_000, 0.073_674_295_528_5),
        ] {
            let tolerance = match b + c {
                0..10_000 => 1e-11,
                10_000..=10_000_000 => 2e-8,
                _ => 1e-7,
            };
            close(mcnemar(b, c), want, tolerance);
            assert_eq!(mcnemar(b, c), mcnemar(c, b));
        }
        // Neither an overflow nor a loop without end.
        assert_eq!(mcnemar(u64::MAX, u64::MAX), 1.0);
        assert_eq!(mcnemar(u64::MAX, 0), 0.0);
        assert_eq!(mcnemar(u64::MAX, u64::MAX - 1), 1.0);
        assert_eq!(mcnemar(1_000_000, 0), 0.0);
    }

    #[test]
    fn discordant_examples_are_counted_on_the_side_that_is_right() {
        let dense = [true, true, true, false, false, true];
        let other = [true, false, false, true, false, true];
        assert_eq!(discordant(&dense, &other), Some((2, 1)));
        assert_eq!(discordant(&[], &[]), Some((0, 0)));
        assert_eq!(discordant(&dense, &other[1..]), None);
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
        assert_eq!((got.over_seeds, got.over_examples, got.pigeonhole), (None, None, None));

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
        // Seeds only: 0, 0.5 and 1. All three alike at an end has chance 1/27 > 2.5 %, so the ends are
        // 0.5 ± 0.5, widened by √(3/2). The examples are all alike.
        let got =
            paired(&nothing(3, 2), &rows(&[[0.0; 2], [0.5; 2], [1.0; 2]]), 10_000, 7).unwrap();
        range(got.over_seeds, 0.5 - 0.5 * 1.5_f64.sqrt(), 0.5 + 0.5 * 1.5_f64.sqrt());
        range(got.over_examples, 0.5, 0.5);
        range(got.pigeonhole, 0.0, 1.0);

        // Examples only: of the 256 resampled means of these four, 1.2 % lie below 0.
        let means = [3.5 / 3.0, 2.0 / 3.0, 0.25 / 3.0, -0.25 / 3.0];
        let got = paired(&nothing(2, 4), &rows(&[means; 2]), 10_000, 7).unwrap();
        range(got.over_examples, 0.0, 11.0 / 12.0);
        range(got.over_seeds, got.estimate, got.estimate);

        // Both: two of the one seed and two of the one example has chance 1/16.
        let got = paired(&nothing(2, 2), &rows(&[[-3.0, 1.0], [2.0, 5.0]]), 10_000, 7).unwrap();
        range(got.pigeonhole, -3.0, 5.0);
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
            (one.pigeonhole, two.pigeonhole),
            (one.t.map(|t| t.interval), two.t.map(|t| t.interval)),
        ] {
            assert!(one.unwrap().contains(-0.5 * (two.unwrap().low + two.unwrap().high)));
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
        assert_eq!(seedless.pigeonhole, None);
        assert!(seedless.over_examples.is_some());
        let single = paired(&nothing(2, 1), &rows(&[[1.0], [0.0]]), 100, 0).unwrap();
        assert_eq!((single.over_examples, single.over_both, single.pigeonhole), (None, None, None));
        assert!(single.over_seeds.is_some() && single.t.is_some());
        let least = paired(&nothing(1, 1), &nothing(1, 1), 100, 0).unwrap();
        assert_eq!((least.estimate, least.over_examples, least.over_seeds), (0.0, None, None));
        assert_eq!(paired(&nothing(2, 2), &nothing(2, 2), 39, 0).unwrap().over_seeds, None);
        // Large scores overflow nothing.
        let huge = paired(&nothing(2, 2), &rows(&[[1e100, -1e100], [3e99, 1e100]]), 40, 0).unwrap();
        assert!(huge.over_both.unwrap().high.is_finite());
    }

    /// Right and wrong answers of dense and other models, out of a normal variable for each: the
    /// example's difficulty, the method's (`b` of the variance, for each example), the seed's and what
    /// is left (`c` of the variance).
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
    /// for `over_both`, the t interval and the pigeonhole bootstrap.
    fn coverage(
        mut world: World,
        seeds: usize,
        gain: f64,
        experiments: u32,
        resamples: u32,
    ) -> [(f64, f64); 3] {
        let mut sums = [(0.0, 0.0); 3];
        for experiment in 0..experiments {
            let (dense, other) = world.draw(seeds, 872, gain);
            let got = paired(&dense, &other, resamples, u64::from(experiment)).unwrap();
            let kinds = [got.over_both, got.t.map(|t| t.interval), got.pigeonhole];
            for (sum, interval) in sums.iter_mut().zip(kinds) {
                if let Some(interval) = interval {
                    sum.0 += f64::from(interval.contains(gain / 100.0)) / f64::from(experiments);
                    sum.1 += 50.0 * (interval.high - interval.low) / f64::from(experiments);
                }
            }
        }
        sums
    }

    /// 120 experiments for each; with a true coverage of 96 %, 88 % is more than 4 deviations away.
    #[test]
    fn the_interval_over_both_covers_the_truth() {
        for (seeds, gain) in [(3, 0.0), (5, 1.0), (10, 0.0)] {
            let world = World::new(seeds as u64, 0.3, 0.01, 0.06);
            let [(covered, half), ..] = coverage(world, seeds, gain, 120, 0);
            assert!(covered >= 0.88, "{seeds} seeds: {covered}");
            // And it is still of use: as narrow as it can be from so few seeds.
            assert!(half < [2.2, 1.2, 0.8][seeds / 4], "{seeds} seeds: ±{half}");
        }
    }

    /// Prints the table in the documentation of [`paired`].
    #[test]
    #[ignore = "takes a minute in release"]
    fn the_coverage_in_the_documentation() {
        println!("seeds  true gain  seeds differ by     over_both             t    pigeonhole");
        for seeds in [3, 5, 10] {
            for (gain, points, b, c, kind) in [
                (0.0, 0.0, 0.0, 0.06, "    "),
                (0.0, 0.3, 0.01, 0.06, "    "),
                (1.0, 0.3, 0.01, 0.06, "    "),
                (0.0, 1.0, 0.01, 0.06, "    "),
                (1.0, 3.0, 0.01, 0.06, "    "),
                (0.0, 0.3, 0.05, 0.03, "hard"),
            ] {
                let all = coverage(World::new(11, points, b, c), seeds, gain, 2000, 400);
                let [both, t, pigeonhole] =
                    all.map(|(share, half)| format!("{:>5.1} [{half:.2}]", 100.0 * share));
                println!("{seeds:>5}  {gain:>9}  {points:>10.1} {kind}  {both}  {t}  {pigeonhole}");
            }
        }
    }

    fn said(difference: f64, low: f64, high: f64, seeds: usize) -> String {
        verdict("top-k 50 %", difference, Some(Interval { low, high }), seeds, 872)
    }

    #[test]
    fn a_verdict_says_better_and_worse() {
        assert_eq!(
            said(1.2, 0.4, 2.0, 5),
            "top-k 50 % is better than dense attention (+1.20 points, 95 % interval +0.40 to +2.00, \
             5 seeds, 872 examples). The paper's gain of +0.97 points lies inside this interval."
        );
        assert_eq!(
            said(-1.2, -2.0, -0.4, 5),
            "top-k 50 % is worse than dense attention (-1.20 points, 95 % interval -2.00 to -0.40, \
             5 seeds, 872 examples). The paper's gain of +0.97 points lies above this interval."
        );
        assert_eq!(
            said(1.6, 1.2, 2.0, 10),
            "top-k 50 % is better than dense attention (+1.60 points, 95 % interval +1.20 to +2.00, \
             10 seeds, 872 examples). The paper's gain of +0.97 points lies below this interval."
        );
    }

    #[test]
    fn a_verdict_says_what_is_excluded() {
        assert_eq!(
            said(-0.1, -0.6, 0.4, 5),
            "top-k 50 %: no difference from dense attention was shown, and a difference of 1 point or more is \
             excluded (-0.10 points, 95 % interval -0.60 to +0.40, 5 seeds, 872 examples). The \
             paper's gain of +0.97 points lies above this interval."
        );
        assert_eq!(
            said(0.001, -0.99, 0.97, 5),
            "top-k 50 %: no difference from dense attention was shown, and a difference of 1 point or more is \
             excluded (0.00 points, 95 % interval -0.99 to +0.97, 5 seeds, 872 examples). The \
             paper's gain of +0.97 points lies inside this interval."
        );
        assert_eq!(
            said(0.3, -0.7, 1.3, 3),
            "top-k 50 %: no difference from dense attention was shown, but a gain of 1 point cannot be \
             excluded (+0.30 points, 95 % interval -0.70 to +1.30, 3 seeds, 872 examples). The \
             paper's gain of +0.97 points lies inside this interval."
        );
        assert_eq!(
            said(-0.3, -1.3, 0.7, 3),
            "top-k 50 %: no difference from dense attention was shown, but a loss of 1 point cannot be \
             excluded (-0.30 points, 95 % interval -1.30 to +0.70, 3 seeds, 872 examples). The \
             paper's gain of +0.97 points lies above this interval."
        );
        assert_eq!(
            said(0.3, -2.0, 2.6, 2),
            "top-k 50 %: no difference from dense attention was shown, and neither a gain nor a loss \
             of 1 point can be excluded (+0.30 points, 95 % interval -2.00 to +2.60, 2 seeds, 872 \
             examples). The paper's gain of +0.97 points lies inside this interval."
        );
    }

    #[test]
    fn a_verdict_on_one_seed_says_what_one_seed_cannot() {
        assert_eq!(
            said(1.5, 0.2, 2.8, 1),
            "For this one pair of models, top-k 50 % is better than dense attention (+1.50 points, 95 \
             % interval +0.20 to +2.80, 1 seed, 872 examples). The paper's gain of +0.97 points lies \
             inside this interval. One seed does not tell how far seeds differ. The interval covers \
             other examples, not other seeds."
        );
        assert_eq!(
            verdict("window", 1.5, None, 1, 1),
            "window: +1.50 points against dense attention (1 seed, 1 example); without an interval \
             this neither shows nor excludes a difference. One seed does not tell how far seeds \
             differ."
        );
    }

    #[test]
    fn a_verdict_without_an_interval_claims_nothing() {
        let without = "window: -0.50 points against dense attention (2 seeds, 872 examples); without \
                       an interval this neither shows nor excludes a difference.";
        for (low, high) in [(f64::NAN, 1.0), (f64::NEG_INFINITY, 1.0), (1.0, -1.0)] {
            assert_eq!(verdict("window", -0.5, Some(Interval { low, high }), 2, 872), without);
        }
        assert_eq!(verdict("window", -0.5, None, 2, 872), without);
        for (difference, seeds, examples) in [(0.1, 0, 872), (0.1, 2, 0), (f64::NAN, 2, 872)] {
            assert_eq!(
                verdict(
                    "window",
                    difference,
                    Some(Interval { low: 0.0, high: 1.0 }),
                    seeds,
                    examples
                ),
                format!(
                    "window: nothing to compare with dense attention was measured ({seeds} seeds, \
                     {examples} examples)."
                )
            );
        }
    }

    /// The words follow the numbers as printed: an end that prints as 0.00 or 1.00 is 0 or 1.
    #[test]
    fn a_verdict_rounds_its_interval_outwards() {
        let text = said(0.5, 0.004, 0.991, 5);
        assert!(text.contains("but a gain of 1 point cannot be excluded"), "{text}");
        assert!(text.contains("interval 0.00 to +1.00,"), "{text}");
        let text = said(-0.5, -0.981, -0.004, 5);
        assert!(text.contains("and a difference of 1 point or more is excluded"), "{text}");
        assert!(text.contains("interval -0.99 to 0.00,"), "{text}");
        // 0.29 · 100 is a little less than 29, and 0.07 · 100 a little more than 7.
        assert!(said(0.2, 0.07, 0.29, 5).contains("interval +0.07 to +0.29,"));
        assert!(said(0.3, 0.29, 0.57, 5).contains("interval +0.29 to +0.57,"));
    }
}
