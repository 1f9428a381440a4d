//! The training loop: from a model and a data set to a run directory.

use super::Settings;
use super::batches::Batches;
use crate::engine::Prepared;
use crate::engine::Evaluator;
use crate::model::encode;
use super::metrics::{Metrics, StepLine};
use super::record::{DataRecord, RunData, RunRecord, RunResult};
use super::run_directory::{Progress, RunDirectory, write_json};
use crate::engine::UNDER_WAY;
use super::{Memory, Schedule, StepResult, Trainer};
use crate::engine::{AttentionPairs, Evaluation};
use crate::model::Model;
use crate::data::{Dataset, Encoded, epoch_order};
use crate::error::{Error, Result};
use crate::graph::{Session, Timing, ops};
use crate::kernels::Scalars;
use crate::kernels::tune::Choice;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What is to be trained, on what, and where the result goes.
pub struct Task {
    /// The model; its `config` is what will be saved.
    pub model: Model,
    /// What the user called it.
    pub model_name: String,
    /// Sentences to learn from.
    pub train: Dataset,
    /// Sentences to evaluate on.
    pub validation: Dataset,
    /// The run directory.
    pub output: PathBuf,
    /// How it is trained.
    pub settings: Settings,
    /// Go on where a former run in `output` stopped.
    pub resume: bool,
    /// Replace a former run in `output`.
    pub overwrite: bool,
    /// Time one step kernel by kernel.
    pub profile: bool,
    /// The lock of `output`, where the caller holds it.
    pub lock: Option<File>,
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event {
    /// Memory planned, before anything runs.
    Planned {
        /// What training takes.
        memory: Memory,
        /// What evaluation takes on top, in bytes.
        evaluation: u64,
        /// Steps of the whole run.
        steps: u32,
        /// Steps already done by the run that is resumed.
        done: u32,
    },
    /// A step is done.
    Step {
        /// Its line in `metrics.jsonl`.
        line: StepLine,
    },
    /// A step was timed kernel by kernel.
    Profiled {
        /// This one.
        step: u32,
        /// Its launches.
        timings: Vec<Timing>,
    },
    /// An evaluation is done.
    Evaluated {
        /// After this step.
        step: u32,
        /// What it found.
        evaluation: Evaluation,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// After this step.
        step: u32,
    },
}

/// What a run leaves in memory; the session holds the parameters after the last step.
pub struct Outcome {
    /// The model, with its policy; its weights are those it began with.
    pub model: Model,
    /// What it was evaluated on.
    pub validation: Dataset,
    /// What it came to.
    pub result: RunResult,
}

struct Submitted {
    pending: Pending,
    step: u32,
    learning_rate: f32,
    prepared: Prepared,
    host_seconds: f64,
}

/// Trains. `stop` is looked at after each step: when it is set, the run saves and ends with
/// [`crate::error::Kind::Interrupted`].
///
/// # Errors
/// Settings, files or a device that do not work; a loss that is no number any more.
pub fn train(
    session: &mut Session,
    mut task: Task,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Event),
) -> Result<Outcome> {
    let settings = task.settings.clone();
    settings.check()?;
    if task.profile {
        // Says so now, rather than after everything has been prepared.
        session.device.timestamps(1)?;
    }
    let policy = settings.policy()?;
    task.model.config.sparsity = Some(settings.sparsity.clone());
    // What is saved keeps the model's own dropout; what is trained may have another.
    let mut trained = task.model.config.clone();
    if let Some(dropout) = settings.dropout {
        trained.dropout = dropout;
        trained.attention_dropout = dropout;
        trained.classifier_dropout = dropout;
    }
    if let Some(dropout) = settings.attention_dropout {
        trained.attention_dropout = dropout;
    }
    task.train.truncate(settings.max_train_samples.unwrap_or(usize::MAX));
    task.validation.truncate(settings.max_eval_samples.unwrap_or(usize::MAX));
    let examples = encode(&task.model, &task.train, settings.max_length)?;
    let validation = encode(&task.model, &task.validation, settings.max_length)?;
    let labelled = |set: &Dataset| set.examples.iter().all(|example| example.label.is_some());
    for set in [&task.train, &task.validation] {
        if !labelled(set) {
            return Err(Error::input(format!("{}: an example has no label", set.path.display())));
        }
    }

    let total = settings.total_steps(examples.len());
    let schedule = Schedule {
        peak: settings.learning_rate,
        warmup: settings.warmup_steps.unwrap_or((f64::from(total) * 0.06).round() as u32),
        total,
    };
    let mut batches = Batches::new(&examples, &settings, trained.layers)?;
    let per_epoch = batches.per_epoch();

    let directory = RunDirectory { path: task.output.clone() };
    let mut record = run_record(&task, session);
    let resumed = check_directory(&task, &directory, &record)?;
    let mut lock = task.lock.take();
    let held = |lock: Option<File>| lock.map_or_else(|| directory.lock(), Ok);
    if let Some(resumed) = &resumed {
        lock = Some(held(lock.take())?);
        record.tuning = resumed.tuning.clone();
        session.tuning.chosen = resumed.tuning.clone();
    }
    task.model.upload(session)?;
    let largest = batches.largest(total);
    let mut trainer = Trainer::new(session, &trained, &policy, &settings, largest)?;
    // As many training sentences as there are to evaluate on, of those that the run learns from first.
    let order = epoch_order(examples.len(), settings.seed, 0, settings.shuffle);
    let learnt = order.iter().take(validation.len().min(total as usize * settings.batch_size));
    let learnt: Vec<Encoded> = learnt.map(|index| examples[*index as usize].clone()).collect();
    let mut evaluator = Evaluator::for_sets(
        session,
        &task.model.config,
        &policy,
        &[&validation, &learnt],
        settings.batch_size,
    )?;
    let mut progress = match resumed.and_then(|resumed| resumed.checkpoint) {
        Some(from) => directory.restore(session, &task.model, &from)?,
        None => Progress::default(),
    };
    // Only now that everything else has worked is a former run replaced.
    if !task.resume {
        lock = Some(held(lock.take())?);
        directory.clear()?;
    }
    write_json(&directory.record(), &record)?;
    let mut metrics = Metrics::open(&directory.metrics(), progress.step)?;
    on(Event::Planned {
        memory: trainer.memory(),
        evaluation: evaluator.own_bytes(),
        steps: total,
        done: progress.step,
    });

    let started = Instant::now();
    let before = progress.seconds;
    let mut last_arrival = Instant::now();
    let mut under_way: VecDeque<Submitted> = VecDeque::new();
    let mut last_evaluation = None;
    let head_dim = trained.head_dim();
    let mut finish = |submitted: Submitted,
                      (trainer, session): (&Trainer, &Session),
                      metrics: &mut Metrics,
                      on: &mut dyn FnMut(Event)|
     -> Result<AttentionPairs> {
        let result = trainer.finish(session, submitted.pending, &submitted.prepared)?;
        let StepResult { loss, grad_norm, .. } = result;
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(Error::diverged(format!(
                "the loss is {loss} and the gradient norm {grad_norm} at step {}",
                submitted.step
            )));
        }
        let line = StepLine {
            epoch: f64::from(submitted.step) / f64::from(per_epoch),
            learning_rate: submitted.learning_rate,
            tokens: submitted.prepared.batch.tokens(),
            seconds: last_arrival.elapsed().as_secs_f64(),
            host_seconds: submitted.host_seconds,
            ..StepLine::new(submitted.step, &result, head_dim)
        };
        last_arrival = Instant::now();
        metrics.step(&line)?;
        on(Event::Step { line });
        Ok(result.pairs)
    };

    // The first steps compile and warm up, so it is the third that is timed kernel by kernel.
    let profiled = task.profile.then(|| total.min(progress.step + 3));
    batches.ahead(progress.step + 1..=total, |next| {
        while progress.step < total {
            let step = progress.step + 1;
            let prepared = next()?;
            let learning_rate = schedule.rate(step);
            let scalars = Scalars { seed: settings.seed, step, learning_rate };
            let host = Instant::now();
            let pending = if profiled == Some(step) {
                let (pending, timings) = trainer.profile(session, &prepared, scalars)?;
                let of_attention = timings.iter().filter(|timing| ops::is_attention(timing.op));
                let seconds = of_attention.map(|timing| timing.before + timing.seconds).sum();
                progress.attention_seconds = Some(seconds);
                on(Event::Profiled { step, timings });
                pending
            } else {
                trainer.step(session, &prepared, scalars)?
            };
            under_way.push_back(Submitted {
                pending,
                step,
                learning_rate,
                prepared,
                host_seconds: host.elapsed().as_secs_f64(),
            });
            progress.step = step;

            let due = |every: Option<u32>| every.map_or(step % per_epoch == 0, |n| step % n == 0);
            let evaluates = due(settings.eval_every) || step == total;
            let saves = settings.save_every.map_or(evaluates, |n| step % n == 0) || step == total;
            let stops = stop.load(Ordering::Relaxed) && step < total;
            let keep = if evaluates || saves || stops { 0 } else { UNDER_WAY - 1 };
            while under_way.len() > keep {
                if let Some(submitted) = under_way.pop_front() {
                    let pairs = finish(submitted, (&trainer, session), &mut metrics, on)?;
                    progress.pairs.merge(&pairs);
                }
            }
            progress.seconds = before + started.elapsed().as_secs_f64();
            if evaluates {
                let predictions =
                    evaluator.predict(session, &validation, settings.batch_size, |_| {})?;
                let evaluation = Evaluation::of(&predictions, &validation)?;
                if !evaluation.loss.is_finite() {
                    return Err(Error::diverged(format!(
                        "the validation loss is {} after step {step}",
                        evaluation.loss
                    )));
                }
                metrics.evaluation(step, &evaluation)?;
                let best = progress.improve(&evaluation);
                if best {
                    directory.save_model(session, &task.model, true)?;
                }
                last_evaluation = Some(predictions);
                on(Event::Evaluated { step, evaluation, best });
            }
            progress.seconds = before + started.elapsed().as_secs_f64();
            if saves || stops {
                directory.save(session, &task.model, &progress)?;
                on(Event::Saved { step });
            }
            if stops {
                return Err(Error::interrupted(format!(
                    "stopped after step {step} of {total}; the state is in {}",
                    directory.path.display()
                ))
                .remedy("Go on with the same command and --resume."));
            }
        }
        Ok(())
    })?;

    let predictions = match last_evaluation {
        Some(predictions) => predictions,
        // Resumed after the last step: nothing was left but to say how it ended.
        None => evaluator.predict(session, &validation, settings.batch_size, |_| {})?,
    };
    let evaluation_pairs = evaluator.pairs().clone();
    let last = Evaluation::of(&predictions, &validation)?;
    let training = evaluator.evaluate(session, &learnt, settings.batch_size)?;
    directory.save_predictions(&predictions, &validation)?;
    directory.save_model(session, &task.model, false)?;
    let result = RunResult {
        eval_accuracy: last.accuracy,
        eval_loss: last.loss,
        examples: last.examples,
        training: Some(training),
        best_accuracy: progress.best_accuracy.unwrap_or(last.accuracy),
        best_step: progress.best_step.unwrap_or(total),
        steps: total,
        seconds: progress.seconds,
        device_bytes: session.device.peak_bytes(),
        training_pairs: progress.pairs,
        evaluation_pairs,
        attention_seconds: progress.attention_seconds,
        head_dim,
    };
    record.result = Some(result.clone());
    write_json(&directory.record(), &record)?;
    drop(lock);
    Ok(Outcome { model: task.model, validation: task.validation, result })
}

