//! LayerNorm of a sum, and its gradients.

use super::pointwise::Dropout;
use super::{Command, Count, Grid, Launch, Size, Symbol, TensorId, Word, shader};
use crate::gpu::{Abilities, Access};

/// Dropout of what is normalized, and `[rows]`, by which it tells rows apart.
pub type Dropped = (Dropout, TensorId);

/// Which kernels are taken for rows of so many columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `…_streaming`, for CPU adapters: an invocation takes a row, in whole texels.
    Streaming,
    /// `…_registers`, for GPUs: a row stays in the registers of 64 invocations, as vec4.
    Registers {
        /// vec4 of each invocation.
        quads: u32,
    },
    /// Without a suffix: any number of columns.
    Plain,
}

impl Kind {
    fn of(abilities: Abilities, columns: u32) -> Self {
        match columns {
            _ if !columns.is_multiple_of(4) => Self::Plain,
            _ if abilities.streaming => Self::Streaming,
            ..=1024 => Self::Registers { quads: columns.div_ceil(256) },
            _ => Self::Plain,
        }
    }
}

/// Whether rows stay in registers: then one launch does an embedding with its LayerNorm, and the
/// backward pass leaves parts of the parameters' gradients on its way.
pub fn in_registers(abilities: Abilities, columns: u32) -> bool {
    matches!(Kind::of(abilities, columns), Kind::Registers { .. })
}

fn words(dropped: Option<Dropped>) -> [Word; 5] {
    dropped.map_or(Dropout { probability: 0.0, site: 0 }, |(dropout, _)| dropout).words()
}

/// The tensors of a LayerNorm forward.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// `[rows, columns]`
    pub x: TensorId,
    /// Dropout of `x`.
    pub dropped: Option<Dropped>,
    /// `[rows, columns]`, added to it.
    pub residual: Option<TensorId>,
    /// `[columns]`
    pub gamma: TensorId,
    /// `[columns]`
    pub beta: TensorId,
    /// `[rows, columns]`, the result.
    pub y: TensorId,
    /// `[rows, columns]`, the normalized rows.
    pub normalized: TensorId,
    /// `[rows]`, 1 / sqrt(variance + ε).
    pub inverse_deviation: TensorId,
}

/// `y = LayerNorm(dropout(x) + residual)`.
pub fn forward(
    abilities: Abilities,
    rows: Size,
    columns: u32,
    epsilon: f32,
    tensors: Forward,
) -> Command {
    let (shader, access, grid) = match Kind::of(abilities, columns) {
        Kind::Streaming => {
            let shader = shader!("layer_norm_forward_streaming");
            (shader, Access::Texels, Grid::Linear(Count::new(rows, 8)))
        }
        Kind::Registers { quads } => {
            let shader = shader!("layer_norm_forward_registers");
            let shader = shader.with("QUADS", format!("{quads}u"));
            (shader, Access::Read, Grid::Linear(Count::new(rows, 4)))
        }
        Kind::Plain => {
            (shader!("layer_norm_forward"), Access::Read, Grid::Linear(Count::new(rows, 1)))
        }
    };
    let shader = shader
        .with("RESIDUAL", tensors.residual.is_some())
        .with("DROPOUT", tensors.dropped.is_some());
    let mut parameters = vec![rows.into(), columns.into(), Word::Float(epsilon)];
    parameters.extend(words(tensors.dropped));
    Command::Launch(
        Launch::new(shader, parameters, grid)
            .matrix(tensors.x, access, columns)
            .matrix(tensors.residual.unwrap_or(tensors.gamma), access, columns)
            .matrix(tensors.gamma, access, columns)
            .matrix(tensors.beta, access, columns)
            .read(tensors.dropped.map_or(tensors.gamma, |(_, places)| places))
            .write(tensors.y)
            .write(tensors.normalized)
            .write(tensors.inverse_deviation),
    )
}

