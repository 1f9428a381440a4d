//! Crisp fine-tunes and evaluates DistilBERT with structured sparse attention, in WGSL compute
//! shaders on any GPU that Vulkan, Metal or DX12 can reach.
//!
//! Data walks downstairs: `cli` uses `study`, which uses `report` and `train`, which use `engine`, which
//! uses `model`, which uses `graph`, which uses `kernels`, which use `gpu`; `sparsity` and `data` know no
//! GPU. See `docs/architecture.md`.

#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
pub mod files;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod measure;
pub mod model;
pub mod random;
pub mod report;
pub mod sparsity;
pub mod study;
pub mod timing;
pub mod train;
