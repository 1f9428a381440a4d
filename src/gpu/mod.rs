//! The only place that calls wgpu: adapters, the device, buffers, textures, pipelines.

mod adapter;
mod buffer;
mod device;
mod memory;
mod pipeline;
mod profiler;
mod texture;

pub use adapter::{AdapterDescription, adapters};
pub use buffer::{Buffer, Readback, Reserved};
pub use device::Device;
pub use pipeline::{Access, BindGroup, Pipeline, Resource};
pub use profiler::Timestamps;
pub use texture::Texture;
