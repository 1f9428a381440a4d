//! DistilBERT with a classification head, as a graph. Reads like the architecture
//! (`DistilBertForSequenceClassification` of `transformers`; Sanh et al., 2019): post-LayerNorm
//! transformer blocks, then the first token through a dense layer with ReLU and the classifier.

use super::config::{self, Config};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::graph::{Graph, ops};
use crate::kernels::attention::Heads;
use crate::kernels::embedding::SortedTokens;
use crate::kernels::mask::Mask;
use crate::kernels::matmul::Activation;
use crate::kernels::pointwise::Dropout;
use crate::kernels::{Sizes, Symbol, TensorId};
use crate::model::checkpoint::Tensor;
use crate::sparsity::{BlockMask, LayerRules};
use std::collections::HashMap;

/// A parameter as the device holds it: one tensor of the checkpoint, or several laid one behind
/// another (query, key and value are projected by one product).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a session.
    pub name: String,
    /// The checkpoint's names of its parts, in order.
    pub parts: Vec<String>,
    /// Its shape; the parts share it equally along the first dimension.
    pub shape: Vec<u64>,
}

impl Parameter {
    /// Elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product::<u64>() as usize
    }

    /// Whether weight decay applies: not to biases and LayerNorms.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }

    /// The values of a checkpoint's tensors, laid one behind another.
    ///
    /// # Errors
    /// A part that is missing.
    pub fn gather(&self, tensors: &HashMap<&str, &Tensor>) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.count());
        for part in &self.parts {
            let tensor = tensors
                .get(part.as_str())
                .ok_or_else(|| Error::input(format!("the checkpoint lacks the tensor {part}")))?;
            values.extend_from_slice(&tensor.data);
        }
        if values.len() != self.count() {
            return Err(Error::input(format!(
                "{}: {} values, and the shape {:?} has {}",
                self.name,
                values.len(),
                self.shape,
                self.count()
            )));
        }
        Ok(values)
    }

    /// The checkpoint's tensors, cut out of the values.
    pub fn scatter(&self, values: &[f32]) -> Vec<(String, Tensor)> {
        let parts = self.parts.len();
        let mut shape: Vec<usize> = self.shape.iter().map(|size| *size as usize).collect();
        shape[0] /= parts;
        self.parts
            .iter()
            .zip(values.chunks_exact((self.count() / parts).max(1)))
            .map(|(name, data)| {
                (name.clone(), Tensor { shape: shape.clone(), data: data.to_vec() })
            })
            .collect()
    }
}

/// All parameters of a model, in the order of the checkpoint.
pub fn parameters(config: &Config) -> Vec<Parameter> {
    let one = |(name, shape): (String, Vec<usize>)| Parameter {
        parts: vec![name.clone()],
        name,
        shape: shape.into_iter().map(|size| size as u64).collect(),
    };
    let mut result: Vec<Parameter> = Vec::new();
    for parameter in super::checkpoint::parameter_shapes(config).into_iter().map(one) {
        // Query comes first; key and value of the same kind join it.
        let fused = [".q_lin.", ".k_lin.", ".v_lin."]
            .iter()
            .find(|part| parameter.name.contains(*part))
            .map(|part| parameter.name.replace(part, ".qkv_lin."));
        match fused {
            None => result.push(parameter),
            Some(name) => match result.iter_mut().find(|fused| fused.name == name) {
                Some(fused) => {
                    fused.parts.extend(parameter.parts);
                    fused.shape[0] += parameter.shape[0];
                }
                None => result.push(Parameter { name, ..parameter }),
            },
        }
    }
    result
}

/// What a graph of the model is given at each step.
#[derive(Debug, Clone)]
pub struct Inputs {
    tokens: ops::TokenInputs,
    rules: LayerRules,
    masks: Vec<ops::MaskInputs>,
    labels: TensorId,
}

impl Inputs {
    /// Adds the inputs to a graph, for layers that follow these rules.
    pub fn new(graph: &mut Graph, rules: &LayerRules) -> Self {
        let mut input =
            |name: &str, symbol: Symbol| graph.input(name, [crate::kernels::Size::from(symbol)]);
        let tokens = ops::TokenInputs {
            ids: input("ids", Symbol::Tokens),
            places: input("places", Symbol::Tokens),
            offsets: input("offsets", Symbol::Sequences),
            sorted: SortedTokens {
                tokens: input("sorted tokens", Symbol::Tokens),
                segments: input("segments", Symbol::Distinct),
                ids: input("segment ids", Symbol::Distinct),
            },
        };
        let labels = input("labels", Symbol::Sequences);
        let mask = |rule| ops::MaskInputs::new(graph, rule, rules.block);
        let masks = rules.rules.iter().map(mask).collect();
        Self { tokens, rules: rules.clone(), masks, labels }
    }

