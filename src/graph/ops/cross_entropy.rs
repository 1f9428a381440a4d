//! Softmax cross-entropy, summed over the sentences.

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::{Size, Symbol, TensorId, cross_entropy as kernels};

/// `[1]`, the sum over sentences of `-log softmax(logits)[label]`: `logits [sequences, classes]`,
/// `labels [sequences]`. It is where a gradient starts: its own is taken as 1, or as the loss scale
/// in mixed precision.
///
/// # Errors
/// Shapes that do not fit.
pub fn cross_entropy(graph: &mut Graph, logits: TensorId, labels: TensorId) -> Result<TensorId> {
    let (_, classes) = graph.matrix("cross-entropy", logits)?;
    let shape = [Symbol::Sequences.into(), Size::from(classes)];
    graph.expect("cross-entropy", logits, shape)?;
    graph.expect("cross-entropy", labels, [Symbol::Sequences.into()])?;
    let loss = graph.value("loss", [Size::from(1u32)]);
    graph.node("cross-entropy", &[loss], move |_| {
        vec![kernels::forward(classes, logits, labels, loss)]
    });
    graph.gradient(move |graph, _| {
        let dlogits = graph.value("d logits", shape);
        let loss_scale = graph.loss_scale();
        graph.node("cross-entropy gradient", &[dlogits], move |_| {
            vec![kernels::backward(classes, logits, labels, loss_scale, dlogits)]
        });
        Ok(vec![(logits, dlogits)])
    });
    Ok(loss)
}
