//! `crisp train`: fine-tune a model.

use super::{Common, note, open, print, progress, progress::Progress, source};
use crate::error::{Error, Result};
use crate::model::hub::{self, Kind};
use crate::report;
use crate::train::{Event, Settings, SettingsFile, Task, train};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(clap::Args)]
pub struct Arguments {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// A directory with train and dev files, one file, a hub id, or `quickstart`.
    #[arg(long, value_name = "D")]
    data: Option<String>,
    /// The run directory; by default a new one under `runs/`.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Settings in TOML, named as these flags; a flag wins over the file.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// What attention keeps: `dense`, `topk:0.8`, `block-topk:0.8`, `local:8`, `random:0.8`, for some layers
    /// (`topk:0.8@3-5`), growing over the run (`topk:0->0.8`); docs/sparsity.md has all of it
    /// [default: what the model was trained with, else dense].
    #[arg(long, value_name = "S")]
    sparsity: Option<String>,
    /// Passes over the training set [default: 3].
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Optimizer steps, instead of epochs.
    #[arg(long, value_name = "N")]
    max_steps: Option<u32>,
    /// Sentences per step [default: 32].
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Word pieces kept of a sentence [default: 128].
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Highest learning rate [default: 5e-5; quickstart 1e-3].
    #[arg(long, value_name = "F")]
    learning_rate: Option<f32>,
    /// Steps of warm-up [default: 6 % of all].
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u32>,
    /// Weight decay, not on biases and LayerNorms [default: 0.01].
    #[arg(long, value_name = "F")]
    weight_decay: Option<f32>,
    /// Largest global gradient norm, 0 for none [default: 1].
    #[arg(long, value_name = "F")]
    clip: Option<f32>,
    /// Override every dropout probability of the model.
    #[arg(long, value_name = "F")]
    dropout: Option<f32>,
    /// Override the model's dropout of attention weights.
    #[arg(long, value_name = "F")]
    attention_dropout: Option<f32>,
    /// Data order, fresh weights and dropout follow from it [default: 42].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep the order of the file.
    #[arg(long)]
    no_shuffle: bool,
    /// Use the first N training sentences.
    #[arg(long, value_name = "N")]
    max_train_samples: Option<usize>,
    /// Use the first N evaluation sentences.
    #[arg(long, value_name = "N")]
    max_eval_samples: Option<usize>,
    /// Steps between evaluations [default: an epoch].
    #[arg(long, value_name = "N")]
    eval_every: Option<u32>,
    /// Steps between checkpoints [default: at each evaluation].
    #[arg(long, value_name = "N")]
    save_every: Option<u32>,
    /// Keep no activations but those between the blocks, and compute the others again in backward: less
    /// memory for long inputs, a third more work, the same result.
    #[arg(long)]
    checkpoint_activations: bool,
    /// Go on with the run in --output.
    #[arg(long, conflicts_with = "overwrite", requires = "output")]
    resume: bool,
    /// Replace a run in --output.
    #[arg(long)]
    overwrite: bool,
    /// Time the third step kernel by kernel: prints a table, and writes its timeline to
    /// `trace.json` in the run directory (for chrome://tracing or ui.perfetto.dev).
    #[arg(long)]
    profile: bool,
    /// Precision of storage [default: f32].
    #[arg(long, value_name = "P", value_parser = ["f32"])]
    precision: Option<String>,
}

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let (resume, overwrite, profile) = (arguments.resume, arguments.overwrite, arguments.profile);
    let file = match &arguments.config {
        Some(path) => SettingsFile::load(path)?,
        None => SettingsFile::default(),
    };
    let given = flags(arguments).over(file);
    let mut session = open(common)?;

    let mut fallback = None;
    let (model_name, data_name) = match (given.model.clone(), given.data.clone()) {
        (Some(model), Some(data)) => (model, data),
        (None, None) => match paper_task() {
            Ok(()) => (source::MODEL.into(), source::DATA.into()),
            Err(why) => {
                let text = format!(
                    "NOTE: {} or {} cannot be had here, so this trains the embedded quickstart: \
                     our own small corpus and a small model from fresh weights, not the paper's task.",
                    source::MODEL,
                    source::DATA
                );
                note(&format!("{text}\n  The reason: {why}"));
                fallback = Some(text);
                (source::QUICKSTART.into(), source::QUICKSTART.into())
            }
        },
        (Some(model), None) if model == source::QUICKSTART => (model.clone(), model),
        (None, Some(data)) if data == source::QUICKSTART => (data.clone(), data),
        (Some(model), None) => (model, source::DATA.into()),
        (None, Some(data)) => (source::MODEL.into(), data),
    };
    let mut recipe = if model_name == source::QUICKSTART {
        source::quickstart_recipe()
    } else {
        Settings::default()
    };
    let mut model = source::model(&model_name, given.seed.unwrap_or(recipe.seed))?;
    if let Some(policy) = &model.config.sparsity {
        recipe.sparsity = policy.clone();
    }
    let settings = given.complete(recipe)?;
    if model_name == source::MODEL && data_name == source::DATA {
        model.config.labels = vec!["NEGATIVE".into(), "POSITIVE".into()];
    }
    let (train_set, validation) = source::training_data(&data_name, &model.config.labels)?;
    let output = given.output.unwrap_or_else(|| new_output(&model_name, &settings));
    note(&format!(
        "training {model_name} on {data_name}: {} sentences, {} to evaluate on, attention {}, seed {}",
        train_set.examples.len().min(settings.max_train_samples.unwrap_or(usize::MAX)),
        validation.examples.len().min(settings.max_eval_samples.unwrap_or(usize::MAX)),
        settings.sparsity,
        settings.seed,
    ));
    stop_on_interrupt()?;
    let task = Task {
        model,
        model_name,
        train: train_set,
        validation,
        output: output.clone(),
        settings,
        resume,
        overwrite,
        profile,
    };
    let mut shown = Progress::new();
    let mut timed = None;
    let outcome = train(&mut session, task, &STOP, &mut |event| match event {
        Event::Profiled { step, timings } => timed = Some((step, timings)),
        event => shown.show(event),
    });
    shown.finish();
    let outcome = outcome?;
    if let Some((step, timings)) = timed {
        let path = output.join("trace.json");
        crate::files::write(&path, report::chrome_trace(&timings).as_bytes())?;
        print(&format!("step {step}, kernel by kernel (timeline in {}):", path.display()))?;
        print(&report::table(&report::rows(&timings)))?;
    }
    print(&format!(
        "accuracy {:.4}  loss {:.4}  over {} sentences after {} steps in {}",
        outcome.last.accuracy,
        outcome.last.loss,
        outcome.last.examples,
        outcome.steps,
        progress::duration(outcome.seconds),
    ))?;
    print(&format!(
        "best accuracy {:.4} after step {} (in {})",
        outcome.best_accuracy,
        outcome.best_step,
        output.join("checkpoints").join("best").display()
    ))?;
    print(&format!("device memory {}", progress::bytes(outcome.device_bytes)))?;
    print(&format!("model in {}", output.display()))?;
    print(&format!(
        "try it: crisp predict --model {} \"an unexpectedly moving film\"",
        output.display()
    ))?;
    fallback.map_or(Ok(()), |text| print(&text))
}

