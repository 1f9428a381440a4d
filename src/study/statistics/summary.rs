//! Values summed up: mean, spread, middle, and ranges of them.

use serde::Serialize;

/// The chance that each tail of an interval leaves out.
pub(super) const TAIL: f64 = 0.025;

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
    /// The range in another unit: 100 turns shares into percentage points. A negative factor swaps
    /// the ends.
    pub fn scaled(&self, factor: f64) -> Self {
        let (one, two) = (self.low * factor, self.high * factor);
        Self { low: one.min(two), high: one.max(two) }
    }

    /// The range of what is at most `half` away from the middle.
    pub(super) fn around(middle: f64, half: f64) -> Self {
        Self { low: middle - half, high: middle + half }
    }

    /// What the middle 95 % of the values span: the quantiles 0.025 and 0.975, interpolated between
    /// the order statistics at `(count − 1) · quantile` (type 7 of Hyndman and Fan, 1996). `None`
    /// for no values.
    pub(super) fn middle_of(mut values: Vec<f64>) -> Option<Self> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Fails unless a number is the one wanted, to a share of it.
    pub fn close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs(), "{got} is not {want}");
    }

    /// Fails unless the range has these ends.
    pub fn range(got: Option<Interval>, low: f64, high: f64) {
        let got = got.unwrap();
        let near = |got: f64, want: f64| (got - want).abs() < 1e-10;
        assert!(near(got.low, low) && near(got.high, high), "{got:?} is not {low} to {high}");
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
    fn an_interval_changes_unit() {
        let interval = Interval { low: -0.5, high: 2.0 };
        assert_eq!(interval.scaled(100.0), Interval { low: -50.0, high: 200.0 });
        assert_eq!(interval.scaled(-1.0), Interval { low: -2.0, high: 0.5 });
        // 0 to 40: the quantiles 0.025 and 0.975 are 1 and 39; of two values they lie between them.
        range(Interval::middle_of((0..=40).rev().map(f64::from).collect()), 1.0, 39.0);
        range(Interval::middle_of(vec![1.0, 0.0]), 0.025, 0.975);
        range(Interval::middle_of(vec![7.0]), 7.0, 7.0);
        assert_eq!(Interval::middle_of(Vec::new()), None);
    }
}
