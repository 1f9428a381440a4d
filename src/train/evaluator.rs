//! A model and its forward pass: logits of batches, loss and accuracy of a data set.

use super::AttentionPairs;
use super::batches::Prepared;
use super::trainer::UNDER_WAY;
use crate::data::{Dataset, Encoded, Tokenizer};
use crate::error::{Error, Result};
use crate::files;
use crate::graph::{Executor, Graph, Pending, Plan, Session, Timing};
use crate::kernels::{Scalars, Sizes, TensorId};
use crate::model::checkpoint::{self, Loaded, Tensor};
use crate::model::distilbert::{self, Attention, Inputs, Parameter};
use crate::model::{Config, checkpoint::Tensor as Values};
use crate::sparsity::{LayerRules, Policy};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::path::Path;

/// A model as it is read from disk: everything but the device.
pub struct Model {
    /// Its architecture.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its parameters, and which of them are fresh.
    pub weights: Loaded,
}

/// Reads a model's directory; parameters that it lacks are drawn from `seed`.
///
/// # Errors
/// A file that is missing or wrong, or a tokenizer with ids that the model has no embedding for.
pub fn load_model(directory: &Path, seed: u64) -> Result<Model> {
    let config = Config::load(directory)?;
    let tokenizer = Tokenizer::load(directory)?;
    let weights = checkpoint::load(directory, &config, seed)?;
    Model::new(config, tokenizer, weights).map_err(|error| error.at(directory.display()))
}

impl Model {
    /// Puts a model together.
    ///
    /// # Errors
    /// The tokenizer has ids that the model has no embedding for.
    pub fn new(config: Config, tokenizer: Tokenizer, weights: Loaded) -> Result<Self> {
        if tokenizer.max_id() as usize >= config.vocab_size {
            return Err(Error::input(format!(
                "the tokenizer's largest id is {}, and the model's vocabulary has {} entries",
                tokenizer.max_id(),
                config.vocab_size
            ))
            .remedy("Tokenizer and config.json belong to different models: use matching files."));
        }
        Ok(Self { config, tokenizer, weights })
    }

    /// Word pieces that a sentence may have: what was asked for, and no more than the model has
    /// positions.
    pub fn max_length(&self, wanted: usize) -> usize {
        wanted.min(self.config.max_positions)
    }

    /// Gives the session the parameters.
    ///
    /// # Errors
    /// Out of memory.
    pub fn upload(&self, session: &mut Session) -> Result<()> {
        upload(session, &self.config, &self.weights.parameters)
    }

    /// Writes config, tokenizer and weights as a directory that `transformers` loads.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn save(&self, directory: &Path, weights: &[(String, Values)]) -> Result<()> {
        files::create_dir(directory)?;
        self.tokenizer.save(directory)?;
        files::write(&directory.join("config.json"), self.config.to_json().as_bytes())?;
        checkpoint::save(&directory.join("model.safetensors"), weights, &[])
    }
}

/// Gives the session the parameters of a checkpoint.
pub(super) fn upload(
    session: &mut Session,
    config: &Config,
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let tensors: HashMap<&str, &Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for parameter in distilbert::parameters(config) {
        session.set(&parameter.name, &parameter.gather(&tensors)?)?;
    }
    Ok(())
}

/// The session's parameters as a checkpoint.
pub(super) fn download(session: &Session, config: &Config) -> Result<Vec<(String, Tensor)>> {
    let mut found: HashMap<String, Tensor> = HashMap::new();
    for parameter in distilbert::parameters(config) {
        found.extend(parameter.scatter(&session.get(&parameter.name, parameter.count())?));
    }
    Ok(checkpoint::parameter_shapes(config)
        .into_iter()
        .filter_map(|(name, _)| found.remove_entry(&name))
        .collect())
}

/// Turns the sentences of a data set into word pieces.
///
/// # Errors
/// A text that the tokenizer refuses.
pub fn encode(model: &Model, dataset: &Dataset, max_length: usize) -> Result<Vec<Encoded>> {
    let texts: Vec<&str> = dataset.examples.iter().map(|example| example.text.as_str()).collect();
    let ids = model.tokenizer.encode_all(&texts, model.max_length(max_length))?;
    Ok(ids
        .into_iter()
        .zip(&dataset.examples)
        .map(|(ids, example)| Encoded { ids, label: example.label })
        .collect())
}

