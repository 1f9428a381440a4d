//! Matrix products, in the three transpositions that training needs, with what comes before and
//! after them: bias, activation, the slope of one, sums of gradients.

use super::{Command, Count, Element, Grid, Launch, Shader, Size, Sizes, TensorId, shader};
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

/// What one launch computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Products {
    /// C `[m, n]`, a product.
    One(Transposition),
    /// The gradients of a projection: that of its input, `[m, n]` = `[m, k]` · `[k, n]`, that of
    /// its weight, `[k, n]` = `[m, k]`ᵀ · `[m, n]`, and that of its bias `[k]`.
    Gradients,
}

impl Products {
    /// Floating-point operations are the product of the sizes, and this.
    pub const fn operations(self) -> u64 {
        match self {
            Self::One(_) => 2,
            Self::Gradients => 4,
        }
    }
}

/// Products that somebody wants computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What is computed, and how the factors lie.
    pub products: Products,
    /// Rows of the result, columns of the result, length of the sums; of gradients those of the
    /// input's.
    pub sizes: [Size; 3],
    /// What all factors are stored in; float32 if any is.
    pub factors: Element,
}

impl From<(Products, [Size; 3])> for Asked {
    /// Of factors in float32.
    fn from((products, sizes): (Products, [Size; 3])) -> Self {
        Self { products, sizes, factors: Element::F32 }
    }
}

/// What a product is made of, and what becomes of its sums.
#[derive(Debug, Clone, Copy)]
pub struct Operands {
    /// First factor.
    pub a: TensorId,
    /// Second factor.
    pub b: TensorId,
    /// `[n]`, added to each row.
    pub bias: Option<TensorId>,
    /// Applied after the bias.
    pub activation: Activation,
    /// `[m, n]`, takes what the activation is applied to, where the gradient will need it.
    pub before: Option<TensorId>,
    /// `[m, n]`. Where it is given, the sums are multiplied with the activation's slope at these
    /// values instead: the gradient of the activation.
    pub bent: Option<TensorId>,
    /// `[m, n]`, added last.
    pub addend: Option<TensorId>,
    /// `[m, n]`, the result.
    pub c: TensorId,
    /// Whether the result is added to what is there.
    pub accumulate: bool,
}

impl Operands {
    /// `c = a·b`.
    pub fn product(a: TensorId, b: TensorId, c: TensorId) -> Self {
        Self {
            a,
            b,
            bias: None,
            activation: Activation::None,
            before: None,
            bent: None,
            addend: None,
            c,
            accumulate: false,
        }
    }
}

/// What the gradients of a projection `y = x·weightᵀ + bias` are made of.
#[derive(Debug, Clone, Copy)]
pub struct GradientOperands {
    /// `[m, k]`, the gradient of the result.
    pub dy: TensorId,
    /// `[k, n]`
    pub weight: TensorId,
    /// `[m, n]`
    pub x: TensorId,
    /// The activation that `x` is the result of, and its values before, `[m, n]`. Where they are
    /// given, `dx` is the gradient of those.
    pub bent: Option<(Activation, TensorId)>,
    /// `[m, n]`, added to `dx`.
    pub addend: Option<TensorId>,
    /// `[m, n]`, takes the gradient of `x`.
    pub dx: TensorId,
    /// `[k, n]`, takes the gradient of `weight`.
    pub dweight: TensorId,
    /// `[k]`, takes the gradient of `bias`.
    pub dbias: TensorId,
    /// Whether those of weight and bias are added to what is there.
    pub accumulate: bool,
}

impl GradientOperands {
    /// The gradient of the input, as a product by itself.
    pub fn of_input(self) -> Operands {
        let (activation, bent) = self.bent.unzip();
        let activation = activation.unwrap_or_default();
        let product = Operands::product(self.dy, self.weight, self.dx);
        Operands { activation, bent, addend: self.addend, ..product }
    }

