//! `metrics.jsonl`: a line per training step and per evaluation.

use super::{Evaluation, StepResult};
use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A line per training step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepLine {
    /// Counted from 1.
    pub step: u32,
    /// Passes over the training set done after this step.
    pub epoch: f64,
    /// Mean cross-entropy of the batch, before the update.
    pub loss: f32,
    /// The learning rate used.
    pub learning_rate: f32,
    /// Global gradient norm, before clipping.
    pub grad_norm: f32,
    /// Tokens of the batch.
    pub tokens: usize,
    /// Time from the step before to this one.
    pub seconds: f64,
    /// The part of it in which the host wrote the inputs, recorded the commands and submitted them. (A
    /// software adapter may compute while it is being submitted to.)
    pub host_seconds: f64,
}

/// The open file.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file of a run that goes on after `step`: later lines are dropped, so that they
    /// are not there twice.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn open(path: &Path, step: u32) -> Result<Self> {
        let mut kept = String::new();
        if step > 0 && path.exists() {
            for line in files::read_text(path)?.lines() {
                let of = serde_json::from_str::<serde_json::Value>(line)
                    .ok()
                    .and_then(|line| line["step"].as_u64());
                // A line that a crash cut short has no step, and ends what can be kept.
                match of {
                    Some(of) if of <= u64::from(step) => {
                        kept.push_str(line);
                        kept.push('\n');
                    }
                    _ => break,
                }
            }
        }
        files::write(path, kept.as_bytes())?;
        let file =
            File::options().append(true).open(path).map_err(|why| Error::io(path, "open", &why))?;
        Ok(Self { path: path.into(), file })
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(value)
            .map_err(|why| Error::input(format!("{}: {why}", self.path.display())))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|why| Error::io(&self.path, "write", &why))
    }

    /// Adds the line of a training step.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn step(&mut self, line: &StepLine) -> Result<()> {
        self.line(line)
    }

    /// Adds the line of an evaluation after a step.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn evaluation(&mut self, step: u32, result: &Evaluation) -> Result<()> {
        self.line(&serde_json::json!({
            "step": step,
            "eval_loss": result.loss,
            "eval_accuracy": result.accuracy,
            "examples": result.examples,
        }))
    }

    /// The losses of the training steps in a file, by step.
    #[cfg(test)]
    fn steps(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|line| line["step"].as_u64())
            .collect()
    }
}

impl StepLine {
    /// The line of a step's result.
    pub fn new(step: u32, result: StepResult) -> Self {
        Self {
            step,
            epoch: 0.0,
            loss: result.loss,
            learning_rate: 0.0,
            grad_norm: result.grad_norm,
            tokens: 0,
            seconds: 0.0,
            host_seconds: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_file_keeps_what_was_before_and_drops_a_cut_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        for step in 1..=5 {
            let result = StepResult { loss: 0.5, grad_norm: 1.0 };
            metrics.step(&StepLine::new(step, result)).unwrap();
        }
        metrics.file.write_all(b"{\"step\": 2, \"lo").unwrap();
        drop(metrics);
        drop(Metrics::open(&path, 3).unwrap());
        assert_eq!(Metrics::steps(&path), [1, 2, 3]);
        drop(Metrics::open(&path, 0).unwrap());
        assert!(Metrics::steps(&path).is_empty());
    }
}
