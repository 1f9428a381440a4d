//! Trains a classifier: a model, a data set, events while it goes on, a result.
//!
//! ```sh
//! cargo run --release --example finetune -- MODEL DATA runs/mine
//! ```
//!
//! Without arguments it trains the small model of `assets/quickstart` from fresh weights.

use crisp::data::{Dataset, Split};
use crisp::gpu::Device;
use crisp::graph::Session;
use crisp::model::load_model;
use crisp::train::{Event, Job, RunResult, Settings, train};
use crisp::{Result, error::Error};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, output] = match arguments.as_slice() {
        [] => ["assets/quickstart", "assets/quickstart", "runs/example"],
        [model, data, output] => [model.as_str(), data, output],
        _ => return Err(Error::usage("wanted: MODEL DATA OUTPUT, or nothing")),
    };
    let settings = Settings { learning_rate: 1e-3, ..Settings::default() };
    let result = run(Path::new(model), Path::new(data), Path::new(output), settings)?;
    println!("accuracy {:.4}, loss {:.4}", result.eval_accuracy, result.eval_loss);
    Ok(())
}

/// Trains, and says what the run came to.
pub fn run(model: &Path, data: &Path, output: &Path, settings: Settings) -> Result<RunResult> {
    let mut session = Session::new(Device::open(None)?);
    let model = load_model(model, settings.seed)?;
    let labels = model.config.task.labels().to_vec();
    let training = Dataset::load(data, Split::Train, &labels)?;
    let validation = Dataset::load(data, Split::Validation, &labels)?;
    let job = Job { settings, ..Job::new(model, training, validation, output) };
    // Another thread may set it: the run then saves and ends after the step that it is at.
    let stop = AtomicBool::new(false);
    let outcome = train(&mut session, job, &stop, |event| {
        if let Event::Evaluated { step, evaluation, .. } = event {
            println!("after step {step}: accuracy {:.4}", evaluation.accuracy);
        }
    })?;
    Ok(outcome.result)
}
