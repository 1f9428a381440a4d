//! The mask on the device, and the kernels by which a rule makes it from query and key.

use super::{
    Command, Count, Grid, Heads, Launch, Scalar, Shader, Size, Sizes, Symbol, TensorId, Word,
    shader,
};
use crate::gpu::{Abilities, Access};

/// A block mask as the attention kernels read it; see [`crate::sparsity::BlockMask`].
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// The blocks of the batch.
    pub blocks: TensorId,
    /// For each query block, and perhaps each head, the key blocks to visit.
    pub visits: TensorId,
    /// The pairs of tokens that count in each visited pair, where not all do.
    pub bits: Option<TensorId>,
    /// Words from one head's visits to the next's: 0 where all heads share them.
    pub visits_stride: Size,
    /// Words from one head's bits to the next's.
    pub bits_stride: Size,
    /// Tokens in a block, at most 32.
    pub block: u32,
}

impl Mask {
    /// The visits, and the words of one head, where the device chooses them.
    pub fn chosen_visits(&self) -> Option<(TensorId, Size)> {
        (self.visits_stride != Size::from(0u32)).then_some((self.visits, self.visits_stride))
    }

    /// The bits, and the words of one head, where the device chooses them.
    pub fn chosen_bits(&self) -> Option<(TensorId, Size)> {
        let bits = self.bits.filter(|_| self.bits_stride != Size::from(0u32));
        bits.map(|bits| (bits, self.bits_stride))
    }
}

/// Bits of one head, in words: one for each row of each pair.
pub fn bits_words(block: u32) -> Size {
    Size::from(Symbol::Pairs).times(u64::from(block))
}

/// How many rows of scores there is room for at a time, and so how many workgroups are launched:
/// memory for scores then grows with the length of a sentence, and not with its square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Scores in the longest row.
    longest: u32,
    /// Blocks (of all heads) that one workgroup takes in one turn, and then in how many turns.
    per_turn: u32,
    turns: u32,
    /// Workgroups at the largest batch.
    groups: u32,
    /// Rows of a workgroup.
    rows: u32,
}

impl Room {
    /// Bytes that scores may take. Half of what every WebGPU device binds in one piece.
    const BYTES: u64 = 64 << 20;

    fn new(longest: u32, rows: u32, per_turn: u32, items: u64, most: u64) -> Self {
        let longest = longest.max(1);
        let fits = Self::BYTES / (u64::from(longest) * u64::from(rows) * 4);
        let groups = fits.min(most).clamp(1, u64::from(Grid::LIMIT));
        let turns = items.div_ceil(u64::from(per_turn)).div_ceil(groups).max(1) as u32;
        let groups = items.div_ceil(u64::from(per_turn) * u64::from(turns)).max(1) as u32;
        Self { longest, per_turn, turns, groups, rows }
    }

    /// Room for row top-k on batches up to a size.
    pub fn for_rows(abilities: Abilities, heads: Heads, block: u32, largest: &Sizes) -> Self {
        let items = u64::from(largest.blocks) * u64::from(heads.count);
        if counts(abilities, heads) {
            let rows = block.min(COUNTED_ROWS);
            let parts = u64::from(block / rows);
            return Self::new(largest.longest, rows, 1, items * parts, u64::MAX);
        }
        // A CPU has some tens of threads, and keeps fewer scores nearer.
        let most = if abilities.streaming { 256 } else { u64::MAX };
        Self::new(largest.longest, block, 1, items, most)
    }

    /// Room for block top-k on batches up to a size.
    pub fn for_blocks(abilities: Abilities, heads: Heads, block: u32, largest: &Sizes) -> Self {
        let items = u64::from(largest.blocks) * u64::from(heads.count);
        if counts(abilities, heads) {
            return Self::new(largest.longest.div_ceil(block), COUNTED_ROWS, 1, items, u64::MAX);
        }
        Self::new(largest.longest.div_ceil(block), 64, 64, items, u64::MAX)
    }

