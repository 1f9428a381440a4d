//! Block-sparse attention over a mask, and its gradients.

use super::heads::{AttentionKernels, Heads};
use super::mask::Mask;
use super::pointwise::Dropout;
use super::{Command, Count, Grid, Launch, Shader, Size, Sizes, Symbol, TensorId, Word, shader};
use crate::gpu::{Abilities, Access};
use crate::sparsity::Block;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How octets divide attention on a card: what the tuner chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// Invocations that share a row.
    pub lanes: u32,
    /// Rows that they have of their own.
    pub rows: u32,
    /// Rows that a team has in workgroup memory at a time.
    pub tile: u32,
}

impl fmt::Display for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lanes, {} rows, tiles of {}", self.lanes, self.rows, self.tile)
    }
}

/// Attention that is taken to be alike: of one pass, of heads of one size, over sentences of about
/// one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttentionClass {
    /// Whether it is the gradient.
    pub backward: bool,
    /// Heads in a layer.
    pub heads: Heads,
    /// Rows of a block of the mask.
    pub block: u32,
    /// Tokens of the longest sentence, rounded up to a power of two.
    pub longest: u32,
}

impl AttentionClass {
    /// Attention in a plan for batches up to `largest`.
    pub fn of(backward: bool, heads: Heads, block: u32, largest: &Sizes) -> Self {
        Self { backward, heads, block, longest: largest.longest.next_power_of_two() }
    }

    /// Operations of forward and backward over so many sentences of its length, each pair visited.
    pub fn operations(self, sentences: u32) -> u64 {
        let pairs = u64::from(self.longest).pow(2) * u64::from(sentences);
        (FORWARD + BACKWARD) * pairs * u64::from(self.heads.width())
    }

    /// Rows in registers for each row of an octet: queries and sums in forward; in backward two
    /// tensors and their gradients.
    fn tensors(self) -> u32 {
        if self.backward { 4 } else { 2 }
    }

    /// What octets can do on such a device, and what is worth a try; nothing where other kernels
    /// are taken.
    pub fn candidates(self, abilities: Abilities) -> Vec<Division> {
        let lanes: &[u32] = match self.heads.attention(abilities, self.block) {
            // A subgroup may have eight invocations.
            AttentionKernels::Octets => &[4, 8],
            AttentionKernels::Plain => &[4, 8, 16],
            AttentionKernels::Streaming | AttentionKernels::Rows => &[],
        };
        let quads = self.heads.dim.div_ceil(4);
        let slice = Block::slice(self.block);
        let mut candidates = Vec::new();
        for (lanes, rows) in lanes.iter().flat_map(|lanes| [1, 2, 4].map(|rows| (*lanes, rows))) {
            let parts = quads.div_ceil(lanes);
            // Four vec4 of a row at most, 64 registers in all, and no lane without a part.
            let held = parts * rows * self.tensors();
            if parts > 4 || quads < lanes || held > 16 || rows * self.tensors() > slice.min(8) {
                continue;
            }
            let tiles = [4, 8].into_iter().filter(|tile| *tile <= self.block);
            let division = |tile| Division { lanes, rows, tile };
            candidates.extend(tiles.map(division).filter(|it| it.bytes(self.heads) <= MAX_BYTES));
        }
        candidates
    }

    /// A good choice where nothing was measured.
    pub fn default_for(self, abilities: Abilities) -> Division {
        let quads = self.heads.dim.div_ceil(4);
        // Four vec4 of a row in an invocation at most, and two if eight lanes suffice for that.
        let lanes = match quads {
            0..=8 => 4,
            9..=32 => 8,
            _ => quads.div_ceil(4).next_power_of_two(),
        };
        // What octets exchange through workgroup memory takes room beside the tiles: with four
        // rows an octet a SIMD of RDNA3 has room for 6 waves, with two for 10.
        let tensors = match self.heads.attention(abilities, self.block) {
            AttentionKernels::Plain => 4,
            _ => self.tensors(),
        };
        // 64 registers, or a quarter more or less for heads between.
        let rows = match quads.div_ceil(lanes) {
            ..=2 => 8 / tensors,
            _ => 4 / tensors,
        };
        // Fewer of small slices: each has tiles of its own, and there is to be room for many waves.
        let rows = rows.min(Block::slice(self.block) / tensors);
        Division { lanes, rows, tile: 4 }
    }
}

impl fmt::Display for AttentionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backward, heads, block, longest } = self;
        let pass = if *backward { "attention gradient" } else { "attention" };
        write!(f, "{pass} {}x{} of {longest} in {block}", heads.count, heads.dim)
    }
}

