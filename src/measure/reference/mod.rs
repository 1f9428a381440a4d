//! What kernels are to compute, in float64 and plainly: the formulae, and nothing of how. The tests
//! hold every kernel against these, and so does `crisp doctor` on somebody's card.

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod layer_norm;
pub mod linear;

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

/// Values that float16 has, nearest to these.
pub fn rounded(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
    values
}
