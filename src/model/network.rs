//! A model as a graph. Reads like the architecture (`DistilBertForSequenceClassification` of
//! `transformers`; Sanh et al., 2019): post-LayerNorm transformer blocks, then the head.

use super::names::{POSITIONS, WORDS};
use super::parameters::Weights;
use super::{Config, Encoder, Head, Inputs};
use crate::error::Result;
use crate::graph::ops::{self, LayerRule};
use crate::graph::{Graph, Pass};
use crate::kernels::TensorId;
use crate::kernels::mask::Mask;
use crate::kernels::matmul::Activation;
use crate::kernels::pointwise::Dropout;

/// A model in a graph.
pub struct Network {
    /// `[sequences, outputs]`
    pub logits: TensorId,
    /// What attention works on in each layer.
    pub attention: Vec<Attention>,
}

/// What the attention of one layer works on.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// `[tokens, 3 · dim]`: query, key and value of a token side by side.
    pub qkv: TensorId,
    /// Which pairs count.
    pub mask: Mask,
}

/// Gives each place of the model where dropout strikes a number of its own.
struct Sites {
    pass: Pass,
    next: u32,
}

impl Sites {
    fn dropout(&mut self, probability: f32) -> Option<Dropout> {
        let site = self.next;
        self.next += 1;
        (self.pass.is_training() && probability > 0.0).then_some(Dropout { probability, site })
    }
}

/// Adds a model to a graph: logits from tokens.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn network(
    graph: &mut Graph,
    config: &Config,
    weights: &Weights,
    inputs: &Inputs,
    pass: Pass,
) -> Result<Network> {
    let mut sites = Sites { pass, next: 0 };
    let (hidden, attention) = encoder(graph, &config.encoder, weights, inputs, &mut sites)?;
    let logits = head(graph, &config.head, weights, inputs, hidden, &mut sites)?;
    Ok(Network { logits, attention })
}

/// `[tokens, dim]`, the hidden states after the last block, and what attention works on.
fn encoder(
    graph: &mut Graph,
    encoder: &Encoder,
    weights: &Weights,
    inputs: &Inputs,
    sites: &mut Sites,
) -> Result<(TensorId, Vec<Attention>)> {
    let pass = sites.pass;
    let recompute = pass == Pass::Training { recompute: true };
    let heads = encoder.attention_heads();
    let epsilon = encoder.layer_norm_eps;
    let places = inputs.tokens.places;
    let rules = &inputs.rules;

    let words = weights.tensor(WORDS)?;
    let positions = weights.tensor(POSITIONS)?;
    let norm = weights.affine("distilbert.embeddings.LayerNorm")?;
    let dropout = sites.dropout(encoder.dropout);
    let mut x = ops::embedding_layer_norm(
        graph,
        [words, positions],
        inputs.tokens,
        norm,
        epsilon,
        dropout,
    )?;
    let affine_of = |layer: usize, name: &str| {
        weights.affine(&format!("distilbert.transformer.layer.{layer}.{name}"))
    };
    let mut attention = Vec::new();
    // In inference a layer makes query, key and value of the next one.
    let mut made = None;
    for (layer, rule) in rules.of_layer.iter().enumerate() {
        if recompute {
            graph.boundary();
        }
        let affine = |name: &str| affine_of(layer, name);
        let none = Activation::None;
        let qkv = match made.take() {
            Some(qkv) => qkv,
            None => ops::linear(graph, x, affine("attention.qkv_lin")?, none, pass)?,
        };
        let rule_of_layer =
            LayerRule { rule: &rules.rules[*rule], block: rules.block, layer: layer as u32 };
        let mask = ops::mask(graph, rule_of_layer, heads, qkv, inputs.masks[*rule])?;
        attention.push(Attention { qkv, mask });
        let dropout = sites.dropout(encoder.attention_dropout);
        let context = ops::attention(graph, heads, dropout, mask, qkv)?;
        let [out, inner, outer] =
            [affine("attention.out_lin")?, affine("ffn.lin1")?, affine("ffn.lin2")?];
        let [norm, last_norm] = [affine("sa_layer_norm")?, affine("output_layer_norm")?];
        let activation = encoder.activation;
        let dropped = sites.dropout(encoder.dropout).map(|dropout| (dropout, places));

        if pass.is_training() {
            let attended = ops::linear(graph, context, out, none, pass)?;
            x = ops::layer_norm(graph, attended, Some(x), norm, epsilon)?;
            let inside = ops::linear(graph, x, inner, activation, pass)?;
            let after = ops::linear(graph, inside, outer, none, pass)?;
            x = ops::dropout_layer_norm(graph, dropped, after, Some(x), last_norm, epsilon)?;
            continue;
        }
        let between = |first, residual, norm, second, activation| ops::Normed {
            first,
            residual,
            norm,
            epsilon,
            second,
            activation,
        };
        let inside;
        [x, inside] = ops::normed(graph, context, between(out, x, norm, inner, activation))?;
        if layer + 1 < rules.of_layer.len() {
            let next = affine_of(layer + 1, "attention.qkv_lin")?;
            let qkv;
            [x, qkv] = ops::normed(graph, inside, between(outer, x, last_norm, next, none))?;
            made = Some(qkv);
        } else {
            let after = ops::linear(graph, inside, outer, none, pass)?;
            x = ops::layer_norm(graph, after, Some(x), last_norm, epsilon)?;
        }
    }
    if recompute {
        graph.boundary();
    }
    Ok((x, attention))
}

/// `[sequences, outputs]`, the logits.
fn head(
    graph: &mut Graph,
    head: &Head,
    weights: &Weights,
    inputs: &Inputs,
    hidden: TensorId,
    sites: &mut Sites,
) -> Result<TensorId> {
    let Head::FirstToken { dropout } = head;
    let pass = sites.pass;
    let first = ops::first_token(graph, hidden, inputs.tokens)?;
    let dense = weights.affine("pre_classifier")?;
    let mut pooled = ops::linear(graph, first, dense, Activation::Relu, pass)?;
    if let Some(dropout) = sites.dropout(*dropout) {
        pooled = ops::dropout_rows(graph, dropout, pooled)?;
    }
    ops::logits(graph, pooled, weights.affine("classifier")?, pass)
}
