//! Parts of a model measured by themselves on the adapter: products, which are tuned by it, and attention.

mod attention;
mod products;

pub use attention::AttentionBench;
pub use products::{ProductBench, tune};
