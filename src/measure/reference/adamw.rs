//! AdamW (Loshchilov and Hutter, 2019).

/// One tensor under `torch.optim.AdamW`, in float64:
///   w ← w (1 - rate · decay);  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;
///   w ← w - rate · m / (1 - β₁ᵗ) / (sqrt(v / (1 - β₂ᵗ)) + ε)
pub struct AdamW {
    /// The weights.
    pub weight: Vec<f64>,
    /// First moments.
    pub first: Vec<f64>,
    /// Second moments.
    pub second: Vec<f64>,
}

impl AdamW {
    /// The step `t`, counted from 1, with β₁ 0.9, β₂ 0.999 and ε 1e-8.
    pub fn step(&mut self, gradient: &[f64], rate: f64, decay: f64, t: i32) {
        let (beta1, beta2, epsilon) = (0.9f64, 0.999f64, 1e-8);
        for (i, g) in gradient.iter().enumerate() {
            self.weight[i] *= 1.0 - rate * decay;
            self.first[i] = beta1 * self.first[i] + (1.0 - beta1) * g;
            self.second[i] = beta2 * self.second[i] + (1.0 - beta2) * g * g;
            let first = self.first[i] / (1.0 - beta1.powi(t));
            let second = self.second[i] / (1.0 - beta2.powi(t));
            self.weight[i] -= rate * first / (second.sqrt() + epsilon);
        }
    }
}