    /// The gradient of the weight, as a product by itself.
    pub fn of_weight(self) -> Operands {
        let product = Operands::product(self.dy, self.x, self.dweight);
        Operands { accumulate: self.accumulate, ..product }
    }
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
        /// Whether a row is multiplied with all columns before the next, instead of a column with
        /// all rows: fewer moves between 16 registers and memory.
        #[serde(default)]
        by_rows: bool,
    },
    /// `matmul_blocked` and `matmul_gradients`: tiles in workgroup memory, loads of four values;
    /// for GPUs. Whole vectors only.
    Blocked {
        /// Rows and columns of a workgroup.
        tile: [u32; 2],
        /// Rows and columns of an invocation.
        thread: [u32; 2],
        /// Groups of invocations that each take a part of every sum.
        // A record of an older version has none, and what it names is no candidate any more.
        #[serde(default)]
        slices: u32,
    },
    /// `matmul_matrices` and `matmul_gradients_matrices`: cooperative matrices. Whole vectors only.
    Matrices {
        /// Whether the factors are float16, or float32.
        float16: bool,
        /// Rows and columns of a matrix.
        edge: u32,
        /// Rows and columns of a workgroup.
        tile: [u32; 2],
        /// Rows and columns of a subgroup.
        block: [u32; 2],
        /// Invocations that a subgroup is taken to have.
        lanes: u32,
    },
    /// `matmul_narrow`: a workgroup an element, values one by one; for projections of few columns.
    Narrow,
    /// `matmul_tiled`: tiles in workgroup memory, values one by one; any size.
    Tiled,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Streaming { rows, quads, by_rows } => {
                let order = if by_rows { " by rows" } else { "" };
                write!(f, "matmul_streaming {rows}x{quads}{order}")
            }
            Self::Blocked { tile, thread, slices } => {
                write!(f, "matmul_blocked {}x{}/{}x{}", tile[0], tile[1], thread[0], thread[1])?;
                if slices > 1 { write!(f, " in {slices} slices") } else { Ok(()) }
            }
            Self::Matrices { float16, edge, tile, block, lanes } => {
                let element = if float16 { "f16" } else { "f32" };
                write!(f, "matmul_matrices {}x{}/{}x{}", tile[0], tile[1], block[0], block[1])?;
                write!(f, " of {edge}x{edge} {element} by {lanes}")
            }
            Self::Narrow => f.write_str("matmul_narrow"),
            Self::Tiled => f.write_str("matmul_tiled"),
        }
    }
}

/// The variants by cooperative matrices, from large tiles, which read least, to small ones.
fn by_matrices(abilities: Abilities, factors: Element) -> Vec<Variant> {
    let Abilities { matrices, lanes, .. } = abilities;
    let float16 = factors == Element::F16;
    let Some(edge) = (if float16 { matrices.float16 } else { matrices.float32 }) else {
        return vec![];
    };
    let mut variants = Vec::new();
    for ([down, across], high) in [([2, 4], 4), ([2, 2], 4), ([2, 2], 2)] {
        let block = [high * edge, 2 * edge];
        let tile = [down * block[0], across * block[1]];
        // Every adapter grants 256 invocations.
        let threads = down * across * lanes;
        if threads <= 256 && depth_of_matrices(edge, tile, threads).is_some() {
            variants.push(Variant::Matrices { float16, edge, tile, block, lanes });
        }
    }
    variants
}

/// Steps along k of a tile: so many that an invocation has 1, 2 or 4 quads of each factor to bring.
fn depth_of_matrices(edge: u32, tile: [u32; 2], threads: u32) -> Option<u32> {
    let brings = |side: u32, depth: u32| {
        [1, 2, 4].into_iter().any(|quads| side * depth == 4 * quads * threads)
    };
    let fits = |depth: &u32| {
        depth.is_multiple_of(edge) && tile.into_iter().all(|side| brings(side, *depth))
    };
    [32, 16, 8].into_iter().find(fits)
}

/// How many workgroups a result has to be for large tiles of matrices, and for any: with few, most
/// of a large GPU would wait for them.
const FOR_MATRICES: [u64; 2] = [96, 20];

/// The blocked variant of a tile, an invocation's part of it, and slices.
const fn blocked(tile: [u32; 2], thread: [u32; 2], slices: u32) -> Variant {
    Variant::Blocked { tile, thread, slices }
}

/// A streaming variant.
const fn streaming(rows: u32, quads: u32, by_rows: bool) -> Variant {
    Variant::Streaming { rows, quads, by_rows }
}

/// Those that were best somewhere: with more registers or fewer, a larger instruction cache or a
/// smaller one.
const STREAMING: [Variant; 9] = [
    streaming(16, 2, false),
    streaming(16, 3, false),
    streaming(20, 2, false),
    streaming(12, 3, false),
    streaming(12, 2, false),
    streaming(8, 3, false),
    streaming(16, 3, true),
    streaming(16, 2, true),
    streaming(12, 3, true),
];

