//! LayerNorm of a sum.

use super::Affine;
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::layer_norm::{self, Backward, Dropped, Forward};
use crate::kernels::{Size, TensorId};

/// `LayerNorm(x + residual) · weight + bias` over the rows of `x [rows, columns]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm(
    graph: &mut Graph,
    x: TensorId,
    residual: Option<TensorId>,
    affine: Affine,
    epsilon: f32,
) -> Result<TensorId> {
    dropout_layer_norm(graph, None, x, residual, affine, epsilon)
}

/// `LayerNorm(dropout(x) + residual) · weight + bias` over the rows of `x [rows, columns]`, in one
/// pass over memory.
///
/// # Errors
/// Shapes that do not fit.
pub fn dropout_layer_norm(
    graph: &mut Graph,
    dropped: Option<Dropped>,
    x: TensorId,
    residual: Option<TensorId>,
    Affine { weight: gamma, bias: beta }: Affine,
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
    graph.node("layer norm", &[y, normalized, inverse_deviation], move |lowering| {
        let tensors =
            Forward { x, dropped, residual, gamma, beta, y, normalized, inverse_deviation };
        vec![layer_norm::forward(lowering.abilities(), rows, columns, epsilon, tensors)]
    });
    graph.gradient(move |graph, dy| {
        let Some(dy) = dy[0] else { return Ok(vec![]) };
        let dz = graph.value(&format!("d input of {name}"), shape.clone());
        let dropped_dx =
            dropped.map(|_| graph.value(&format!("d dropped input of {name}"), shape.clone()));
        let outputs: Vec<TensorId> = [dz].into_iter().chain(dropped_dx).collect();
        graph.node("layer norm gradient", &outputs, move |lowering| {
            let dx = dropped_dx.unwrap_or_else(|| lowering.scratch(Size::from(1u32)));
            let tensors = Backward { dy, normalized, gamma, inverse_deviation, dz, dropped, dx };
            vec![layer_norm::backward(lowering.abilities(), rows, columns, tensors)]
        });
        let [dgamma, dbeta] = [gamma, beta].map(|parameter| graph.gradient_of(parameter));
        graph.node("layer norm parameter gradient", &[dgamma, dbeta], move |_| {
            vec![layer_norm::backward_parameters(rows, columns, dy, normalized, dgamma, dbeta)]
        });
        let mut result = vec![(x, dropped_dx.unwrap_or(dz)), (gamma, dgamma), (beta, dbeta)];
        result.extend(residual.map(|residual| (residual, dz)));
        Ok(result)
    });
    Ok(y)
}
