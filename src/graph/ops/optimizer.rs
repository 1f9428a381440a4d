//! The end of a training step: global norm, clip, AdamW.

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::optimizer::{self as kernels, AdamW, State};
use crate::kernels::{Size, TensorId};

/// A parameter, its gradient and how it is updated.
#[derive(Debug, Clone, Copy)]
pub struct Updated {
    /// The parameter.
    pub weight: TensorId,
    /// Its gradient, of the same shape.
    pub gradient: TensorId,
    /// The constants of its update.
    pub settings: AdamW,
}

/// `[2]`: the norm of all gradients together, and the factor that clips it to `limit` (0: none).
///
/// # Errors
/// A gradient whose size depends on the batch.
pub fn clip(graph: &mut Graph, gradients: &[TensorId], limit: f32) -> Result<TensorId> {
    let mut counts = Vec::new();
    for gradient in gradients {
        let elements = graph.shape(*gradient).elements();
        let count = elements.fixed().ok_or_else(|| {
            crate::error::Error::internal(format!(
                "gradient norm: {} has the shape {}, which is no parameter's",
                graph.name(*gradient),
                graph.shape(*gradient)
            ))
        })?;
        counts.push((*gradient, count));
    }
    let parts: u32 = counts.iter().map(|(_, count)| kernels::norm_parts(*count)).sum();
    let norm = graph.value("gradient norm", [Size::from(2u32)]);
    graph.node("gradient norm", &[norm], move |lowering| {
        let partials = lowering.scratch(Size::from(parts));
        let mut first = 0;
        let mut commands = Vec::new();
        for (gradient, count) in &counts {
            commands.push(kernels::norm_partial(*count, first, *gradient, partials));
            first += kernels::norm_parts(*count);
        }
        commands.push(kernels::norm_total(parts, limit, partials, norm));
        commands
    });
    Ok(norm)
}

/// Updates a parameter in place. Its two moments are parameters of the session, named after it.
///
/// # Errors
/// The gradient's shape is not the parameter's.
pub fn adamw(graph: &mut Graph, updated: Updated, norm: TensorId) -> Result<[TensorId; 2]> {
    let Updated { weight, gradient, settings } = updated;
    let shape = graph.shape(weight).clone();
    graph.expect("AdamW", gradient, shape.clone())?;
    let count = shape.elements().factor;
    let sizes: Vec<u64> = shape.0.iter().map(|size| size.factor).collect();
    let name = graph.name(weight).to_owned();
    let first = graph.parameter(&format!("{name} (first moment)"), &sizes);
    let second = graph.parameter(&format!("{name} (second moment)"), &sizes);
    graph.node("AdamW", &[], move |_| {
        let state = State { weight, first, second };
        vec![kernels::adamw(settings, count, gradient, norm, state)]
    });
    Ok([first, second])
}
