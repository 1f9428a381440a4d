//! LayerNorm of a sum, and of an embedding.

use super::embedding::embedding_gradient;
use super::{Affine, TokenInputs};
use crate::error::Result;
use crate::graph::ir::Norms;
use crate::graph::{Graph, Role};
use crate::kernels::layer_norm::{
    self, Backward, Dropped, Forward, ForwardEmbedded, PARTS, Parts, in_registers,
};
use crate::kernels::pointwise::{Dropout, dropout};
use crate::kernels::{Size, Symbol, TensorId, embedding};

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
    affine: Affine,
    epsilon: f32,
) -> Result<TensorId> {
    let (rows, columns) = graph.matrix("layer norm", x)?;
    if let Some(residual) = residual {
        graph.expect("layer norm", residual, [rows, columns.into()])?;
    }
    let norm = Norm::new(graph, rows, columns, affine)?;
    let Norm { gamma, beta, y, normalized, inverse_deviation, .. } = norm.clone();
    graph.node("layer norm", &norm.outputs(), move |lowering| {
        let tensors =
            Forward { x, dropped, residual, gamma, beta, y, normalized, inverse_deviation };
        vec![layer_norm::forward(lowering.abilities(), rows, columns, epsilon, tensors)]
    });
    graph.gradient(move |graph, dy| {
        let Some(dy) = dy[0] else { return Ok(vec![]) };
        let dx = dropped.map(|_| graph.like(&format!("d dropped input of {}", norm.name), x));
        let (dz, parameters) = norm.gradient(graph, dy, Struck::Input(dropped.zip(dx)));
        let mut result = vec![(x, dx.unwrap_or(dz))];
        result.extend(parameters);
        result.extend(residual.map(|residual| (residual, dz)));
        Ok(result)
    });
    Ok(y)
}

/// `dropout(LayerNorm(words[id] + positions[position]) · weight + bias)` for each token: the
/// beginning of an encoder, in one pass over memory where rows stay in registers. Gradients as
/// those of [`embedding`](super::embedding()).
///
/// # Errors
/// Shapes that do not fit.
pub fn embedding_layer_norm(
    graph: &mut Graph,
    [words, positions]: [TensorId; 2],
    inputs: TokenInputs,
    affine: Affine,
    epsilon: f32,
    dropped: Option<Dropout>,
) -> Result<TensorId> {
    let (_, columns) = graph.matrix("embedding", words)?;
    let (count, _) = graph.matrix("embedding", positions)?;
    graph.expect("embedding", positions, [count, columns.into()])?;
    let rows = Size::from(Symbol::Tokens);
    let norm = Norm::new(graph, rows, columns, affine)?;
    let Norm { gamma, beta, y, normalized, inverse_deviation, .. } = norm.clone();
    let TokenInputs { placed_ids, places, .. } = inputs;
    graph.node("embedding", &norm.outputs(), move |lowering| {
        let abilities = lowering.abilities();
        if in_registers(abilities, columns) {
            let tensors = ForwardEmbedded {
                words,
                positions,
                placed_ids,
                dropout: dropped,
                gamma,
                beta,
                y,
                normalized,
                inverse_deviation,
            };
            return vec![layer_norm::forward_embedded(columns, epsilon, tensors)];
        }
        let elements = rows.times(u64::from(columns));
        let x = lowering.scratch(elements);
        let undropped = if dropped.is_some() { lowering.scratch(elements) } else { y };
        let tensors = Forward {
            x,
            dropped: None,
            residual: None,
            gamma,
            beta,
            y: undropped,
            normalized,
            inverse_deviation,
        };
        let mut commands = vec![
            embedding::forward(columns, words, positions, placed_ids, x),
            layer_norm::forward(abilities, rows, columns, epsilon, tensors),
        ];
        let strike = |settings| dropout(settings, rows, columns, undropped, Some(places), y);
        commands.extend(dropped.map(strike));
        commands
    });
    graph.gradient(move |graph, dy| {
        let Some(dy) = dy[0] else { return Ok(vec![]) };
        let struck = Struck::Result(dropped.map(|dropout| (dropout, inputs)));
        let (dz, parameters) = norm.gradient(graph, dy, struck);
        let mut result = embedding_gradient(graph, words, positions, inputs, dz);
        result.extend(parameters);
        Ok(result)
    });
    Ok(y)
}

/// What dropout has struck, if anything.
#[derive(Clone, Copy)]
enum Struck {
    /// What is normalized, before the residual was added; with the tensor that its gradient goes
    /// to.
    Input(Option<(Dropped, TensorId)>),
    /// The result, in the embedding of these tokens.
    Result(Option<(Dropout, TokenInputs)>),
}

/// A LayerNorm in the graph.
#[derive(Clone)]
struct Norm {
    name: String,
    rows: Size,
    columns: u32,
    gamma: TensorId,
    beta: TensorId,
    y: TensorId,
    normalized: TensorId,
    inverse_deviation: TensorId,
}