/// Operations for each component of a pair: scores and values, a multiplication and an addition each.
const FORWARD: u64 = 4;
/// Scores and what the gradient makes of values, once for queries and once for keys and values, and
/// a product for each of the three.
const BACKWARD: u64 = 14;

/// Which kernels compute attention.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    /// What the device can do.
    pub abilities: Abilities,
    /// What its octets do.
    pub division: Division,
}

/// Invocations in a workgroup, where that many make whole teams.
const INVOCATIONS: u32 = 64;
/// Bytes that the tiles of a workgroup may take: half of what every WebGPU device has.
const MAX_BYTES: u32 = 8 << 10;

impl Division {
    /// Bytes of a team's tiles.
    fn bytes(self, heads: Heads) -> u32 {
        2 * self.tile * heads.dim.div_ceil(4).next_multiple_of(self.lanes) * 16
    }
}

/// A division of blocks of a size, in numbers of `shaders/shared/octets.wgsl` and `teams.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tiling {
    division: Division,
    /// Rows of a team.
    slice: u32,
    /// Teams in a workgroup.
    teams: u32,
}

impl Tiling {
    fn new(division: Division, heads: Heads, block: u32) -> Self {
        let slice = Block::slice(block);
        let team = slice / division.rows * division.lanes;
        let teams = (INVOCATIONS / team).min(MAX_BYTES / division.bytes(heads)).max(1);
        Self { division, slice, teams }
    }

    fn fix(self, shader: Shader, heads: Heads, mask: &Mask) -> Shader {
        let Division { lanes, rows, tile } = self.division;
        shader
            .with("LANES", format!("{lanes}u"))
            .with("PARTS", format!("{}u", heads.dim.div_ceil(4).div_ceil(lanes)))
            .with("ROWS", format!("{rows}u"))
            .with("SLICE", format!("{}u", self.slice))
            .with("TILE", format!("{tile}u"))
            .with("TEAMS", format!("{}u", self.teams))
            // Blocks that choose what they visit have little in common.
            .with("TOGETHER", mask.chosen_visits().is_none())
    }

    /// Workgroups along the slices of the batch, and along the heads.
    fn counts(self, heads: Heads, mask: &Mask) -> [Count; 2] {
        let slices = Size::from(Symbol::Blocks).times(u64::from(mask.block / self.slice));
        [Count::new(slices, self.teams), Count::new(heads.count, 1)]
    }
}

fn specialise(shader: Shader, heads: Heads, mask: &Mask, dropout: Option<Dropout>) -> Shader {
    heads
        .fix(shader)
        .with("BLOCK", format!("{}u", mask.block))
        .with("SCALE", format!("{:?}", 1.0 / (heads.dim as f32).sqrt()))
        .with("DROPOUT", dropout.is_some())
        .with("BITS", mask.bits.is_some())
}

/// The words of `Params` in `shaders/shared/attention.wgsl`, in its order.
fn parameters(heads: Heads, mask: &Mask, dropout: Option<Dropout>) -> Vec<Word> {
    let dropout = dropout.unwrap_or(Dropout { probability: 0.0, site: 0 });
    let mut words = vec![
        Symbol::Tokens.into(),
        Symbol::Blocks.into(),
        heads.count.into(),
        mask.visits_stride.into(),
        mask.bits_stride.into(),
    ];
    words.extend(dropout.words());
    words
}

/// `factor` operations for each component, head and pair of tokens. Blocks count as full, and all
/// pairs as visited: what a mask leaves out is known only on the device.
fn operations(heads: Heads, mask: &Mask, factor: u64) -> [Size; 3] {
    let pairs = Size::from(Symbol::Pairs).times(u64::from(mask.block * mask.block));
    [pairs, heads.count.into(), Size::from(heads.dim).times(factor)]
}

/// A workgroup a block and head.
fn grid(heads: Heads) -> Grid {
    Grid::Plane(Count::new(Symbol::Blocks, 1), Count::new(heads.count, 1))
}

/// The shaders that take query, key and value with subgroup functions, and without.
pub(crate) fn shaders() -> [Shader; 4] {
    [
        shader!("attention_forward"),
        shader!("attention_forward_octets"),
        shader!("attention_backward"),
        shader!("attention_backward_octets"),
    ]
}

