//! Values on the host.

/// A parameter in float32, the last dimension contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its size in each dimension.
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`.
    pub data: Vec<f32>,
}
