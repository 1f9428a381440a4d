//! The run directory: what a run leaves behind, and how it goes on after it was stopped.
//!
//! ```text
//! run.json                    settings, seed, adapter, versions, data fingerprints, result
//! metrics.jsonl               a line per step and per evaluation
//! predictions.jsonl           a line per validation sentence, after the last step
//! attention.json              what each head looked at, for a few validation sentences
//! report.html                 all of it, to be read
//! trace.json                  a step kernel by kernel, where one was timed
//! .lock                       held by the process that trains here
//! config.json, model.safetensors, tokenizer files      the model after the last step
//! checkpoints/best/           the model of the best evaluation
//! checkpoints/step-00000300/  the newest state to resume from: model, optimizer, progress
//! ```

use super::record::{PredictionLine, RunRecord};
use crate::data::{Encoded, Tokenizer};
use crate::engine::{AttentionPairs, Evaluation, Prediction};
use crate::error::{Advice, Error, Kind, Result};
use crate::files;
use crate::graph::{LOSS_SCALE, Role, Session};
use crate::model::Model;
use crate::model::checkpoint::{self, Tensor};
use crate::model::files::{CONFIG, WEIGHTS as MODEL};
use crate::model::{Parameter, download, parameters, upload};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};

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
    CONFIG,
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
    pub pairs: AttentionPairs,
    /// Seconds of attention in the step that was timed, if one was.
    pub attention_seconds: Option<f64>,
    /// Steps that were skipped so far, because gradients overflowed in mixed precision.
    #[serde(default)]
    pub skipped_steps: u32,
    /// What mixed precision knows of its loss scale.
    #[serde(default)]
    pub loss_scale: Option<[f32; 4]>,
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

/// A run's directory, to be read.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    /// Where it is.
    pub path: PathBuf,
}

/// A run's directory that this process, and no other, writes to until this is dropped.
#[derive(Debug)]
pub struct HeldDirectory {
    directory: RunDirectory,
    _lock: File,
}

impl Deref for HeldDirectory {
    type Target = RunDirectory;

    fn deref(&self) -> &RunDirectory {
        &self.directory
    }
}

impl RunDirectory {
    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The model of the best evaluation.
    pub fn best(&self) -> PathBuf {
        self.checkpoints().join("best")
    }

