//! The model: its configuration, its checkpoint on disk, where to get one, and its architecture.

pub mod checkpoint;
pub mod config;
pub mod distilbert;
pub mod hub;

pub use config::Config;
