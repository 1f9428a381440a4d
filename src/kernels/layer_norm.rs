//! LayerNorm of a sum, and its gradients.

use super::{Command, Count, Grid, Launch, Size, TensorId, Word, shader};

/// The tensors of a LayerNorm forward.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// `[rows, columns]`
    pub x: TensorId,
    /// `[rows, columns]`, added to `x` first.
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

/// `y = LayerNorm(x + residual)`.
pub fn forward(rows: Size, columns: u32, epsilon: f32, tensors: Forward) -> Command {
    let shader = shader!("layer_norm_forward").with("RESIDUAL", tensors.residual.is_some());
    let parameters = vec![rows.into(), columns.into(), Word::Float(epsilon)];
    Command::Launch(
        Launch::new(shader, parameters, Grid::Linear(Count::new(rows, 1)))
            .read(tensors.x)
            .read(tensors.residual.unwrap_or(tensors.x))
            .read(tensors.gamma)
            .read(tensors.beta)
            .write(tensors.y)
            .write(tensors.normalized)
            .write(tensors.inverse_deviation),
    )
}

/// The gradient with respect to `x + residual`, from that of the result.
pub fn backward(
    rows: Size,
    columns: u32,
    dy: TensorId,
    normalized: TensorId,
    gamma: TensorId,
    inverse_deviation: TensorId,
    dz: TensorId,
) -> Command {
    let parameters = vec![rows.into(), columns.into()];
    Command::Launch(
        Launch::new(shader!("layer_norm_backward"), parameters, Grid::Linear(Count::new(rows, 1)))
            .read(dy)
            .read(normalized)
            .read(gamma)
            .read(inverse_deviation)
            .write(dz),
    )
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
