//! The model: its configuration, its checkpoint on disk, where to get one, and its architecture.

pub mod checkpoint;
pub mod config;
mod encoder;
mod family;
pub mod files;
mod halves;
pub mod hub;
mod inputs;
mod keys;
mod loaded;
pub mod names;
mod network;
mod parameters;
mod task;
mod tensor;

pub use config::Config;
pub use encoder::{Encoder, Head};
pub use halves::Halves;
pub use inputs::Inputs;
pub use loaded::{Model, download, encode, load_model, upload};
pub use network::{Attention, Network, network};
pub use parameters::{
    Parameter, ParameterGroup, Weights, parameter_groups, parameter_shapes, parameters,
};
pub use task::Task;
pub use tensor::Tensor;
