//! Two projections with a residual sum and a LayerNorm between them, where nothing is kept for a
//! gradient.

use super::Affine;
use super::linear::product_of;
use crate::error::Result;
use crate::graph::{Graph, Lowering};
use crate::kernels::layer_norm::{self, Forward};
use crate::kernels::matmul::{Activation, Operands, Transposition, Variant};
use crate::kernels::normed::{self as kernels, Product, Sum, is_for};
use crate::kernels::tune::Tuning;
use crate::kernels::{Size, TensorId};

/// Two projections, and what stands between them.
#[derive(Debug, Clone, Copy)]
pub struct Normed {
    /// The first projection.
    pub first: Affine,
    /// Added to it.
    pub residual: TensorId,
    /// The LayerNorm of the sum.
    pub norm: Affine,
    /// Added to the variance.
    pub epsilon: f32,
    /// The second projection.
    pub second: Affine,
    /// What follows it.
    pub activation: Activation,
}

/// `x = LayerNorm(first(a) + residual)` and `activation(second(x))`, for inference: on cards in two
/// launches.
///
/// # Errors
/// Shapes that do not fit.
pub fn normed(graph: &mut Graph, a: TensorId, normed: Normed) -> Result<[TensorId; 2]> {
    let Normed { first, residual, norm, epsilon, second, activation } = normed;
    let (rows, inputs) = graph.matrix("linear", a)?;
    let (_, columns) = graph.matrix("layer norm", residual)?;
    let (out, _) = graph.matrix("linear", second.weight)?;
    let [inputs, width] = [inputs, columns].map(Size::from);
    graph.expect("linear", first.weight, [width, inputs])?;
    graph.expect("linear", first.bias, [width])?;
    graph.expect("layer norm", residual, [rows, width])?;
    graph.expect("layer norm", norm.weight, [width])?;
    graph.expect("layer norm", norm.bias, [width])?;
    graph.expect("linear", second.weight, [out, width])?;
    graph.expect("linear", second.bias, [out])?;
    let [of_z, of_x, of_y] = [first, norm, second]
        .map(|affine| graph.name(affine.weight).trim_end_matches(".weight").to_owned());
    let shape = [rows, width];
    // In float32 in any precision: what the LayerNorm makes of its rounding no sum averages out.
    let z = graph.value(&of_z, shape);
    let entries = Size::from(kernels::statistics(columns));
    let statistics = graph.value(&format!("{of_z} (statistics)"), [rows, entries]);
    let x = graph.activation(&of_x, shape);
    let normalized = graph.activation(&format!("{of_x} (normalized)"), shape);
    let inverse_deviation = graph.value(&format!("{of_x} (1 / deviation)"), [rows]);
    let y = graph.activation(&of_y, [rows, out]);

    let factors = [first, second].map(|affine| graph.factor(affine.weight));
    let of_first = ([rows, width, inputs], [a, factors[0]]);
    let of_second = ([rows, out, width], [x, factors[1]]);
    // All three decide alike.
    let variants = move |lowering: &mut Lowering| variants(lowering, [of_first, of_second]);
    graph.node("linear", &[z, statistics], move |lowering| {
        let (weight, bias) = (factors[0], first.bias);
        let sum = Sum { a, weight, bias, residual, z, statistics };
        let sum =
            variants(lowering).and_then(|[variant, _]| kernels::sum(variant, of_first.0, sum));
        vec![sum.unwrap_or_else(|| {
            let operands = Operands { bias: Some(bias), ..Operands::product(a, weight, z) };
            product_of(lowering, Transposition::Nt, of_first.0, operands)
        })]
    });
    graph.node("layer norm", &[x, normalized, inverse_deviation], move |lowering| {
        if variants(lowering).is_some() {
            return vec![];
        }
        let (dropped, residual) = (None, Some(residual));
        let Affine { weight: gamma, bias: beta } = norm;
        let tensors =
            Forward { x: z, dropped, residual, gamma, beta, y: x, normalized, inverse_deviation };
        vec![layer_norm::forward(lowering.abilities(), rows, columns, epsilon, tensors)]
    });
    graph.node("linear", &[y], move |lowering| {
        let Affine { weight: gamma, bias: beta } = norm;
        let (weight, bias) = (factors[1], second.bias);
        let product =
            Product { z, statistics, gamma, beta, epsilon, x, weight, bias, activation, y };
        let product = variants(lowering)
            .and_then(|[_, variant]| kernels::product(variant, of_second.0, product));
        vec![product.unwrap_or_else(|| {
            let operands = Operands::product(x, weight, y);
            let operands = Operands { bias: Some(bias), activation, ..operands };
            product_of(lowering, Transposition::Nt, of_second.0, operands)
        })]
    });
    Ok([x, y])
}

/// The sizes of a projection, and its factors.
type Projection = ([Size; 3], [TensorId; 2]);

/// The variants of both projections, where these do the LayerNorm between them.
fn variants(lowering: &mut Lowering, projections: [Projection; 2]) -> Option<[Variant; 2]> {
    let variants =
        projections.map(|(sizes, factors)| lowering.product(Transposition::Nt, sizes, factors));
    let is_wrong = lowering.tuning.set_aside.contains(Tuning::NORMED);
    let fit = variants.iter().zip(projections).all(|(variant, (sizes, _))| is_for(*variant, sizes));
    (fit && !is_wrong).then_some(variants)
}