/// From large tiles, which read least, to small ones, of which even a small result has many. Where
/// one invocation computes less, more of them fit a multiprocessor.
const BLOCKED: [Variant; 9] = [
    blocked([128, 128], [8, 8], 1),
    blocked([128, 64], [8, 8], 2),
    blocked([64, 128], [8, 8], 2),
    blocked([64, 64], [8, 8], 4),
    blocked([64, 64], [8, 8], 2),
    blocked([64, 64], [8, 4], 2),
    blocked([64, 64], [8, 4], 1),
    blocked([32, 64], [4, 8], 4),
    blocked([32, 32], [4, 4], 4),
];

/// The defaults among them, each with the number of workgroups from which on it is taken: the first
/// where a large GPU (128 multiprocessors) has two each, the others where most have one. Gradients
/// are counted in workgroups of the longer sums, so that none of those is what all wait for.
const DEFAULTS: [(Variant, u64); 4] =
    [(BLOCKED[0], 256), (BLOCKED[3], 96), (BLOCKED[7], 96), (BLOCKED[8], 0)];

impl Variant {
    /// The blocked variant for results of middle size.
    pub const MIDDLE: Self = blocked([64, 64], [8, 8], 4);

    /// The streaming variant that does well on every driver tried.
    pub const STREAMING: Self = Self::Streaming { rows: 16, quads: 2, by_rows: false };

    /// The variants that can compute products, and are worth a try on such a device.
    pub fn candidates(abilities: Abilities, asked: Asked) -> Vec<Self> {
        let Asked { products, sizes, factors } = asked;
        let mut candidates = vec![];
        if in_vectors(products, sizes) {
            candidates.extend(by_matrices(abilities, factors));
            if abilities.streaming {
                candidates.extend(STREAMING);
            } else {
                candidates.extend(BLOCKED);
            }
        }
        if is_narrow(products, sizes) {
            candidates.push(Self::Narrow);
        }
        candidates.push(Self::Tiled);
        if products == Products::Gradients {
            candidates.retain(|variant| variant.computes_gradients());
        }
        candidates
    }

    /// Whether it computes the gradients of a projection in one launch.
    pub fn computes_gradients(self) -> bool {
        matches!(self, Self::Blocked { .. } | Self::Matrices { .. })
    }

    /// A good choice where nothing was measured. `sizes` are those of the largest batch.
    pub fn default_for(abilities: Abilities, asked: Asked, largest: &Sizes) -> Self {
        let Asked { products, sizes, factors } = asked;
        if !in_vectors(products, sizes) {
            return if is_narrow(products, sizes) { Self::Narrow } else { Self::Tiled };
        }
        if abilities.streaming {
            return Self::STREAMING;
        }
        let [m, n, k] = sizes.map(|size| size.at(largest));
        let workgroups = |[rows, columns]: [u32; 2]| {
            let down = match products {
                Products::One(_) => m.div_ceil(u64::from(rows)),
                // The gradient of fewer rows has the longer sums, and is half of the work.
                Products::Gradients => 2 * m.min(k).div_ceil(u64::from(rows)),
            };
            down * n.div_ceil(u64::from(columns))
        };
        let enough = |variant: Self, wanted: u64| match variant {
            Self::Blocked { tile, .. } | Self::Matrices { tile, .. } => workgroups(tile) >= wanted,
            _ => false,
        };
        // Matrices of float32 have not run anywhere yet: they are for the tuner to try.
        if factors == Element::F16 {
            let variants = by_matrices(abilities, factors);
            let large = variants.iter().find(|variant| enough(**variant, FOR_MATRICES[0]));
            let small = variants.last().filter(|variant| enough(**variant, FOR_MATRICES[1]));
            if let Some(variant) = large.or(small) {
                return *variant;
            }
        }
        let enough = |(variant, wanted): &(Self, u64)| enough(*variant, *wanted);
        DEFAULTS.into_iter().find(enough).map_or(Self::Tiled, |(variant, _)| variant)
    }
}

/// The shaders of all variants.
pub(crate) fn shaders() -> [Shader; 7] {
    [
        shader!("matmul_streaming"),
        shader!("matmul_blocked"),
        shader!("matmul_gradients"),
        shader!("matmul_matrices"),
        shader!("matmul_gradients_matrices"),
        shader!("matmul_tiled"),
        shader!("matmul_narrow"),
    ]
}

