//! The hidden state of each sentence's first token, and its gradient.

use super::{Command, Count, Grid, Launch, Scalar, Size, Symbol, TensorId, Word, shader};

fn elementwise(symbol: Symbol, columns: u32) -> Grid {
    Grid::Linear(Count::new(Size::from(symbol).times(u64::from(columns)), 64))
}

/// `y [sequences, columns]` from `x [tokens, columns]`.
pub fn forward(columns: u32, x: TensorId, offsets: TensorId, y: TensorId) -> Command {
    let parameters = vec![Symbol::Sequences.into(), columns.into()];
    let grid = elementwise(Symbol::Sequences, columns);
    Command::Launch(
        Launch::new(shader!("first_token_forward"), parameters, grid)
            .read(x)
            .read(offsets)
            .write(y),
    )
}

/// `dx [tokens, columns]` from `dy [sequences, columns]`.
pub fn backward(columns: u32, dy: TensorId, places: TensorId, dx: TensorId) -> Command {
    let first = Word::Step(Scalar::FirstSentence);
    let parameters = vec![Symbol::Tokens.into(), columns.into(), first];
    let grid = elementwise(Symbol::Tokens, columns);
    Command::Launch(
        Launch::new(shader!("first_token_backward"), parameters, grid)
            .read(dy)
            .read(places)
            .write(dx),
    )
}
