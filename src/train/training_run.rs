//! The training run: from a model and a data set to a run directory.

use super::batches::Batches;
use super::collector::{Collector, Submitted};
use super::job::{Job, Start};
use super::metrics::{Metrics, StepLine};
use super::record::{RunRecord, RunResult};
use super::run_directory::{HeldDirectory, Progress, RunDirectory};
use super::schedule::{Schedule, Step};
use super::sentences::Sentences;
use super::{Memory, Settings, Trainer, start};
use crate::data::Dataset;
use crate::engine::{Evaluation, Evaluator, Prediction, Prepared};
use crate::error::{Advice, Error, Kind, Result};
use crate::graph::{Session, Timing, ops};
use crate::kernels::{Scalars, Sizes};
use crate::model::Model;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

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
    /// The run directory, which no other process takes before this is dropped.
    pub directory: HeldDirectory,
}

/// Trains. `stop` is looked at after each step: when it is set, the run saves and ends with
/// [`crate::error::Kind::Interrupted`].
///
/// # Errors
/// Settings, files or a device that do not work; a loss that is not finite.
pub fn train(
    session: &mut Session,
    mut job: Job,
    stop: &AtomicBool,
    mut on: impl FnMut(Event),
) -> Result<Outcome> {
    prepare(&mut job, session)?;
    let settings = job.settings.clone();
    let sentences = Sentences::read(&job)?;
    let mut batches =
        Batches::new(&sentences.training, &settings, job.model.config.encoder.layers)?;
    let total = settings.total_steps(sentences.training.len());
    let mut schedule = Schedule::new(&settings, batches.per_epoch(), total);
    let profile = job.profile;
    let largest = batches.largest(total);
    let mut run = Run::begin(session, job, &sentences, &schedule, largest, &mut on)?;
    if profile {
        schedule = schedule.profiling_after(run.progress.step);
    }
    batches
        .ahead(run.progress.step + 1..=total, |next| {
            while let Some(mut step) = schedule.after(run.progress.step) {
                run.submit(step, next()?)?;
                if stop.load(Ordering::Relaxed) {
                    step = step.stopping();
                }
                run.collect(step.under_way())?;
                if step.evaluates {
                    run.evaluate()?;
                }
                if step.saves {
                    run.save()?;
                }
                if step.stops {
                    return Err(run.interrupted(total));
                }
            }
            Ok(())
        })
        .map_err(|why| run.failed(why))?;
    run.end()
}

/// Refuses at once what could not work, and cuts the data sets to what is used of them.
fn prepare(job: &mut Job, session: &Session) -> Result<()> {
    let settings = &job.settings;
    settings.check()?;
    if job.profile {
        session.device.timestamps(1)?;
    }
    job.model.config.sparsity = Some(settings.sparsity.clone());
    job.train.truncate(settings.max_train_samples.unwrap_or(usize::MAX));
    job.validation.truncate(settings.max_eval_samples.unwrap_or(usize::MAX));
    Ok(())
}

/// A run under way.
struct Run<'a> {
    session: &'a Session,
    model: Model,
    validation: Dataset,
    settings: Settings,
    sentences: &'a Sentences,
    trainer: Trainer,
    evaluator: Evaluator,
    collector: Collector,
    /// What the last evaluation, if there was one, says of each validation sentence.
    predictions: Option<Vec<Prediction>>,
    directory: HeldDirectory,
    record: RunRecord,
    metrics: Metrics,
    progress: Progress,
    /// The step that the last checkpoint is of.
    saved: Option<u32>,
    on: &'a mut dyn FnMut(Event),
}

impl<'a> Run<'a> {
    /// Plans everything for batches up to `largest`, and takes the directory.
    fn begin(
        session: &'a mut Session,
        job: Job,
        sentences: &'a Sentences,
        schedule: &Schedule,
        largest: Sizes,
        on: &'a mut dyn FnMut(Event),
    ) -> Result<Self> {
        let mut record = start::record(&job, session)?;
        let place = RunDirectory { path: job.output.path().into() };
        let begun = start::check(job.start, &place, &record)?;
        let Job { model, validation, settings, mut output, start, .. } = job;
        if let Some(begun) = begun {
            output = output.hold()?.into();
            // Other variants of products and attention add up in another order.
            session.tuning.chosen = begun.tuning.clone();
            session.tuning.attention = begun.attention.clone();
            (record.tuning, record.attention) = (begun.tuning, begun.attention);
        }
        // What is saved keeps its own dropout.
        let config = model.config.with_dropout(settings.dropout, settings.attention_dropout);
        // Nothing of a former run in this session: moments begin with zeros.
        session.store.clear();
        model.upload(session)?;
        let policy = &settings.sparsity;
        let trainer = Trainer::new(session, &config, policy, &settings, largest)?;
        let sets: [&[_]; 2] = [&sentences.validation, &sentences.learnt];
        let together = settings.part_size();
        let precision = settings.precision;
        let evaluator =
            Evaluator::for_sets(session, &model.config, policy, precision, &sets, together)?;
        let progress = match start {
            Start::Resume => place.restore(session, &model)?,
            Start::New | Start::Replace => Progress::default(),
        };
        // Only now that everything else has worked is a former run replaced.
        let directory = start::take(output, start, &record)?;
        let metrics = Metrics::open(&directory.metrics(), progress.step)?;
        on(Event::Planned {
            memory: trainer.memory(),
            evaluation: evaluator.own_bytes(),
            steps: schedule.total,
            done: progress.step,
        });
        let collector =
            Collector::new(schedule.per_epoch, config.encoder.head_dim(), progress.seconds);
        Ok(Self {
            session,
            model,
            validation,
            settings,
            sentences,
            trainer,
            evaluator,
            collector,
            predictions: None,
            directory,
            record,
            metrics,
            saved: Some(progress.step).filter(|step| *step > 0),
            progress,
            on,
        })
    }

