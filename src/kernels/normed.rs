//! A LayerNorm between two projections, for GPUs, without a launch of its own: the first projection
//! adds the residual and leaves what has to be known of each row, the second normalizes on its way.

use super::matmul::{Activation, Products, Transposition, Variant, in_vectors, tiles};
use super::{Command, Count, Grid, Launch, Shader, Size, TensorId, Word, shader};

/// Columns that one entry of the statistics is of.
const TOGETHER: u32 = 32;

/// Words of the statistics of rows of so many columns.
pub fn statistics(columns: u32) -> u32 {
    2 * columns.div_ceil(TOGETHER)
}

/// The tensors of the first projection.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    /// `[rows, inputs]`
    pub a: TensorId,
    /// `[columns, inputs]`
    pub weight: TensorId,
    /// `[columns]`
    pub bias: TensorId,
    /// `[rows, columns]`, added to the projection.
    pub residual: TensorId,
    /// `[rows, columns]`, takes the sum.
    pub z: TensorId,
    /// `[rows, statistics(columns)]`, takes what the second projection has to know of it.
    pub statistics: TensorId,
}

/// The first projection, of sizes rows, columns and inputs, by a blocked variant.
pub fn sum(variant: Variant, sizes: [Size; 3], tensors: Sum) -> Option<Command> {
    let Sum { a, weight, bias, residual, z, statistics } = tensors;
    let launch = blocked(variant, sizes, shader!("normed_sum"))?
        .read(a)
        .read(weight)
        .read(bias)
        .read(residual)
        .write(z)
        .write(statistics);
    Some(Command::Launch(launch))
}

/// The tensors of the second projection.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// `[rows, columns]` and its statistics, as [`sum`] leaves them.
    pub z: TensorId,
    /// `[rows, statistics(columns)]`
    pub statistics: TensorId,
    /// `[columns]`
    pub gamma: TensorId,
    /// `[columns]`
    pub beta: TensorId,
    /// Added to the variance.
    pub epsilon: f32,
    /// `[rows, columns]`, takes the LayerNorm.
    pub x: TensorId,
    /// `[out, columns]`
    pub weight: TensorId,
    /// `[out]`
    pub bias: TensorId,
    /// Applied last.
    pub activation: Activation,
    /// `[rows, out]`, takes the result.
    pub y: TensorId,
}

/// The second projection, of sizes rows, out and columns, by a blocked variant.
pub fn product(variant: Variant, sizes: [Size; 3], tensors: Product) -> Option<Command> {
    let Product { z, statistics, gamma, beta, epsilon, x, weight, bias, activation, y } = tensors;
    let activation = format!("{}u", activation.number());
    let shader = shader!("normed_product").with("ACTIVATION", activation);
    let mut launch = blocked(variant, sizes, shader)?
        .read(z)
        .read(statistics)
        .read(gamma)
        .read(beta)
        .read(weight)
        .read(bias)
        .write(x)
        .write(y);
    launch.parameters.push(Word::Float(epsilon));
    Some(Command::Launch(launch))
}

/// The shaders of both.
pub(crate) fn shaders() -> [Shader; 2] {
    [shader!("normed_sum"), shader!("normed_product")]
}

const PROJECTION: Products = Products::One(Transposition::Nt);

/// Whether a variant can compute either projection.
pub fn is_for(variant: Variant, sizes: [Size; 3]) -> bool {
    matches!(variant, Variant::Blocked { .. }) && in_vectors(PROJECTION, sizes)
}

fn blocked(variant: Variant, sizes: [Size; 3], shader: Shader) -> Option<Launch> {
    let Variant::Blocked { tile, thread, slices } = variant else { return None };
    if !is_for(variant, sizes) {
        return None;
    }
    let [m, n, k] = sizes;
    let grid = Grid::Plane(Count::new(n, tile[1]), Count::new(m, tile[0]));
    let shader = tiles(shader, tile, thread, slices);
    let launch = Launch::new(shader, sizes.map(Word::from).to_vec(), grid);
    Some(launch.counting([m, n, k.times(PROJECTION.operations())]))
}
