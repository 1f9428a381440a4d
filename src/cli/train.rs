//! `crisp train`: fine-tune a model.

use super::recipe::{Chosen, Flags, Own, Recipe, choose};
use super::{Common, note, open, print, progress, progress::ProgressLine, source};
use crate::error::{Error, Result};
use crate::files;
use crate::graph::{Session, Timing};
use crate::report;
use crate::train::{Event, Job, Outcome, Settings, Start, look, train};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    own: Flags<Own>,
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

/// A step that was timed kernel by kernel.
struct Timed {
    step: u32,
    timings: Vec<Timing>,
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let Arguments { recipe, own, resume, overwrite, profile } = arguments;
    let given = recipe.given(own.overrides()?)?;
    let mut session = open(common)?;
    let chosen = choose(given);
    let start = match (resume, overwrite) {
        (true, _) => Start::Resume,
        (false, true) => Start::Replace,
        (false, false) => Start::New,
    };
    let job = Job { start, profile, ..job(&chosen)? };
    note(&format!(
        "training {} on {}: {} sentences, {} to evaluate on, attention {}, seed {}",
        chosen.model,
        chosen.data,
        job.train.examples.len().min(job.settings.max_train_samples.unwrap_or(usize::MAX)),
        job.validation.examples.len().min(job.settings.max_eval_samples.unwrap_or(usize::MAX)),
        job.settings.sparsity,
        job.settings.seed,
    ));
    stop_on_interrupt()?;
    let settings = job.settings.clone();
    let mut shown = ProgressLine::new();
    let mut timed = None;
    let outcome = train(&mut session, job, &STOP, |event| match event {
        Event::Profiled { step, timings } => timed = Some(Timed { step, timings }),
        event => shown.show(event),
    });
    shown.finish();
    let outcome = outcome?;
    write_pages(&mut session, &outcome, &settings)?;
    timed.map_or(Ok(()), |timed| print_profile(&outcome, &timed))?;
    print_result(&outcome)?;
    chosen.fallback.map_or(Ok(()), |text| print(&text))
}

/// Reads model and data, and completes the settings with what the model was trained with.
fn job(Chosen { model: model_name, data, given, recipe, .. }: &Chosen) -> Result<Job> {
    let seed = given.overrides.over(recipe.clone())?.seed;
    let model = source::model_for(data, model_name, seed)?;
    let mut recipe = recipe.clone();
    if let Some(policy) = &model.config.sparsity {
        recipe.sparsity = policy.clone();
    }
    let settings = given.overrides.over(recipe)?;
    let (train_set, validation) = source::training_data(data, model.config.task.labels())?;
    let output = given.output.clone().unwrap_or_else(|| new_output(model_name, &settings));
    let model_name = model_name.clone();
    Ok(Job { model_name, settings, ..Job::new(model, train_set, validation, output) })
}

/// Writes what people read of a run.
fn write_pages(session: &mut Session, outcome: &Outcome, settings: &Settings) -> Result<()> {
    let directory = &outcome.directory;
    look(session, outcome, settings, &[])?.write(&directory.attention())?;
    files::write(&directory.report(), report::run_page(directory)?.as_bytes())
}

fn print_profile(outcome: &Outcome, Timed { step, timings }: &Timed) -> Result<()> {
    let path = outcome.directory.path.join("trace.json");
    files::write(&path, report::chrome_trace(timings).as_bytes())?;
    print(&format!("step {step}, kernel by kernel (timeline in {}):", path.display()))?;
    print(&report::table(&report::rows(timings)))
}

fn print_result(Outcome { result, directory, .. }: &Outcome) -> Result<()> {
    let output = &directory.path;
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
        directory.best().display()
    ))?;
    if result.skipped_steps > 0 {
        print(&format!(
            "{} steps were skipped, because gradients overflowed in float16 (metrics.jsonl says which)",
            result.skipped_steps
        ))?;
    }
    print(&format!("device memory {}", progress::bytes(result.device_bytes)))?;
    print(&format!("model in {}, report in {}", output.display(), directory.report().display()))?;
    print(&format!(
        "try it: crisp predict --model {} \"an unexpectedly moving film\"",
        output.display()
    ))
}

/// A directory under `runs/` that does not exist yet, named after what is trained.
fn new_output(model: &str, settings: &Settings) -> PathBuf {
    let name = Path::new(model).file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let policy = settings.sparsity.to_string().replace([':', ',', '=', '@', '+', '→'], "-");
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
