//! The graph of a computation: tensors with symbolic sizes, ops, reverse-mode gradients, a plan of
//! commands and memory, and the program that runs it. Knows no particular model.

mod grad;
mod ir;
pub mod ops;
mod plan;
mod planned;
mod program;
mod recompute;
mod session;
mod store;

pub use crate::timing::Timing;
pub use grad::{Seed, gradients};
pub use ir::{Graph, LOSS_SCALE, Lowering, Origin, Pass, Precision, Shape};
pub use plan::Plan;
pub use planned::{Place, Planned};
pub use program::{Program, Step};
pub use session::Session;
pub use store::{Group, Role, Store, Within};
