//! The end of a training step: global norm, clip, AdamW.

use crate::error::{Error, Result};
use crate::graph::{Graph, Precision, Role};
use crate::kernels::optimizer::{self as kernels, AdamW, HISTORY, Rows, State};
use crate::kernels::{Command, Size, TensorId, pointwise};

/// A parameter, its gradient and how it is updated.
#[derive(Debug, Clone, Copy)]
pub struct Updated {
    /// The parameter.
    pub weight: TensorId,
    /// Its gradient, of the same shape.
    pub gradient: TensorId,
    /// The constants of its update.
    pub settings: AdamW,
    /// Its copy in float16, if there is to be one.
    pub half: Option<TensorId>,
}

/// `[3]`: the norm of the mean gradient of the step's sentences, of which `gradients` hold the
/// sums, the factor that turns a sum into a mean clipped to the norm `limit` (0: no limit), and the
/// scale that the loss had. In mixed precision norm and factor are 0 where gradients overflowed.
///
/// # Errors
/// No gradient at all.
pub fn clip(graph: &mut Graph, gradients: &[TensorId], limit: f32) -> Result<TensorId> {
    if gradients.is_empty() {
        return Err(Error::internal("gradient norm: there is no gradient"));
    }
    let counted: Vec<(TensorId, Size)> =
        gradients.iter().map(|id| (*id, graph.shape(*id).elements())).collect();
    let norm = graph.value("gradient norm", [Size::from(3u32)]);
    let loss_scale = graph.loss_scale();
    graph.node("gradient norm", &[norm], move |lowering| {
        let abilities = lowering.abilities();
        let scratch = |elements| lowering.scratch(elements);
        kernels::norm(abilities, &counted, limit, loss_scale, norm, scratch)
    });
    Ok(norm)
}

/// Adds a gradient to what earlier parts of the step have left of its parameter's in the session's
/// store.
///
/// # Errors
/// The gradient's shape is not the parameter's.
pub fn accumulate(graph: &mut Graph, weight: TensorId, gradient: TensorId) -> Result<()> {
    let shape = graph.shape(weight).clone();
    graph.expect("accumulate", gradient, shape.clone())?;
    let sum = graph.companion(weight, Role::Gradient);
    let count = shape.elements();
    graph.node("accumulate", &[], move |_| vec![pointwise::accumulate(count, gradient, sum)]);
    Ok(())
}

/// The gradient that the parts of a step have added up, of a parameter.
pub fn accumulated(graph: &mut Graph, weight: TensorId) -> TensorId {
    graph.companion(weight, Role::Gradient)
}

/// Empties a gradient, for the next step's parts to add to.
pub fn clear(graph: &mut Graph, gradient: TensorId) {
    graph.node("clear gradient", &[], move |_| vec![Command::Clear(gradient)]);
}

/// Updates a parameter in place, and its two moments in the session's store.
///
/// # Errors
/// The gradient's shape is not the parameter's.
pub fn adamw(graph: &mut Graph, updated: Updated, norm: TensorId) -> Result<()> {
    let Updated { weight, gradient, settings, half } = updated;
    let shape = graph.shape(weight).clone();
    graph.expect("AdamW", gradient, shape.clone())?;
    let count = shape.elements().factor;
    let [first, second] = Role::MOMENTS.map(|moment| graph.companion(weight, moment));
    let skips = graph.precision() == Precision::Mixed;
    graph.node("AdamW", &[], move |lowering| {
        let state = State { weight, first, second };
        let nothing = || lowering.scratch(Size::from(1u32));
        vec![kernels::adamw(settings, count, [gradient, norm], state, skips, half, nothing)]
    });
    Ok(())
}

/// A matrix of which a step uses and updates few rows: the others wait for their updates until they
/// are used, or until all are wanted ([`RowUpdates::settle`]). To the bit what [`adamw`] with zeros
/// for the other rows would have made.
#[derive(Debug, Clone, Copy)]
pub struct RowUpdates {
    rows: Rows,
    settings: AdamW,
}

impl RowUpdates {
    /// For the rows of a parameter, with its moments and what is kept of former steps in the
    /// session's store.
    ///
    /// # Errors
    /// The parameter is no matrix.
    pub fn new(graph: &mut Graph, weight: TensorId, settings: AdamW) -> Result<Self> {
        let (count, columns) = graph.matrix("AdamW by rows", weight)?;
        let [first, second] = Role::MOMENTS.map(|moment| graph.companion(weight, moment));
        let rows = Rows {
            count: count.factor as u32,
            columns,
            state: State { weight, first, second },
            steps: graph.companion_words(weight, Role::Steps, &[count.factor]),
            history: graph.companion_words(weight, Role::History, &[HISTORY.into(), 4]),
            skips: graph.precision() == Precision::Mixed,
        };
        Ok(Self { rows, settings })
    }

    /// Before the step: gives rows `ids` the updates that they have missed.
    pub fn catch_up(self, graph: &mut Graph, ids: TensorId) {
        let rows = graph.shape(ids).elements();
        graph.node("AdamW of former steps", &[], move |_| {
            vec![self.rows.catch_up(self.settings, Some((ids, rows)))]
        });
    }

    /// At the end of the step: updates the rows `ids` by their gradient.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn adamw(
        self,
        graph: &mut Graph,
        ids: TensorId,
        gradient: TensorId,
        norm: TensorId,
    ) -> Result<()> {
        let rows = graph.shape(ids).elements();
        graph.expect("AdamW by rows", gradient, [rows, self.rows.columns.into()])?;
        graph.node("AdamW", &[], move |_| {
            vec![self.rows.adamw(self.settings, gradient, norm, (ids, rows))]
        });
        Ok(())
    }

    /// Gives every row the updates that it has missed, those of the step itself included.
    pub fn settle(self, graph: &mut Graph) {
        graph.node("AdamW of former steps", &[], move |_| {
            vec![self.rows.catch_up(self.settings, None)]
        });
    }
}