/// The largest sizes of batches of these examples.
pub(super) fn sizes_of<'a>(
    batches: impl Iterator<Item = Vec<&'a Encoded>>,
    rules: &LayerRules,
) -> Sizes {
    batches.fold(Sizes::default(), |largest, batch| {
        let mut offsets = vec![0u32];
        for example in &batch {
            offsets.push(offsets[offsets.len() - 1] + example.ids.len() as u32);
        }
        // No more distinct ids than tokens.
        let distinct = offsets[batch.len()] as usize;
        largest.max(distilbert::sizes(&offsets, distinct, &rules.masks(&offsets)))
    })
}

/// The forward pass of a model, for batches up to a size.
pub struct Evaluator {
    executor: Executor,
    config: Config,
    rules: LayerRules,
    inputs: Inputs,
    logits: TensorId,
    attention: Vec<Attention>,
    pairs: AttentionPairs,
}

/// What a model says of one sentence.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// One per label.
    pub logits: Vec<f32>,
    /// Their softmax.
    pub probabilities: Vec<f64>,
    /// The index of the highest.
    pub label: usize,
}

impl Prediction {
    /// log Σ exp(logits) - logits[label], in float64.
    pub fn cross_entropy(&self, label: usize) -> f64 {
        let largest = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = self.logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        sum.ln() + f64::from(largest) - f64::from(self.logits[label])
    }

    fn new(logits: &[f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scaled: Vec<f64> =
            logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
        let sum: f64 = scaled.iter().sum();
        let label = (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)))
            .unwrap_or(0);
        Self {
            logits: logits.to_vec(),
            probabilities: scaled.iter().map(|value| value / sum).collect(),
            label,
        }
    }
}

/// How well a model does on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Share of sentences whose highest logit is their label's.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Sentences.
    pub examples: usize,
}

