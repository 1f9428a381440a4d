//! `metrics.jsonl`: a line per training step and per evaluation.

use super::StepResult;
use crate::engine::Evaluation;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A line per training step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Counted from 1.
    pub step: u32,
    /// Passes over the training set done after this step.
    pub epoch: f64,
    /// Mean cross-entropy of the batch, before the update.
    pub loss: f32,
    /// The learning rate used.
    pub learning_rate: f32,
    /// Global gradient norm, before clipping; 0 where the step was skipped.
    pub grad_norm: f32,
    /// The scale of the loss, in mixed precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f32>,
    /// Whether gradients overflowed, so that nothing was updated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Tokens of the batch.
    pub tokens: usize,
    /// Time from the step before to this one.
    pub seconds: f64,
    /// The part of it in which the host wrote the inputs, recorded the commands and submitted them.
    /// (A software adapter may compute while it is being submitted to.)
    pub host_seconds: f64,
    /// Operations of attention, forward and backward, over the pairs that counted.
    pub attention_operations: u64,
    /// What dense attention would have taken.
    pub dense_attention_operations: u64,
}

/// A line per evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    /// The step that it came after.
    pub step: u32,
    /// Mean cross-entropy.
    pub eval_loss: f64,
    /// Share of sentences classified as labelled.
    pub eval_accuracy: f64,
    /// Sentences.
    pub examples: usize,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line {
    /// Of a training step.
    Step(StepLine),
    /// Of an evaluation.
    Evaluation(EvaluationLine),
}

impl Line {
    /// The step that it is about, or came after.
    pub fn step(&self) -> u32 {
        match self {
            Self::Step(line) => line.step,
            Self::Evaluation(line) => line.step,
        }
    }

    fn parse(text: &str) -> serde_json::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("eval_loss") {
            Some(_) => serde_json::from_value(value).map(Self::Evaluation),
            None => serde_json::from_value(value).map(Self::Step),
        }
    }
}

/// Reads `metrics.jsonl`. A last line that a crash cut short is passed over: it has no end.
///
/// # Errors
/// No such file; a line that is neither of a step nor of an evaluation, by its number.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = files::read_text(path)?;
    let mut lines = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        lines.push(Line::parse(line).map_err(|why| {
            Error::input(format!("{}, line {}: {why}", path.display(), number + 1))
        })?);
    }
    Ok(lines)
}

/// What `metrics.jsonl` holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// The training steps.
    pub steps: Vec<StepLine>,
    /// The evaluations.
    pub evaluations: Vec<EvaluationLine>,
}

impl Curves {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut curves = Self::default();
        for line in read(path)? {
            match line {
                Line::Step(line) => curves.steps.push(line),
                Line::Evaluation(line) => curves.evaluations.push(line),
            }
        }
        Ok(curves)
    }
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
        let mut steps = 0;
        if step > 0 && path.exists() {
            // A line that a crash cut short ends what can be kept.
            for line in files::read_text(path)?.lines() {
                let Ok(parsed) = Line::parse(line) else { break };
                if parsed.step() > step {
                    break;
                }
                steps += u32::from(matches!(parsed, Line::Step(_)));
                kept.push_str(line);
                kept.push('\n');
            }
        }
        if steps < step {
            tracing::warn!(
                "{}: {} of the {step} steps before this one are missing there",
                path.display(),
                step - steps
            );
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
        self.line(&EvaluationLine {
            step,
            eval_loss: result.loss,
            eval_accuracy: result.accuracy,
            examples: result.examples,
        })
    }
}

impl StepLine {
    /// The line of a step's result.
    pub fn new(step: u32, result: &StepResult, head_dim: usize) -> Self {
        let layers = result.pairs.operations(head_dim);
        Self {
            step,
            epoch: 0.0,
            loss: result.loss,
            learning_rate: 0.0,
            grad_norm: result.grad_norm,
            loss_scale: result.loss_scale,
            skipped: result.skipped,
            tokens: 0,
            seconds: 0.0,
            host_seconds: 0.0,
            attention_operations: layers.iter().map(|layer| layer[0]).sum(),
            dense_attention_operations: layers.iter().map(|layer| layer[1]).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::AttentionPairs;

    #[test]
    fn a_resumed_file_keeps_what_was_before_and_drops_a_cut_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        for step in 1..=5 {
            let pairs = AttentionPairs { all: 10, kept: vec![vec![2; 3]; 4] };
            let result =
                StepResult { loss: 0.5, grad_norm: 1.0, loss_scale: None, skipped: false, pairs };
            metrics.step(&StepLine::new(step, &result, 5)).unwrap();
        }
        metrics.file.write_all(b"{\"step\": 2, \"lo").unwrap();
        drop(metrics);
        assert_eq!(read(&path).unwrap().len(), 5);
        drop(Metrics::open(&path, 3).unwrap());
        let steps = Curves::read(&path).unwrap().steps;
        assert_eq!(steps.iter().map(|line| line.step).collect::<Vec<_>>(), [1, 2, 3]);
        // 14 operations for each of 2 of 10 pairs, in 3 heads of 5 components, in 4 layers.
        assert_eq!(steps[0].attention_operations, 14 * 2 * 3 * 5 * 4);
        assert_eq!(steps[0].dense_attention_operations, 14 * 10 * 3 * 5 * 4);
        drop(Metrics::open(&path, 0).unwrap());
        assert_eq!(Curves::read(&path).unwrap(), Curves::default());
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let good = r#"{"step":1,"eval_loss":0.5,"eval_accuracy":0.5,"examples":2}"#;
        for (wrong, why) in [("{\"step\": 2}", "epoch"), ("{\"st", "EOF"), ("", "EOF")] {
            std::fs::write(&path, format!("{good}\n{wrong}\n{good}\n")).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("metrics.jsonl, line 2") && error.contains(why), "{error}");
        }
        std::fs::write(&path, format!("{good}\n")).unwrap();
        let line = EvaluationLine { step: 1, eval_loss: 0.5, eval_accuracy: 0.5, examples: 2 };
        assert_eq!(read(&path).unwrap(), [Line::Evaluation(line)]);
    }
}