/// `out [tokens, heads · dim]` and `log_sum_exp [heads, tokens]` from `qkv [tokens, 3 · heads ·
/// dim]`.
pub fn forward(
    Kernels { abilities, division }: Kernels,
    heads: Heads,
    dropout: Option<Dropout>,
    mask: &Mask,
    qkv: TensorId,
    out: TensorId,
    log_sum_exp: TensorId,
) -> Command {
    let kernels = heads.attention(abilities, mask.block);
    let shader = match kernels {
        AttentionKernels::Streaming => shader!("attention_forward_streaming"),
        AttentionKernels::Octets => shader!("attention_forward_octets"),
        AttentionKernels::Plain => shader!("attention_forward"),
        AttentionKernels::Rows => shader!("attention_forward_rows"),
    };
    let (shader, access, grid) = match kernels {
        AttentionKernels::Streaming => (shader, Access::Texels, grid(heads)),
        AttentionKernels::Rows => (shader, Access::Read, grid(heads)),
        AttentionKernels::Octets | AttentionKernels::Plain => {
            let tiling = Tiling::new(division, heads, mask.block);
            let [x, y] = tiling.counts(heads, mask);
            (tiling.fix(shader, heads, mask), Access::Read, Grid::Plane(x, y))
        }
    };
    let shader = specialise(shader, heads, mask, dropout);
    let operations = operations(heads, mask, FORWARD);
    Command::Launch(
        Launch::new(shader, parameters(heads, mask, dropout), grid)
            .matrix(qkv, access, 3 * heads.width())
            .read(mask.blocks)
            .read(mask.visits)
            .read(mask.bits.unwrap_or(mask.blocks))
            .write(out)
            .write(log_sum_exp)
            .counting(operations),
    )
}

/// The tensors of the backward pass.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// `[tokens, 3 · heads · dim]`
    pub qkv: TensorId,
    /// `[tokens, heads · dim]`, the forward result.
    pub out: TensorId,
    /// `[heads, tokens]`, from forward.
    pub log_sum_exp: TensorId,
    /// `[tokens, heads · dim]`
    pub dout: TensorId,
    /// `[tokens, 3 · heads · dim]`, the result.
    pub dqkv: TensorId,
}

/// The gradient of query, key and value. `scratch` makes room for a tensor.
pub fn backward(
    Kernels { abilities, division }: Kernels,
    heads: Heads,
    dropout: Option<Dropout>,
    mask: &Mask,
    tensors: Backward,
    scratch: impl FnOnce(Size) -> TensorId,
) -> Vec<Command> {
    let kernels = heads.attention(abilities, mask.block);
    let shader = match kernels {
        AttentionKernels::Streaming | AttentionKernels::Rows => {
            let rows = Size::from(Symbol::Tokens).times(u64::from(heads.count));
            return backward_by_rows(kernels, heads, dropout, mask, tensors, scratch(rows)).into();
        }
        AttentionKernels::Octets => shader!("attention_backward_octets"),
        AttentionKernels::Plain => shader!("attention_backward"),
    };
    let tiling = Tiling::new(division, heads, mask.block);
    let shader = specialise(tiling.fix(shader, heads, mask), heads, mask, dropout);
    let [x, y] = tiling.counts(heads, mask);
    let launch = Launch::new(shader, parameters(heads, mask, dropout), Grid::Layers(x, y, 2))
        .read(tensors.qkv)
        .read(tensors.out)
        .read(tensors.dout)
        .read(tensors.log_sum_exp)
        .read(mask.blocks)
        .read(mask.visits)
        .read(mask.bits.unwrap_or(mask.blocks))
        .write(tensors.dqkv)
        .counting(operations(heads, mask, BACKWARD));
    vec![Command::Launch(launch)]
}