    /// Scores that there is room for.
    pub fn words(&self) -> Size {
        let row = u64::from(self.longest) * u64::from(self.rows);
        Size::from(row * u64::from(self.groups))
    }

    /// For so many items of each head and block.
    fn grid(&self, heads: Heads, items: u32) -> Grid {
        let items = Size::from(Symbol::Blocks).times(u64::from(heads.count * items));
        Grid::Plane(Count::new(items, self.per_turn * self.turns), Count::new(1u32, 1))
    }
}

/// Rows that a workgroup of `mask_select` takes at a time.
const COUNTED_ROWS: u32 = 16;

/// Whether `mask_select` chooses, which finds the cut by counting in workgroup memory: for GPUs.
fn counts(abilities: Abilities, heads: Heads) -> bool {
    !abilities.streaming && heads.dim.is_multiple_of(4) && heads.dim <= 128
}

fn select(heads: Heads, rows: u32) -> Shader {
    shader!("mask_select")
        .with("HEAD_DIM", format!("{}u", heads.dim))
        .with("ROWS", format!("{rows}u"))
}

/// The tensors of row top-k.
#[derive(Debug, Clone, Copy)]
pub struct Topk {
    /// `[tokens, 3 · heads · dim]`
    pub qkv: TensorId,
    /// The blocks of the batch.
    pub blocks: TensorId,
    /// As large as the [`Room`] says.
    pub scores: TensorId,
    /// `[heads, pairs · block]`, the result.
    pub bits: TensorId,
}

/// The tensors of block top-k.
#[derive(Debug, Clone, Copy)]
pub struct BlockTopk {
    /// `[tokens, 3 · heads · dim]`
    pub qkv: TensorId,
    /// The blocks of the batch.
    pub blocks: TensorId,
    /// `[blocks, 2 · heads · dim]`, mean query and mean key of each block.
    pub pooled: TensorId,
    /// As large as the [`Room`] says.
    pub scores: TensorId,
    /// `[heads, visits]`, the result.
    pub visits: TensorId,
}

/// Row top-k: `bits [heads, pairs · block]`, with `scores` as large as the room says.
pub fn topk(
    abilities: Abilities,
    heads: Heads,
    block: u32,
    room: Room,
    Topk { qkv, blocks, scores, bits }: Topk,
) -> Command {
    if counts(abilities, heads) {
        let rows = block.min(COUNTED_ROWS);
        let shader = select(heads, rows).with("BLOCK", format!("{block}u"));
        let stride = Symbol::Pairs.into();
        let parameters =
            vec![heads.count.into(), Symbol::Blocks.into(), stride, room.longest.into()];
        return Command::Launch(
            Launch::new(shader, parameters, room.grid(heads, block / rows))
                .read(qkv)
                .read(blocks)
                .write(scores)
                .write(bits),
        );
    }
    let (shader, access) = match heads.stream(abilities, block) {
        true => (shader!("mask_topk_streaming"), Access::Texels),
        false => (shader!("mask_topk"), Access::Read),
    };
    let shader = heads.fix(shader).with("BLOCK", format!("{block}u"));
    let parameters =
        vec![heads.count.into(), Symbol::Pairs.into(), Symbol::Blocks.into(), room.longest.into()];
    Command::Launch(
        Launch::new(shader, parameters, room.grid(heads, 1))
            .matrix(qkv, access, 3 * heads.width())
            .read(blocks)
            .write(scores)
            .write(bits),
    )
}

/// What a random mask is drawn from, besides the seed and the step of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The seed of the rule.
    pub seed: u32,
    /// The layer.
    pub layer: u32,
}

