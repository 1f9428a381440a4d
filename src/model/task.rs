//! What a model is asked: which outputs it has, and which loss teaches them.

use crate::error::Result;
use crate::graph::{Graph, ops};
use crate::kernels::TensorId;

/// What a model is asked. The outputs of the head, the labels of a batch and the loss follow from
/// it.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// One class for each sentence.
    Classes {
        /// Names of the classes, in the order of their ids.
        labels: Vec<String>,
    },
}

impl Task {
    /// Names of the classes, in the order of their ids.
    pub fn labels(&self) -> &[String] {
        let Self::Classes { labels } = self;
        labels
    }

    /// Outputs of the head.
    pub fn outputs(&self) -> usize {
        self.labels().len()
    }

    /// `[1]`, the loss summed over the sentences, from `logits [sequences, outputs]` and the
    /// batch's labels.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn loss(&self, graph: &mut Graph, logits: TensorId, labels: TensorId) -> Result<TensorId> {
        let Self::Classes { .. } = self;
        ops::cross_entropy(graph, logits, labels)
    }
}
