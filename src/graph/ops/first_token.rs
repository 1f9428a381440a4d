//! The hidden state of each sentence's first token.

use super::TokenInputs;
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::{Size, Symbol, TensorId, first_token as kernels};

/// `[sequences, columns]` from `x [tokens, columns]`.
///
/// # Errors
/// `x` has no row per token.
pub fn first_token(graph: &mut Graph, x: TensorId, inputs: TokenInputs) -> Result<TensorId> {
    let (_, columns) = graph.matrix("first token", x)?;
    let shape = [Symbol::Tokens.into(), Size::from(columns)];
    graph.expect("first token", x, shape)?;
    let y = graph.activation("first tokens", [Symbol::Sequences.into(), Size::from(columns)]);
    graph.node("first token", &[y], move |_| vec![kernels::forward(columns, x, inputs.offsets, y)]);
    graph.gradient(move |graph, dy| {
        let Some(dy) = dy[0] else { return Ok(vec![]) };
        let dx = graph.like("d hidden states of first tokens", x);
        graph.node("first token gradient", &[dx], move |_| {
            vec![kernels::backward(columns, dy, inputs.places, dx)]
        });
        Ok(vec![(x, dx)])
    });
    Ok(y)
}
