//! What parameters are called, in this crate and in the checkpoints that it writes: DistilBERT's
//! names.

/// The position embedding.
pub const POSITIONS: &str = "distilbert.embeddings.position_embeddings.weight";
/// The word embedding.
pub const WORDS: &str = "distilbert.embeddings.word_embeddings.weight";

/// Whether a parameter belongs to the head.
pub fn is_head(name: &str) -> bool {
    name.starts_with("pre_classifier.") || name.starts_with("classifier.")
}

/// Whether a parameter belongs to a LayerNorm.
pub fn is_layer_norm(name: &str) -> bool {
    name.contains("LayerNorm.") || name.contains("layer_norm.")
}
