//! The run directory: what a run leaves behind, and how it goes on after it was stopped.
//!
//! ```text
//! run.json                    settings, seed, adapter, versions, data fingerprints, result
//! metrics.jsonl               a line per step and per evaluation
//! predictions.jsonl           a line per validation sentence, after the last step
//! attention.json              what each head looked at, for a few validation sentences
//! report.html                 all of it, to be read
//! .lock                       held by the process that trains here
//! config.json, model.safetensors, tokenizer files      the model after the last step
//! checkpoints/best/           the model of the best evaluation
//! checkpoints/step-00000300/  the newest state to resume from: model, optimizer, progress
//! ```

use crate::model::{download, parameters, upload};
use super::record::PredictionLine;
use crate::engine::{AttentionPairs, Evaluation, Prediction};
use crate::model::Model;
use crate::data::{Encoded, Tokenizer};
use crate::error::{Error, Result};
use crate::files;
use crate::graph::{Role, Session};
use crate::model::checkpoint::{self, Tensor};
use crate::model::Parameter;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const PROGRESS: &str = "progress.json";
/// What a run writes into its directory and a new one replaces; the record goes last, so that a
/// directory that was not quite emptied is still known as a run's.
const WRITTEN: [&str; 8] = [
    "metrics.jsonl",
    "predictions.jsonl",
    "attention.json",
    "report.html",
    "trace.json",
    "config.json",
    MODEL,
    "run.json",
];

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Accuracy of the best evaluation so far.
    pub best_accuracy: Option<f64>,
    /// Its loss, which decides among equals.
    pub best_loss: Option<f64>,
    /// The step it was after.
    pub best_step: Option<u32>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Pairs of query and key that counted so far.
    #[serde(default)]
    pub pairs: AttentionPairs,
    /// Seconds of attention in the step that was timed, if one was.
    #[serde(default)]
    pub attention_seconds: Option<f64>,
}

impl Progress {
    /// Whether an evaluation is the best so far; if so it becomes that.
    pub fn improve(&mut self, evaluation: &Evaluation) -> bool {
        let better = match (self.best_accuracy, self.best_loss) {
            (Some(accuracy), Some(loss)) => {
                evaluation.accuracy > accuracy
                    || (evaluation.accuracy == accuracy && evaluation.loss < loss)
            }
            _ => true,
        };
        if better {
            self.best_accuracy = Some(evaluation.accuracy);
            self.best_loss = Some(evaluation.loss);
            self.best_step = Some(self.step);
        }
        better
    }
}

/// A run's directory.
pub struct RunDirectory {
    /// Where it is.
    pub path: PathBuf,
}

impl RunDirectory {
    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `run.json`.
    pub fn record(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Takes the directory for this process, until the lock is dropped.
    ///
    /// # Errors
    /// Another process trains there.
    pub fn lock(&self) -> Result<fs::File> {
        files::lock(&self.path)?.ok_or_else(|| {
            Error::input(format!("{}: another process is training there", self.path.display()))
                .remedy("Wait for it, or choose another --output.")
        })
    }

    /// `predictions.jsonl`.
    pub fn predictions(&self) -> PathBuf {
        self.path.join("predictions.jsonl")
    }

    /// `attention.json`.
    pub fn attention(&self) -> PathBuf {
        self.path.join("attention.json")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Removes the model and the checkpoints of a run that is done, and keeps its records.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn discard_model(&self) -> Result<()> {
        remove(&self.checkpoints())?;
        for name in Tokenizer::FILES.iter().chain(&["config.json", MODEL]) {
            let path = self.path.join(name);
            if path.exists() {
                fs::remove_file(&path).map_err(|why| Error::io(&path, "remove", &why))?;
            }
        }
        Ok(())
    }

    /// A file or directory here that a run would replace.
    pub fn occupied_by(&self) -> Option<PathBuf> {
        WRITTEN
            .iter()
            .map(|name| self.path.join(name))
            .chain([self.checkpoints()])
            .find(|path| path.exists())
    }

    /// Empties what a former run left here.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn clear(&self) -> Result<()> {
        let checkpoints = self.checkpoints();
        if checkpoints.exists() {
            fs::remove_dir_all(&checkpoints)
                .map_err(|why| Error::io(&checkpoints, "remove", &why))?;
        }
        for name in WRITTEN {
            let path = self.path.join(name);
            if path.exists() {
                fs::remove_file(&path).map_err(|why| Error::io(&path, "remove", &why))?;
            }
        }
        Ok(())
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn newest(&self) -> Result<Option<PathBuf>> {
        let directory = self.checkpoints();
        if !directory.exists() {
            return Ok(None);
        }
        let entries =
            fs::read_dir(&directory).map_err(|why| Error::io(&directory, "read", &why))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| {
                let step =
                    entry.file_name().to_str()?.strip_prefix("step-")?.parse::<u32>().ok()?;
                Some((step, entry.path()))
            })
            .max()
            .map(|(_, path)| path))
    }

