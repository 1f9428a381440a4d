//! One file per kernel family: what it binds, how many workgroups it takes, which variants it has.
//!
//! Everything here is plain data; nothing touches a device.

pub mod attention;
pub mod column_sum;
pub mod cross_entropy;
pub mod embedding;
pub mod first_token;
mod heads;
mod launch;
pub mod layer_norm;
pub mod mask;
pub mod matmul;
pub mod normed;
pub mod optimizer;
mod parts;
pub mod pointwise;
pub mod probe;
mod size;
pub mod tune;

pub use heads::Heads;
pub use launch::{Command, Count, Grid, Launch, Scalar, Scalars, Shader, TensorId, Word};
pub use size::{Element, Size, Sizes, Symbol};

/// The shader of that file, with its parts.
macro_rules! shader {
    ($name:literal) => {
        $crate::kernels::Shader::new($name, include_str!(concat!("../../shaders/", $name, ".wgsl")))
    };
}
pub(crate) use shader;
