//! The sentences of a run, as its model reads them.

use super::{Job, Settings};
use crate::data::{Dataset, Encoded, epoch_order};
use crate::error::{Error, Result};
use crate::model::encode;

/// The sentences of a run, in word pieces.
pub struct Sentences {
    /// Those that it learns from, in the order of the file.
    pub training: Vec<Encoded>,
    /// Those that it is evaluated on.
    pub validation: Vec<Encoded>,
    /// As many training sentences as there are to evaluate on, of those that it learns from first:
    /// what it has made of them is looked at in the end.
    pub learnt: Vec<Encoded>,
}

impl Sentences {
    /// Turns the sentences of a job into word pieces.
    ///
    /// # Errors
    /// A sentence without a label, or that the tokenizer refuses.
    pub fn read(job: &Job) -> Result<Self> {
        let settings = &job.settings;
        let training = encode(&job.model, &job.train, settings.max_length)?;
        let validation = encode(&job.model, &job.validation, settings.max_length)?;
        check_labels(&job.train)?;
        check_labels(&job.validation)?;
        let learnt = learnt(&training, validation.len(), settings);
        Ok(Self { training, validation, learnt })
    }
}

fn learnt(training: &[Encoded], count: usize, settings: &Settings) -> Vec<Encoded> {
    let steps = settings.total_steps(training.len()) as usize;
    let order = epoch_order(training.len(), settings.seed, 0, settings.shuffle);
    let chosen = order.iter().take(count.min(steps * settings.batch_size));
    chosen.map(|index| training[*index as usize].clone()).collect()
}

fn check_labels(set: &Dataset) -> Result<()> {
    if set.examples.iter().any(|example| example.label.is_none()) {
        return Err(Error::input(format!("{}: an example has no label", set.path.display())));
    }
    Ok(())
}
