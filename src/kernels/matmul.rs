//! Matrix products, in the three transpositions that training needs, with bias and activation.

use super::{Command, Count, Grid, Launch, Size, Target, TensorId, shader};
use crate::gpu::{Access, Texture};
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// `c = activation(a·b + bias)`. `scratch` makes a tensor of so many elements that lives only here.
pub fn matmul(
    transposition: Transposition,
    [m, n, k]: [Size; 3],
    operands: Operands,
    target: Target,
    mut scratch: impl FnMut(Size) -> TensorId,
) -> Command {
    let vectors = |size: Size| size.factor.is_multiple_of(4);
    let streams = match transposition {
        Transposition::Nn | Transposition::Nt => vectors(n) && vectors(k) && k.fixed().is_some(),
        Transposition::Tn => vectors(n) && vectors(m) && m.fixed().is_some(),
    } && n.fixed().is_some();
    // An unused binding still has to be bound: a factor stands in for the bias, a scratch of one
    // element for `before`.
    let bias = operands.bias.unwrap_or(operands.a);
    let before = operands.before.unwrap_or_else(|| scratch(Size::from(1u32)));
    let (shader, grid, access) = if target == Target::Cpu && streams {
        const ROWS: u32 = 16;
        const COLUMNS: u32 = 8 * 3 * 4;
        let shader = shader!("matmul_streaming").with("WIDTH", format!("{}u", Texture::WIDTH));
        (shader, Grid::Plane(Count::new(n, COLUMNS), Count::new(m, ROWS)), Access::Texels)
    } else {
        const TILE: u32 = 64;
        let grid = Grid::Plane(Count::new(n, TILE), Count::new(m, TILE));
        (shader!("matmul_tiled"), grid, Access::Read)
    };
    let shader = shader
        .with("TRANSPOSE_A", transposition == Transposition::Tn)
        .with("TRANSPOSE_B", transposition == Transposition::Nt)
        .with("BIAS", operands.bias.is_some())
        .with("ACTIVATION", format!("{}u", operands.activation.number()))
        .with("KEEP_BEFORE", operands.before.is_some());
    let mut launch = Launch::new(shader, vec![m.into(), n.into(), k.into()], grid)
        .read(bias)
        .write(operands.c)
        .write(before)
        .counting([m, n, k.times(2)]);
    launch.buffers.splice(..0, [(operands.a, access), (operands.b, access)]);
    Command::Launch(launch)
}

/// `y [columns]`, the column sums of `x [rows, columns]`: the gradient of a bias.
pub fn column_sum(rows: Size, columns: u32, x: TensorId, y: TensorId) -> Command {
    let grid = Grid::Plane(Count::new(columns, 8), Count::new(1u32, 1));
    Command::Launch(
        Launch::new(shader!("column_sum"), vec![rows.into(), columns.into()], grid)
            .read(x)
            .write(y),
    )
}
