//! Distributions: Student's t and the test of a mean by it, McNemar's test, what agreement leaves
//! open.

use super::summary::{Interval, Summary, TAIL};
use serde::Serialize;

/// Student's paired test over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Student {
    /// Degrees of freedom, `seeds − 1`.
    pub freedom: usize,
    /// `mean ± t · deviation / √seeds`, `t` being Student's quantile 0.975.
    pub interval: Interval,
    /// The chance of a mean at least as far from 0, were the true one 0. Where the seeds'
    /// differences are all equal, 1 if they are 0 and 0 if not.
    pub p: f64,
}

/// The t interval and test of a mean against 0; `None` for one value.
pub(super) fn student(values: &Summary) -> Option<Student> {
    let error = values.deviation? / (values.count as f64).sqrt();
    let freedom = values.count - 1;
    let half = student_quantile(1.0 - TAIL, freedom)? * error;
    let p = if error > 0.0 {
        student_tails(values.mean.abs() / error, freedom as f64)
    } else {
        f64::from(values.mean == 0.0)
    };
    Some(Student { freedom, interval: Interval::around(values.mean, half), p })
}

/// By how much two models may differ in accuracy on other examples although they agree on all of
/// these: with no disagreement in n examples its rate may still be 1 − 0.025^(1/n), at a level of
/// 2.5 % (Clopper and Pearson, 1934). No interval for a difference of accuracy should be narrower.
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
/// `min(1, 2 Σ_{k ≤ min(b, c)} C(b + c, k) / 2^(b + c))` (McNemar, 1947, in its binomial form),
/// which is 1 for equal counts. Right to 1 part in 50,000,000. Above 10,000,000 discordant examples
/// it is the normal approximation with continuity correction, `erfc((|b − c| − 1) / √(2 (b + c)))`.
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
    // The last term of the sum, then the ones before it, in proportion to it: they only get
    // smaller.
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

#[cfg(test)]
mod tests {
    use super::super::summary::summary;
    use super::super::summary::tests::{close, range};
    use super::*;

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

        let test = |values: &[f64]| student(&summary(values).unwrap());
        assert_eq!(test(&[1.0]), None);
        assert_eq!(test(&[0.0; 3]).unwrap().p, 1.0);
        assert_eq!(test(&[0.1; 3]).unwrap().p, 0.0);
        assert_eq!(test(&[0.1; 3]).unwrap().interval, Interval { low: 0.1, high: 0.1 });
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
}
