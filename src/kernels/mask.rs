//! The mask on the device, and the kernels by which a policy makes it from query and key.

use super::attention::Heads;
use super::{Command, Count, Grid, Launch, Size, Symbol, TensorId, shader};

/// A block mask as the attention kernels read it.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// The blocks of the batch, 8 words each.
    pub blocks: TensorId,
    /// By query block: the key blocks to visit.
    pub lists: TensorId,
    /// By key block: the query blocks that visit it.
    pub transposed: TensorId,
    /// Bits of partial pairs, where there are any.
    pub bits: Option<TensorId>,
    /// Words from one head's lists to the next's: 0 where all heads share them.
    pub list_stride: Size,
    /// Words from one head's bits to the next's.
    pub bits_stride: Size,
    /// Tokens in a block, at most 32.
    pub block: u32,
}

/// Bits of one head, in words: one for each row of each pair.
pub fn bits_words(block: u32) -> Size {
    Size::from(Symbol::Pairs).times(u64::from(block))
}

/// Row top-k: `bits [heads, pairs · block]`. `scores` has room for `block` words per word of bits.
pub fn topk(
    heads: Heads,
    block: u32,
    qkv: TensorId,
    blocks: TensorId,
    scores: TensorId,
    bits: TensorId,
) -> Command {
    let grid = Grid::Plane(Count::new(Symbol::Blocks, 1), Count::new(heads.count, 1));
    let parameters = vec![heads.count.into(), Symbol::Pairs.into()];
    let shader = heads.fix(shader!("mask_topk")).with("BLOCK", format!("{block}u"));
    Command::Launch(
        Launch::new(shader, parameters, grid).read(qkv).read(blocks).write(scores).write(bits),
    )
}

/// The tensors that block top-k writes.
#[derive(Debug, Clone, Copy)]
pub struct BlockTopk {
    /// `[blocks, 2 · heads · dim]`, mean query and mean key of each block.
    pub pooled: TensorId,
    /// `[heads, pairs]`, room for the scores.
    pub scores: TensorId,
    /// `[heads, pairs + blocks]`, by query block: the key blocks kept.
    pub lists: TensorId,
    /// `[heads, pairs + blocks]`, the transposed lists.
    pub transposed: TensorId,
}

/// Block top-k: the lists, and their transposes.
pub fn block_topk(
    heads: Heads,
    qkv: TensorId,
    blocks: TensorId,
    tensors: BlockTopk,
) -> [Command; 3] {
    let width = heads.count * heads.dim;
    let pooled = Size::from(Symbol::Blocks).times(2 * u64::from(width));
    let pool = Launch::new(
        shader!("mask_block_pool"),
        vec![Symbol::Blocks.into(), width.into()],
        Grid::Linear(Count::new(pooled, 64)),
    )
    .read(qkv)
    .read(blocks)
    .write(tensors.pooled);
    let grid = Grid::Plane(Count::new(Symbol::Blocks, 64), Count::new(heads.count, 1));
    let select = Launch::new(
        shader!("mask_block_topk").with("HEAD_DIM", format!("{}u", heads.dim)),
        vec![heads.count.into(), Symbol::Pairs.into(), Symbol::Blocks.into()],
        grid,
    )
    .read(tensors.pooled)
    .read(blocks)
    .write(tensors.scores)
    .write(tensors.lists);
    let transpose = Launch::new(
        shader!("mask_transpose"),
        vec![Symbol::Pairs.into(), Symbol::Blocks.into()],
        grid,
    )
    .read(blocks)
    .read(tensors.lists)
    .write(tensors.transposed);
    [Command::Launch(pool), Command::Launch(select), Command::Launch(transpose)]
}