impl Evaluator {
    /// Plans and prepares the forward pass. The session must hold the parameters.
    ///
    /// # Errors
    /// Sizes that do not fit the device, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        largest: Sizes,
    ) -> Result<Self> {
        let mut graph = Graph::new();
        let rules = policy.evaluation().for_layers(config.layers)?;
        let inputs = Inputs::new(&mut graph, &rules);
        let network = distilbert::network(&mut graph, config, &inputs, false, false)?;
        let (logits, attention) = (network.logits, network.attention);
        let wanted = AttentionPairs::wanted(config, &attention, &largest);
        let outputs: Vec<TensorId> =
            wanted.iter().map(|(visits, _)| *visits).chain([logits]).collect();
        let plan = Plan::new(&graph, session.tuning.clone(), largest, &outputs)?;
        let executor = Executor::new(session, plan)?;
        let pairs = AttentionPairs::default();
        let config = config.clone();
        let mut evaluator = Self { executor, config, rules, inputs, logits, attention, pairs };
        let (count, bytes) = evaluator.results();
        evaluator.executor.reserve(session, count, bytes)?;
        Ok(evaluator)
    }

    /// What comes back from a batch.
    fn outputs(&self, sizes: &Sizes) -> Vec<(TensorId, usize)> {
        let logits = sizes.sequences as usize * self.config.labels.len();
        let wanted = AttentionPairs::wanted(&self.config, &self.attention, sizes);
        [(self.logits, logits)].into_iter().chain(wanted).collect()
    }

    /// How many results are under way at a time, and the bytes of the largest.
    fn results(&self) -> (usize, u64) {
        let outputs = self.outputs(&self.plan().largest);
        let largest = outputs.iter().map(|(_, words)| *words as u64 * 4).max().unwrap_or(0);
        (UNDER_WAY * outputs.len(), largest.next_multiple_of(16))
    }

    /// An evaluator that has room for these examples in batches of a size, in their order.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    pub fn for_examples(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        examples: &[Encoded],
        batch_size: usize,
    ) -> Result<Self> {
        Self::for_sets(session, config, policy, &[examples], batch_size)
    }

    /// An evaluator that has room for each of several sets of examples.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    pub fn for_sets(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        sets: &[&[Encoded]],
        batch_size: usize,
    ) -> Result<Self> {
        let batches = sets.iter().flat_map(|set| set.chunks(batch_size.max(1)));
        let rules = policy.evaluation().for_layers(config.layers)?;
        let largest = sizes_of(batches.map(|batch| batch.iter().collect()), &rules);
        Self::new(session, config, policy, largest)
    }

    /// Bytes that evaluation takes on the device, besides the parameters.
    pub fn own_bytes(&self) -> u64 {
        let plan = self.plan();
        let (results, bytes) = self.results();
        plan.own_bytes() + results as u64 * bytes
    }

    /// The plan of the forward pass.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// A batch of sentences, with the masks that evaluation has for them.
    ///
    /// # Errors
    /// As [`crate::data::Batch::pack`].
    pub fn prepare(&self, sentences: &[&Encoded]) -> Result<Prepared> {
        Prepared::new(sentences, &self.rules)
    }

    /// Submits the forward pass of a batch and returns at once: its first output are the logits.
    ///
    /// # Errors
    /// A batch larger than planned for, or an error of the device.
    pub fn submit(&mut self, session: &Session, prepared: &Prepared) -> Result<Pending> {
        let words = self.inputs.words(&prepared.batch, &prepared.masks);
        let sizes = prepared.sizes();
        let outputs = self.outputs(&sizes);
        self.executor.run(session, sizes, Scalars::default(), &words, &outputs)
    }

    /// Runs the forward pass of a batch, waits for it, and says how long each launch took.
    ///
    /// # Errors
    /// As [`Evaluator::submit`]; an adapter that keeps no time.
    pub fn profile(&mut self, session: &Session, prepared: &Prepared) -> Result<Vec<Timing>> {
        let words = self.inputs.words(&prepared.batch, &prepared.masks);
        let sizes = prepared.sizes();
        let (_, timings) =
            self.executor.profile(session, sizes, Scalars::default(), &words, &[])?;
        Ok(timings)
    }

    /// What the model says of each example, in their order. `each` hears how many are done.
    ///
    /// # Errors
    /// A batch larger than planned for, or an error of the device.
    pub fn predict(
        &mut self,
        session: &Session,
        examples: &[Encoded],
        batch_size: usize,
        mut each: impl FnMut(usize),
    ) -> Result<Vec<Prediction>> {
        // Two batches under way: the host packs one while the device computes another.
        let mut under_way: VecDeque<(Pending, Prepared)> = VecDeque::new();
        let mut predictions = Vec::with_capacity(examples.len());
        self.pairs = AttentionPairs::default();
        let mut batches = examples.chunks(batch_size.max(1));
        loop {
            let batch = batches.next();
            if let Some(batch) = batch {
                let prepared = self.prepare(&batch.iter().collect::<Vec<_>>())?;
                under_way.push_back((self.submit(session, &prepared)?, prepared));
            }
            if under_way.len() < UNDER_WAY && batch.is_some() {
                continue;
            }
            let Some((pending, prepared)) = under_way.pop_front() else { break };
            let values = pending.wait::<u32>(session)?;
            let logits: Vec<f32> = values[0].iter().copied().map(f32::from_bits).collect();
            predictions.extend(logits.chunks_exact(self.config.labels.len()).map(Prediction::new));
            self.pairs.add(&self.config, &self.rules, &prepared.masks, &values[1..]);
            each(predictions.len());
        }
        Ok(predictions)
    }

    /// Pairs of query and key that counted in the last [prediction](Self::predict) or evaluation.
    pub fn pairs(&self) -> &AttentionPairs {
        &self.pairs
    }

    /// Loss and accuracy over labelled examples.
    ///
    /// # Errors
    /// As [`Evaluator::predict`]; an example without a label.
    pub fn evaluate(
        &mut self,
        session: &Session,
        examples: &[Encoded],
        batch_size: usize,
    ) -> Result<Evaluation> {
        let predictions = self.predict(session, examples, batch_size, |_| {})?;
        Evaluation::of(&predictions, examples)
    }
}

impl Evaluation {
    /// What predictions come to.
    ///
    /// # Errors
    /// An example without a label.
    pub fn of(predictions: &[Prediction], examples: &[Encoded]) -> Result<Self> {
        let (mut correct, mut loss) = (0usize, 0.0);
        for (prediction, example) in predictions.iter().zip(examples) {
            let label = example.label.ok_or_else(|| {
                Error::input("an example has no label, so there is nothing to compare with")
                    .remedy("Evaluate on a split with labels, or use `crisp predict`.")
            })? as usize;
            correct += usize::from(prediction.label == label);
            loss += prediction.cross_entropy(label);
        }
        let examples = examples.len();
        let count = examples.max(1) as f64;
        Ok(Self { accuracy: correct as f64 / count, loss: loss / count, examples })
    }
}

/// The session's moments as tensors, named after the parameters of the session.
pub(super) fn moments_of(
    session: &Session,
    parameters: &[Parameter],
) -> Result<Vec<(String, Tensor)>> {
    let mut tensors = Vec::new();
    for parameter in parameters {
        for name in super::trainer::moments(parameter) {
            let data = session.get(&name, parameter.count())?;
            let shape = parameter.shape.iter().map(|size| *size as usize).collect();
            tensors.push((name, Tensor { shape, data }));
        }
    }
    Ok(tensors)
}
