//! Sum and dropout.

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::pointwise::{self, Dropout};
use crate::kernels::{Element, TensorId};

/// `a + b`, of one shape. Has no gradient of its own: it is what gradients are added with.
///
/// # Errors
/// Different shapes.
pub fn add(graph: &mut Graph, a: TensorId, b: TensorId) -> Result<TensorId> {
    let shape = graph.shape(a).clone();
    graph.expect("add", b, shape.clone())?;
    let count = shape.elements();
    let name = format!("{} (sum)", graph.name(a));
    let y = graph.like(&name, a);
    graph.node("add", &[y], move |_| vec![pointwise::add(count, a, b, y)]);
    Ok(y)
}

/// Brings the copy of a parameter in float16 up to date.
pub fn keep_half(graph: &mut Graph, parameter: TensorId) {
    let half = graph.half_of(parameter);
    let count = graph.shape(parameter).elements();
    graph.node("copy in float16", &[], move |_| vec![pointwise::copy(count, parameter, half)]);
}

/// `x`, stored in float32 or float16. Has no gradient: it is for values from outside.
pub fn stored_in(graph: &mut Graph, x: TensorId, element: Element) -> TensorId {
    let name = format!("{} in {element}", graph.name(x));
    let y = graph.stored(&name, element, graph.shape(x).clone());
    let count = graph.shape(x).elements();
    graph.node("copy", &[y], move |_| vec![pointwise::copy(count, x, y)]);
    y
}

/// `x [rows, columns]` with elements dropped; `places [rows]` says where each row stands.
///
/// # Errors
/// `x` is no matrix.
pub fn dropout(
    graph: &mut Graph,
    settings: Dropout,
    x: TensorId,
    places: TensorId,
) -> Result<TensorId> {
    masked(graph, settings, x, Some(places))
}

/// As [`dropout`], for rows that are told apart by their number: one a sentence.
///
/// # Errors
/// `x` is no matrix.
pub fn dropout_rows(graph: &mut Graph, settings: Dropout, x: TensorId) -> Result<TensorId> {
    masked(graph, settings, x, None)
}

fn masked(
    graph: &mut Graph,
    settings: Dropout,
    x: TensorId,
    places: Option<TensorId>,
) -> Result<TensorId> {
    let (rows, columns) = graph.matrix("dropout", x)?;
    let name = format!("{} (dropout)", graph.name(x));
    let y = graph.like(&name, x);
    graph.node("dropout", &[y], move |_| {
        vec![pointwise::dropout(settings, rows, columns, x, places, y)]
    });
    // The mask is drawn again in backward, where dropout is the same map.
    graph.gradient(move |graph, dy| match dy[0] {
        Some(dy) => Ok(vec![(x, masked(graph, settings, dy, places)?)]),
        None => Ok(vec![]),
    });
    Ok(y)
}