    /// `run.json`.
    pub fn record(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
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

    /// A file or directory here that a run would replace.
    pub fn occupied_by(&self) -> Option<PathBuf> {
        WRITTEN
            .iter()
            .map(|name| self.path.join(name))
            .chain([self.checkpoints()])
            .find(|path| path.exists())
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

    /// Gives the session the state of the newest checkpoint, if there is one.
    ///
    /// # Errors
    /// A file that is missing or damaged, or that belongs to another model.
    pub fn restore(&self, session: &mut Session, model: &Model) -> Result<Progress> {
        let Some(from) = self.newest()? else { return Ok(Progress::default()) };
        read_state(&from, session, model).map_err(|error| match error.kind() {
            Kind::Input => error.advice(Advice::DamagedCheckpoint),
            _ => error,
        })
    }
}

impl HeldDirectory {
    /// Takes a directory for this process. One that does not exist is made.
    ///
    /// # Errors
    /// Another process trains there.
    pub fn take(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::take_if_free(path.clone())?.ok_or_else(|| {
            Error::input(format!("{}: another process is training there", path.display()))
                .advice(Advice::OutputInUse)
        })
    }

    /// As [`take`](Self::take); `None` where another process has it.
    ///
    /// # Errors
    /// The directory or its lock cannot be made.
    pub fn take_if_free(path: impl Into<PathBuf>) -> Result<Option<Self>> {
        let directory = RunDirectory { path: path.into() };
        let lock = files::lock(&directory.path)?;
        Ok(lock.map(|lock| Self { directory, _lock: lock }))
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn write_record(&self, record: &RunRecord) -> Result<()> {
        files::write_json(&self.record(), record)
    }

    /// Empties what a former run left here.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn clear(&self) -> Result<()> {
        remove(&self.checkpoints())?;
        WRITTEN.iter().map(|name| self.path.join(name)).try_for_each(|path| remove(&path))
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
        files::write_json(&beside.join(PROGRESS), progress)?;
        fs::rename(&beside, &place).map_err(|why| Error::io(&place, "rename to", &why))?;
        before.map_or(Ok(()), |before| remove(&before))
    }

    /// Removes the model and the checkpoints of a run that is done, and keeps its records.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn discard_model(&self) -> Result<()> {
        remove(&self.checkpoints())?;
        let files = Tokenizer::FILES.iter().chain(&[CONFIG, MODEL]);
        files.map(|name| self.path.join(name)).try_for_each(|path| remove(&path))
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
        let path = self.predictions();
        let mut text = String::new();
        for (prediction, example) in predictions.iter().zip(examples) {
            let label = example.label.unwrap_or_default();
            let line = PredictionLine {
                label,
                predicted: prediction.label,
                loss: prediction.cross_entropy(label as usize),
            };
            text.push_str(&serde_json::to_string(&line).map_err(|why| unwritable(&path, &why))?);
            text.push('\n');
        }
        files::write(&path, text.as_bytes())
    }

    /// Writes the model as it is now, as that of the run.
    ///
    /// # Errors
    /// What the operating system refuses, or an error of the device.
    pub fn save_model(&self, session: &Session, model: &Model) -> Result<()> {
        model.save(&self.path, &download(session, &model.config)?)
    }

    /// Writes the model as it is now, as the best of the run.
    ///
    /// # Errors
    /// What the operating system refuses, or an error of the device.
    pub fn save_best(&self, session: &Session, model: &Model) -> Result<()> {
        model.save(&self.best(), &download(session, &model.config)?)
    }
}

/// Gives the session the state of a checkpoint.
fn read_state(from: &Path, session: &mut Session, model: &Model) -> Result<Progress> {
    let path = from.join(PROGRESS);
    let progress: Progress = serde_json::from_slice(&files::read(&path)?)
        .map_err(|why| Error::input(format!("{}: {why}", path.display())))?;
    let path = from.join(MODEL);
    upload(session, &model.config, &checkpoint::read(&path)?)
        .map_err(|error| error.at(path.display()))?;
    let path = from.join(OPTIMIZER);
    let moments = checkpoint::read(&path)?;
    if let Some(scale) = &progress.loss_scale {
        session.set(LOSS_SCALE, Role::Weight, &[4], scale)?;
    }
    for parameter in parameters(&model.config) {
        for role in Role::MOMENTS {
            let name = role.name(&parameter.name);
            let fits = |(other, tensor): &&(String, Tensor)| {
                *other == name && tensor.data.len() == parameter.count()
            };
            let (_, tensor) = moments.iter().find(fits).ok_or_else(|| {
                let path = path.display();
                Error::input(format!("{path}: the tensor {name} is missing or has another size"))
            })?;
            session.set(&parameter.name, role, &parameter.shape, &tensor.data)?;
        }
    }
    Ok(progress)
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

/// A value of ours that is no JSON.
fn unwritable(path: &Path, why: &serde_json::Error) -> Error {
    Error::internal(format!("{}: {why}", path.display()))
}

/// Removes a file, or a directory with all that is in it, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(|why| Error::io(path, "remove", &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let held = HeldDirectory::take(&path).unwrap();
        assert_eq!(held.record(), path.join("run.json"));
        assert!(HeldDirectory::take_if_free(&path).unwrap().is_none());
        let error = HeldDirectory::take(&path).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(held);
        HeldDirectory::take(&path).unwrap();
    }

    #[test]
    fn clearing_takes_what_a_run_wrote_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let held = HeldDirectory::take(directory.path()).unwrap();
        fs::create_dir_all(held.best()).unwrap();
        fs::write(held.record(), "{}").unwrap();
        fs::write(held.path.join("notes.txt"), "mine").unwrap();
        assert!(held.occupied_by().is_some());
        held.clear().unwrap();
        assert_eq!(held.occupied_by(), None);
        assert!(held.path.join("notes.txt").exists());
    }
}
