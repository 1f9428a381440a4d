//! `crisp bench step`: a whole step of training or evaluation, as the trainer runs it.

use crate::cli::eval::policy_of;
use crate::cli::{Common, open, print, print_json, progress, recipe, source};
use crate::data::{Encoded, Split};
use crate::engine::{Evaluator, Prepared};
use crate::error::{Error, Result};
use crate::gpu::Pending;
use crate::graph::{Precision, Session, Timing};
use crate::kernels::{Scalars, Sizes};
use crate::model::{Model, encode};
use crate::random::SplitMix64;
use crate::report;
use crate::sparsity::Policy;
use crate::study::median;
use crate::train::Work;
use crate::train::{Batches, Settings, Trainer};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M")]
    model: String,
    /// Sentences per step.
    #[arg(long, value_name = "B", default_value_t = Settings::default().batch_size)]
    batch_size: usize,
    /// Every sentence has so many tokens, drawn at random.
    #[arg(long, value_name = "L", required_unless_present = "data", conflicts_with = "data")]
    length: Option<usize>,
    /// The batches that `crisp train` would take from this data.
    #[arg(long, value_name = "D")]
    data: Option<String>,
    /// Word pieces kept of a sentence of the data.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_length)]
    max_length: usize,
    /// Attention; by default the model's own.
    #[arg(long, value_name = "S")]
    sparsity: Option<String>,
    /// What activations and their gradients are stored in: `f32` or `mixed`, which is float16.
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
    /// The forward pass alone, as in evaluation.
    #[arg(long)]
    eval: bool,
    /// Compute activations again in backward instead of keeping them.
    #[arg(long, conflicts_with = "eval")]
    checkpoint_activations: bool,
    /// Parts of a step, one after another.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "eval")]
    gradient_accumulation: usize,
    /// Steps that are measured, after one that warms up.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(3..=10_000)
    )]
    steps: u32,
    /// Then one more step, timed kernel by kernel: prints a table.
    #[arg(long)]
    profile: bool,
    /// With --profile: writes the step's timeline for chrome://tracing or ui.perfetto.dev.
    #[arg(long, value_name = "FILE.json", requires = "profile")]
    trace: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    seconds_per_step: f64,
    tokens_per_step: f64,
    sentences_per_second: f64,
    host_seconds_per_step: f64,
    /// Floating-point operations of the matrix products and attention, the latter as if all pairs
    /// of full blocks were visited.
    operations_per_step: f64,
    /// Bytes that the kernels cannot but move.
    bytes_per_step: f64,
    gflops: f64,
    peak_bytes: u64,
    first_step_seconds: f64,
    sparsity: String,
    adapter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Vec<report::Row>>,
}

/// What runs a step.
enum Runner {
    Training(Box<Trainer>),
    Evaluation(Box<Evaluator>),
}

impl Runner {
    /// Submits a step in its parts; evaluation has one.
    fn submit(&mut self, session: &Session, parts: &[Prepared], step: u32) -> Result<Vec<Pending>> {
        match self {
            Self::Training(trainer) => Ok(trainer.step(session, parts, scalars(step))?.programs),
            Self::Evaluation(evaluator) => {
                parts.iter().map(|part| evaluator.submit(session, part)).collect()
            }
        }
    }

    fn profile(&mut self, session: &Session, parts: &[Prepared]) -> Result<Vec<Timing>> {
        match self {
            Self::Training(trainer) => Ok(trainer.profile(session, parts, scalars(1))?.1),
            Self::Evaluation(evaluator) => evaluator.profile(session, &parts[0]),
        }
    }

    /// What a step has to do.
    fn work(&self, parts: &[Prepared]) -> Work {
        match self {
            Self::Training(trainer) => trainer.work(parts),
            Self::Evaluation(evaluator) => {
                let mut work = Work::default();
                parts.iter().for_each(|part| work.add(evaluator.plan(), &part.sizes()));
                work
            }
        }
    }
}

/// What a step took, and what it had to do.
struct Taken {
    seconds: f64,
    host_seconds: f64,
    sentences: f64,
    tokens: f64,
    operations: f64,
    bytes: f64,
}

impl Taken {
    fn by(parts: &[Prepared], work: Work, host_seconds: f64) -> Self {
        let sum = |size: fn(&Sizes) -> u32| -> f64 {
            parts.iter().map(|part| f64::from(size(&part.sizes()))).sum()
        };
        Self {
            seconds: f64::NAN,
            host_seconds,
            sentences: sum(|sizes| sizes.sequences),
            tokens: sum(|sizes| sizes.tokens),
            operations: work.operations as f64,
            bytes: work.bytes as f64,
        }
    }
}

