//! From files on disk to batches: labelled sentences, their word pieces, and packed streams of
//! tokens. Nothing here knows a GPU.

pub mod batch;
pub mod dataset;
pub mod tokenizer;

pub use batch::{Batch, Encoded, batches, epoch_order};
pub use dataset::{Dataset, Example, Split};
pub use tokenizer::Tokenizer;
