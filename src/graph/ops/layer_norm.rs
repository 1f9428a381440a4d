//! LayerNorm of a sum.

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::layer_norm::{self, Forward};
use crate::kernels::{Size, TensorId};

/// `LayerNorm(x + residual) · gamma + beta` over the rows of `x [rows, columns]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm(
    graph: &mut Graph,
    x: TensorId,
    residual: Option<TensorId>,
    gamma: TensorId,
    beta: TensorId,
    epsilon: f32,
) -> Result<TensorId> {
    let (rows, columns) = graph.matrix("layer norm", x)?;
    let shape = graph.shape(x).clone();
    if let Some(residual) = residual {
        graph.expect("layer norm", residual, shape.clone())?;
    }
    graph.expect("layer norm", gamma, [Size::from(columns)])?;
    graph.expect("layer norm", beta, [Size::from(columns)])?;
    let name = graph.name(gamma).trim_end_matches(".weight").to_owned();
    let y = graph.value(&name, shape.clone());
    let normalized = graph.value(&format!("{name} (normalized)"), shape.clone());
    let inverse_deviation = graph.value(&format!("{name} (1 / deviation)"), [rows]);
    graph.node("layer norm", &[y, normalized, inverse_deviation], move |_| {
        let tensors = Forward { x, residual, gamma, beta, y, normalized, inverse_deviation };
        vec![layer_norm::forward(rows, columns, epsilon, tensors)]
    });
    graph.gradient(move |graph, dy| {
        let Some(dy) = dy[0] else { return Ok(vec![]) };
        let dz = graph.value(&format!("d input of {name}"), shape.clone());
        graph.node("layer norm gradient", &[dz], move |_| {
            let command =
                layer_norm::backward(rows, columns, dy, normalized, gamma, inverse_deviation, dz);
            vec![command]
        });
        let dgamma = graph.value(&format!("d {name}.weight"), [Size::from(columns)]);
        let dbeta = graph.value(&format!("d {name}.bias"), [Size::from(columns)]);
        graph.node("layer norm parameter gradient", &[dgamma, dbeta], move |_| {
            vec![layer_norm::backward_parameters(rows, columns, dy, normalized, dgamma, dbeta)]
        });
        let mut result = vec![(x, dz), (gamma, dgamma), (beta, dbeta)];
        result.extend(residual.map(|residual| (residual, dz)));
        Ok(result)
    });
    Ok(y)
}
