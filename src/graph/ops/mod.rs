//! The ops, one family a file: shape rule, gradient, lowering to kernels.

mod attention;
mod cross_entropy;
mod embedding;
mod first_token;
mod layer_norm;
mod linear;
mod mask;
mod normed;
mod optimizer;
mod pointwise;

pub use attention::{ATTENTION, attention, is_attention};
pub use cross_entropy::cross_entropy;
pub use embedding::{TokenInputs, accumulate_words, embedding};
pub use first_token::first_token;
pub(super) use layer_norm::sum_norms;
pub use layer_norm::{dropout_layer_norm, embedding_layer_norm, layer_norm};
pub use linear::{linear, logits};
pub use mask::{LayerRule, MASKS, MaskInputs, mask};
pub use normed::{Normed, normed};
pub use optimizer::{RowUpdates, Updated, accumulate, accumulated, adamw, clear, clip};
pub use pointwise::{add, dropout, dropout_rows, keep_half, stored_in};

use crate::kernels::TensorId;

/// What a projection or a LayerNorm multiplies with and adds.
#[derive(Debug, Clone, Copy)]
pub struct Affine {
    /// `[out, in]` of a projection, `[columns]` of a LayerNorm.
    pub weight: TensorId,
    /// `[out]`, or `[columns]`.
    pub bias: TensorId,
}
