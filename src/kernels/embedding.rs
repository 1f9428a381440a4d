//! Word and position embedding, and their gradients.

use super::{Command, Count, Grid, Launch, Size, Symbol, TensorId, shader};

fn elementwise(rows: impl Into<Size>, columns: u32) -> Grid {
    Grid::Linear(Count::new(rows.into().times(u64::from(columns)), 64))
}

/// `y [tokens, columns] = words[id] + positions[position]`, with `placed_ids [tokens, 2]`.
pub fn forward(
    columns: u32,
    words: TensorId,
    positions: TensorId,
    placed_ids: TensorId,
    y: TensorId,
) -> Command {
    let parameters = vec![Symbol::Tokens.into(), columns.into()];
    Command::Launch(
        Launch::new(shader!("embedding_forward"), parameters, elementwise(Symbol::Tokens, columns))
            .read(words)
            .read(positions)
            .read(placed_ids)
            .write(y)
            .touching(words, Size::from(Symbol::Tokens).times(u64::from(columns)))
            .touching(positions, Size::from(Symbol::Tokens).times(u64::from(columns))),
    )
}

/// The tokens of a batch sorted by word id.
#[derive(Debug, Clone, Copy)]
pub struct SortedTokens {
    /// `[tokens]`, token numbers.
    pub tokens: TensorId,
    /// `[distinct + 1]`, where the tokens of each id start.
    pub segments: TensorId,
    /// `[distinct]`, the ids.
    pub ids: TensorId,
}

/// The gradient of the word embedding, `drows [distinct, columns]`: of the words of the batch, in
/// the order of `sorted.ids`.
pub fn backward_words(
    columns: u32,
    dy: TensorId,
    sorted: SortedTokens,
    drows: TensorId,
) -> Command {
    let parameters = vec![Symbol::Distinct.into(), columns.into()];
    let grid = elementwise(Symbol::Distinct, columns);
    Command::Launch(
        Launch::new(shader!("embedding_backward_words"), parameters, grid)
            .read(dy)
            .read(sorted.tokens)
            .read(sorted.segments)
            .write(drows),
    )
}

/// Adds gradients of words, `drows [distinct, columns]`, to `sum [vocabulary, columns]`.
pub fn add_rows(columns: u32, drows: TensorId, sorted: SortedTokens, sum: TensorId) -> Command {
    let parameters = vec![Symbol::Distinct.into(), columns.into()];
    let grid = elementwise(Symbol::Distinct, columns);
    Command::Launch(
        Launch::new(shader!("embedding_add_rows"), parameters, grid)
            .read(drows)
            .read(sorted.ids)
            .update(sum)
            .touching(sum, Size::from(Symbol::Distinct).times(u64::from(columns))),
    )
}

/// The gradient of the position embedding.
pub fn backward_positions(
    positions: u32,
    columns: u32,
    dy: TensorId,
    offsets: TensorId,
    dpositions: TensorId,
) -> Command {
    let parameters =
        vec![positions.into(), columns.into(), Symbol::Sequences.into(), Symbol::Longest.into()];
    Command::Launch(
        Launch::new(
            shader!("embedding_backward_positions"),
            parameters,
            elementwise(positions, columns),
        )
        .read(dy)
        .read(offsets)
        .write(dpositions),
    )
}