/// A run that is gone on with.
struct Resumed {
    /// Where it stands, if it has saved anything.
    checkpoint: Option<PathBuf>,
    /// The variants of products that it began with: others add up in another order.
    tuning: BTreeMap<String, Choice>,
}

/// Looks whether the run may start, and what it goes on from, if it does. Changes nothing.
fn check_directory(
    task: &Task,
    directory: &RunDirectory,
    record: &RunRecord,
) -> Result<Option<Resumed>> {
    let path = directory.record();
    if task.resume {
        let found = RunRecord::read(&path).map_err(|error| match path.exists() {
            true => error,
            false => error.remedy(
                "There is no run to resume there: leave --resume out, or name its --output.",
            ),
        })?;
        let differences = record.differences(&found);
        if !differences.is_empty() {
            return Err(Error::input(format!(
                "{}: the run was started otherwise: {}",
                directory.path.display(),
                differences.join("; ")
            ))
            .remedy("Resume with the settings of run.json, or start again with --overwrite."));
        }
        return Ok(Some(Resumed { checkpoint: directory.newest()?, tuning: found.tuning }));
    }
    if let Some(found) = directory.occupied_by() {
        if !path.exists() {
            // A model that somebody keeps there: no flag of ours may remove it.
            return Err(Error::input(format!(
                "{}: it is there already, and not from a training run",
                found.display()
            ))
            .remedy("Choose another --output."));
        }
        if !task.overwrite {
            return Err(Error::input(format!(
                "{}: there is a run already",
                directory.path.display()
            ))
            .remedy(
                "Choose another --output, go on with --resume, or replace it with --overwrite.",
            ));
        }
    }
    Ok(None)
}

