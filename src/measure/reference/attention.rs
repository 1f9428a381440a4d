//! Attention over explicit masks, and its gradients.

use super::{dot, is_kept, pcg4d};
use crate::kernels::pointwise::Dropout;
use crate::kernels::{Heads, Scalars};
use crate::sparsity::BlockMask;

/// Attention of one batch in float64, over explicit masks.
pub struct Attention {
    /// The heads.
    pub heads: Heads,
    /// Tokens of the batch.
    pub tokens: usize,
    /// For each head `[tokens, tokens]`: which keys a query keeps.
    pub masks: Vec<Vec<bool>>,
    /// For each head `[tokens, tokens]`: what dropout multiplies a weight with.
    pub factors: Option<Vec<Vec<f64>>>,
}

impl Attention {
    fn width(&self) -> usize {
        (self.heads.count * self.heads.dim) as usize
    }

    /// Query (0), key (1) or value (2) of a token, as a range of `qkv [tokens, 3 · heads · dim]`.
    fn part(&self, which: usize, head: usize, token: usize) -> std::ops::Range<usize> {
        let dim = self.heads.dim as usize;
        let start = (token * 3 + which) * self.width() + head * dim;
        start..start + dim
    }

    /// Keys that a query keeps, and softmax(query · key / sqrt(dim)) over them.
    fn weights(&self, qkv: &[f64], head: usize, query: usize) -> Vec<(usize, f64)> {
        let scale = 1.0 / f64::from(self.heads.dim).sqrt();
        let kept = (0..self.tokens).filter(|key| self.masks[head][query * self.tokens + key]);
        let scores: Vec<(usize, f64)> = kept
            .map(|key| {
                let product = dot(&qkv[self.part(0, head, query)], &qkv[self.part(1, head, key)]);
                (key, product * scale)
            })
            .collect();
        let largest = scores.iter().map(|score| score.1).fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|score| (score.1 - largest).exp()).sum();
        scores.into_iter().map(|(key, score)| (key, (score - largest).exp() / total)).collect()
    }

    fn factor(&self, head: usize, query: usize, key: usize) -> f64 {
        self.factors.as_ref().map_or(1.0, |factors| factors[head][query * self.tokens + key])
    }

    /// out = Σ_keys dropout(p) · value.
    pub fn forward(&self, qkv: &[f64]) -> Vec<f64> {
        let dim = self.heads.dim as usize;
        let mut out = vec![0.0; self.tokens * self.width()];
        for head in 0..self.heads.count as usize {
            for query in 0..self.tokens {
                let to = &mut out[query * self.width() + head * dim..][..dim];
                for (key, weight) in self.weights(qkv, head, query) {
                    let weight = weight * self.factor(head, query, key);
                    let value = &qkv[self.part(2, head, key)];
                    to.iter_mut().zip(value).for_each(|(to, value)| *to += weight * value);
                }
            }
        }
        out
    }

    /// With dp = dropout(dout · value): dscore = p (dp - Σ p dp) / sqrt(dim);
    /// dquery = Σ_keys dscore · key, dkey = Σ_queries dscore · query,
    /// dvalue = Σ_queries dropout(p) · dout.
    pub fn backward(&self, qkv: &[f64], dout: &[f64]) -> Gradient {
        let dim = self.heads.dim as usize;
        let scale = 1.0 / f64::from(self.heads.dim).sqrt();
        let mut gradient = Gradient { dqkv: vec![0.0; qkv.len()], terms: vec![0.0; qkv.len()] };
        for head in 0..self.heads.count as usize {
            for query in 0..self.tokens {
                let dout = &dout[query * self.width() + head * dim..][..dim];
                let weights = self.weights(qkv, head, query);
                let dweight = |key: usize| {
                    self.factor(head, query, key) * dot(dout, &qkv[self.part(2, head, key)])
                };
                let shared: f64 = weights.iter().map(|(key, p)| p * dweight(*key)).sum();
                // The magnitudes of what dp - Σ p dp is the difference of.
                let terms = |key: usize| {
                    let value = &qkv[self.part(2, head, key)];
                    let sum: f64 = value.iter().zip(dout).map(|(a, b)| (a * b).abs()).sum();
                    self.factor(head, query, key) * sum
                };
                let shared_terms: f64 = weights.iter().map(|(key, p)| p * terms(*key)).sum();
                for (key, weight) in weights {
                    let dscore = weight * (dweight(key) - shared) * scale;
                    let magnitude = weight * (terms(key) + shared_terms) * scale;
                    let (to_query, to_key) = (self.part(0, head, query), self.part(1, head, key));
                    gradient.add(to_query.clone(), &qkv[to_key.clone()], dscore, magnitude);
                    gradient.add(to_key, &qkv[to_query], dscore, magnitude);
                    let dropped = weight * self.factor(head, query, key);
                    gradient.add(self.part(2, head, key), dout, dropped, dropped);
                }
            }
        }
        gradient
    }
}

/// The gradient of `qkv`, and how large the terms are of which each element is the sum: where a
/// row has one key, or one that outweighs all others, the terms cancel and leave only rounding.
pub struct Gradient {
    /// `[tokens, 3 · heads · dim]`
    pub dqkv: Vec<f64>,
    /// Likewise.
    pub terms: Vec<f64>,
}

impl Gradient {
    fn add(&mut self, to: std::ops::Range<usize>, values: &[f64], factor: f64, magnitude: f64) {
        for (to, value) in to.zip(values) {
            self.dqkv[to] += factor * value;
            self.terms[to] += magnitude * value.abs();
        }
    }
}

/// What the generator makes of each weight: 0, or 1 / (1 - p). `places` are sequence and position
/// of each token.
pub fn dropout_factors(
    places: &[(usize, usize)],
    heads: Heads,
    settings: Dropout,
    scalars: Scalars,
) -> Vec<Vec<f64>> {
    let one_head = |head: u32| {
        let mut factors = Vec::new();
        for (sequence, query) in places {
            for (_, key) in places {
                let word = pcg4d([
                    scalars.seed as u32 ^ (settings.site << 16),
                    (scalars.seed >> 32) as u32 ^ scalars.step,
                    (*sequence as u32) << 16 | *query as u32,
                    head << 16 | *key as u32,
                ])[0];
                let kept = is_kept(word, settings.probability);
                let scale = 1.0 / (1.0 - f64::from(settings.probability));
                factors.push(if kept { scale } else { 0.0 });
            }
        }
        factors
    };
    (0..heads.count).map(one_head).collect()
}

/// The masks of all heads, with what the device wrote for them.
pub fn expand(mask: &BlockMask, heads: Heads, visits: &[u32], bits: &[u32]) -> Vec<Vec<bool>> {
    // Heads share what the device did not write.
    let of_head = |words: &[u32], head: usize| {
        let stride = words.len() / heads.count as usize;
        words[head * stride..][..stride].to_vec()
    };
    (0..heads.count as usize)
        .map(|head| {
            let visits =
                if visits.is_empty() { mask.visits.clone() } else { of_head(visits, head) };
            let bits = if bits.is_empty() { mask.bits.clone() } else { of_head(bits, head) };
            mask.expand(&visits, &bits)
        })
        .collect()
}
