//! Global gradient norm, clipping and AdamW.

use super::{Command, Count, Grid, Launch, Scalar, Size, TensorId, Word, shader};

/// How many partial sums the norm of a gradient of `count` elements is split into.
pub fn norm_parts(count: u64) -> u32 {
    count.div_ceil(64 * 64).clamp(1, 256) as u32
}

/// Sums of squares of one gradient, written to `partials` from `first` on.
pub fn norm_partial(count: u64, first: u32, gradient: TensorId, partials: TensorId) -> Command {
    let parts = norm_parts(count);
    let parameters = vec![count.into(), first.into(), parts.into()];
    let grid = Grid::Plane(Count::new(parts, 1), Count::new(1u32, 1));
    Command::Launch(
        Launch::new(shader!("optimizer_norm_partial"), parameters, grid)
            .read(gradient)
            .write(partials),
    )
}

/// `result [2]`: the norm of the mean gradient of the step's sentences, and the factor that makes
/// the mean, clipped to `limit` (0: no clipping), of their sum.
pub fn norm_total(parts: u32, limit: f32, partials: TensorId, result: TensorId) -> Command {
    let parameters =
        vec![Size::from(parts).into(), Word::Float(limit), Word::Step(Scalar::Sentences)];
    let grid = Grid::Linear(Count::new(1u32, 1));
    Command::Launch(
        Launch::new(shader!("optimizer_norm_total"), parameters, grid).read(partials).write(result),
    )
}

/// The constants of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub decay: f32,
}

/// The state that an update changes in place, each of the parameter's size.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// The parameter.
    pub weight: TensorId,
    /// First moment.
    pub first: TensorId,
    /// Second moment.
    pub second: TensorId,
}

/// One AdamW update.
pub fn adamw(
    settings: AdamW,
    count: u64,
    gradient: TensorId,
    norm: TensorId,
    state: State,
) -> Command {
    let parameters = vec![
        count.into(),
        Word::Step(Scalar::LearningRate),
        Word::Step(Scalar::Correction(settings.beta1)),
        Word::Step(Scalar::Correction(settings.beta2)),
        Word::Float(settings.decay),
        Word::Float(settings.beta1),
        Word::Float(settings.beta2),
        Word::Float(settings.epsilon),
    ];
    let grid = Grid::Linear(Count::new(count.div_ceil(4), 64));
    Command::Launch(
        Launch::new(shader!("optimizer_adamw"), parameters, grid)
            .read(gradient)
            .read(norm)
            .update(state.weight)
            .update(state.first)
            .update(state.second),
    )
}