/// Whether factors and results can be read and written four values at a time.
pub(super) fn in_vectors(products: Products, [m, n, k]: [Size; 3]) -> bool {
    let vectors = |size: Size| size.is_multiple_of(4) && size.fixed().is_some();
    let along = match products {
        Products::One(Transposition::Nn | Transposition::Nt) | Products::Gradients => k,
        Products::One(Transposition::Tn) => m,
    };
    vectors(n) && vectors(along)
}

/// Columns of a projection that are few.
const NARROW: u64 = 16;

/// Whether this is a projection of few columns.
fn is_narrow(products: Products, [_, n, _]: [Size; 3]) -> bool {
    products == Products::One(Transposition::Nt) && n.fixed().is_some_and(|n| n <= NARROW)
}

/// `c = activation(a·b + bias)`, or what else the operands say. `scratch` makes a tensor of so many
/// elements that lives only here.
pub fn matmul(
    variant: Variant,
    transposition: Transposition,
    sizes: [Size; 3],
    operands: Operands,
    mut scratch: impl FnMut(Size) -> TensorId,
) -> Command {
    let [m, n, k] = sizes;
    let transposed = |shader: Shader| {
        shader
            .with("TRANSPOSE_A", transposition == Transposition::Tn)
            .with("TRANSPOSE_B", transposition == Transposition::Nt)
    };
    let cover =
        |[rows, columns]: [u32; 2]| Grid::Plane(Count::new(n, columns), Count::new(m, rows));
    // A variant that was measured for other sizes must not be wrong for these.
    let products = Products::One(transposition);
    let (in_vectors, is_narrow) = (in_vectors(products, sizes), is_narrow(products, sizes));
    let (shader, grid, access) = match variant {
        Variant::Streaming { rows, quads, by_rows } if in_vectors => {
            let shader = transposed(shader!("matmul_streaming"))
                .with("ROWS", format!("{rows}u"))
                .with("COLUMNS", format!("{quads}u"))
                .with("BY_ROWS", by_rows);
            (shader, cover([rows, 8 * 4 * quads]), Access::Texels)
        }
        Variant::Blocked { tile, thread, slices } if in_vectors => {
            let shader = tiles(transposed(shader!("matmul_blocked")), tile, thread, slices);
            (shader, cover(tile), Access::Read)
        }
        Variant::Matrices { tile, .. } if in_vectors => {
            let shader = matrices(transposed(shader!("matmul_matrices")), variant);
            (shader, cover(tile), Access::Read)
        }
        Variant::Narrow if is_narrow => {
            let elements = Count::new(m.times(n.factor), 1);
            (shader!("matmul_narrow"), Grid::Linear(elements), Access::Read)
        }
        _ => (transposed(shader!("matmul_tiled")), cover([64, 64]), Access::Read),
    };
    let Operands { a, b, bias, activation, before, bent, addend, c, accumulate } = operands;
    let shader = shader
        .with("BIAS", bias.is_some())
        .with("ACTIVATION", format!("{}u", activation.number()))
        .with("KEEP_BEFORE", before.is_some())
        .with("BENT", bent.is_some())
        .with("ADD", addend.is_some())
        .with("ACCUMULATE", accumulate);
    // Those of the factors, which are fixed wherever they are read as texels.
    let columns = match transposition {
        Transposition::Nn => [k, n],
        Transposition::Nt => [k, k],
        Transposition::Tn => [m, n],
    };
    let columns = columns.map(|columns| columns.fixed().unwrap_or_default());
    // An unused binding still has to be bound: a factor stands in for what would be read, a scratch
    // of one element for what would be written.
    Command::Launch(
        Launch::new(shader, sizes.map(Into::into).to_vec(), grid)
            .matrix(a, access, columns[0])
            .matrix(b, access, columns[1])
            .read(bias.unwrap_or(a))
            .read(bent.unwrap_or(a))
            .read(addend.unwrap_or(a))
            .bind(c, changed(accumulate))
            .write(before.unwrap_or_else(|| scratch(Size::from(1u32))))
            .counting([m, n, k.times(products.operations())]),
    )
}

