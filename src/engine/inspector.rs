//! What each head looks at in a sentence: the forward pass, with queries, keys and masks read back.

use super::batch::{Prepared, sizes_of};
use crate::data::Encoded;
use crate::error::{Error, Result};
use crate::files;
use crate::graph::{Graph, Pass, Program, Session, Step};
use crate::kernels::Scalars;
use crate::model::{Attention, Config, Inputs, Model, Weights, network};
use crate::sparsity::{LayerRules, Policy};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The attention of some sentences: `attention.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The policy that it was computed with.
    pub sparsity: String,
    /// The sentences.
    pub sentences: Vec<Look>,
}

/// The attention of one sentence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Its word pieces.
    pub tokens: Vec<String>,
    /// `[layers][heads]`.
    pub heads: Vec<Vec<HeadLook>>,
}

/// What one head did with one sentence of n tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadLook {
    /// `[n, n]`, row by row: the weight that each query gives each key, rounded to thousandths;
    /// before that, rows add up to 1.
    pub weights: Vec<f32>,
    /// `[n, n]`: `1` where the pair counts, `0` where it was left out.
    pub kept: String,
}

impl HeadLook {
    /// Which pairs count.
    pub fn mask(&self) -> Vec<bool> {
        self.kept.bytes().map(|byte| byte == b'1').collect()
    }
}

impl Look {
    /// Tokens of the sentence.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The mean weights of the heads of a layer, and which pairs count in any of them.
    pub fn mean(&self, layer: usize) -> HeadLook {
        let heads = &self.heads[layer];
        let pairs = self.len() * self.len();
        let mean = |pair: usize| {
            heads.iter().map(|head| head.weights[pair]).sum::<f32>() / heads.len().max(1) as f32
        };
        let masks: Vec<Vec<bool>> = heads.iter().map(HeadLook::mask).collect();
        let kept = |pair: usize| if masks.iter().any(|mask| mask[pair]) { '1' } else { '0' };
        HeadLook { weights: (0..pairs).map(mean).collect(), kept: (0..pairs).map(kept).collect() }
    }
}

impl Inspection {
    /// Reads `attention.json`.
    ///
    /// # Errors
    /// No such file, or not one of these.
    pub fn read(path: &Path) -> Result<Self> {
        let inspection: Self = serde_json::from_slice(&files::read(path)?)
            .map_err(|why| Error::input(format!("{}: {why}", path.display())))?;
        for look in &inspection.sentences {
            let pairs = look.len() * look.len();
            let whole = |head: &HeadLook| head.weights.len() == pairs && head.kept.len() == pairs;
            if !look.heads.iter().flatten().all(whole) {
                return Err(Error::input(format!(
                    "{}: a head has another number of pairs than {} tokens make",
                    path.display(),
                    look.len()
                ))
                .remedy("The file is damaged: remove it, and the report goes without."));
            }
        }
        Ok(inspection)
    }

    /// Writes `attention.json`.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|why| Error::input(format!("{}: {why}", path.display())))?;
        files::write(path, text.as_bytes())
    }
}

/// A forward pass that gives away what attention works on.
pub struct Inspector {
    program: Program,
    config: Config,
    policy: Policy,
    rules: LayerRules,
    inputs: Inputs,
    attention: Vec<Attention>,
}

impl Inspector {
    /// Plans the forward pass for these sentences, one at a time. The session must hold the
    /// parameters.
    ///
    /// # Errors
    /// Sizes that do not fit the device, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        examples: &[Encoded],
    ) -> Result<Self> {
        let rules = policy.evaluation().for_layers(config.encoder.layers)?;
        let largest = sizes_of(examples.iter().map(|one| vec![one]), &rules);
        let mut graph = Graph::new();
        let weights = Weights::new(&mut graph, config);
        let inputs = Inputs::new(&mut graph, &rules);
        let attention = network(&mut graph, config, &weights, &inputs, Pass::Inference)?.attention;
        let mut outputs = Vec::new();
        for Attention { qkv, mask } in &attention {
            // What the device has made; what the host gave is in the masks already.
            let chosen = mask.chosen_visits().into_iter().chain(mask.chosen_bits());
            outputs.extend([*qkv].into_iter().chain(chosen.map(|(id, _)| id)));
        }
        let program = Program::build(session, &graph, largest, &outputs, 1)?;
        let (config, policy) = (config.clone(), policy.clone());
        Ok(Self { program, config, policy, rules, inputs, attention })
    }

    /// What each head looks at in each of the sentences.
    ///
    /// # Errors
    /// An error of the device.
    pub fn inspect(
        &mut self,
        session: &Session,
        model: &Model,
        examples: &[Encoded],
    ) -> Result<Inspection> {
        let sentences = examples
            .iter()
            .map(|example| {
                let tokens = model.tokenizer.tokens(&example.ids);
                Ok(Look { tokens, heads: self.heads(session, example)? })
            })
            .collect::<Result<_>>()?;
        Ok(Inspection { sparsity: self.policy.to_string(), sentences })
    }

    fn heads(&mut self, session: &Session, example: &Encoded) -> Result<Vec<Vec<HeadLook>>> {
        let prepared = Prepared::new(&[example], &self.rules)?;
        let inputs = self.inputs.words(&prepared.batch, &prepared.masks);
        let (sizes, scalars) = (prepared.sizes(), Scalars::default());
        let heads = self.config.encoder.heads;
        let pending = self.program.run(session, &Step { sizes, scalars, inputs: &inputs })?;
        let mut results = pending.wait::<u32>(&session.device)?.into_iter();
        let mut next = || results.next().unwrap_or_default();
        let mut layers = Vec::new();
        for (attention, rule) in self.attention.iter().zip(&self.rules.of_layer) {
            let mask = &prepared.masks[*rule];
            let qkv: Vec<f32> = next().into_iter().map(f32::from_bits).collect();
            let visits = attention.mask.chosen_visits().map(|_| next());
            let bits = attention.mask.chosen_bits().map(|_| next());
            let of_head = |words: &Option<Vec<u32>>, shared: &[u32], head: usize| match words {
                Some(words) => {
                    words.chunks_exact(words.len() / heads).nth(head).map(<[u32]>::to_vec)
                }
                None => Some(shared.to_vec()),
            };
            let head = |head: usize| {
                let visits = of_head(&visits, &mask.visits, head).unwrap_or_default();
                let bits = of_head(&bits, &mask.bits, head).unwrap_or_default();
                self.head(&qkv, head, &mask.expand(&visits, &bits))
            };
            layers.push((0..heads).map(head).collect());
        }
        Ok(layers)
    }

    /// softmax(query · key / √dim) over the pairs that count.
    fn head(&self, qkv: &[f32], head: usize, kept: &[bool]) -> HeadLook {
        let (width, dim) = (self.config.encoder.dim, self.config.encoder.head_dim());
        let tokens = qkv.len() / (3 * width);
        let part =
            |which: usize, token: usize| &qkv[(token * 3 + which) * width + head * dim..][..dim];
        let mut weights = vec![0.0; tokens * tokens];
        for (query, row) in weights.chunks_exact_mut(tokens).enumerate() {
            let score = |key: usize| -> f64 {
                let products = part(0, query).iter().zip(part(1, key));
                let sum: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                sum / (dim as f64).sqrt()
            };
            let scores: Vec<(usize, f64)> = (0..tokens)
                .filter(|key| kept[query * tokens + key])
                .map(|key| (key, score(key)))
                .collect();
            let largest = scores.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|(_, score)| (score - largest).exp()).sum();
            for (key, score) in scores {
                let weight = (score - largest).exp() / total;
                row[key] = ((weight * 1000.0).round() / 1000.0) as f32;
            }
        }
        let kept = kept.iter().map(|kept| if *kept { '1' } else { '0' }).collect();
        HeadLook { weights, kept }
    }
}