/// A random mask: `bits [heads, pairs · block]`.
pub fn random(heads: Heads, block: u32, draw: Draw, blocks: TensorId, bits: TensorId) -> Command {
    let parameters = vec![
        Symbol::Pairs.into(),
        draw.seed.into(),
        Word::Step(Scalar::Seed),
        Word::Step(Scalar::SeedHigh),
        Word::Step(Scalar::Step),
        draw.layer.into(),
    ];
    let grid = Grid::Plane(Count::new(Symbol::Blocks, 1), Count::new(heads.count, 1));
    let shader = shader!("mask_random").with("BLOCK", format!("{block}u"));
    Command::Launch(Launch::new(shader, parameters, grid).read(blocks).write(bits))
}

/// Block top-k: `visits [heads, visits]` by way of `pooled [blocks, 2 · heads · dim]`, mean query
/// and mean key of each block, with `scores` as large as the room says.
pub fn block_topk(
    abilities: Abilities,
    heads: Heads,
    room: Room,
    BlockTopk { qkv, blocks, pooled, scores, visits }: BlockTopk,
) -> [Command; 2] {
    let width = heads.count * heads.dim;
    let size = Size::from(Symbol::Blocks).times(2 * u64::from(width));
    let pool = Launch::new(
        shader!("mask_block_pool"),
        vec![Symbol::Blocks.into(), width.into()],
        Grid::Linear(Count::new(size, 64)),
    )
    .read(qkv)
    .read(blocks)
    .write(pooled);
    let parameters =
        vec![heads.count.into(), Symbol::Blocks.into(), Symbol::Visits.into(), room.longest.into()];
    let shader = if counts(abilities, heads) {
        select(heads, COUNTED_ROWS).with("OF_BLOCKS", true)
    } else {
        shader!("mask_block_topk").with("HEAD_DIM", format!("{}u", heads.dim))
    };
    let choose = Launch::new(shader, parameters, room.grid(heads, 1))
        .read(pooled)
        .read(blocks)
        .write(scores)
        .write(visits);
    [Command::Launch(pool), Command::Launch(choose)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::parts::members;
    use crate::sparsity::Block;
    use std::mem::offset_of;

    #[test]
    fn a_block_lies_as_the_shaders_read_it() {
        macro_rules! layout {
            ($($member:ident),*) => {
                [$((stringify!($member).to_owned(), offset_of!(Block, $member) as u32)),*]
            };
        }
        let layout = layout![
            first,
            length,
            sequence_first,
            sequence,
            blocks_first,
            blocks,
            pairs_first,
            keep,
            visits_first,
            even_slice,
            odd_slice
        ];
        let text = include_str!("../../shaders/shared/block.wgsl");
        assert_eq!(members(text, "Block"), layout);
        assert_eq!(layout.len() as u32, Block::WORDS);
    }

    #[test]
    fn room_for_scores_grows_with_the_length_and_not_with_its_square() {
        let heads = Heads { count: 12, dim: 64 };
        let words = |length: u32| {
            let largest =
                Sizes { blocks: length / 16, longest: length, tokens: length, ..Sizes::default() };
            let rows = Room::for_rows(Abilities::GPU, heads, 16, &largest).words().factor;
            let blocks = Room::for_blocks(Abilities::GPU, heads, 16, &largest).words().factor;
            [rows * 4, blocks * 4]
        };
        // Short sentences have room for all rows at once.
        assert_eq!(words(64)[0], 12 * 64 * 64 * 4);
        for length in [1024, 4096, 16_384, 65_520] {
            assert!(words(length).iter().all(|bytes| *bytes <= 64 << 20), "{:?}", words(length));
        }
    }

    /// Every block is some workgroup's: as many workgroups as are launched, times their turns.
    #[test]
    fn a_batch_smaller_than_planned_for_never_needs_more_room() {
        let heads = Heads { count: 3, dim: 64 };
        let largest = Sizes { blocks: 1000, longest: 16_000, ..Sizes::default() };
        let room = Room::for_rows(Abilities::GPU, heads, 16, &largest);
        for blocks in [1, 7, 999, 1000] {
            let [x, ..] = room.grid(heads, 1).at(&Sizes { blocks, ..largest });
            assert!(x >= 1 && x <= u64::from(room.groups), "{x} {room:?}");
        }
    }
}