/// The gradient by kernels whose invocations have rows of their own; `delta [heads, tokens]` is room
/// for the products of `out` and `dout`.
fn backward_by_rows(
    kernels: AttentionKernels,
    heads: Heads,
    dropout: Option<Dropout>,
    mask: &Mask,
    tensors: Backward,
    delta: TensorId,
) -> [Command; 3] {
    let rows = Size::from(Symbol::Tokens).times(u64::from(heads.count));
    let shared = Launch::new(
        shader!("attention_backward_delta").with("HEAD_DIM", format!("{}u", heads.dim)),
        vec![Symbol::Tokens.into(), heads.count.into()],
        Grid::Linear(Count::new(rows, 64)),
    )
    .read(tensors.out)
    .read(tensors.dout)
    .write(delta);
    let (query, key_value, access) = match kernels {
        AttentionKernels::Streaming => (
            shader!("attention_backward_query_streaming"),
            shader!("attention_backward_key_value_streaming"),
            Access::Texels,
        ),
        _ => (
            shader!("attention_backward_query_rows"),
            shader!("attention_backward_key_value_rows"),
            Access::Read,
        ),
    };
    let walk = |shader: Shader, factor: u64| {
        let shader = specialise(shader, heads, mask, dropout);
        Launch::new(shader, parameters(heads, mask, dropout), grid(heads))
            .matrix(tensors.qkv, access, 3 * heads.width())
            .matrix(tensors.dout, access, heads.width())
            .read(tensors.log_sum_exp)
            .read(delta)
            .read(mask.blocks)
            .read(mask.visits)
            .read(mask.bits.unwrap_or(mask.blocks))
            .write(tensors.dqkv)
            .counting(operations(heads, mask, factor))
    };
    [Command::Launch(shared), Command::Launch(walk(query, 6)), Command::Launch(walk(key_value, 8))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Scalar;

    /// Every WebGPU device grants 256 invocations and 16 KiB, of which exchange and masks take some.
    #[test]
    fn every_tiling_fits_every_device() {
        let classes = (1..=64).flat_map(|quads| [4, 8, 16, 32].map(|block| (quads, block)));
        for (quads, block) in classes {
            for (backward, abilities) in [false, true]
                .into_iter()
                .flat_map(|pass| [Abilities::GPU, Abilities::PLAIN_GPU].map(|it| (pass, it)))
            {
                let heads = Heads { count: 1, dim: 4 * quads };
                let class = AttentionClass { backward, heads, block, longest: 64 };
                let default = class.default_for(abilities);
                let candidates = class.candidates(abilities);
                for division in candidates.into_iter().chain([default]) {
                    let tiling = Tiling::new(division, heads, block);
                    let Tiling { division: Division { lanes, rows, tile }, slice, teams } = tiling;
                    let of = format!("{class}: {tiling:?}");
                    assert!(lanes * 4 * 4 >= heads.dim && lanes.is_power_of_two(), "{of}");
                    assert!(lanes >= 4 && rows >= 1 && slice.is_multiple_of(rows), "{of}");
                    assert!(rows <= if backward { 2 } else { 4 }, "{of}");
                    assert!(slice / rows * lanes * teams <= 256, "{of}");
                    assert!(tile.is_multiple_of(4) && block.is_multiple_of(tile), "{of}");
                    assert!(teams * division.bytes(heads) <= MAX_BYTES, "{of}");
                }
            }
        }
        // A default is a candidate wherever somebody has a model.
        for (dim, backward) in [32, 64, 128].into_iter().flat_map(|dim| [(dim, false), (dim, true)])
        {
            let class =
                AttentionClass { backward, heads: Heads { count: 1, dim }, block: 16, longest: 64 };
            for abilities in [Abilities::GPU, Abilities::PLAIN_GPU] {
                let candidates = class.candidates(abilities);
                assert!(candidates.len() > 1, "{class}: {candidates:?}");
                assert!(candidates.contains(&class.default_for(abilities)), "{class}");
            }
            assert!(class.candidates(Abilities::CPU).is_empty());
        }
    }

    #[test]
    fn parameters_lie_as_the_shaders_read_them() {
        let heads = Heads { count: 101, dim: 64 };
        let mask = Mask {
            blocks: TensorId(0),
            visits: TensorId(1),
            bits: None,
            visits_stride: 102u32.into(),
            bits_stride: 103u32.into(),
            block: 16,
        };
        let dropout = Dropout { probability: 0.25, site: 104 };
        let named = |name: &str| match name {
            "tokens" => Symbol::Tokens.into(),
            "blocks" => Symbol::Blocks.into(),
            "heads" => 101u32.into(),
            "visits_stride" => 102u32.into(),
            "bits_stride" => 103u32.into(),
            "seed" => Word::Step(Scalar::Seed),
            "seed_high" => Word::Step(Scalar::SeedHigh),
            "step" => Word::Step(Scalar::Step),
            "site" => 104u32.into(),
            "probability" => Word::Float(0.25),
            other => panic!("shaders/shared/attention.wgsl: Params has a new word {other}"),
        };
        let text = shader!("attention_forward").text;
        let wanted = crate::kernels::parts::members(&text, "Params");
        let wanted: Vec<Word> = wanted.iter().map(|(name, _)| named(name)).collect();
        assert_eq!(parameters(heads, &mask, Some(dropout)), wanted);
    }
}
