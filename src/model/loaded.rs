//! A model as it is read from disk, and the way of its parameters to a session and back.

use super::checkpoint::{self, Loaded, Tensor};
use super::files::{CONFIG, WEIGHTS};
use super::{Config, parameter_groups, parameter_shapes, parameters};
use crate::data::{Dataset, Encoded, Tokenizer};
use crate::error::{Error, Result};
use crate::files;
use crate::graph::{Group, Role, Session};
use std::collections::HashMap;
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
        if tokenizer.max_id() as usize >= config.encoder.vocab_size {
            return Err(Error::input(format!(
                "the tokenizer's largest id is {}, and the model's vocabulary has {} entries",
                tokenizer.max_id(),
                config.encoder.vocab_size
            ))
            .remedy("Tokenizer and config.json belong to different models: use matching files."));
        }
        Ok(Self { config, tokenizer, weights })
    }

    /// Word pieces that a sentence may have: what was asked for, and no more than the model has
    /// positions.
    pub fn max_length(&self, wanted: usize) -> usize {
        wanted.min(self.config.encoder.max_positions)
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
    pub fn save(&self, directory: &Path, weights: &[(String, Tensor)]) -> Result<()> {
        files::create_dir(directory)?;
        self.tokenizer.save(directory)?;
        files::write(&directory.join(CONFIG), self.config.to_json().as_bytes())?;
        checkpoint::save(&directory.join(WEIGHTS), weights, &[])
    }
}

/// Gives the session the parameters of a checkpoint.
///
/// # Errors
/// A tensor that is missing or has another size; out of memory.
pub fn upload(session: &mut Session, config: &Config, tensors: &[(String, Tensor)]) -> Result<()> {
    let tensors: HashMap<&str, &Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let groups: Vec<Group> =
        parameter_groups(config).into_iter().map(|together| together.group).collect();
    session.store.lay_out(&groups)?;
    for parameter in parameters(config) {
        let values = parameter.gather(&tensors)?;
        session.set(&parameter.name, Role::Weight, &parameter.shape, &values)?;
    }
    Ok(())
}

/// The session's parameters as a checkpoint.
///
/// # Errors
/// The session lacks one, or the device failed.
pub fn download(session: &Session, config: &Config) -> Result<Vec<(String, Tensor)>> {
    let mut found: HashMap<String, Tensor> = HashMap::new();
    for parameter in parameters(config) {
        found.extend(parameter.scatter(&session.get(&parameter.name, Role::Weight)?));
    }
    Ok(parameter_shapes(config)
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
