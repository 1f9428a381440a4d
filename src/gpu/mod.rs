//! The only place that calls wgpu: adapters, the device, buffers, textures, pipelines.

mod abilities;
mod adapter;
mod buffer;
mod cut;
mod device;
mod memory;
mod offer;
mod pace;
mod pipeline;
mod profiler;
mod recorder;
mod texture;

pub use abilities::Abilities;
pub use adapter::{AdapterDescription, Matrices, adapters};
use buffer::Readback;
pub use buffer::{Buffer, Reserved};
pub use cut::{Piece, in_pieces};
pub use device::{Device, Submission};
pub use pace::{KernelPace, Pace};
pub use pipeline::{Access, BindGroup, Pipeline, Resource};
pub use profiler::{Timed, Timestamps};
pub use recorder::{Pass, Pending, Recorder};
pub use texture::{Texel, Texture};