/// A small rate: what is measured does not depend on it, and the weights stay what they are.
fn scalars(step: u32) -> Scalars {
    Scalars { seed: 42, step, learning_rate: 1e-6, ..Scalars::default() }
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let started = Instant::now();
    let mut settings = Settings {
        batch_size: arguments.batch_size,
        max_length: arguments.max_length,
        checkpoint_activations: arguments.checkpoint_activations,
        gradient_accumulation: arguments.gradient_accumulation,
        precision: arguments.precision,
        ..Settings::default()
    };
    recipe::check(&settings)?;
    let mut session = open(common)?;
    let model = source::model(&arguments.model, settings.seed)?;
    let asked = arguments.sparsity.as_deref().map(str::parse).transpose()?;
    let policy: Policy = policy_of(asked, &model.config)?;
    // The batches come with the masks of the phase that is measured.
    settings.sparsity = if arguments.eval { policy.evaluation() } else { policy.training() };
    let steps = arguments.steps + 1;
    let examples = examples(&arguments, &model, steps)?;
    let mut batches = Batches::new(&examples, &settings, model.config.encoder.layers)?;
    let largest = batches.largest(steps);
    model.upload(&mut session)?;
    let mut runner = if arguments.eval {
        let (config, precision) = (&model.config, arguments.precision);
        let evaluator = Evaluator::new(&mut session, config, &policy, precision, largest)?;
        Runner::Evaluation(Box::new(evaluator))
    } else {
        let trainer = Trainer::new(&mut session, &model.config, &policy, &settings, largest)?;
        Runner::Training(Box::new(trainer))
    };
    // The first step runs alone, so that its time is its own.
    let first = batches.prepare(1)?;
    wait(&session, runner.submit(&session, &first, 1)?)?;
    let first_step_seconds = started.elapsed().as_secs_f64();
    let taken = measure(&session, &mut runner, &mut batches, 2..=steps)?;
    let profile = match arguments.profile {
        true => {
            let prepared = batches.prepare(steps)?;
            Some(profile(&session, &mut runner, &prepared, arguments.trace.as_deref())?)
        }
        false => None,
    };
    let of = |figure: fn(&Taken) -> f64| median(taken.iter().map(figure).collect());
    let report = Report {
        seconds_per_step: of(|step| step.seconds),
        tokens_per_step: of(|step| step.tokens),
        sentences_per_second: of(|step| step.sentences / step.seconds),
        host_seconds_per_step: of(|step| step.host_seconds),
        operations_per_step: of(|step| step.operations),
        bytes_per_step: of(|step| step.bytes),
        gflops: of(|step| step.operations / step.seconds / 1e9),
        peak_bytes: session.device.peak_bytes(),
        first_step_seconds,
        sparsity: policy.to_string(),
        adapter: session.device.adapter.name.clone(),
        profile,
    };
    if arguments.json { print_json(&report) } else { show(&report) }
}

/// Runs these steps as the training loop does: one is submitted before the one before has come
/// back.
fn measure(
    session: &Session,
    runner: &mut Runner,
    batches: &mut Batches<'_>,
    steps: RangeInclusive<u32>,
) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    let mut under_way: Option<(Vec<Pending>, Taken)> = None;
    let mut last_arrival = Instant::now();
    for step in steps.map(Some).chain([None]) {
        let submitted = match step {
            Some(step) => {
                let prepared = batches.prepare(step)?;
                let host = Instant::now();
                let pending = runner.submit(session, &prepared, step)?;
                Some((
                    pending,
                    Taken::by(&prepared, runner.work(&prepared), host.elapsed().as_secs_f64()),
                ))
            }
            None => None,
        };
        if let Some((pending, before)) = std::mem::replace(&mut under_way, submitted) {
            wait(session, pending)?;
            taken.push(Taken { seconds: last_arrival.elapsed().as_secs_f64(), ..before });
            last_arrival = Instant::now();
        }
    }
    Ok(taken)
}

fn wait(session: &Session, pending: Vec<Pending>) -> Result<()> {
    for program in pending {
        program.wait::<u32>(&session.device)?;
    }
    Ok(())
}

/// One more step, timed kernel by kernel; its timeline goes to `trace`.
fn profile(
    session: &Session,
    runner: &mut Runner,
    parts: &[Prepared],
    trace: Option<&Path>,
) -> Result<Vec<report::Row>> {
    let timings = runner.profile(session, parts)?;
    if let Some(path) = trace {
        crate::files::write(path, report::chrome_trace(&timings).as_bytes())?;
    }
    Ok(report::rows(&timings))
}

fn show(report: &Report) -> Result<()> {
    print(&format!(
        "{:.4} s a step of {:.0} tokens, {:.1} sentences/s, {:.1} GFLOP/s; host {:.1} ms a step; \
         first step after {:.2} s; {} on the device",
        report.seconds_per_step,
        report.tokens_per_step,
        report.sentences_per_second,
        report.gflops,
        report.host_seconds_per_step * 1e3,
        report.first_step_seconds,
        progress::bytes(report.peak_bytes),
    ))?;
    match &report.profile {
        Some(rows) => print(&report::table(rows)),
        None => Ok(()),
    }
}

/// Sentences for so many steps: of the data, or of random tokens.
fn examples(arguments: &Arguments, model: &Model, steps: u32) -> Result<Vec<Encoded>> {
    if let Some(data) = &arguments.data {
        let dataset = source::dataset(data, Split::Train, model.config.task.labels())?;
        return encode(model, &dataset, arguments.max_length);
    }
    let length = arguments.length.unwrap_or_default();
    if length == 0 || length > model.config.encoder.max_positions {
        return Err(Error::usage(format!(
            "--length {length}: the model has positions for 1 to {} tokens",
            model.config.encoder.max_positions
        )));
    }
    let vocabulary = model.config.encoder.vocab_size as u64;
    let mut generator = SplitMix64(1);
    let mut draw = || generator.below(vocabulary) as u32;
    let sentence = |index: usize| Encoded {
        ids: (0..length).map(|_| draw()).collect(),
        label: Some(index as u32 % 2),
    };
    Ok((0..arguments.batch_size * steps as usize).map(sentence).collect())
}
