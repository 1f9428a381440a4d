//! Holds the float64 references against central differences.

pub use crisp::measure::reference::{dot, is_kept, normal_density, normal_distribution, pcg4d};

/// Holds a reference gradient against central differences of the reference's forward:
/// `value` is the sum of its outputs weighted with the gradient from above, `at` the point,
/// `gradient` what the reference says there. Looks at up to 50 coordinates of it.
pub fn check_gradient(what: &str, at: &[f64], gradient: &[f64], value: impl Fn(&[f64]) -> f64) {
    assert_eq!(at.len(), gradient.len(), "{what}: number of elements");
    let squares: f64 = gradient.iter().map(|value| value * value).sum();
    let typical = (squares / gradient.len() as f64).sqrt();
    let stride = at.len().div_ceil(50);
    for coordinate in (0..at.len()).step_by(stride) {
        let step = 1e-5 * at[coordinate].abs().max(1.0);
        let moved = |by: f64| {
            let mut point = at.to_vec();
            point[coordinate] += by;
            value(&point)
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * step);
        let expected = gradient[coordinate];
        let error = (difference - expected).abs() / expected.abs().max(typical).max(1e-3);
        assert!(
            error < 1e-6,
            "{what}: coordinate {coordinate}: the reference says {expected}, differences \
             {difference} (error {error:.1e})"
        );
    }
}
