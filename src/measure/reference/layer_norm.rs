//! LayerNorm over the rows of a matrix (Ba, Kiros and Hinton, 2016), and its gradients.

use super::dot;

/// With z = x + residual, over each row: x̂ = (z - mean) / sqrt(variance + ε), y = x̂ · gamma +
/// beta.
pub fn forward(z: &[f64], gamma: &[f64], beta: &[f64], epsilon: f64) -> Vec<f64> {
    let columns = gamma.len();
    let rows = z.chunks_exact(columns).map(|row| normalized(row, epsilon).0);
    rows.flat_map(|row| (0..columns).map(|j| row[j] * gamma[j] + beta[j]).collect::<Vec<_>>())
        .collect()
}

/// x̂ and 1 / sqrt(variance + ε).
pub fn normalized(row: &[f64], epsilon: f64) -> (Vec<f64>, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|z| (z - mean) * (z - mean)).sum::<f64>() / n;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    (row.iter().map(|z| (z - mean) * inverse).collect(), inverse)
}

/// dz = (g - mean(g) - x̂ · mean(g · x̂)) / sqrt(variance + ε) with g = dy · gamma;
/// dgamma = Σ_rows dy · x̂, dbeta = Σ_rows dy.
pub fn backward(z: &[f64], gamma: &[f64], dy: &[f64], epsilon: f64) -> [Vec<f64>; 3] {
    let columns = gamma.len();
    let (mut dz, mut dgamma, mut dbeta) = (Vec::new(), vec![0.0; columns], vec![0.0; columns]);
    for (row, dy) in z.chunks_exact(columns).zip(dy.chunks_exact(columns)) {
        let (normal, inverse) = normalized(row, epsilon);
        let g: Vec<f64> = dy.iter().zip(gamma).map(|(dy, gamma)| dy * gamma).collect();
        let mean = g.iter().sum::<f64>() / columns as f64;
        let along = dot(&g, &normal) / columns as f64;
        for j in 0..columns {
            dz.push((g[j] - mean - normal[j] * along) * inverse);
            dgamma[j] += dy[j] * normal[j];
            dbeta[j] += dy[j];
        }
    }
    [dz, dgamma, dbeta]
}
