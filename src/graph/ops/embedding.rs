//! Word plus position embedding.

use crate::error::Result;
use crate::graph::{Graph, Role};
use crate::kernels::embedding::{self, SortedTokens};
use crate::kernels::{Size, Symbol, TensorId};

/// The tokens of a batch, as inputs of a graph; see [`crate::data::Batch`].
#[derive(Debug, Clone, Copy)]
pub struct TokenInputs {
    /// `[tokens, 2]`, word id, and sequence << 16 | position.
    pub placed_ids: TensorId,
    /// `[tokens]`, sequence << 16 | position.
    pub places: TensorId,
    /// `[sequences + 1]`, where each sentence starts.
    pub offsets: TensorId,
    /// The tokens sorted by id.
    pub sorted: SortedTokens,
}

/// `words[id] + positions[position]` for each token: `words [vocabulary, columns]`,
/// `positions [max positions, columns]`, result `[tokens, columns]`. The gradient that reaches
/// `words` is that of the batch's words only: `[distinct, columns]`, in the order of
/// `inputs.sorted.ids`.
///
/// # Errors
/// Shapes that do not fit.
pub fn embedding(
    graph: &mut Graph,
    words: TensorId,
    positions: TensorId,
    inputs: TokenInputs,
) -> Result<TensorId> {
    let (_, columns) = graph.matrix("embedding", words)?;
    let (count, _) = graph.matrix("embedding", positions)?;
    graph.expect("embedding", positions, [count, columns.into()])?;
    let y = graph.activation("embeddings", [Symbol::Tokens.into(), Size::from(columns)]);
    graph.node("embedding", &[y], move |_| {
        vec![embedding::forward(columns, words, positions, inputs.placed_ids, y)]
    });
    graph.gradient(move |graph, dy| match dy[0] {
        Some(dy) => Ok(embedding_gradient(graph, words, positions, inputs, dy)),
        None => Ok(vec![]),
    });
    Ok(y)
}

/// The gradients that reach both tables from that of their sum, `dy [tokens, columns]`.
pub(super) fn embedding_gradient(
    graph: &mut Graph,
    words: TensorId,
    positions: TensorId,
    inputs: TokenInputs,
    dy: TensorId,
) -> Vec<(TensorId, TensorId)> {
    let [count, columns] = [0, 1].map(|at| graph.shape(positions).0[at].factor as u32);
    let rows = [Symbol::Distinct.into(), Size::from(columns)];
    let dwords = graph.value("d word embeddings", rows);
    graph.node("word embedding gradient", &[dwords], move |_| {
        vec![embedding::backward_words(columns, dy, inputs.sorted, dwords)]
    });
    let dpositions = graph.gradient_of(positions);
    graph.node("position embedding gradient", &[dpositions], move |_| {
        vec![embedding::backward_positions(count, columns, dy, inputs.offsets, dpositions)]
    });
    vec![(words, dwords), (positions, dpositions)]
}

/// Adds a gradient of the batch's words to what earlier parts of the step have left of the word
/// embedding's in the session's store.
///
/// # Errors
/// Shapes that do not fit.
pub fn accumulate_words(
    graph: &mut Graph,
    words: TensorId,
    gradient: TensorId,
    sorted: SortedTokens,
) -> Result<()> {
    let (_, columns) = graph.matrix("accumulate", words)?;
    graph.expect("accumulate", gradient, [Symbol::Distinct.into(), Size::from(columns)])?;
    let sum = graph.companion(words, Role::Gradient);
    graph.node("accumulate", &[], move |_| {
        vec![embedding::add_rows(columns, gradient, sorted, sum)]
    });
    Ok(())
}