    /// Writes a checkpoint to resume from, and then removes the one before. It is written under
    /// another name and renamed, so that what is called `step-N` is complete.
    ///
    /// # Errors
    /// What the operating system refuses, or an error of the device.
    pub fn save(&self, session: &Session, model: &Model, progress: &Progress) -> Result<()> {
        let before = self.newest()?;
        let place = self.checkpoints().join(format!("step-{:08}", progress.step));
        if before.as_ref() == Some(&place) {
            return Ok(());
        }
        let beside = place.with_extension("partial");
        remove(&beside)?;
        files::create_dir(&beside)?;
        let weights = download(session, &model.config)?;
        checkpoint::save(&beside.join(MODEL), &weights, &[])?;
        drop(weights);
        let moments = moments(session, &parameters(&model.config))?;
        checkpoint::save(&beside.join(OPTIMIZER), &moments, &[])?;
        write_json(&beside.join(PROGRESS), progress)?;
        fs::rename(&beside, &place).map_err(|why| Error::io(&place, "rename to", &why))?;
        before.map_or(Ok(()), |before| remove(&before))
    }

    /// Gives the session the state of a checkpoint.
    ///
    /// # Errors
    /// A file that is missing or damaged, or that belongs to another model.
    pub fn restore(&self, session: &mut Session, model: &Model, from: &Path) -> Result<Progress> {
        let remedy = "The checkpoint is damaged: remove it, or start again with --overwrite.";
        let path = from.join(PROGRESS);
        let progress: Progress = serde_json::from_slice(&files::read(&path)?)
            .map_err(|why| Error::input(format!("{}: {why}", path.display())).remedy(remedy))?;
        let path = from.join(MODEL);
        upload(session, &model.config, &checkpoint::read(&path)?)
            .map_err(|error| error.at(path.display()).remedy(remedy))?;
        let path = from.join(OPTIMIZER);
        let moments = checkpoint::read(&path)?;
        for parameter in parameters(&model.config) {
            for role in Role::MOMENTS {
                let name = role.name(&parameter.name);
                let values = moments
                    .iter()
                    .find(|(found, tensor)| {
                        *found == name && tensor.data.len() == parameter.count()
                    })
                    .ok_or_else(|| {
                        Error::input(format!(
                            "{}: the tensor {name} is missing or has another size",
                            path.display()
                        ))
                        .remedy(remedy)
                    })?;
                session.set(&parameter.name, role, &parameter.shape, &values.1.data)?;
            }
        }
        Ok(progress)
    }

    /// Writes what the model says of each validation sentence.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(super) fn save_predictions(
        &self,
        predictions: &[Prediction],
        examples: &[Encoded],
    ) -> Result<()> {
        let mut text = String::new();
        for (prediction, example) in predictions.iter().zip(examples) {
            let label = example.label.unwrap_or_default();
            let line = PredictionLine {
                label,
                predicted: prediction.label,
                loss: prediction.cross_entropy(label as usize),
            };
            text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            text.push('\n');
        }
        files::write(&self.predictions(), text.as_bytes())
    }

    /// Writes the model as it is now: to the run directory itself, or as the best one.
    ///
    /// # Errors
    /// What the operating system refuses, or an error of the device.
    pub fn save_model(&self, session: &Session, model: &Model, best: bool) -> Result<()> {
        let place = if best { self.checkpoints().join("best") } else { self.path.clone() };
        model.save(&place, &download(session, &model.config)?)
    }
}

/// The session's moments as tensors, named after the parameters.
fn moments(session: &Session, parameters: &[Parameter]) -> Result<Vec<(String, Tensor)>> {
    let mut tensors = Vec::new();
    for parameter in parameters {
        for role in Role::MOMENTS {
            let data = session.get(&parameter.name, role)?;
            let shape = parameter.shape.iter().map(|size| *size as usize).collect();
            tensors.push((role.name(&parameter.name), Tensor { shape, data }));
        }
    }
    Ok(tensors)
}

/// Writes a value as indented JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|why| Error::input(format!("{}: {why}", path.display())))?;
    text.push('\n');
    files::write(path, text.as_bytes())
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|why| Error::io(directory, "remove", &why))?;
    }
    Ok(())
}
