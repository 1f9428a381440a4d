//! Reverse-mode differentiation: a walk over the nodes from last to first that adds the nodes of
//! the gradient to the same graph.

use super::{Graph, ops};
use crate::error::Result;
use crate::kernels::TensorId;
use std::collections::HashMap;

/// The gradient that reverse mode begins with: that of a tensor with respect to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    /// 1, which the op of a loss takes for granted.
    One,
    /// A tensor of the same shape.
    Tensor(TensorId),
}

/// Adds the gradient of `of` with respect to everything it depends on, and returns the gradients
/// by tensor.
///
/// # Errors
/// Shapes that do not fit, named by the op.
pub fn gradients(
    graph: &mut Graph,
    of: TensorId,
    seed: Seed,
) -> Result<HashMap<TensorId, TensorId>> {
    let seed = match seed {
        // The op of a loss does not read it.
        Seed::One => of,
        Seed::Tensor(tensor) => tensor,
    };
    graph.found = HashMap::from([(of, seed)]);
    for index in (0..graph.nodes.len()).rev() {
        let outputs = &graph.nodes[index].outputs;
        let doutputs: Vec<Option<TensorId>> =
            outputs.iter().map(|output| graph.found.get(output).copied()).collect();
        if doutputs.iter().all(Option::is_none) {
            continue;
        }
        // The closure adds nodes to the graph, so it steps out of it for the call.
        let Some(gradient) = graph.nodes[index].gradient.take() else { continue };
        let contributions = gradient(graph, &doutputs);
        graph.nodes[index].gradient = Some(gradient);
        for (input, contribution) in contributions? {
            let sum = match graph.take_gradient(input) {
                Some(so_far) => ops::add(graph, so_far, contribution)?,
                None => contribution,
            };
            graph.found.insert(input, sum);
        }
    }
    ops::sum_norms(graph);
    Ok(std::mem::take(&mut graph.found))
}
