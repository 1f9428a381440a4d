//! A model, a device and a plan, ready to say of any sentence what it is.

use super::{Evaluator, Prediction, sizes_of};
use crate::data::Encoded;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::graph::{Precision, Session};
use crate::kernels::Sizes;
use crate::model::{Model, hub, load_model};
use crate::sparsity::Policy;
use std::path::Path;

/// What a model says of a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The class that it takes for the most likely.
    pub label: String,
    /// The probability of each class, in the order of [`Classifier::labels`].
    pub probabilities: Vec<f32>,
    /// What they are the softmax of.
    pub logits: Vec<f32>,
}

/// A trained model on a device, which classifies sentences.
///
/// What it plans and allocates on the device stays for the next call, and grows only when a call
/// has more, or longer, sentences than any before.
pub struct Classifier {
    session: Session,
    model: Model,
    policy: Policy,
    evaluator: Option<Evaluator>,
}

/// Sentences that are computed together.
const BATCH: usize = 32;

impl Classifier {
    /// Opens a trained model on the most able adapter.
    ///
    /// `model` is a directory, such as `crisp train` and `transformers` write, or, with the feature
    /// `hub`, the id of a model, which is fetched where the hub's cache does not have it.
    ///
    /// # Errors
    /// No such model, files that are missing or wrong, a model without a trained classifier, no
    /// adapter, no room on the device.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        Self::on(Device::open(None)?, model)
    }

    /// As [`Classifier::open`], on a device of one's choice.
    ///
    /// # Errors
    /// As [`Classifier::open`].
    pub fn on(device: Device, model: impl AsRef<Path>) -> Result<Self> {
        let name = model.as_ref();
        let directory = match name.to_str() {
            Some(name) => hub::locate(hub::Kind::Model, name, &mut |_, _, _| {})?,
            None => name.into(),
        };
        let model = load_model(&directory, 0)?;
        if let Some(fresh) = model.weights.fresh.first() {
            return Err(Error::input(format!(
                "{}: not a trained classifier: it has no {fresh}",
                directory.display()
            ))
            .remedy("Train it first, or name a model that was trained to classify."));
        }
        Self::new(device, model)
    }

    /// Puts a model that is in memory on a device.
    ///
    /// # Errors
    /// No room on the device.
    pub fn new(device: Device, model: Model) -> Result<Self> {
        let mut session = Session::new(device);
        model.upload(&mut session)?;
        let policy = model.config.sparsity.clone().unwrap_or_else(Policy::dense);
        Ok(Self { session, model, policy, evaluator: None })
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        self.model.config.task.labels()
    }

    /// What the model says of each sentence, in their order. A sentence that is longer than the
    /// model has positions is cut.
    ///
    /// # Errors
    /// A text that cannot be tokenized; no room on the device, or another error of it.
    pub fn classify<S: AsRef<str> + Sync>(&mut self, sentences: &[S]) -> Result<Vec<Answer>> {
        let longest = self.model.max_length(usize::MAX);
        let ids = self.model.tokenizer.encode_all(sentences, longest)?;
        let examples: Vec<Encoded> =
            ids.into_iter().map(|ids| Encoded { ids, label: None }).collect();
        if examples.is_empty() {
            return Ok(Vec::new());
        }
        let mut evaluator = self.evaluator(&examples)?;
        let predictions = evaluator.predict(&self.session, &examples, BATCH, |_| {});
        self.evaluator = Some(evaluator);
        let predictions = predictions?;
        let labels = self.model.config.task.labels();
        Ok(predictions.into_iter().map(|prediction| answer(prediction, labels)).collect())
    }

    /// Takes the evaluator out, or makes one where it has no room for these sentences.
    fn evaluator(&mut self, examples: &[Encoded]) -> Result<Evaluator> {
        let config = &self.model.config;
        let rules = self.policy.evaluation().for_layers(config.encoder.layers)?;
        let batches = examples.chunks(BATCH).map(|batch| batch.iter().collect());
        let needed = sizes_of(batches, &rules);
        let mut largest = Sizes::default();
        if let Some(evaluator) = self.evaluator.take() {
            largest = evaluator.plan().largest;
            if needed.max(largest) == largest {
                return Ok(evaluator);
            }
            // Its memory is given back here, before a larger one takes its own.
        }
        let roomy = rounded(needed).max(largest);
        Evaluator::new(&mut self.session, config, &self.policy, Precision::F32, roomy)
    }

    /// The device that it works on.
    pub fn device(&self) -> &Device {
        &self.session.device
    }
}

/// Each size a little larger, so that slowly growing calls do not plan each time.
fn rounded(sizes: Sizes) -> Sizes {
    let up = |size: u32| size.next_multiple_of((size.next_power_of_two() / 8).max(1));
    Sizes {
        tokens: up(sizes.tokens),
        sequences: up(sizes.sequences),
        distinct: up(sizes.distinct),
        blocks: up(sizes.blocks),
        pairs: up(sizes.pairs),
        bit_pairs: up(sizes.bit_pairs),
        visits: up(sizes.visits),
        longest: up(sizes.longest),
    }
}

fn answer(prediction: Prediction, labels: &[String]) -> Answer {
    Answer {
        label: labels[prediction.label].clone(),
        probabilities: prediction.probabilities.iter().map(|value| *value as f32).collect(),
        logits: prediction.logits,
    }
}
