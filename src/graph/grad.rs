//! Reverse-mode differentiation: a walk over the nodes from last to first that adds the nodes of the
//! gradient to the same graph.

use super::{Graph, ops};
use crate::error::Result;
use crate::kernels::TensorId;
use std::collections::HashMap;

/// Adds the gradient of `of` with respect to everything it depends on, and returns the gradients
/// by tensor. `seed` is the gradient of `of` with itself (a tensor of its shape); a loss op that
/// takes it as 1 needs none.
///
/// # Errors
/// Shapes that do not fit, named by the op.
pub fn gradients(
    graph: &mut Graph,
    of: TensorId,
    seed: Option<TensorId>,
) -> Result<HashMap<TensorId, TensorId>> {
    let mut found: HashMap<TensorId, TensorId> = HashMap::new();
    found.insert(of, seed.unwrap_or(of));
    for index in (0..graph.nodes.len()).rev() {
        let doutputs: Vec<Option<TensorId>> =
            graph.nodes[index].outputs.iter().map(|output| found.get(output).copied()).collect();
        if doutputs.iter().all(Option::is_none) {
            continue;
        }
        // The closure adds nodes to the graph, so it steps out of it for the call.
        let Some(gradient) = graph.nodes[index].gradient.take() else { continue };
        let contributions = gradient(graph, &doutputs);
        graph.nodes[index].gradient = Some(gradient);
        for (input, contribution) in contributions? {
            let sum = match found.get(&input) {
                Some(so_far) => ops::add(graph, *so_far, contribution)?,
                None => contribution,
            };
            found.insert(input, sum);
        }
    }
    Ok(found)
}