/// Everything that identifies a run.
fn run_record(task: &Task, session: &Session) -> RunRecord {
    let data = |set: &Dataset| DataRecord {
        path: set.path.clone(),
        examples: set.examples.len(),
        fingerprint: set.fingerprint.clone(),
    };
    RunRecord {
        crisp: env!("CARGO_PKG_VERSION").into(),
        model: task.model_name.clone(),
        fresh_parameters: task.model.weights.fresh.clone(),
        unused_tensors: task.model.weights.unused.clone(),
        weights: fingerprint(&task.model),
        config: serde_json::from_str(&task.model.config.to_json()).unwrap_or_default(),
        settings: task.settings.clone(),
        data: RunData { train: data(&task.train), validation: data(&task.validation) },
        adapter: serde_json::to_value(&session.device.adapter).unwrap_or_default(),
        shaders: session.tuning.abilities.name().into(),
        tuning: session.tuning.chosen.clone(),
        diverged: None,
        result: None,
    }
}

/// SHA-256, in hex, of the parameters that were read rather than drawn, in their order.
fn fingerprint(model: &Model) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in &model.weights.parameters {
        if !model.weights.fresh.contains(name) {
            hash.update(name.as_bytes());
            hash.update(bytemuck::cast_slice(&tensor.data));
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
