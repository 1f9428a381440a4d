//! The mask that a policy makes, and attention over it.

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::attention::{self as kernels, Backward, Heads};
use crate::kernels::mask::{self as mask_kernels, BlockTopk, Mask};
use crate::kernels::pointwise::Dropout;
use crate::kernels::{Size, Symbol, TensorId};
use crate::sparsity::Policy;

/// The block mask of a batch, as inputs of a graph; see [`crate::sparsity::BlockMask`].
#[derive(Debug, Clone, Copy)]
pub struct MaskInputs {
    /// `[blocks, 8]`
    pub blocks: TensorId,
    /// `[pairs + blocks]`
    pub lists: TensorId,
    /// `[pairs + blocks]`
    pub transposed: TensorId,
}

/// The mask of one attention layer: the inputs as they are for a dense policy, else chosen by the
/// device from `qkv [tokens, 3 · heads · dim]`. No gradient flows through the choice.
///
/// # Errors
/// `qkv` has another shape.
pub fn mask(
    graph: &mut Graph,
    policy: &Policy,
    heads: Heads,
    qkv: TensorId,
    inputs: MaskInputs,
) -> Result<Mask> {
    let width = heads.count * heads.dim;
    graph.expect("mask", qkv, [Symbol::Tokens.into(), Size::from(3 * width)])?;
    let per_head = Size::from(heads.count);
    let block = policy.block();
    let shared = Mask {
        blocks: inputs.blocks,
        lists: inputs.lists,
        transposed: inputs.transposed,
        bits: None,
        list_stride: Size::from(0u32),
        bits_stride: Size::from(0u32),
        block,
    };
    Ok(match policy {
        Policy::Dense => shared,
        Policy::Topk { .. } => {
            let words = mask_kernels::bits_words(block);
            let bits = graph.value("mask bits", [per_head, words]);
            graph.node("row top-k", &[bits], move |lowering| {
                let room = words.times(u64::from(heads.count * block));
                let scores = lowering.scratch(room);
                vec![mask_kernels::topk(heads, block, qkv, inputs.blocks, scores, bits)]
            });
            Mask { bits: Some(bits), bits_stride: words, ..shared }
        }
        Policy::BlockTopk { .. } => {
            let words = Size::from(Symbol::ListWords);
            let lists = graph.value("mask lists", [per_head, words]);
            let transposed = graph.value("mask lists (transposed)", [per_head, words]);
            graph.node("block top-k", &[lists, transposed], move |lowering| {
                let blocks = Size::from(Symbol::Blocks);
                let pooled = lowering.scratch(blocks.times(2 * u64::from(width)));
                let pairs = Size::from(Symbol::Pairs);
                let scores = lowering.scratch(pairs.times(u64::from(heads.count)));
                let tensors = BlockTopk { pooled, scores, lists, transposed };
                mask_kernels::block_topk(heads, qkv, inputs.blocks, tensors).to_vec()
            });
            Mask { lists, transposed, list_stride: words, ..shared }
        }
    })
}

/// Attention over a mask: `[tokens, heads · dim]` from `qkv [tokens, 3 · heads · dim]`, in which query,
/// key and value of a token lie side by side.
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
    let out = graph.value("context", [tokens, width]);
    let log_sum_exp = graph.value("log-sum-exp", per_row);
    graph.node("attention", &[out, log_sum_exp], move |lowering| {
        vec![kernels::forward(lowering.target(), heads, dropout, &mask, qkv, out, log_sum_exp)]
    });
    graph.gradient(move |graph, dout| {
        let Some(dout) = dout[0] else { return Ok(vec![]) };
        let dqkv = graph.value("d qkv", [tokens, width.times(3)]);
        graph.node("attention gradient", &[dqkv], move |lowering| {
            let delta = lowering.scratch(tokens.times(u64::from(heads.count)));
            let tensors = Backward { qkv, out, log_sum_exp, dout, delta, dqkv };
            kernels::backward(lowering.target(), heads, dropout, &mask, tensors).to_vec()
        });
        Ok(vec![(qkv, dqkv)])
    });
    Ok(out)
}
