//! `crisp train`: fine-tune a model.

use super::recipe::{Chosen, Recipe, choose};
use super::{Common, note, open, print, progress, progress::Progress, source};
use crate::error::{Error, Result};
use crate::report;
use crate::train::{Event, RunDirectory, Settings, Task, look, train};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: Recipe,
    /// What attention keeps: `dense`, `topk:0.8`, `block-topk:0.8`, `local:8`, `random:0.8`, for some layers
    /// (`topk:0.8@3-5`), growing over the run (`topk:0->0.8`); docs/sparsity.md has all of it
    /// [default: what the model was trained with, else dense].
    #[arg(long, value_name = "S")]
    sparsity: Option<String>,
    /// Data order, fresh weights and dropout follow from it [default: 42].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
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
}

/// Set by Ctrl-C.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let Arguments { recipe, sparsity, seed, resume, overwrite, profile } = arguments;
    let given = recipe.given(sparsity, seed)?;
    let mut session = open(common)?;
    let Chosen { model: model_name, data: data_name, given, mut recipe, fallback } = choose(given);
    let mut model = source::model(&model_name, given.seed.unwrap_or(recipe.seed))?;
    if let Some(policy) = &model.config.sparsity {
        recipe.sparsity = policy.clone();
    }
    let settings = given.complete(recipe)?;
    if model_name == source::MODEL && data_name == source::DATA {
        model.config.labels = vec!["NEGATIVE".into(), "POSITIVE".into()];
    }
    let (train_set, validation) = source::training_data(&data_name, model.config.task.labels())?;
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
        settings: settings.clone(),
        resume,
        overwrite,
        profile,
        lock: None,
    };
    let mut shown = Progress::new();
    let mut timed = None;
    let outcome = train(&mut session, task, &STOP, &mut |event| match event {
        Event::Profiled { step, timings } => timed = Some((step, timings)),
        event => shown.show(event),
    });
    shown.finish();
    let outcome = outcome?;
    let directory = RunDirectory { path: output.clone() };
    look(&mut session, &outcome, &settings, &[])?.write(&directory.attention())?;
    crate::files::write(&directory.report(), report::run_page(&directory)?.as_bytes())?;
    let result = &outcome.result;
    if let Some((step, timings)) = timed {
        let path = output.join("trace.json");
        crate::files::write(&path, report::chrome_trace(&timings).as_bytes())?;
        print(&format!("step {step}, kernel by kernel (timeline in {}):", path.display()))?;
        print(&report::table(&report::rows(&timings)))?;
    }
    print(&format!(
        "accuracy {:.4}  loss {:.4}  over {} sentences after {} steps in {}",
        result.eval_accuracy,
        result.eval_loss,
        result.examples,
        result.steps,
        progress::duration(result.seconds),
    ))?;
    print(&format!(
        "best accuracy {:.4} after step {} (in {})",
        result.best_accuracy,
        result.best_step,
        output.join("checkpoints").join("best").display()
    ))?;
    print(&format!("device memory {}", progress::bytes(result.device_bytes)))?;
    print(&format!("model in {}, report in {}", output.display(), directory.report().display()))?;
    print(&format!(
        "try it: crisp predict --model {} \"an unexpectedly moving film\"",
        output.display()
    ))?;
    fallback.map_or(Ok(()), |text| print(&text))
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
pub(super) fn stop_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note("stopping after this step, and saving first; once more to stop at once");
    })
    .map_err(|why| Error::device(format!("cannot listen for Ctrl-C: {why}")))
}
