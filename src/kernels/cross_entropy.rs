//! Softmax cross-entropy, summed over the sentences of a batch, and its gradient.

use super::{Command, Count, Grid, Launch, Symbol, TensorId, shader};

/// `loss [1]` from `logits [sequences, classes]`.
pub fn forward(classes: u32, logits: TensorId, labels: TensorId, loss: TensorId) -> Command {
    let parameters = vec![Symbol::Sequences.into(), classes.into()];
    let grid = Grid::Linear(Count::new(1u32, 1));
    Command::Launch(
        Launch::new(shader!("cross_entropy_forward"), parameters, grid)
            .read(logits)
            .read(labels)
            .write(loss),
    )
}

/// `dlogits [sequences, classes]`, for a loss whose own gradient is 1, or `loss_scale [4]` in mixed
/// precision.
pub fn backward(
    classes: u32,
    logits: TensorId,
    labels: TensorId,
    loss_scale: Option<TensorId>,
    dlogits: TensorId,
) -> Command {
    let parameters = vec![Symbol::Sequences.into(), classes.into()];
    let grid = Grid::Linear(Count::new(Symbol::Sequences, 64));
    let shader = shader!("cross_entropy_backward").with("SCALED", loss_scale.is_some());
    Command::Launch(
        Launch::new(shader, parameters, grid)
            .read(logits)
            .read(labels)
            .read(loss_scale.unwrap_or(logits))
            .write(dlogits),
    )
}
