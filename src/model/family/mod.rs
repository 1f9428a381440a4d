//! The families of models that are read, a file each: how `config.json` describes an encoder, and
//! what the tensors of a checkpoint are called.
//!
//! Whatever a model was, it leaves here as an [`Encoder`] and a [`Head`], with DistilBERT's names
//! for its parameters, and is written as a DistilBERT.

mod bert;
mod distilbert;

use super::keys::Keys;
use super::{Encoder, Head};
use crate::error::Result;

pub(super) use distilbert::LAYER_NORM_EPS;

/// A family of models.
pub(super) struct Family {
    /// What `config.json` calls it.
    pub model_type: &'static str,
    /// What the names of its classes in `transformers` begin with.
    pub class: &'static str,
    /// Reads its encoder and head from `config.json`.
    pub describe: fn(&Keys) -> Result<(Encoder, Head)>,
    /// What a tensor of a checkpoint is; `None` if this crate has no use for it.
    pub place: fn(&str) -> Option<Known>,
    /// Whether a tensor's name gives this family away.
    pub owns: fn(&str) -> bool,
    /// The tensor, if it has one, that embeds which of two sentences a token belongs to.
    pub segments: Option<&'static str>,
}

/// Every family; a checkpoint whose names give nothing away is of the first.
pub(super) const FAMILIES: [&Family; 2] = [&distilbert::FAMILY, &bert::FAMILY];

/// What a tensor of a checkpoint is to a model.
pub(super) enum Known {
    /// The parameter of this name.
    Parameter(String),
    /// The embedding of segments, `[segments, dim]`, of which the first is every token's.
    Segments,
}

/// Checkpoints converted from TensorFlow call a LayerNorm's weight and bias gamma and beta.
fn modern(name: String) -> String {
    match name.rsplit_once('.') {
        Some((module, "gamma")) => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        _ => name,
    }
}
