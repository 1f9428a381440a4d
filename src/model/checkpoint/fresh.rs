//! Parameters drawn afresh: those that a checkpoint lacks, or all of them.

use super::{Loaded, Tensor};
use crate::model::names::{POSITIONS, WORDS, is_layer_norm};
use crate::model::{Config, parameter_shapes};
use crate::parallel;
use crate::random::SplitMix64;
use std::convert::Infallible;

/// Every parameter drawn afresh, as [`load`](super::load) does where there is no checkpoint.
pub fn fresh(config: &Config, seed: u64) -> Loaded {
    let shapes = parameter_shapes(config);
    Loaded {
        fresh: shapes.iter().map(|(name, _)| name.clone()).collect(),
        parameters: shapes
            .into_iter()
            .map(|(name, shape)| {
                let tensor = draw(&name, shape, config, seed);
                (name, tensor)
            })
            .collect(),
        unused: Vec::new(),
    }
}

pub(super) fn draw(name: &str, shape: Vec<usize>, config: &Config, seed: u64) -> Tensor {
    let elements = shape.iter().product();
    let data = if name.ends_with(".bias") {
        vec![0.0; elements]
    } else if is_layer_norm(name) {
        vec![1.0; elements]
    } else if name == POSITIONS && config.encoder.sinusoidal_positions {
        sinusoids(config.encoder.max_positions, config.encoder.dim)
    } else {
        let mut data = normal(name, elements, config.encoder.initializer_range, seed);
        if name == WORDS {
            let row = config.encoder.pad_token_id * config.encoder.dim;
            if let Some(padding) = data.get_mut(row..row + config.encoder.dim) {
                padding.fill(0.0);
            }
        }
        data
    };
    Tensor { shape, data }
}

/// `[positions, dim]`: sin and cos of position / 10000^(2i / dim), at 2i and 2i + 1.
fn sinusoids(positions: usize, dim: usize) -> Vec<f32> {
    (0..positions)
        .flat_map(|position| {
            (0..dim).map(move |element| {
                let exponent = (element - element % 2) as f64 / dim as f64;
                let angle = position as f64 / libm::pow(10_000.0, exponent);
                match element % 2 {
                    0 => libm::sin(angle) as f32,
                    _ => libm::cos(angle) as f32,
                }
            })
        })
        .collect()
}

/// Pairs of numbers that are drawn in one go.
const PAIRS: usize = 1 << 15;

/// Normal numbers from (seed, name, index). The logarithm and the cosine come from `libm`, as the
/// platform's own differ from each other in the last bit.
fn normal(name: &str, elements: usize, deviation: f32, seed: u64) -> Vec<f32> {
    let mixed = |state: u64| SplitMix64(state).word();
    let key = name.bytes().fold(mixed(seed), |key, byte| mixed(key ^ u64::from(byte)));
    let uniform = |counter: u64| {
        (mixed(key.wrapping_add(counter.wrapping_mul(SplitMix64::STEP))) >> 11) as f64
    };
    let unit = 1.0 / (1u64 << 53) as f64;
    let pair = |pair: u64| {
        // In (0, 1]: the logarithm of zero is not wanted.
        let radius = libm::sqrt(-2.0 * libm::log((uniform(2 * pair) + 1.0) * unit));
        let angle = std::f64::consts::TAU * uniform(2 * pair + 1) * unit;
        let scale = f64::from(deviation) * radius;
        [(scale * libm::cos(angle)) as f32, (scale * libm::sin(angle)) as f32]
    };
    // Each pair follows from its number alone, so threads may share them out in any way.
    let pairs = elements.div_ceil(2) as u64;
    let starts: Vec<u64> = (0..pairs).step_by(PAIRS).collect();
    let part = |start: &u64| -> Result<Vec<f32>, Infallible> {
        Ok((*start..pairs.min(start + PAIRS as u64)).flat_map(pair).collect())
    };
    let parts = parallel::map(&starts, part).unwrap_or_else(|never| match never {});
    let mut data = parts.concat();
    data.truncate(elements);
    data
}
