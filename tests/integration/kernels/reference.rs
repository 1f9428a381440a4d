//! What the float64 references share.

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

/// Σ a · b.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Φ(x), the standard normal distribution. By erfc, so that the lower tail keeps its digits.
pub fn normal_distribution(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// φ(x), the standard normal density.
pub fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The pcg4d permutation (Jarzynski and Olano, JCGT 2020), from which dropout is drawn.
pub fn pcg4d(counter: [u32; 4]) -> [u32; 4] {
    fn mix(v: &mut [u32; 4]) {
        for (to, a, b) in [(0, 1, 3), (1, 2, 0), (2, 0, 1), (3, 1, 2)] {
            v[to] = v[to].wrapping_add(v[a].wrapping_mul(v[b]));
        }
    }
    let mut v = counter.map(|word| word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    mix(&mut v);
    v = v.map(|word| word ^ (word >> 16));
    mix(&mut v);
    v
}

/// Whether a random word keeps its element: its upper 24 bits as a fraction, against p.
pub fn is_kept(word: u32, probability: f32) -> bool {
    f64::from(word >> 8) / f64::from(1 << 24) >= f64::from(probability)
}