/// Looks for the paper's model and data, in the cache and then on the network.
fn paper_task() -> Result<()> {
    for (kind, id) in [(Kind::Model, source::MODEL), (Kind::Dataset, source::DATA)] {
        note(&format!("looking for {id} in the hub's cache, then on the network"));
        let mut told = String::new();
        hub::resolve(kind, id, &mut |file, _, total| {
            if told != file {
                told = file.to_owned();
                let size =
                    total.map_or(String::new(), |total| format!(" ({})", progress::bytes(total)));
                note(&format!("fetching {file}{size}"));
            }
        })?;
    }
    Ok(())
}

fn flags(arguments: Arguments) -> SettingsFile {
    SettingsFile {
        model: arguments.model,
        data: arguments.data,
        output: arguments.output,
        sparsity: arguments.sparsity,
        epochs: arguments.epochs,
        max_steps: arguments.max_steps,
        batch_size: arguments.batch_size,
        max_length: arguments.max_length,
        learning_rate: arguments.learning_rate,
        warmup_steps: arguments.warmup_steps,
        weight_decay: arguments.weight_decay,
        clip: arguments.clip,
        dropout: arguments.dropout,
        attention_dropout: arguments.attention_dropout,
        seed: arguments.seed,
        shuffle: arguments.no_shuffle.then_some(false),
        max_train_samples: arguments.max_train_samples,
        max_eval_samples: arguments.max_eval_samples,
        eval_every: arguments.eval_every,
        save_every: arguments.save_every,
        checkpoint_activations: arguments.checkpoint_activations.then_some(true),
        precision: arguments.precision,
    }
}

/// A directory under `runs/` that does not exist yet, named after what is trained.
fn new_output(model: &str, settings: &Settings) -> PathBuf {
    let name = Path::new(model).file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let policy = settings.sparsity.replace([':', ',', '=', '@', '+', '→'], "-");
    let name = format!("{name}-{policy}-seed{}", settings.seed);
    let runs = Path::new("runs");
    let numbered = (2..).map(|number| runs.join(format!("{name}-{number}")));
    std::iter::once(runs.join(&name))
        .chain(numbered)
        .find(|path| !path.exists())
        .unwrap_or_else(|| runs.join(&name))
}

/// The first Ctrl-C asks the run to save and stop, the second one ends the process.
fn stop_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note("stopping after this step, and saving first; once more to stop at once");
    })
    .map_err(|why| Error::device(format!("cannot listen for Ctrl-C: {why}")))
}