/// The tensors of a LayerNorm of word plus position embedding, and dropout after it.
#[derive(Debug, Clone, Copy)]
pub struct ForwardEmbedded {
    /// `[vocabulary, columns]`
    pub words: TensorId,
    /// `[positions, columns]`
    pub positions: TensorId,
    /// `[tokens, 2]`: word id and place.
    pub placed_ids: TensorId,
    /// Dropout of the result.
    pub dropout: Option<Dropout>,
    /// `[columns]`
    pub gamma: TensorId,
    /// `[columns]`
    pub beta: TensorId,
    /// `[tokens, columns]`, the result.
    pub y: TensorId,
    /// `[tokens, columns]`, the normalized rows.
    pub normalized: TensorId,
    /// `[tokens]`, 1 / sqrt(variance + ε).
    pub inverse_deviation: TensorId,
}

/// `y = dropout(LayerNorm(words[id] + positions[position]))`, for rows that stay in registers.
pub fn forward_embedded(columns: u32, epsilon: f32, tensors: ForwardEmbedded) -> Command {
    let rows = Size::from(Symbol::Tokens);
    let shader = shader!("layer_norm_forward_registers")
        .with("QUADS", format!("{}u", columns.div_ceil(256)))
        .with("EMBED", true)
        .with("DROPOUT", tensors.dropout.is_some());
    let mut parameters = vec![rows.into(), columns.into(), Word::Float(epsilon)];
    parameters.extend(words(tensors.dropout.map(|dropout| (dropout, tensors.placed_ids))));
    let looked_up = rows.times(u64::from(columns));
    Command::Launch(
        Launch::new(shader, parameters, Grid::Linear(Count::new(rows, 4)))
            .read(tensors.words)
            .read(tensors.positions)
            .read(tensors.gamma)
            .read(tensors.beta)
            .read(tensors.placed_ids)
            .write(tensors.y)
            .write(tensors.normalized)
            .write(tensors.inverse_deviation)
            .touching(tensors.words, looked_up)
            .touching(tensors.positions, looked_up),
    )
}

/// Workgroups that share the rows of a backward pass in registers, each of which leaves a part of
/// the parameters' gradients.
pub const PARTS: u32 = 128;

/// Where a backward pass leaves its parts of the gradients of scale and shift.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// `[norms, PARTS, 2, columns]`
    pub tensor: TensorId,
    /// Which of the norms it is.
    pub norm: u32,
}

/// The tensors of a LayerNorm backward.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// `[rows, columns]`, the gradient of the result.
    pub dy: TensorId,
    /// `[rows, columns]`, from forward.
    pub normalized: TensorId,
    /// `[columns]`
    pub gamma: TensorId,
    /// `[rows]`, from forward.
    pub inverse_deviation: TensorId,
    /// `[rows, columns]`, the gradient of the sum that is normalized.
    pub dz: TensorId,
    /// Dropout of `x`.
    pub dropped: Option<Dropped>,
    /// `[rows, columns]`, the gradient of `x` where it differs from `dz`: after dropout.
    pub dx: TensorId,
}

/// The gradient with respect to the sum, and to the part of it that was dropped from. `nothing`
/// stands in for a tensor that is not there.
pub fn backward(
    abilities: Abilities,
    rows: Size,
    columns: u32,
    tensors: Backward,
    nothing: TensorId,
) -> Command {
    let (shader, access) = match Kind::of(abilities, columns) {
        Kind::Streaming => (shader!("layer_norm_backward_streaming"), Access::Texels),
        Kind::Registers { .. } => {
            let launch = backward_launch(rows, columns, tensors, false).write(nothing);
            return Command::Launch(launch);
        }
        Kind::Plain => (shader!("layer_norm_backward"), Access::Read),
    };
    let per = if access == Access::Texels { 8 } else { 1 };
    let mut parameters = vec![rows.into(), columns.into()];
    parameters.extend(words(tensors.dropped));
    let shader = shader.with("DROPOUT", tensors.dropped.is_some());
    let launch = Launch::new(shader, parameters, Grid::Linear(Count::new(rows, per)))
        .matrix(tensors.dy, access, columns)
        .matrix(tensors.normalized, access, columns)
        .matrix(tensors.gamma, access, columns)
        .read(tensors.inverse_deviation)
        .read(tensors.dropped.map_or(tensors.gamma, |(_, places)| places))
        .write(tensors.dz)
        .write(tensors.dx);
    Command::Launch(launch)
}

