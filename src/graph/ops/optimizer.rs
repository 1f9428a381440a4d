//! The end of a training step: global norm, clip, AdamW.

use crate::error::{Error, Result};
use crate::graph::{Graph, Role};
use crate::kernels::optimizer::{self as kernels, AdamW, State};
use crate::kernels::{Command, Size, TensorId, pointwise};

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

/// `[2]`: the norm of the mean gradient of the step's sentences, of which `gradients` hold the
/// sums, and the factor that turns a sum into a mean clipped to the norm `limit` (0: no limit).
///
/// # Errors
/// A gradient whose size depends on the batch.
pub fn clip(graph: &mut Graph, gradients: &[TensorId], limit: f32) -> Result<TensorId> {
    let mut counts = Vec::new();
    for gradient in gradients {
        let elements = graph.shape(*gradient).elements();
        let count = elements.fixed().ok_or_else(|| {
            Error::internal(format!(
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

/// Adds a gradient to what earlier parts of the step have left of its parameter's in the session's
/// store.
///
/// # Errors
/// The gradient's shape is not the parameter's.
pub fn accumulate(graph: &mut Graph, weight: TensorId, gradient: TensorId) -> Result<()> {
    let shape = graph.shape(weight).clone();
    graph.expect("accumulate", gradient, shape.clone())?;
    let sum = graph.companion(weight, Role::Gradient);
    let count = shape.elements();
    graph.node("accumulate", &[], move |_| vec![pointwise::accumulate(count, gradient, sum)]);
    Ok(())
}

/// The gradient that the parts of a step have added up, of a parameter.
pub fn accumulated(graph: &mut Graph, weight: TensorId) -> TensorId {
    graph.companion(weight, Role::Gradient)
}

/// Empties a gradient, for the next step's parts to add to.
pub fn clear(graph: &mut Graph, gradient: TensorId) {
    graph.node("clear gradient", &[], move |_| vec![Command::Clear(gradient)]);
}

/// Updates a parameter in place, and its two moments in the session's store.
///
/// # Errors
/// The gradient's shape is not the parameter's.
pub fn adamw(graph: &mut Graph, updated: Updated, norm: TensorId) -> Result<()> {
    let Updated { weight, gradient, settings } = updated;
    let shape = graph.shape(weight).clone();
    graph.expect("AdamW", gradient, shape.clone())?;
    let count = shape.elements().factor;
    let [first, second] = Role::MOMENTS.map(|moment| graph.companion(weight, moment));
    graph.node("AdamW", &[], move |_| {
        let state = State { weight, first, second };
        vec![kernels::adamw(settings, count, gradient, norm, state)]
    });
    Ok(())
}
