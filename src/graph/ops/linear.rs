//! A projection with bias and activation.

use super::Affine;
use crate::error::Result;
use crate::graph::{Graph, Pass};
use crate::kernels::column_sum::column_sum;
use crate::kernels::matmul::{self, Activation, Operands, Transposition};
use crate::kernels::{Size, TensorId, pointwise};

/// `activation(x·weightᵀ + bias)`: `x [rows, in]`, `weight [out, in]`, `bias [out]`, result
/// `[rows, out]`. In training what the gradient needs is kept.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(
    graph: &mut Graph,
    x: TensorId,
    Affine { weight, bias }: Affine,
    activation: Activation,
    pass: Pass,
) -> Result<TensorId> {
    let (rows, inputs) = graph.matrix("linear", x)?;
    let (out, _) = graph.matrix("linear", weight)?;
    graph.expect("linear", weight, [out, inputs.into()])?;
    graph.expect("linear", bias, [out])?;
    let name = graph.name(weight).trim_end_matches(".weight").to_owned();
    let y = graph.value(&name, [rows, out]);
    let before = (pass.is_training() && activation != Activation::None)
        .then(|| graph.value(&format!("{name} (before activation)"), [rows, out]));
    let outputs: Vec<TensorId> = [y].into_iter().chain(before).collect();
    graph.node("linear", &outputs, move |lowering| {
        let operands = Operands { a: x, b: weight, bias: Some(bias), c: y, before, activation };
        product(lowering, Transposition::Nt, [rows, out, inputs.into()], operands)
    });
    graph.gradient(move |graph, dy| {
        let Some(mut dy) = dy[0] else { return Ok(vec![]) };
        if let Some(before) = before {
            let count = graph.shape(dy).elements();
            let dbefore = graph.value(&format!("d {name} (before activation)"), [rows, out]);
            graph.node("activation gradient", &[dbefore], move |_| {
                vec![pointwise::activation_backward(activation, count, before, dy, dbefore)]
            });
            dy = dbefore;
        }
        let plain =
            |a, b, c| Operands { a, b, bias: None, c, before: None, activation: Activation::None };
        let dx = graph.value(&format!("d input of {name}"), [rows, inputs.into()]);
        graph.node("input gradient", &[dx], move |lowering| {
            let sizes = [rows, inputs.into(), out];
            product(lowering, Transposition::Nn, sizes, plain(dy, weight, dx))
        });
        let dweight = graph.gradient_of(weight);
        graph.node("weight gradient", &[dweight], move |lowering| {
            let sizes = [out, inputs.into(), rows];
            product(lowering, Transposition::Tn, sizes, plain(dy, x, dweight))
        });
        let dbias = graph.gradient_of(bias);
        let columns = out.factor as u32;
        graph.node("bias gradient", &[dbias], move |lowering| {
            vec![column_sum(lowering.abilities(), rows, columns, dy, dbias)]
        });
        Ok(vec![(x, dx), (weight, dweight), (bias, dbias)])
    });
    Ok(y)
}

fn product(
    lowering: &mut crate::graph::Lowering,
    transposition: Transposition,
    sizes: [Size; 3],
    operands: Operands,
) -> Vec<crate::kernels::Command> {
    let variant = lowering.product(transposition, sizes);
    matmul::matmul(variant, transposition, sizes, operands, |size| lowering.scratch(size))
}
