//! A model at work: batches, the forward pass, what it says and what its heads look at.

mod attention_pairs;
mod batch;
mod classifier;
mod evaluator;
mod inspector;
mod prediction;

pub use attention_pairs::{AttentionPairs, OPERATIONS_PER_PAIR};
pub use batch::{Prepared, UNDER_WAY, sizes_of};
pub use classifier::{Answer, Classifier};
pub use evaluator::Evaluator;
pub use inspector::{HeadLook, Inspection, Inspector, Look};
pub use prediction::{Evaluation, Prediction};
