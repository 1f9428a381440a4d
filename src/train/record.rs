//! `run.json`: everything that identifies a run, and what it came to.

use super::Settings;
use crate::engine::{AttentionPairs, Evaluation};
use crate::error::{Error, Result};
use crate::files;
use crate::kernels::attention::Division;
use crate::kernels::tune::Choice;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What a run was made of and with, written at its start; with its result in the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The version of this program.
    pub crisp: String,
    /// What the user called the model.
    pub model: String,
    /// Parameters that the checkpoint lacked.
    pub fresh_parameters: Vec<String>,
    /// Tensors of the checkpoint that the model has no use for.
    pub unused_tensors: Vec<String>,
    /// SHA-256 of the parameters that the checkpoint had.
    pub weights: String,
    /// `config.json` of the model.
    pub config: Value,
    /// How it was trained.
    pub settings: Settings,
    /// On what.
    pub data: RunData,
    /// The adapter and its driver.
    pub adapter: Value,
    /// Which of the kernels it ran.
    pub shaders: String,
    /// The variants of products that differ from the defaults.
    pub tuning: BTreeMap<String, Choice>,
    /// Likewise of attention.
    #[serde(default)]
    pub attention: BTreeMap<String, Choice<Division>>,
    /// Why a run of a study ended without a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
    /// What it came to, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
}

/// The two data sets of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunData {
    /// Learnt from.
    pub train: DataRecord,
    /// Evaluated on.
    pub validation: DataRecord,
}

/// A data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Where it was read from.
    pub path: std::path::PathBuf,
    /// Examples used.
    pub examples: usize,
    /// SHA-256 of its file.
    pub fingerprint: String,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Validation accuracy of the model after the last step.
    pub eval_accuracy: f64,
    /// Its validation loss.
    pub eval_loss: f64,
    /// Validation sentences.
    pub examples: usize,
    /// Accuracy and loss on training sentences, without dropout: as many as there are to evaluate
    /// on, from the first that the run learnt from.
    pub training: Evaluation,
    /// The best validation accuracy of the run.
    pub best_accuracy: f64,
    /// After which step that was.
    pub best_step: u32,
    /// Steps.
    pub steps: u32,
    /// Those of them that were skipped, because gradients overflowed in mixed precision.
    #[serde(default)]
    pub skipped_steps: u32,
    /// Seconds of training, evaluations included.
    pub seconds: f64,
    /// Most bytes that were allocated on the device.
    pub device_bytes: u64,
    /// Pairs of query and key that counted, over all training steps.
    pub training_pairs: AttentionPairs,
    /// Likewise over the last evaluation.
    pub evaluation_pairs: AttentionPairs,
    /// Seconds of attention in one training step, on the device: masks, forward and backward; where
    /// a step was timed kernel by kernel.
    pub attention_seconds: Option<f64>,
    /// Components of a head, with which pairs become operations.
    pub head_dim: usize,
}

impl RunRecord {
    /// Reads `run.json`.
    ///
    /// # Errors
    /// No such file, or not one of a run.
    pub fn read(path: &Path) -> Result<Self> {
        serde_json::from_slice(&files::read(path)?)
            .map_err(|why| Error::input(format!("{}: {why}", path.display())))
    }

    /// What makes this another run than one that was begun before: settings, data, model, kernels.
    pub fn differences(&self, begun: &Self) -> Vec<String> {
        let mut differences = self.settings.differences(&begun.settings);
        differences.extend(self.other_origin(begun));
        if self.config != begun.config {
            differences.push("the model's config.json is another".into());
        }
        if self.shaders != begun.shaders {
            differences.push(format!(
                "it ran the kernels for a {}, and this adapter takes those for a {}",
                begun.shaders, self.shaders
            ));
        }
        differences
    }

    /// What is another in the data and weights that two runs start from.
    pub fn other_origin(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, ours, theirs) in [
            ("training data", &self.data.train, &other.data.train),
            ("validation data", &self.data.validation, &other.data.validation),
        ] {
            if (&ours.fingerprint, ours.examples) != (&theirs.fingerprint, theirs.examples) {
                differences.push(format!("the {name} have changed"));
            }
        }
        if self.weights != other.weights {
            differences.push("the model's weights have changed".into());
        }
        differences
    }
}

/// What a model says of one validation sentence: a line of `predictions.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionLine {
    /// The sentence's class.
    pub label: u32,
    /// The class that the model gives it.
    pub predicted: usize,
    /// Its cross-entropy.
    pub loss: f64,
}

impl PredictionLine {
    /// Reads `predictions.jsonl`.
    ///
    /// # Errors
    /// No such file; names a line that is none.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = files::read_text(path)?;
        let line = |(number, line)| {
            serde_json::from_str(line).map_err(|why| {
                Error::input(format!("{}, line {}: {why}", path.display(), number + 1))
            })
        };
        text.lines().enumerate().map(line).collect()
    }
}