    /// The words of a batch and its masks, for each input.
    pub fn words<'a>(
        &self,
        batch: &'a Batch,
        masks: &'a [BlockMask],
    ) -> Vec<(TensorId, &'a [u32])> {
        let mut words: Vec<(TensorId, &[u32])> = vec![
            (self.tokens.ids, &batch.ids),
            (self.tokens.places, &batch.places),
            (self.tokens.offsets, &batch.offsets),
            (self.tokens.sorted.tokens, &batch.sorted_tokens),
            (self.tokens.sorted.segments, &batch.segments),
            (self.tokens.sorted.ids, &batch.segment_ids),
            (self.labels, &batch.labels),
        ];
        for (inputs, mask) in self.masks.iter().zip(masks) {
            words.push((inputs.blocks, bytemuck::cast_slice(&mask.blocks)));
            words.push((inputs.visits, &mask.visits));
            words.extend(inputs.bits.map(|bits| (bits, mask.bits.as_slice())));
        }
        words
    }

    /// `[sequences]`, the classes.
    pub fn labels(&self) -> TensorId {
        self.labels
    }
}

/// The sizes of a batch of sentences, `offsets [sentences + 1]` being where each starts, with the number of
/// distinct words in it.
pub fn sizes(offsets: &[u32], distinct: usize, masks: &[BlockMask]) -> Sizes {
    let lengths = offsets.windows(2).map(|ends| ends[1] - ends[0]);
    // All masks share their blocks.
    let blocks = masks.first();
    Sizes {
        tokens: offsets.last().copied().unwrap_or(0),
        sequences: lengths.len() as u32,
        distinct: distinct as u32,
        blocks: blocks.map_or(0, BlockMask::block_count),
        pairs: blocks.map_or(0, BlockMask::pair_count),
        bit_pairs: masks.iter().map(BlockMask::bit_pairs).max().unwrap_or(0),
        visits: blocks.map_or(0, |mask| mask.visits.len() as u32),
        longest: lengths.max().unwrap_or(0),
    }
}

/// A model in a graph.
pub struct Network {
    /// `[sequences, labels]`
    pub logits: TensorId,
    /// What attention works on in each layer.
    pub attention: Vec<Attention>,
    /// The parameters, in the order of [`parameters`].
    pub parameters: Vec<TensorId>,
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
    training: bool,
    next: u32,
}

impl Sites {
    fn dropout(&mut self, probability: f32) -> Option<Dropout> {
        let site = self.next;
        self.next += 1;
        (self.training && probability > 0.0).then_some(Dropout { probability, site })
    }
}

/// Adds the model to a graph: logits from tokens. With `training`, dropout strikes and what the
/// gradient needs is kept; with `recompute` only what lies between the blocks, which are computed again.
///
/// # Errors
/// Sizes that do not fit each other.
pub fn network(
    graph: &mut Graph,
    config: &Config,
    inputs: &Inputs,
    training: bool,
    recompute: bool,
) -> Result<Network> {
    let parameters: Vec<TensorId> = parameters(config)
        .iter()
        .map(|parameter| graph.parameter(&parameter.name, &parameter.shape))
        .collect();
    let mut given = parameters.iter().copied();
    let mut next = || given.next().ok_or_else(|| Error::internal("a model without parameters"));
    let mut sites = Sites { training, next: 0 };
    let heads = Heads { count: config.heads as u32, dim: config.head_dim() as u32 };
    let epsilon = config.layer_norm_eps;
    let places = inputs.tokens.places;

    let mut x = ops::embedding(graph, next()?, next()?, inputs.tokens)?;
    x = ops::layer_norm(graph, x, None, next()?, next()?, epsilon)?;
    if let Some(dropout) = sites.dropout(config.dropout) {
        x = ops::dropout(graph, dropout, x, places)?;
    }
    let mut attention = Vec::new();
    for (layer, rule) in inputs.rules.of_layer.iter().enumerate() {
        if recompute {
            graph.boundary();
        }
        let qkv = ops::linear(graph, x, next()?, next()?, Activation::None, training)?;
        let rules = &inputs.rules;
        let followed = (&rules.rules[*rule], rules.block, layer as u32);
        let mask = ops::mask(graph, followed, heads, qkv, inputs.masks[*rule])?;
        attention.push(Attention { qkv, mask });
        let dropout = sites.dropout(config.attention_dropout);
        let context = ops::attention(graph, heads, dropout, mask, qkv)?;
        let attended = ops::linear(graph, context, next()?, next()?, Activation::None, training)?;
        x = ops::layer_norm(graph, attended, Some(x), next()?, next()?, epsilon)?;

        let activation = match config.activation {
            config::Activation::Gelu => Activation::Gelu,
            config::Activation::Relu => Activation::Relu,
        };
        let inner = ops::linear(graph, x, next()?, next()?, activation, training)?;
        let outer = ops::linear(graph, inner, next()?, next()?, Activation::None, training)?;
        let dropped = sites.dropout(config.dropout).map(|dropout| (dropout, places));
        let norm = [next()?, next()?];
        x = ops::dropout_layer_norm(graph, dropped, outer, Some(x), norm, epsilon)?;
    }
    if recompute {
        graph.boundary();
    }
    let first = ops::first_token(graph, x, inputs.tokens)?;
    let mut pooled = ops::linear(graph, first, next()?, next()?, Activation::Relu, training)?;
    if let Some(dropout) = sites.dropout(config.classifier_dropout) {
        pooled = ops::dropout_rows(graph, dropout, pooled)?;
    }
    let logits = ops::linear(graph, pooled, next()?, next()?, Activation::None, training)?;
    Ok(Network { logits, attention, parameters })
}
