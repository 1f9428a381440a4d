//! LayerNorm of a sum, and its gradients.

use super::pointwise::Dropout;
use super::{Command, Count, Grid, Launch, Size, TensorId, Word, shader, texels};
use crate::gpu::{Abilities, Access};

/// Dropout of what is normalized, and `[rows]`, by which it tells rows apart.
pub type Dropped = (Dropout, TensorId);

/// Whether the kernels for CPU adapters are taken, which read whole texels.
fn streams(abilities: Abilities, columns: u32) -> bool {
    abilities.streaming && columns.is_multiple_of(4)
}

fn words(dropped: Option<Dropped>) -> [Word; 5] {
    dropped.map_or(Dropout { probability: 0.0, site: 0 }, |(dropout, _)| dropout).words()
}

/// The tensors of a LayerNorm forward.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// `[rows, columns]`
    pub x: TensorId,
    /// Dropout of `x`.
    pub dropped: Option<Dropped>,
    /// `[rows, columns]`, added to it.
    pub residual: Option<TensorId>,
    /// `[columns]`
    pub gamma: TensorId,
    /// `[columns]`
    pub beta: TensorId,
    /// `[rows, columns]`, the result.
    pub y: TensorId,
    /// `[rows, columns]`, the normalized rows.
    pub normalized: TensorId,
    /// `[rows]`, 1 / sqrt(variance + ε).
    pub inverse_deviation: TensorId,
}

/// `y = LayerNorm(dropout(x) + residual)`.
pub fn forward(
    abilities: Abilities,
    rows: Size,
    columns: u32,
    epsilon: f32,
    tensors: Forward,
) -> Command {
    let (shader, access, grid) = if streams(abilities, columns) {
        let shader = texels(shader!("layer_norm_forward_streaming"));
        (shader, Access::Texels, Grid::Linear(Count::new(rows, 8)))
    } else {
        (shader!("layer_norm_forward"), Access::Read, Grid::Linear(Count::new(rows, 1)))
    };
    let shader = shader
        .with("RESIDUAL", tensors.residual.is_some())
        .with("DROPOUT", tensors.dropped.is_some());
    let mut parameters = vec![rows.into(), columns.into(), Word::Float(epsilon)];
    parameters.extend(words(tensors.dropped));
    Command::Launch(
        Launch::new(shader, parameters, grid)
            .bind(tensors.x, access)
            .bind(tensors.residual.unwrap_or(tensors.gamma), access)
            .bind(tensors.gamma, access)
            .bind(tensors.beta, access)
            .read(tensors.dropped.map_or(tensors.gamma, |(_, places)| places))
            .write(tensors.y)
            .write(tensors.normalized)
            .write(tensors.inverse_deviation),
    )
}

/// The tensors of a LayerNorm backward.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// `[rows, columns]`, the gradient of the result.
    pub dy: TensorId,
    /// `[rows, columns]`, from forward.
    pub normalized: TensorId,
    /// `[columns]`
    pub gamma: TensorId,
    /// `[rows]`, from forward.
    pub inverse_deviation: TensorId,
    /// `[rows, columns]`, the gradient of the sum that is normalized.
    pub dz: TensorId,
    /// Dropout of `x`.
    pub dropped: Option<Dropped>,
    /// `[rows, columns]`, the gradient of `x` where it differs from `dz`: after dropout.
    pub dx: TensorId,
}

/// The gradient with respect to the sum, and to the part of it that was dropped from.
pub fn backward(abilities: Abilities, rows: Size, columns: u32, tensors: Backward) -> Command {
    let (shader, access, grid) = if streams(abilities, columns) {
        let shader = texels(shader!("layer_norm_backward_streaming"));
        (shader, Access::Texels, Grid::Linear(Count::new(rows, 8)))
    } else {
        (shader!("layer_norm_backward"), Access::Read, Grid::Linear(Count::new(rows, 1)))
    };
    let mut parameters = vec![rows.into(), columns.into()];
    parameters.extend(words(tensors.dropped));
    let shader = shader.with("DROPOUT", tensors.dropped.is_some());
    let launch = Launch::new(shader, parameters, grid)
        .bind(tensors.dy, access)
        .bind(tensors.normalized, access)
        .bind(tensors.gamma, access)
        .read(tensors.inverse_deviation)
        .read(tensors.dropped.map_or(tensors.gamma, |(_, places)| places))
        .write(tensors.dz)
        .write(tensors.dx);
    Command::Launch(launch)
}

/// The gradients of scale and shift, each `[columns]`.
pub fn backward_parameters(
    rows: Size,
    columns: u32,
    dy: TensorId,
    normalized: TensorId,
    dgamma: TensorId,
    dbeta: TensorId,
) -> Command {
    let grid = Grid::Plane(Count::new(columns, 8), Count::new(1u32, 1));
    let parameters = vec![rows.into(), columns.into()];
    Command::Launch(
        Launch::new(shader!("layer_norm_backward_parameters"), parameters, grid)
            .read(dy)
            .read(normalized)
            .write(dgamma)
            .write(dbeta),
    )
}
