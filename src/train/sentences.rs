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
    /// No sentences; one without a label or with that of no class, or that the tokenizer refuses.
    pub fn read(job: &Job) -> Result<Self> {
        let settings = &job.settings;
        let training = encode(&job.model, &job.train, settings.max_length)?;
        let validation = encode(&job.model, &job.validation, settings.max_length)?;
        let classes = job.model.config.task.outputs();
        check_labels(&job.train, classes)?;
        check_labels(&job.validation, classes)?;
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

/// Whether every sentence is of one of so many classes.
fn check_labels(set: &Dataset, classes: usize) -> Result<()> {
    let wrong = |what: String| Err(Error::input(format!("{}: {what}", set.path.display())));
    if set.examples.is_empty() {
        return wrong("no sentences".into());
    }
    for example in &set.examples {
        match example.label {
            None => return wrong("an example has no label".into()),
            Some(label) if label as usize >= classes => {
                return wrong(format!("an example has the label {label} of {classes} classes"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_labels;
    use crate::data::{Dataset, Example};

    #[test]
    fn sentences_without_a_class_are_refused() {
        let set = |labels: &[Option<u32>]| Dataset {
            path: "some.tsv".into(),
            examples: labels
                .iter()
                .map(|label| Example { text: "a".into(), label: *label })
                .collect(),
            fingerprint: String::new(),
        };
        check_labels(&set(&[Some(0), Some(1)]), 2).unwrap();
        for (labels, what) in [
            (&[][..], "no sentences"),
            (&[Some(0), None], "no label"),
            (&[Some(1), Some(2)], "label 2 of 2"),
        ] {
            let why = check_labels(&set(labels), 2).unwrap_err().to_string();
            assert!(why.contains("some.tsv") && why.contains(what), "{why}");
        }
    }
}
