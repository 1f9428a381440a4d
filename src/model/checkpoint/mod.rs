//! Parameters: reading them from the checkpoints that Hugging Face's models come in, drawing those
//! that a checkpoint lacks, writing them.
//!
//! Whatever layout a file has, the parameters that leave this module carry the names and shapes of
//! `DistilBertForSequenceClassification`, see [`parameter_shapes`](super::parameter_shapes). A
//! matrix is `[outputs, inputs]`, as `torch.nn.Linear` keeps it.

mod file;
mod fresh;
mod read;
mod write;

pub use super::tensor::Tensor;
pub use file::read;
pub use fresh::fresh;
pub use read::load;
pub use write::save;

/// What [`load`] found in a model's directory.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Every parameter of the model, in the order of [`parameter_shapes`](super::parameter_shapes).
    pub parameters: Vec<(String, Tensor)>,
    /// Parameters that the checkpoint lacks and that were drawn: the head of a model that was only
    /// pretrained, or all of them where there is no checkpoint.
    pub fresh: Vec<String>,
    /// Tensors of the checkpoint that this model has no use for, by their name in the file.
    pub unused: Vec<String>,
}