    /// Gives the device a step.
    fn submit(&mut self, step: Step, parts: Vec<Prepared>) -> Result<()> {
        let Step { number, learning_rate, .. } = step;
        let seed = self.settings.seed;
        let scalars = Scalars { seed, step: number, learning_rate, ..Scalars::default() };
        let host = Instant::now();
        let pending = if step.profiles {
            let (pending, timings) = self.trainer.profile(self.session, &parts, scalars)?;
            let attention = timings.iter().filter(|timing| ops::is_attention(timing.op));
            let seconds = attention.map(|timing| timing.before + timing.seconds).sum();
            self.progress.attention_seconds = Some(seconds);
            (self.on)(Event::Profiled { step: number, timings });
            pending
        } else {
            self.trainer.step(self.session, &parts, scalars)?
        };
        let host_seconds = host.elapsed().as_secs_f64();
        self.collector.add(Submitted { pending, step, parts, host_seconds });
        self.progress.step = number;
        Ok(())
    }

    /// Waits until no more than `keep` steps are under way.
    fn collect(&mut self, keep: usize) -> Result<()> {
        while let Some(step) = self.collector.next(keep, &self.trainer, self.session)? {
            self.metrics.step(&step.line)?;
            self.progress.skipped_steps += u32::from(step.line.skipped);
            (self.on)(Event::Step { line: step.line });
            self.progress.pairs.merge(&step.pairs);
        }
        self.progress.seconds = self.collector.seconds();
        Ok(())
    }

    /// Evaluates the model as it is now, and keeps it if it is the best so far.
    fn evaluate(&mut self) -> Result<()> {
        let step = self.progress.step;
        let predictions = self.predict()?;
        let evaluation = Evaluation::of(&predictions, &self.sentences.validation)?;
        if !evaluation.loss.is_finite() {
            let loss = evaluation.loss;
            return Err(Error::diverged(format!(
                "the validation loss is {loss} after step {step}"
            )));
        }
        self.metrics.evaluation(step, &evaluation)?;
        let best = self.progress.improve(&evaluation);
        if best {
            self.directory.save_best(self.session, &self.model)?;
        }
        self.predictions = Some(predictions);
        (self.on)(Event::Evaluated { step, evaluation, best });
        self.progress.seconds = self.collector.seconds();
        Ok(())
    }

    fn predict(&mut self) -> Result<Vec<Prediction>> {
        self.trainer.settle(self.session)?;
        let together = self.settings.part_size();
        self.evaluator.predict(self.session, &self.sentences.validation, together, |_| {})
    }

    /// Writes a checkpoint to resume from.
    fn save(&mut self) -> Result<()> {
        self.trainer.settle(self.session)?;
        self.progress.loss_scale = self.trainer.loss_scale(self.session)?;
        self.directory.save(self.session, &self.model, &self.progress)?;
        self.saved = Some(self.progress.step);
        (self.on)(Event::Saved { step: self.progress.step });
        Ok(())
    }

    /// What is said of a run that an error has ended: if the device failed, where it can go on.
    fn failed(&self, why: Error) -> Error {
        if why.kind() != Kind::Device {
            return why;
        }
        let output = self.directory.path.display();
        let place = format!("at step {}", self.progress.step);
        match self.saved {
            Some(saved) => why
                .at(format!("{place} (the state after step {saved} is in {output})"))
                .advice(Advice::ResumeLighter),
            None => why
                .at(format!("{place} (nothing is saved yet in {output})"))
                .advice(Advice::StartLighter),
        }
    }

    /// What is said of a run that was asked to stop, and has saved.
    fn interrupted(&self, total: u32) -> Error {
        Error::interrupted(format!(
            "stopped after step {} of {total}; the state is in {}",
            self.progress.step,
            self.directory.path.display()
        ))
        .advice(Advice::Resume)
    }

    /// Says how it ended, and writes the model.
    fn end(mut self) -> Result<Outcome> {
        let predictions = match self.predictions.take() {
            Some(predictions) => predictions,
            // Resumed after the last step: nothing was left but to say how it ended.
            None => self.predict()?,
        };
        let evaluation_pairs = self.evaluator.pairs().clone();
        let Sentences { validation, learnt, .. } = self.sentences;
        let last = Evaluation::of(&predictions, validation)?;
        let training = self.evaluator.evaluate(self.session, learnt, self.settings.part_size())?;
        self.directory.save_predictions(&predictions, validation)?;
        self.directory.save_model(self.session, &self.model)?;
        let progress = self.progress;
        let result = RunResult {
            eval_accuracy: last.accuracy,
            eval_loss: last.loss,
            examples: last.examples,
            training,
            best_accuracy: progress.best_accuracy.unwrap_or(last.accuracy),
            best_step: progress.best_step.unwrap_or(progress.step),
            steps: progress.step,
            skipped_steps: progress.skipped_steps,
            seconds: progress.seconds,
            device_bytes: self.session.device.peak_bytes(),
            training_pairs: progress.pairs,
            evaluation_pairs,
            attention_seconds: progress.attention_seconds,
            head_dim: self.model.config.encoder.head_dim(),
        };
        self.record.result = Some(result.clone());
        self.directory.write_record(&self.record)?;
        let Self { model, validation, directory, .. } = self;
        Ok(Outcome { model, validation, result, directory })
    }
}
