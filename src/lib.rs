//! Crisp fine-tunes and evaluates DistilBERT with structured sparse attention, in WGSL compute
//! shaders on any GPU that Vulkan, Metal or DX12 can reach.
//!
//! A trained model classifies sentences:
//!
//! ```no_run
//! let mut classifier = crisp::Classifier::open("runs/mine")?;
//! for answer in classifier.classify(&["an unexpectedly moving film", "dull"])? {
//!     println!("{} {:?} {:?}", answer.label, answer.probabilities, answer.logits);
//! }
//! # crisp::Result::Ok(())
//! ```
//!
//! [`train`] trains one, and `examples/` has whole programs. The features `cli` (the binary), `hub`
//! (models and data by their Hugging Face id) and `parquet` are on by default; a program that only
//! classifies needs none of them.
//!
//! Data walks downstairs: `cli` uses `study`, which uses `report` and `train`, which use `engine`,
//! which uses `model`, which uses `graph`, which uses `kernels`, which use `gpu`; `sparsity` and
//! `data` know no GPU. See `docs/architecture.md`.

// Of the library alone: tests and examples may be short.
#![warn(clippy::missing_errors_doc, clippy::unwrap_used)]

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
pub mod parallel;
pub mod random;
pub mod report;
pub mod sparsity;
pub mod study;
pub mod timing;
pub mod train;

pub use engine::{Answer, Classifier};
pub use error::{Error, Result};

/// The README's programs, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
