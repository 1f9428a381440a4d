//! DistilBERT (Sanh et al., 2019), with `transformers`' head for classification.

use super::{Family, Known, modern};
use crate::error::Result;
use crate::model::keys::Keys;
use crate::model::names::is_head;
use crate::model::{Encoder, Head};

/// What DistilBERT computes with; `transformers` has no key for it in a DistilBERT configuration.
pub const LAYER_NORM_EPS: f32 = 1e-12;
pub const FAMILY: Family = Family {
    model_type: "distilbert",
    class: "DistilBert",
    describe,
    place,
    owns: |_| false,
    segments: None,
};

fn describe(keys: &Keys) -> Result<(Encoder, Head)> {
    // `transformers` takes BERT's names of these sizes for DistilBERT too.
    let encoder = Encoder {
        vocab_size: keys.size(&["vocab_size"], 30_522)?,
        max_positions: keys.size(&["max_position_embeddings"], 512)?,
        dim: keys.size(&["dim", "hidden_size"], 768)?,
        hidden_dim: keys.size(&["hidden_dim"], 3072)?,
        layers: keys.size(&["n_layers", "num_hidden_layers"], 6)?,
        heads: keys.size(&["n_heads", "num_attention_heads"], 12)?,
        activation: keys.activation("activation")?,
        dropout: keys.probability(&["dropout"], 0.1)?,
        attention_dropout: keys.probability(&["attention_dropout"], 0.1)?,
        initializer_range: keys.positive(&["initializer_range"], 0.02)?,
        layer_norm_eps: keys.crisp()?.positive(&["layer_norm_eps"], LAYER_NORM_EPS)?,
        pad_token_id: keys.whole(&["pad_token_id"], 0)?,
        sinusoidal_positions: keys.flag("sinusoidal_pos_embds", false)?,
    };
    let dropout = keys.probability(&["seq_classif_dropout"], 0.2)?;
    Ok((encoder, Head::FirstToken { dropout }))
}

fn place(name: &str) -> Option<Known> {
    if is_head(name) {
        return Some(Known::Parameter(name.to_string()));
    }
    let inner = name.strip_prefix("distilbert.").unwrap_or(name);
    // BERT's names for the blocks.
    if inner.starts_with("encoder.layer.") {
        return None;
    }
    Some(Known::Parameter(modern(format!("distilbert.{inner}"))))
}