/// The gradients of a projection in one launch, by a blocked variant. `sizes` are those of
/// [`Products::Gradients`]; the gradient of the weight has `k` rows.
pub fn gradients(
    variant: Variant,
    sizes: [Size; 3],
    operands: GradientOperands,
) -> Option<Command> {
    let (shader, tile) = match variant {
        Variant::Blocked { tile, thread, slices } => {
            (tiles(shader!("matmul_gradients"), tile, thread, slices), tile)
        }
        Variant::Matrices { tile, .. } => {
            (matrices(shader!("matmul_gradients_matrices"), variant), tile)
        }
        _ => return None,
    };
    if !in_vectors(Products::Gradients, sizes) {
        return None;
    }
    let [m, n, k] = sizes;
    // Rows of tiles of the one gradient above those of the other.
    let other = k.fixed()?.next_multiple_of(u64::from(tile[0]));
    let grid = Grid::Plane(Count::new(n, tile[1]), Count::new(m.and(other), tile[0]));
    Some(gradient_launch(shader, grid, sizes, operands))
}

/// The gradients of a projection of few columns in one launch, where no other variant can.
pub fn narrow_gradients(sizes: [Size; 3], operands: GradientOperands) -> Option<Command> {
    let [m, n, k] = sizes;
    let (inputs, out) = (n.fixed()?, k.fixed()?);
    if out > NARROW || in_vectors(Products::Gradients, sizes) {
        return None;
    }
    let grid = Grid::Linear(Count::new(m.times(inputs).and(out * (inputs + 1)), 64));
    Some(gradient_launch(shader!("matmul_gradients_narrow"), grid, sizes, operands))
}

fn gradient_launch(
    shader: Shader,
    grid: Grid,
    [m, n, k]: [Size; 3],
    operands: GradientOperands,
) -> Command {
    let GradientOperands { dy, weight, x, bent, addend, dx, dweight, dbias, accumulate } = operands;
    let (activation, bent) = bent.unzip();
    let shader = shader
        .with("ACTIVATION", format!("{}u", activation.unwrap_or_default().number()))
        .with("BENT", bent.is_some())
        .with("ADD", addend.is_some())
        .with("ACCUMULATE", accumulate);
    Command::Launch(
        Launch::new(shader, vec![m.into(), n.into(), k.into()], grid)
            .read(dy)
            .read(weight)
            .read(x)
            .read(bent.unwrap_or(x))
            .read(addend.unwrap_or(x))
            .write(dx)
            .bind(dweight, changed(accumulate))
            .bind(dbias, changed(accumulate))
            .counting([m, n, k.times(Products::Gradients.operations())]),
    )
}

/// How a result is bound.
fn changed(accumulate: bool) -> Access {
    if accumulate { Access::Update } else { Access::Write }
}

/// Sets the constants of `shaders/shared/tiles.wgsl`.
pub(super) fn tiles(shader: Shader, tile: [u32; 2], thread: [u32; 2], slices: u32) -> Shader {
    // As deep as every invocation has a block of 4 × 4 to bring, which takes 16 KiB of workgroup
    // memory at most.
    let threads = tile[0] / thread[0] * (tile[1] / thread[1]) * slices;
    let depth = [32, 16, 8].into_iter().find(|depth| (tile[0] + tile[1]) * depth <= 16 * threads);
    shader
        .with("ROWS", format!("{}u", tile[0]))
        .with("COLUMNS", format!("{}u", tile[1]))
        .with("THREAD_ROWS", format!("{}u", thread[0]))
        .with("THREAD_COLUMNS", format!("{}u", thread[1]))
        .with("SLICES", format!("{slices}u"))
        .with("DEPTH", format!("{}u", depth.unwrap_or(8)))
}

/// Sets the constants of `shaders/shared/matrices.wgsl`.
fn matrices(shader: Shader, variant: Variant) -> Shader {
    let Variant::Matrices { float16, edge, tile, block, lanes } = variant else { return shader };
    let [down, across] = [0, 1].map(|at| tile[at] / block[at]);
    let threads = down * across * lanes;
    let depth = depth_of_matrices(edge, tile, threads).unwrap_or(edge);
    let mut shader = shader
        .with("EDGE", format!("{edge}u"))
        .with("DOWN", format!("{down}u"))
        .with("ACROSS", format!("{across}u"))
        .with("TALL", block[0] == 4 * edge)
        .with("THREADS", format!("{threads}u"))
        .with("DEPTH", format!("{depth}u"))
        .with("PAD", if float16 { "8u" } else { "4u" });
    // No constant can be a type.
    let mut text = shader.text.replace("coop_mat16x16", &format!("coop_mat{edge}x{edge}"));
    if float16 {
        text = text.replacen("alias Factor = f32;", "alias Factor = f16;", 1);
    }
    shader.text = text.into();
    shader
}
