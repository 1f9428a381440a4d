//! Summed softmax cross-entropy and its gradient.

/// log Σ exp(logits) of a row, without overflow.
fn log_sum_exp(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::MIN, f64::max);
    largest + row.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

/// Sum over rows of `log Σ exp(logits) - logits[label]`.
pub fn forward(logits: &[f64], labels: &[u32], classes: usize) -> f64 {
    let rows = logits.chunks_exact(classes).zip(labels);
    let losses = rows.map(|(row, label)| log_sum_exp(row) - row[*label as usize]);
    losses.sum()
}

/// softmax(logits) - onehot(label), and the same with a plus: how large the terms are.
pub fn backward(logits: &[f64], labels: &[u32], classes: usize) -> [Vec<f64>; 2] {
    let (mut dlogits, mut terms) = (Vec::new(), Vec::new());
    for (row, label) in logits.chunks_exact(classes).zip(labels) {
        let total = log_sum_exp(row);
        for (class, logit) in row.iter().enumerate() {
            let truth = f64::from(class == *label as usize);
            let probability = (logit - total).exp();
            dlogits.push(probability - truth);
            // Below 1e-30 float32 runs out of exponents.
            terms.push((probability + truth).max(1e-30));
        }
    }
    [dlogits, terms]
}
