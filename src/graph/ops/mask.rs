//! The mask that a policy makes.

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::mask::{self as kernels, BlockTopk, Draw, Mask, Room, Topk};
use crate::kernels::{Element, Heads, Size, Symbol, TensorId};
use crate::sparsity::{Block, Rule};

/// The ops by which the device makes masks.
pub const MASKS: [&str; 3] = ["row top-k", "random mask", "block top-k"];

/// The block mask of a batch, as inputs of a graph; see [`crate::sparsity::BlockMask`].
#[derive(Debug, Clone, Copy)]
pub struct MaskInputs {
    /// `[blocks, Block::WORDS]`
    pub blocks: TensorId,
    /// `[visits]`
    pub visits: TensorId,
    /// `[bit pairs, block]`, where the host knows which pairs of tokens count.
    pub bits: Option<TensorId>,
}

impl MaskInputs {
    /// Adds the inputs for the masks of a rule to a graph, in blocks of so many tokens.
    pub fn new(graph: &mut Graph, rule: &Rule, block: u32) -> Self {
        let mut input = |name: &str, symbol: Symbol, times: u32| {
            graph.input(name, Element::U32, [Size::from(symbol).times(u64::from(times))])
        };
        Self {
            blocks: input("blocks", Symbol::Blocks, Block::WORDS),
            visits: input("visits", Symbol::Visits, 1),
            bits: matches!(rule, Rule::Local { .. })
                .then(|| input("mask bits", Symbol::BitPairs, block)),
        }
    }
}

/// What one attention layer follows.
#[derive(Debug, Clone, Copy)]
pub struct LayerRule<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Tokens in a block of the mask.
    pub block: u32,
    /// The layer's number.
    pub layer: u32,
}

/// The mask of one attention layer under a rule: the inputs as they are where the host knows it,
/// else chosen by the device, from `qkv [tokens, 3 · heads · dim]` or at random. No gradient flows
/// through the choice.
///
/// # Errors
/// `qkv` has another shape.
pub fn mask(
    graph: &mut Graph,
    LayerRule { rule, block, layer }: LayerRule<'_>,
    heads: Heads,
    qkv: TensorId,
    inputs: MaskInputs,
) -> Result<Mask> {
    let width = heads.count * heads.dim;
    graph.expect("mask", qkv, [Symbol::Tokens.into(), Size::from(3 * width)])?;
    let per_head = Size::from(heads.count);
    let MaskInputs { blocks, visits, bits } = inputs;
    let none = Size::from(0u32);
    let shared = Mask { blocks, visits, bits, visits_stride: none, bits_stride: none, block };
    let words = kernels::bits_words(block);
    Ok(match *rule {
        Rule::Dense | Rule::Local { .. } => shared,
        Rule::Topk { .. } => {
            let bits = graph.words("mask bits", [per_head, words]);
            graph.node(MASKS[0], &[bits], move |lowering| {
                let abilities = lowering.abilities();
                let room = Room::for_rows(abilities, heads, block, &lowering.largest);
                let tensors = Topk { qkv, blocks, scores: lowering.scratch(room.words()), bits };
                vec![kernels::topk(abilities, heads, block, room, tensors)]
            });
            Mask { bits: Some(bits), bits_stride: words, ..shared }
        }
        Rule::Random { seed, .. } => {
            let bits = graph.words("mask bits", [per_head, words]);
            graph.node(MASKS[1], &[bits], move |_| {
                vec![kernels::random(heads, block, Draw { seed, layer }, blocks, bits)]
            });
            Mask { bits: Some(bits), bits_stride: words, ..shared }
        }
        Rule::BlockTopk { .. } => {
            let words = Size::from(Symbol::Visits);
            let visits = graph.words("mask visits", [per_head, words]);
            graph.node(MASKS[2], &[visits], move |lowering| {
                let pooled =
                    lowering.scratch(Size::from(Symbol::Blocks).times(2 * u64::from(width)));
                let abilities = lowering.abilities();
                let room = Room::for_blocks(abilities, heads, block, &lowering.largest);
                let scores = lowering.scratch(room.words());
                let tensors = BlockTopk { qkv, blocks, pooled, scores, visits };
                kernels::block_topk(abilities, heads, room, tensors).to_vec()
            });
            Mask { visits, visits_stride: words, ..shared }
        }
    })
}
