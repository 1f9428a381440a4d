//! What a model says of a sentence, and how right it is over many.

use crate::data::Encoded;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a model says of one sentence.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// One per label.
    pub logits: Vec<f32>,
    /// Their softmax.
    pub probabilities: Vec<f64>,
    /// The index of the highest.
    pub label: usize,
}

impl Prediction {
    /// `log Σ exp(logits) - logits[label]`, in float64.
    pub fn cross_entropy(&self, label: usize) -> f64 {
        let largest = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = self.logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        sum.ln() + f64::from(largest) - f64::from(self.logits[label])
    }

    pub(super) fn new(logits: &[f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scaled: Vec<f64> =
            logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
        let sum: f64 = scaled.iter().sum();
        let label = (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)))
            .unwrap_or(0);
        Self {
            logits: logits.to_vec(),
            probabilities: scaled.iter().map(|value| value / sum).collect(),
            label,
        }
    }
}

/// How well a model does on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Share of sentences whose highest logit is their label's.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Sentences.
    pub examples: usize,
}

impl Evaluation {
    /// What predictions come to.
    ///
    /// # Errors
    /// An example without a label.
    pub fn of(predictions: &[Prediction], examples: &[Encoded]) -> Result<Self> {
        let (mut correct, mut loss) = (0usize, 0.0);
        for (prediction, example) in predictions.iter().zip(examples) {
            let label = example.label.ok_or_else(|| {
                Error::input("an example has no label, so there is nothing to compare with")
                    .remedy("Evaluate on a split with labels, or use `crisp predict`.")
            })? as usize;
            correct += usize::from(prediction.label == label);
            loss += prediction.cross_entropy(label);
        }
        let examples = examples.len();
        let count = examples.max(1) as f64;
        Ok(Self { accuracy: correct as f64 / count, loss: loss / count, examples })
    }
}
