//! The graph of a computation: tensors with symbolic sizes, ops, reverse-mode gradients, a plan of
//! commands and memory, and the executor that runs it. Knows no model.

mod attention_bench;
mod executor;
mod grad;
mod ir;
pub mod ops;
mod plan;
mod recompute;
mod tuner;

pub use attention_bench::AttentionBench;
pub use executor::{Executor, Pending, Session, Timing};
pub use grad::gradients;
pub use ir::{Graph, Kind, Lowering, Shape};
pub use plan::{Place, Plan};
pub use tuner::{ProductBench, tune};
