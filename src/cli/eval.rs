//! `crisp eval`: accuracy and loss of a model on a data set.

use super::{Common, open, print, print_json, progress, source};
use crate::data::Split;
use crate::engine::Evaluator;
use crate::error::Result;
use crate::graph::Precision;
use crate::model::encode;
use crate::sparsity::Policy;
use crate::train::Settings;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M")]
    model: String,
    /// A directory with the split's file, one file, a hub id, or `quickstart`.
    #[arg(long, value_name = "D")]
    data: String,
    /// `train`, `validation` or `test`.
    #[arg(long, default_value = "validation")]
    split: String,
    /// Override the sparsity that the model was trained with.
    #[arg(long, value_name = "S")]
    sparsity: Option<String>,
    /// What activations are stored in: `f32` or `mixed`, which is float16.
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
    /// Word pieces kept of a sentence.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_length)]
    max_length: usize,
    /// Sentences per batch.
    #[arg(long, value_name = "N", default_value_t = Settings::default().batch_size)]
    batch_size: usize,
    /// Use the first N sentences.
    #[arg(long, value_name = "N")]
    max_eval_samples: Option<usize>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    accuracy: f64,
    loss: f64,
    examples: usize,
    sparsity: String,
    adapter: String,
    seconds: f64,
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let split: Split = arguments.split.parse()?;
    let settings = Settings {
        max_length: arguments.max_length,
        batch_size: arguments.batch_size,
        max_eval_samples: arguments.max_eval_samples,
        ..Settings::default()
    };
    super::recipe::check(&settings)?;
    let given: Option<Policy> = arguments.sparsity.as_deref().map(str::parse).transpose()?;
    let mut session = open(common)?;
    let model = source::model(&arguments.model, settings.seed)?;
    let policy = policy_of(given, &model.config)?;
    let mut dataset = source::dataset(&arguments.data, split, model.config.task.labels())?;
    dataset.truncate(settings.max_eval_samples.unwrap_or(usize::MAX));
    let examples = encode(&model, &dataset, settings.max_length)?;
    model.upload(&mut session)?;
    let batch_size = settings.batch_size;
    let precision = arguments.precision;
    let config = &model.config;
    let mut evaluator =
        Evaluator::for_examples(&mut session, config, &policy, precision, &examples, batch_size)?;
    let started = Instant::now();
    let result = evaluator.evaluate(&session, &examples, batch_size)?;
    let report = Report {
        accuracy: result.accuracy,
        loss: result.loss,
        examples: result.examples,
        sparsity: policy.to_string(),
        adapter: session.device.adapter.name.clone(),
        seconds: started.elapsed().as_secs_f64(),
    };
    if arguments.json {
        return print_json(&report);
    }
    print(&format!(
        "accuracy {:.4}  loss {:.4}  over {} sentences, attention {}, in {}",
        report.accuracy,
        report.loss,
        report.examples,
        report.sparsity,
        progress::duration(report.seconds),
    ))
}

/// The policy asked for, else the one that the model was trained with, else dense.
pub(super) fn policy_of(given: Option<Policy>, config: &crate::model::Config) -> Result<Policy> {
    match (given, &config.sparsity) {
        (Some(policy), _) => Ok(policy),
        (None, Some(policy)) => Ok(policy.clone()),
        (None, None) => Ok(Policy::dense()),
    }
}
