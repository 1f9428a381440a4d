//! BERT (Devlin et al., 2019), its encoder.
//!
//! Two things differ from DistilBERT:
//!
//! - BERT adds to every token the embedding of its segment. With one segment that is a constant, so
//!   row 0 of the segment embedding is added to every row of the position embedding.
//! - BERT's own head is not used: it is a pooler with tanh and then a classifier, DistilBERT's is a
//!   matrix with ReLU and then a classifier. The shapes agree, the functions do not, so the head is
//!   drawn afresh.

use super::{Family, Known, modern};
use crate::error::{Error, Result};
use crate::model::keys::Keys;
use crate::model::names::is_head;
use crate::model::{Encoder, Head};
use serde_json::Value;

/// Where BERT keeps the embedding of "first sentence" and "second sentence".
const SEGMENTS: &str = "embeddings.token_type_embeddings.weight";

pub const FAMILY: Family =
    Family { model_type: "bert", class: "Bert", describe, place, owns, segments: Some(SEGMENTS) };

fn describe(keys: &Keys) -> Result<(Encoder, Head)> {
    refuse_others(keys)?;
    let dropout = keys.probability(&["hidden_dropout_prob"], 0.1)?;
    let encoder = Encoder {
        vocab_size: keys.size(&["vocab_size"], 30_522)?,
        max_positions: keys.size(&["max_position_embeddings"], 512)?,
        dim: keys.size(&["hidden_size"], 768)?,
        hidden_dim: keys.size(&["intermediate_size"], 3072)?,
        layers: keys.size(&["num_hidden_layers"], 12)?,
        heads: keys.size(&["num_attention_heads"], 12)?,
        activation: keys.activation("hidden_act")?,
        dropout,
        attention_dropout: keys.probability(&["attention_probs_dropout_prob"], 0.1)?,
        initializer_range: keys.positive(&["initializer_range"], 0.02)?,
        layer_norm_eps: keys.positive(&["layer_norm_eps"], 1e-12)?,
        pad_token_id: keys.whole(&["pad_token_id"], 0)?,
        sinusoidal_positions: false,
    };
    let dropout = keys.probability(&["classifier_dropout"], dropout)?;
    Ok((encoder, Head::FirstToken { dropout }))
}

/// Refuses the settings that turn a BERT into another architecture.
fn refuse_others(keys: &Keys) -> Result<()> {
    for key in ["is_decoder", "add_cross_attention"] {
        if keys.flag(key, false)? {
            let error: Error = keys.wrong(key, &Value::Bool(true), "false");
            return Err(error.remedy("Crisp reads encoders only."));
        }
    }
    match keys.get("position_embedding_type") {
        None => Ok(()),
        Some(Value::String(kind)) if kind == "absolute" => Ok(()),
        Some(value) => Err(keys
            .wrong("position_embedding_type", value, "\"absolute\"")
            .remedy("Relative positions change the attention, which Crisp does not compute.")),
    }
}

fn owns(name: &str) -> bool {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    name.starts_with("encoder.layer.") || name == SEGMENTS
}

fn place(name: &str) -> Option<Known> {
    if is_head(name) {
        return None;
    }
    let inner = name.strip_prefix("bert.").unwrap_or(name);
    if inner == SEGMENTS {
        return Some(Known::Segments);
    }
    let Some(rest) = inner.strip_prefix("encoder.layer.") else {
        return Some(Known::Parameter(modern(format!("distilbert.{inner}"))));
    };
    let (layer, rest) = rest.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let module = match module {
        "attention.self.query" => "attention.q_lin",
        "attention.self.key" => "attention.k_lin",
        "attention.self.value" => "attention.v_lin",
        "attention.output.dense" => "attention.out_lin",
        "attention.output.LayerNorm" => "sa_layer_norm",
        "intermediate.dense" => "ffn.lin1",
        "output.dense" => "ffn.lin2",
        "output.LayerNorm" => "output_layer_norm",
        _ => return None,
    };
    Some(Known::Parameter(modern(format!("distilbert.transformer.layer.{layer}.{module}.{kind}"))))
}
