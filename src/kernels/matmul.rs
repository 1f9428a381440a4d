//! Matrix products, in the three transpositions that training needs, with bias and activation.

use super::{Command, Count, Grid, Launch, Shader, Size, Sizes, TensorId, shader, texels};
use crate::gpu::{Abilities, Access};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A function applied to each element of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// None.
    #[default]
    None,
    /// x Φ(x), Φ being the standard normal distribution (the exact form, with erf).
    Gelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Its number in the shaders.
    pub fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Gelu => 1,
            Self::Relu => 2,
        }
    }
}

/// How the two factors lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transposition {
    /// A `[m, k]`, B `[k, n]`: the gradient of an input.
    Nn,
    /// A `[m, k]`, B `[n, k]`: a projection with a weight `[out, in]`.
    Nt,
    /// A `[k, m]`, B `[k, n]`: the gradient of a weight.
    Tn,
}

/// What a product is made of.
#[derive(Debug, Clone, Copy)]
pub struct Operands {
    /// First factor.
    pub a: TensorId,
    /// Second factor.
    pub b: TensorId,
    /// `[n]`, added to each row.
    pub bias: Option<TensorId>,
    /// `[m, n]`, the result.
    pub c: TensorId,
    /// `[m, n]`, the result before the activation, where the gradient will need it.
    pub before: Option<TensorId>,
    /// Applied last.
    pub activation: Activation,
}

/// One way to compute a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// `matmul_streaming`: no workgroup memory and no barrier, `rows` × `quads` vec4 in the
    /// registers of each of 8 invocations; for CPU adapters. Whole vectors only.
    Streaming {
        /// Rows of a workgroup.
        rows: u32,
        /// vec4 of columns of an invocation.
        quads: u32,
    },
    /// `matmul_blocked`: tiles in workgroup memory, loads of four values, the sums cut along k into
    /// `split` parts; for GPUs. Whole vectors only.
    Blocked {
        /// Rows and columns of a workgroup.
        tile: [u32; 2],
        /// Rows and columns of an invocation.
        thread: [u32; 2],
        /// Parts that the sums are cut into, which compute at the same time.
        split: u32,
    },
    /// `matmul_tiled`: tiles in workgroup memory, values one by one; any size.
    Tiled,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Streaming { rows, quads } => write!(f, "matmul_streaming {rows}x{quads}"),
            Self::Blocked { tile, thread, split } => {
                write!(f, "matmul_blocked {}x{}/{}x{}", tile[0], tile[1], thread[0], thread[1])?;
                if split > 1 { write!(f, " in {split} parts") } else { Ok(()) }
            }
            Self::Tiled => f.write_str("matmul_tiled"),
        }
    }
}

impl Variant {
    /// The streaming variant that does well on every driver tried.
    pub const STREAMING: Self = Self::Streaming { rows: 16, quads: 2 };

    /// The variants that can compute a product, and are worth a try on such a device.
    pub fn candidates(
        abilities: Abilities,
        transposition: Transposition,
        sizes: [Size; 3],
    ) -> Vec<Self> {
        let mut candidates = vec![];
        if in_vectors(transposition, sizes) {
            if abilities.streaming {
                for (rows, quads) in [(16, 2), (16, 3), (20, 2), (12, 3), (12, 2), (8, 3)] {
                    candidates.push(Self::Streaming { rows, quads });
                }
            } else {
                for (tile, thread) in [
                    ([128, 128], [8, 8]),
                    ([128, 64], [8, 4]),
                    ([64, 128], [4, 8]),
                    ([64, 64], [8, 4]),
                    ([64, 64], [4, 4]),
                    ([32, 64], [4, 4]),
                ] {
                    for split in [1, 2, 4, 8] {
                        candidates.push(Self::Blocked { tile, thread, split });
                    }
                }
            }
        }
        candidates.push(Self::Tiled);
        candidates
    }

    /// A good choice where nothing was measured. `sizes` are those of the largest batch.
    pub fn default_for(
        abilities: Abilities,
        transposition: Transposition,
        sizes: [Size; 3],
        largest: &Sizes,
    ) -> Self {
        if !in_vectors(transposition, sizes) {
            return Self::Tiled;
        }
        if abilities.streaming {
            return Self::STREAMING;
        }
        // Large tiles where they keep a large GPU busy; else smaller ones, and sums cut along k.
        let [m, n, k] = sizes.map(|size| size.at(largest));
        let groups = |tile: u64| m.div_ceil(tile) * n.div_ceil(tile);
        if groups(128) >= BUSY {
            return Self::Blocked { tile: [128, 128], thread: [8, 8], split: 1 };
        }
        let split = [1, 2, 4, 8]
            .into_iter()
            .find(|split| groups(64) * split >= BUSY || k / (2 * split) < SHORTEST_PART);
        let split = split.unwrap_or(8) as u32;
        Self::Blocked { tile: [64, 64], thread: [4, 4], split }
    }
}

/// The shaders of all variants.
pub(crate) fn shaders() -> [Shader; 4] {
    [
        shader!("matmul_streaming"),
        shader!("matmul_blocked"),
        shader!("matmul_sum"),
        shader!("matmul_tiled"),
    ]
}

/// Workgroups that keep a large GPU busy: one for each of its multiprocessors.
const BUSY: u64 = 128;
/// Terms of a sum below which cutting it further does not pay.
const SHORTEST_PART: u64 = 128;

/// Whether both factors and the result can be read and written four values at a time.
fn in_vectors(transposition: Transposition, [m, n, k]: [Size; 3]) -> bool {
    let vectors = |size: Size| size.is_multiple_of(4);
    let along = match transposition {
        Transposition::Nn | Transposition::Nt => k,
        Transposition::Tn => m,
    };
    vectors(n) && n.fixed().is_some() && vectors(along) && along.fixed().is_some()
}

