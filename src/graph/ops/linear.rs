//! A projection with bias and activation.

use super::Affine;
use super::pointwise::add;
use crate::error::Result;
use crate::graph::{Graph, Lowering, Pass};
use crate::kernels::column_sum::column_sum;
use crate::kernels::matmul::{self, Activation, GradientOperands, Operands, Transposition};
use crate::kernels::{Command, Size, TensorId, pointwise};

/// `activation(x·weightᵀ + bias)`: `x [rows, in]`, `weight [out, in]`, `bias [out]`, result
/// `[rows, out]`. In training what the gradient needs is kept.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(
    graph: &mut Graph,
    x: TensorId,
    affine: Affine,
    activation: Activation,
    pass: Pass,
) -> Result<TensorId> {
    projection(graph, x, affine, activation, pass, Graph::activation)
}

/// As [`linear`] without an activation, with a result that is float32 in any precision.
///
/// # Errors
/// Shapes that do not fit.
pub fn logits(graph: &mut Graph, x: TensorId, affine: Affine, pass: Pass) -> Result<TensorId> {
    projection(graph, x, affine, Activation::None, pass, Graph::value)
}

fn projection(
    graph: &mut Graph,
    x: TensorId,
    Affine { weight, bias }: Affine,
    activation: Activation,
    pass: Pass,
    result: fn(&mut Graph, &str, [Size; 2]) -> TensorId,
) -> Result<TensorId> {
    let (rows, inputs) = graph.matrix("linear", x)?;
    let (out, _) = graph.matrix("linear", weight)?;
    graph.expect("linear", weight, [out, inputs.into()])?;
    graph.expect("linear", bias, [out])?;
    let name = graph.name(weight).trim_end_matches(".weight").to_owned();
    let factor = graph.factor(weight);
    let y = result(graph, &name, [rows, out]);
    let before = (pass.is_training() && activation != Activation::None)
        .then(|| graph.like(&format!("{name} (before activation)"), y));
    let outputs: Vec<TensorId> = [y].into_iter().chain(before).collect();
    graph.node("linear", &outputs, move |lowering| {
        let product = Operands::product(x, factor, y);
        let operands = Operands { bias: Some(bias), activation, before, ..product };
        vec![product_of(lowering, Transposition::Nt, [rows, out, inputs.into()], operands)]
    });
    if let Some(before) = before {
        graph.activated(y, activation, before);
    }
    graph.gradient(move |graph, dy| {
        // What reaches the values before the activation: through it, and from products that have
        // taken its slope into account.
        let through = match (dy[0], before) {
            (Some(dy), Some(before)) => Some(activation_gradient(graph, activation, before, dy)),
            (dy, _) => dy,
        };
        let dy = match (through, dy.get(1).copied().flatten()) {
            (Some(through), Some(at_once)) => add(graph, through, at_once)?,
            (through, at_once) => match through.or(at_once) {
                Some(dy) => dy,
                None => return Ok(vec![]),
            },
        };
        let bent = graph.activation_of(x);
        let input = bent.map_or(x, |(_, before)| before);
        let dx = graph.like(&format!("d input of {name}"), x);
        let (dweight, accumulate) = graph.added_gradient_of(weight);
        let (dbias, _) = graph.added_gradient_of(bias);
        let addend = graph.take_gradient(input);
        let operands = GradientOperands {
            dy,
            weight: factor,
            x,
            bent,
            addend,
            dx,
            dweight,
            dbias,
            accumulate,
        };
        graph.node("linear gradient", &[dx, dweight, dbias], move |lowering| {
            gradients(lowering, [rows, inputs.into(), out], operands)
        });
        Ok(vec![(input, dx), (weight, dweight), (bias, dbias)])
    });
    Ok(y)
}

/// The gradient of what an activation is applied to.
fn activation_gradient(
    graph: &mut Graph,
    activation: Activation,
    before: TensorId,
    dy: TensorId,
) -> TensorId {
    let count = graph.shape(before).elements();
    let dbefore = graph.like(&format!("d {}", graph.name(before)), before);
    graph.node("activation gradient", &[dbefore], move |_| {
        vec![pointwise::activation_backward(activation, count, before, dy, dbefore)]
    });
    dbefore
}

/// The gradients of input, weight and bias, of sizes rows, inputs and out: in one launch, or in
/// one each where the device has no kernel for all.
fn gradients(
    lowering: &mut Lowering,
    [rows, inputs, out]: [Size; 3],
    operands: GradientOperands,
) -> Vec<Command> {
    let sizes = [rows, inputs, out];
    let variant = lowering.gradients(sizes, [operands.dy, operands.weight, operands.x]);
    let grouped = variant.and_then(|variant| matmul::gradients(variant, sizes, operands));
    if let Some(command) = grouped.or_else(|| matmul::narrow_gradients(sizes, operands)) {
        return vec![command];
    }
    let (of_input, of_weight) = (operands.of_input(), operands.of_weight());
    let GradientOperands { dy, dbias, accumulate, .. } = operands;
    let columns = out.factor as u32;
    vec![
        product_of(lowering, Transposition::Nn, sizes, of_input),
        product_of(lowering, Transposition::Tn, [out, inputs, rows], of_weight),
        column_sum(lowering.abilities(), rows, columns, dy, dbias, accumulate),
    ]
}

pub(super) fn product_of(
    lowering: &mut Lowering,
    transposition: Transposition,
    sizes: [Size; 3],
    operands: Operands,
) -> Command {
    let variant = lowering.product(transposition, sizes, [operands.a, operands.b]);
    matmul::matmul(variant, transposition, sizes, operands, |size| lowering.scratch(size))
}