/// As [`backward`], for rows that stay in registers; leaves parts of the gradients of scale and
/// shift on its way. If `embedded`, dropout struck the result, and places are `[rows, 2]`: word id
/// and place.
pub fn backward_with_parts(
    rows: Size,
    columns: u32,
    tensors: Backward,
    embedded: bool,
    parts: Parts,
) -> Command {
    let mut launch = backward_launch(rows, columns, tensors, embedded).write(parts.tensor);
    launch.shader = launch.shader.with("LEAVE_PARTS", true);
    launch.parameters[2] = (2 * PARTS * parts.norm).into();
    let left = Size::from(2 * PARTS).times(u64::from(columns));
    Command::Launch(launch.touching(parts.tensor, left))
}

/// The backward pass in registers, without the parts' tensor, and leaving none.
fn backward_launch(rows: Size, columns: u32, tensors: Backward, embedded: bool) -> Launch {
    let mut parameters = vec![rows.into(), columns.into(), Word::from(0u32), PARTS.into()];
    parameters.extend(words(tensors.dropped));
    let shader = shader!("layer_norm_backward_registers")
        .with("QUADS", format!("{}u", columns.div_ceil(256)))
        .with("EMBED", embedded)
        .with("DROPOUT", tensors.dropped.is_some());
    let grid = Grid::Plane(Count::new(PARTS, 1), Count::new(1u32, 1));
    Launch::new(shader, parameters, grid)
        .read(tensors.dy)
        .read(tensors.normalized)
        .read(tensors.gamma)
        .read(tensors.inverse_deviation)
        .read(tensors.dropped.map_or(tensors.gamma, |(_, places)| places))
        .write(tensors.dz)
        .write(tensors.dx)
}

/// LayerNorms whose parameters' gradients one launch sums.
const NORMS_AT_ONCE: usize = 28;

/// The gradients of scale and shift of several norms of `columns`, from their parts `[norms, PARTS,
/// 2, columns]`: `places` are where dgamma and dbeta of each begin in `gradient`, in elements.
pub fn sum_parameters(
    columns: u32,
    parts: TensorId,
    places: &[[u64; 2]],
    gradient: TensorId,
) -> Vec<Command> {
    let mut first = 0;
    let mut commands = Vec::new();
    for places in places.chunks(NORMS_AT_ONCE) {
        let norms = places.len() as u32;
        let mut parameters: Vec<Word> =
            vec![norms.into(), columns.into(), Word::from(first), Word::from(0u32)];
        parameters.extend(places.iter().flatten().map(|place| Word::from(*place)));
        parameters.resize(4 + 2 * NORMS_AT_ONCE, Word::from(0u32));
        let shader = shader!("layer_norm_sum_parameters").with("PARTS", format!("{PARTS}u"));
        let sums = Size::from(2 * columns).times(u64::from(norms));
        let launch = Launch::new(shader, parameters, Grid::Linear(Count::new(sums, 64)))
            .read(parts)
            .write(gradient)
            .touching(parts, sums.times(u64::from(PARTS)))
            .touching(gradient, sums);
        commands.push(Command::Launch(launch));
        first += norms;
    }
    commands
}

/// The gradients of scale and shift, each `[columns]`.
pub fn backward_parameters(
    rows: Size,
    columns: u32,
    dy: TensorId,
    normalized: TensorId,
    dgamma: TensorId,
    dbeta: TensorId,
) -> Command {
    let grid = Grid::Plane(Count::new(columns, 8), Count::new(1u32, 1));
    let parameters = vec![rows.into(), columns.into()];
    Command::Launch(
        Launch::new(shader!("layer_norm_backward_parameters"), parameters, grid)
            .read(dy)
            .read(normalized)
            .write(dgamma)
            .write(dbeta),
    )
}
