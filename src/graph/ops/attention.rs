//! Attention over the mask that a policy makes.

use super::MASKS;
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::attention::{self as kernels, Backward};
use crate::kernels::mask::Mask;
use crate::kernels::pointwise::Dropout;
use crate::kernels::{Heads, Size, Symbol, TensorId};

/// Attention, forward and backward.
pub const ATTENTION: [&str; 2] = ["attention", "attention gradient"];

/// Whether an op of this name is attention or makes masks for it.
pub fn is_attention(op: &str) -> bool {
    MASKS.contains(&op) || ATTENTION.contains(&op)
}

/// Attention over a mask: `[tokens, heads · dim]` from `qkv [tokens, 3 · heads · dim]`, in which
/// query, key and value of a token lie side by side.
///
/// # Errors
/// `qkv` has another shape.
pub fn attention(
    graph: &mut Graph,
    heads: Heads,
    dropout: Option<Dropout>,
    mask: Mask,
    qkv: TensorId,
) -> Result<TensorId> {
    let width = Size::from(heads.count * heads.dim);
    let tokens = Size::from(Symbol::Tokens);
    graph.expect("attention", qkv, [tokens, width.times(3)])?;
    let per_row = [Size::from(heads.count), tokens];
    let out = graph.activation("context", [tokens, width]);
    let log_sum_exp = graph.value("log-sum-exp", per_row);
    graph.node(ATTENTION[0], &[out, log_sum_exp], move |lowering| {
        let by = lowering.attention(false, heads, mask.block);
        vec![kernels::forward(by, heads, dropout, &mask, qkv, out, log_sum_exp)]
    });
    graph.gradient(move |graph, dout| {
        let Some(dout) = dout[0] else { return Ok(vec![]) };
        let dqkv = graph.like("d qkv", qkv);
        graph.node(ATTENTION[1], &[dqkv], move |lowering| {
            let tensors = Backward { qkv, out, log_sum_exp, dout, dqkv };
            let by = lowering.attention(true, heads, mask.block);
            kernels::backward(by, heads, dropout, &mask, tensors, |size| lowering.scratch(size))
        });
        Ok(vec![(qkv, dqkv)])
    });
    Ok(out)
}
