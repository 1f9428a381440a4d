//! A model, a device and a plan, ready to say of any sentence what it is.

use super::{Evaluator, Prediction};
use crate::data::Encoded;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::graph::Session;
use crate::model::{self, Model, load_model};
use crate::sparsity::Policy;
use std::path::{Path, PathBuf};

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
/// What it plans and allocates on the device stays for the next call, and grows only when a call has
/// more, or longer, sentences than any before.
pub struct Classifier {
    session: Session,
    model: Model,
    policy: Policy,
    ready: Option<Ready>,
}

/// A plan, and the batches that it has room for.
struct Ready {
    evaluator: Evaluator,
    sentences: usize,
    tokens: usize,
}

/// Sentences that are computed together.
const BATCH: usize = 32;
/// Tokens of the shortest sentence that room is made for.
const SHORTEST: usize = 16;

impl Classifier {
    /// Opens a trained model on the most able adapter.
    ///
    /// `model` is a directory, such as `crisp train` and `transformers` write, or, with the feature
    /// `hub`, the id of a model, which is fetched where the hub's cache does not have it.
    ///
    /// # Errors
    /// No such model, files that are missing or wrong, a model without a trained classifier, no adapter,
    /// no room on the device.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        Self::on(Device::open(None)?, model)
    }

    /// As [`Classifier::open`], on a device of one's choice.
    ///
    /// # Errors
    /// As [`Classifier::open`].
    pub fn on(device: Device, model: impl AsRef<Path>) -> Result<Self> {
        let directory = directory(model.as_ref())?;
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
        Ok(Self { session, model, policy, ready: None })
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        self.model.config.task.labels()
    }

    /// What the model says of each sentence, in their order. A sentence that is longer than the model has
    /// positions is cut.
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
        let evaluator =
            ready(&mut self.ready, &mut self.session, &self.model, &self.policy, &examples)?;
        let predictions = evaluator.predict(&self.session, &examples, BATCH, |_| {})?;
        let labels = self.model.config.task.labels();
        Ok(predictions.into_iter().map(|prediction| answer(prediction, labels)).collect())
    }

    /// The device that it works on.
    pub fn device(&self) -> &Device {
        &self.session.device
    }
}

/// The evaluator, made anew where it has no room for these sentences.
fn ready<'a>(
    kept: &'a mut Option<Ready>,
    session: &mut Session,
    model: &Model,
    policy: &Policy,
    examples: &[Encoded],
) -> Result<&'a mut Evaluator> {
    let tokens = examples.iter().map(|example| example.ids.len()).max().unwrap_or(0);
    let (had_sentences, had_tokens) =
        kept.as_ref().map_or((0, 0), |ready| (ready.sentences, ready.tokens));
    let sentences = examples.len().min(BATCH);
    if sentences > had_sentences || tokens > had_tokens {
        // Powers of two, so that slowly growing calls do not plan each time.
        let sentences = sentences.max(had_sentences).next_power_of_two();
        let tokens = tokens.max(had_tokens).max(SHORTEST).next_power_of_two();
        let tokens = tokens.min(model.max_length(usize::MAX));
        // The old one's memory is given back before the new one takes its own.
        *kept = None;
        let rules = policy.evaluation().for_layers(model.config.encoder.layers)?;
        let ends: Vec<u32> = (0..=sentences as u32).map(|end| end * tokens as u32).collect();
        let largest = model::sizes(&ends, sentences * tokens, &rules.masks(&ends));
        let evaluator = Evaluator::new(session, &model.config, policy, largest)?;
        *kept = Some(Ready { evaluator, sentences, tokens });
    }
    match kept {
        Some(ready) => Ok(&mut ready.evaluator),
        None => Err(Error::internal("a classifier without a plan")),
    }
}

fn answer(prediction: Prediction, labels: &[String]) -> Answer {
    Answer {
        label: labels[prediction.label].clone(),
        probabilities: prediction.probabilities.iter().map(|value| *value as f32).collect(),
        logits: prediction.logits,
    }
}

/// Where the files of a model are.
fn directory(model: &Path) -> Result<PathBuf> {
    if model.exists() {
        return Ok(model.into());
    }
    #[cfg(feature = "hub")]
    if let Some(id) = model.to_str().filter(|name| model::hub::looks_like_id(name)) {
        return model::hub::resolve(model::hub::Kind::Model, id, &mut |_, _, _| {});
    }
    let message = format!("{}: there is no such directory", model.display());
    Err(Error::input(message).remedy(if cfg!(feature = "hub") {
        "Name a model's directory, or a hub id such as `org/name`."
    } else {
        "Name a model's directory; ids of the hub need the feature `hub`."
    }))
}
