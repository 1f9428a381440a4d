//! Steps that are under way, and what comes back from them.

use super::metrics::StepLine;
use super::schedule::Step;
use super::{PendingStep, StepResult, Trainer};
use crate::engine::{AttentionPairs, Prepared};
use crate::error::{Error, Result};
use crate::graph::Session;
use std::collections::VecDeque;
use std::time::Instant;

/// Owns the steps that are under way and the run's clock.
pub struct Collector {
    under_way: VecDeque<Submitted>,
    per_epoch: u32,
    head_dim: usize,
    /// Seconds of the run before this process began with it.
    before: f64,
    started: Instant,
    last_arrival: Instant,
}

/// A step that the device is at.
pub struct Submitted {
    /// Its result, on its way.
    pub pending: PendingStep,
    /// What it does.
    pub step: Step,
    /// The parts of its batch.
    pub parts: Vec<Prepared>,
    /// Seconds in which the host wrote its inputs, recorded its commands and submitted them.
    pub host_seconds: f64,
}

/// A step that is done.
pub struct Collected {
    /// Its line in `metrics.jsonl`.
    pub line: StepLine,
    /// Pairs of query and key that counted.
    pub pairs: AttentionPairs,
}

impl Collector {
    /// Starts the clock of a run that has taken `before` seconds so far.
    pub fn new(per_epoch: u32, head_dim: usize, before: f64) -> Self {
        let now = Instant::now();
        let under_way = VecDeque::new();
        Self { under_way, per_epoch, head_dim, before, started: now, last_arrival: now }
    }

    /// Seconds of the run so far.
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// Adds a step.
    pub fn add(&mut self, submitted: Submitted) {
        self.under_way.push_back(submitted);
    }

    /// Waits for the oldest step, if more than `keep` are under way.
    ///
    /// # Errors
    /// The device failed; the loss or the gradient is not finite.
    pub fn next(
        &mut self,
        keep: usize,
        trainer: &Trainer,
        session: &Session,
    ) -> Result<Option<Collected>> {
        if self.under_way.len() <= keep {
            return Ok(None);
        }
        let Some(submitted) = self.under_way.pop_front() else { return Ok(None) };
        let Submitted { pending, step, parts, host_seconds } = submitted;
        let result = trainer.finish(session, pending, &parts)?;
        check(&step, &result)?;
        let line = StepLine {
            epoch: f64::from(step.number) / f64::from(self.per_epoch),
            learning_rate: step.learning_rate,
            tokens: parts.iter().map(|part| part.batch.tokens()).sum(),
            seconds: self.last_arrival.elapsed().as_secs_f64(),
            host_seconds,
            ..StepLine::new(step.number, &result, self.head_dim)
        };
        self.last_arrival = Instant::now();
        Ok(Some(Collected { line, pairs: result.pairs }))
    }
}

/// Whether training is still among the numbers.
fn check(step: &Step, StepResult { loss, grad_norm, .. }: &StepResult) -> Result<()> {
    if loss.is_finite() && grad_norm.is_finite() {
        return Ok(());
    }
    let number = step.number;
    let message = format!("the loss is {loss} and the gradient norm {grad_norm} at step {number}");
    Err(Error::diverged(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Schedule, Settings};

    #[test]
    fn a_step_that_has_left_the_numbers_is_named() {
        let step = Schedule::new(&Settings::default(), 5, 10).after(6).unwrap();
        let result = |loss, grad_norm| StepResult {
            loss,
            grad_norm,
            loss_scale: None,
            skipped: false,
            pairs: Default::default(),
        };
        check(&step, &result(0.5, 1.0)).unwrap();
        for (loss, norm) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN)] {
            let error = check(&step, &result(loss, norm)).unwrap_err().to_string();
            assert!(error.contains("at step 7"), "{error}");
        }
    }
}