/// `c = activation(a·b + bias)`. `scratch` makes a tensor of so many elements that lives only here.
pub fn matmul(
    variant: Variant,
    transposition: Transposition,
    sizes: [Size; 3],
    operands: Operands,
    mut scratch: impl FnMut(Size) -> TensorId,
) -> Vec<Command> {
    // An unused binding still has to be bound: a factor stands in for the bias, a scratch of one
    // element for `before`.
    let nothing = scratch(Size::from(1u32));
    let product = Product { transposition, sizes, operands, nothing };
    match variant {
        // A variant that was measured for other sizes must not be wrong for these.
        _ if !in_vectors(transposition, sizes) => vec![product.tiled()],
        Variant::Tiled => vec![product.tiled()],
        Variant::Streaming { rows, quads } => vec![product.streaming(rows, quads)],
        Variant::Blocked { tile, thread, split: 1 } => vec![product.blocked(tile, thread)],
        Variant::Blocked { tile, thread, split } => {
            product.split(tile, thread, split, scratch).into()
        }
    }
}

/// A product that is about to be launched.
struct Product {
    transposition: Transposition,
    sizes: [Size; 3],
    operands: Operands,
    nothing: TensorId,
}

impl Product {
    /// Bias and activation, applied to the finished sums.
    fn finish(&self, shader: Shader) -> Shader {
        shader
            .with("BIAS", self.operands.bias.is_some())
            .with("ACTIVATION", format!("{}u", self.operands.activation.number()))
            .with("KEEP_BEFORE", self.operands.before.is_some())
    }

    fn transpose(&self, shader: Shader) -> Shader {
        shader
            .with("TRANSPOSE_A", self.transposition == Transposition::Tn)
            .with("TRANSPOSE_B", self.transposition == Transposition::Nt)
    }

    fn tile(&self, tile: [u32; 2], thread: [u32; 2], split: u32) -> Shader {
        self.transpose(shader!("matmul_blocked"))
            .with("SPLIT", format!("{split}u"))
            .with("ROWS", format!("{}u", tile[0]))
            .with("COLUMNS", format!("{}u", tile[1]))
            .with("THREAD_ROWS", format!("{}u", thread[0]))
            .with("THREAD_COLUMNS", format!("{}u", thread[1]))
            .with("DOWN", format!("{}u", tile[0] / thread[0]))
            .with("ACROSS", format!("{}u", tile[1] / thread[1]))
    }

    /// Workgroups that cover the result in tiles of so many rows and columns.
    fn cover(&self, rows: u32, columns: u32) -> [Count; 2] {
        let [m, n, _] = self.sizes;
        [Count::new(n, columns), Count::new(m, rows)]
    }

    fn launch(&self, shader: Shader, grid: Grid, access: Access) -> Launch {
        let Operands { c, before, .. } = self.operands;
        self.launch_into(shader, grid, access, c, before)
    }

    fn launch_into(
        &self,
        shader: Shader,
        grid: Grid,
        access: Access,
        c: TensorId,
        before: Option<TensorId>,
    ) -> Launch {
        let [m, n, k] = self.sizes;
        let Operands { a, b, bias, .. } = self.operands;
        Launch::new(shader, self.sizes.map(Into::into).to_vec(), grid)
            .bind(a, access)
            .bind(b, access)
            .read(bias.unwrap_or(a))
            .write(c)
            .write(before.unwrap_or(self.nothing))
            .counting([m, n, k.times(2)])
    }

    fn tiled(&self) -> Command {
        let [across, down] = self.cover(64, 64);
        let shader = self.finish(self.transpose(shader!("matmul_tiled")));
        Command::Launch(self.launch(shader, Grid::Plane(across, down), Access::Read))
    }

    fn streaming(&self, rows: u32, quads: u32) -> Command {
        let shader = self
            .finish(self.transpose(texels(shader!("matmul_streaming"))))
            .with("ROWS", format!("{rows}u"))
            .with("COLUMNS", format!("{quads}u"));
        let [across, down] = self.cover(rows, 8 * 4 * quads);
        Command::Launch(self.launch(shader, Grid::Plane(across, down), Access::Texels))
    }

    fn blocked(&self, tile: [u32; 2], thread: [u32; 2]) -> Command {
        let [across, down] = self.cover(tile[0], tile[1]);
        let shader = self.finish(self.tile(tile, thread, 1));
        Command::Launch(self.launch(shader, Grid::Plane(across, down), Access::Read))
    }

    /// The sums cut along k into `split` parts, which a second launch adds up.
    fn split(
        &self,
        tile: [u32; 2],
        thread: [u32; 2],
        split: u32,
        mut scratch: impl FnMut(Size) -> TensorId,
    ) -> [Command; 2] {
        let [m, n, _] = self.sizes;
        // `in_vectors` has made sure that n depends on no batch, and is a multiple of 4.
        let columns = n.fixed().unwrap_or(0);
        let parts = scratch(m.times(columns * u64::from(split)));
        let [across, down] = self.cover(tile[0], tile[1]);
        let grid = Grid::Layers(across, down, split);
        let shader = self.tile(tile, thread, split);
        // Bias and activation are applied to the sum.
        let product = self.launch_into(shader, grid, Access::Read, parts, None);
        let sum = Launch::new(
            self.finish(shader!("matmul_sum")).with("SPLIT", format!("{split}u")),
            vec![m.into(), n.into()],
            Grid::Linear(Count::new(m.times(columns / 4), 64)),
        )
        .read(parts)
        .read(self.operands.bias.unwrap_or(parts))
        .write(self.operands.c)
        .write(self.operands.before.unwrap_or(self.nothing));
        [Command::Launch(product), Command::Launch(sum)]
    }
}