impl Norm {
    fn new(
        graph: &mut Graph,
        rows: Size,
        columns: u32,
        Affine { weight: gamma, bias: beta }: Affine,
    ) -> Result<Self> {
        graph.expect("layer norm", gamma, [Size::from(columns)])?;
        graph.expect("layer norm", beta, [Size::from(columns)])?;
        let name = graph.name(gamma).trim_end_matches(".weight").to_owned();
        let shape = [rows, columns.into()];
        let y = graph.activation(&name, shape);
        let normalized = graph.activation(&format!("{name} (normalized)"), shape);
        let inverse_deviation = graph.value(&format!("{name} (1 / deviation)"), [rows]);
        Ok(Self { name, rows, columns, gamma, beta, y, normalized, inverse_deviation })
    }

    fn outputs(&self) -> [TensorId; 3] {
        [self.y, self.normalized, self.inverse_deviation]
    }

    /// Adds the gradient: of what is normalized, and of scale and shift.
    fn gradient(
        &self,
        graph: &mut Graph,
        dy: TensorId,
        struck: Struck,
    ) -> (TensorId, [(TensorId, TensorId); 2]) {
        let Self { rows, columns, gamma, beta, normalized, inverse_deviation, .. } = *self;
        let dz = graph.like(&format!("d input of {}", self.name), self.y);
        let [dgamma, dbeta] = [gamma, beta].map(|parameter| graph.gradient_of(parameter));
        let parts = self.parts(graph);
        let mut outputs = vec![dz];
        if let Struck::Input(Some((_, dx))) = struck {
            outputs.push(dx);
        }
        if parts.is_none() {
            outputs.extend([dgamma, dbeta]);
        }
        graph.node("layer norm gradient", &outputs, move |lowering| {
            let abilities = lowering.abilities();
            let parts = parts.filter(|_| in_registers(abilities, columns));
            let [nothing, no_parts] = [(); 2].map(|()| lowering.scratch(Size::from(1u32)));
            let mut commands = Vec::new();
            let mut dy = dy;
            let (dropped, dx, embedded) = match struck {
                Struck::Input(None) => (None, nothing, false),
                Struck::Input(Some((dropped, dx))) => (Some(dropped), dx, false),
                Struck::Result(dropped) if parts.is_some() => {
                    let dropped = dropped.map(|(dropout, inputs)| (dropout, inputs.placed_ids));
                    (dropped, nothing, true)
                }
                Struck::Result(dropped) => {
                    if let Some((settings, inputs)) = dropped {
                        let struck = lowering.scratch(rows.times(u64::from(columns)));
                        let places = Some(inputs.places);
                        commands.push(dropout(settings, rows, columns, dy, places, struck));
                        dy = struck;
                    }
                    (None, nothing, false)
                }
            };
            let tensors = Backward { dy, normalized, gamma, inverse_deviation, dz, dropped, dx };
            match parts {
                Some(parts) => commands
                    .push(layer_norm::backward_with_parts(rows, columns, tensors, embedded, parts)),
                None => commands.extend([
                    layer_norm::backward(abilities, rows, columns, tensors, no_parts),
                    layer_norm::backward_parameters(rows, columns, dy, normalized, dgamma, dbeta),
                ]),
            }
            commands
        });
        (dz, [(gamma, dgamma), (beta, dbeta)])
    }

    /// Where the backward pass leaves what is summed at the end, with that of other norms: where
    /// the gradients of both parameters lie together in the store.
    fn parts(&self, graph: &mut Graph) -> Option<Parts> {
        let both = [self.gamma, self.beta];
        if !both.iter().all(|parameter| graph.stores_gradient(*parameter)) {
            return None;
        }
        let [gamma, beta] = both.map(|parameter| graph.within(parameter).cloned());
        let (gamma, beta) = gamma.zip(beta)?;
        let mut norms = match graph.norms.take() {
            Some(norms) => norms,
            None => {
                let parts = graph.value("parts of the gradients of norms", [Size::from(0u32)]);
                let (columns, group) = (self.columns, gamma.clone());
                Norms { columns, parts, group, places: Vec::new() }
            }
        };
        let fits = norms.columns == self.columns
            && [&gamma, &beta].iter().all(|place| place.group == norms.group.group);
        let parts = fits.then(|| {
            norms.places.push([gamma.offset, beta.offset]);
            Parts { tensor: norms.parts, norm: norms.places.len() as u32 - 1 }
        });
        graph.norms = Some(norms);
        parts
    }
}

/// Sums what the backward passes of LayerNorms have left, of all of them together.
pub(in crate::graph) fn sum_norms(graph: &mut Graph) {
    let Some(Norms { columns, parts, group, places }) = graph.norms.take() else { return };
    let rows = Size::from(2 * PARTS).times(places.len() as u64);
    graph.reshape(parts, [rows, columns.into()]);
    let weights = graph.parameter(&group.group, &[group.elements]);
    let gradient = graph.companion(weights, Role::Gradient);
    graph.node("layer norm gradient", &[], move |lowering| {
        if in_registers(lowering.abilities(), columns) {
            layer_norm::sum_parameters(columns, parts, &places, gradient)
        } else {
            // Each norm has made its own.
            vec![]
        }
    });
}
