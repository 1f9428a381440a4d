//! Products, and projections with bias and activation.

use super::{dot, normal_density, normal_distribution};
use crate::kernels::matmul::{Activation, Transposition};

/// GELU(x) = x Φ(x), ReLU(x) = max(x, 0).
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Gelu => x * normal_distribution(x),
        Activation::Relu => x.max(0.0),
    }
}

/// GELU'(x) = Φ(x) + x φ(x), ReLU'(x) = 1 for x > 0, else 0.
pub fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => 1.0,
        Activation::Gelu => normal_distribution(x) + x * normal_density(x),
        Activation::Relu => f64::from(x > 0.0),
    }
}

/// `x [rows, columns]` as `[columns, rows]`.
pub fn transposed(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns * rows).map(|at| x[at % rows * columns + at / rows]).collect()
}

/// C[i, j] = Σ_l A[i, l] B[l, j], A being `[m, k]` or `[k, m]`, B `[k, n]` or `[n, k]`.
pub fn product(
    transposition: Transposition,
    [m, n, k]: [usize; 3],
    a: &[f64],
    b: &[f64],
) -> Vec<f64> {
    // As rows of A and rows of Bᵀ, both of length k.
    let a = if transposition == Transposition::Tn { transposed(a, k, m) } else { a.to_vec() };
    let b = if transposition == Transposition::Nt { b.to_vec() } else { transposed(b, k, n) };
    let mut c = Vec::with_capacity(m * n);
    for i in 0..m {
        c.extend((0..n).map(|j| dot(&a[i * k..][..k], &b[j * k..][..k])));
    }
    c
}

/// y = f(x Wᵀ + b), and with dz = dy · f'(z): dx = dz W, dW = dzᵀ x, db = Σ_rows dz.
pub struct Linear {
    /// Rows of x.
    pub rows: usize,
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub out: usize,
    /// f.
    pub activation: Activation,
}

impl Linear {
    /// What f is applied to.
    pub fn before(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let mut z = product(Transposition::Nt, [self.rows, self.out, self.inputs], x, weight);
        for (at, value) in z.iter_mut().enumerate() {
            *value += bias[at % self.out];
        }
        z
    }

    /// y.
    pub fn forward(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let z = self.before(x, weight, bias);
        z.into_iter().map(|value| activate(self.activation, value)).collect()
    }

    /// dx, dW, db.
    pub fn backward(&self, x: &[f64], weight: &[f64], bias: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let z = self.before(x, weight, bias);
        let dz: Vec<f64> =
            z.iter().zip(dy).map(|(z, dy)| dy * slope(self.activation, *z)).collect();
        let (rows, inputs, out) = (self.rows, self.inputs, self.out);
        let dx = product(Transposition::Nn, [rows, inputs, out], &dz, weight);
        let dweight = product(Transposition::Tn, [out, inputs, rows], &dz, x);
        let dbias = (0..out).map(|j| (0..rows).map(|i| dz[i * out + j]).sum()).collect();
        [dx, dweight, dbias]
    }
}
