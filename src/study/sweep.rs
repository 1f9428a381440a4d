//! A sweep: the runs of a study, one after another, each in its own directory, so that a sweep that
//! was stopped goes on where it was, and several machines can share it.
//!
//! ```text
//! study.json                       what is compared, with which settings
//! runs/topk-0.8-seed-1/run.json …  a run directory for each configuration and seed
//! ```

use super::collected::{directory_of, read_record};
use super::design::{Run, Shard, Study};
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::Model;
use crate::report::run_page;
use crate::train::{Event, HeldDirectory, Job, RunRecord, Session, Settings, Start, look, train};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a sweep tells while it goes on.
pub enum StudyEvent<'a> {
    /// A run begins, or goes on: its number from 1, and how many there are here.
    Begun(&'a Run, usize, usize),
    /// A run was done before.
    Done(&'a Run),
    /// Another process is at it.
    Busy(&'a Run),
    /// A run has diverged, now or before; the others go on.
    Diverged(&'a Run, &'a str),
    /// Something happened in the run.
    In(Event),
    /// A run has ended with this record.
    Ended(&'a Run, &'a RunRecord),
}

/// What a sweep is given from outside.
pub struct Resources<'a> {
    /// Opens the device anew.
    pub open: &'a dyn Fn() -> Result<Session>,
    /// Reads the model (what it lacks is drawn from the seed), training and validation sentences.
    pub load: &'a dyn Fn(u64) -> Result<(Model, Dataset, Dataset)>,
    /// Sentences whose attention is shown; without any, some that the models are judged on.
    pub show: &'a [String],
    /// Ends the sweep after the step under way.
    pub stop: &'a AtomicBool,
}

/// Where a run of a study stands.
enum State {
    /// It is to be run.
    New,
    /// It was stopped, and goes on.
    Stopped,
    /// It is done, with its page.
    Done,
    /// It has diverged, for this reason.
    Diverged(String),
}

/// A run that is at hand: its directory is this process's until it is dropped.
struct Held<'a> {
    run: &'a Run,
    settings: Settings,
    directory: HeldDirectory,
}

/// Runs what is left of a shard. A run that is done is not repeated, one that was stopped goes on.
/// Models are removed once a run is done, unless they are to be kept.
///
/// # Errors
/// As [`train`]; a run directory of other settings.
pub fn run(
    study: &Study,
    root: &Path,
    shard: Shard,
    keep_models: bool,
    resources: &Resources<'_>,
    on: &mut dyn FnMut(StudyEvent<'_>),
) -> Result<()> {
    let all = study.runs();
    let count = all.len();
    let runs = all.into_iter().enumerate().filter(|(number, _)| shard.holds(*number, count));
    let runs: Vec<Run> = runs.map(|(_, run)| run).collect();
    for (number, run) in runs.iter().enumerate() {
        if resources.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted(format!("stopped before {}", run.name)));
        }
        // Held from before the records are read to after they are written.
        let Some(directory) = HeldDirectory::take_if_free(directory_of(root, run).path)? else {
            on(StudyEvent::Busy(run));
            continue;
        };
        let held = Held { run, settings: study.settings_of(run), directory };
        let start = match held.state()? {
            State::Done => {
                on(StudyEvent::Done(run));
                continue;
            }
            State::Diverged(why) => {
                on(StudyEvent::Diverged(run, &why));
                continue;
            }
            State::Stopped => Start::Resume,
            State::New => Start::New,
        };
        on(StudyEvent::Begun(run, number + 1, runs.len()));
        held.train(study, root, start, keep_models, resources, on)?;
    }
    Ok(())
}

impl Held<'_> {
    /// What its directory says of it. A page that was lost is made again.
    fn state(&self) -> Result<State> {
        let directory = &self.directory;
        if !directory.record().exists() {
            return Ok(State::New);
        }
        let record = read_record(directory)?;
        let differences = self.settings.differences(&record.settings);
        if !differences.is_empty() {
            return Err(Error::input(format!(
                "{}: that run was made otherwise: {}",
                directory.path.display(),
                differences.join("; ")
            ))
            .remedy("Remove its directory, or choose another --output."));
        }
        if let Some(why) = record.diverged {
            return Ok(State::Diverged(why));
        }
        if record.result.is_none() {
            return Ok(State::Stopped);
        }
        let report = directory.report();
        // Where its page was lost and its models are gone, the records are all that is left.
        if directory.newest()?.is_none() && !report.exists() {
            files::write(&report, run_page(directory)?.as_bytes())?;
        }
        // With a checkpoint and no page it was stopped on its way out, and goes on with that.
        Ok(if report.exists() { State::Done } else { State::Stopped })
    }

    /// Trains it, and writes what a study keeps of a run.
    fn train(
        self,
        study: &Study,
        root: &Path,
        start: Start,
        keep_models: bool,
        resources: &Resources<'_>,
        on: &mut dyn FnMut(StudyEvent<'_>),
    ) -> Result<()> {
        let Self { run, settings, directory } = self;
        let (model, train_set, validation) = (resources.load)(run.seed)?;
        check_data(study, root, [&train_set, &validation])?;
        let mut session = (resources.open)()?;
        let job = Job {
            model_name: study.model.clone(),
            settings: settings.clone(),
            start,
            // One step is timed kernel by kernel, where the adapter keeps time: attention beside
            // its operations.
            profile: session.device.timestamps(1).is_ok(),
            ..Job::new(model, train_set, validation, directory)
        };
        let tell = |event| on(StudyEvent::In(event));
        let outcome = match train(&mut session, job, resources.stop, tell) {
            Err(why) if why.kind() == Kind::Diverged => {
                let why = why.to_string();
                record_divergence(root, run, &why)?;
                on(StudyEvent::Diverged(run, &why));
                return Ok(());
            }
            outcome => outcome?,
        };
        let directory = &outcome.directory;
        look(&mut session, &outcome, &settings, resources.show)?.write(&directory.attention())?;
        files::write(&directory.report(), run_page(directory)?.as_bytes())?;
        if !keep_models {
            directory.discard_model()?;
        }
        on(StudyEvent::Ended(run, &RunRecord::read(&directory.record())?));
        Ok(())
    }
}

/// Writes into a run's record why it has no result.
fn record_divergence(root: &Path, run: &Run, why: &str) -> Result<()> {
    let directory = HeldDirectory::take(directory_of(root, run).path)?;
    let record = read_record(&directory)?;
    directory.write_record(&RunRecord { diverged: Some(why.into()), ..record })
}

/// Refuses data that are others than those of the runs that are done, before anything is trained on
/// them.
fn check_data(study: &Study, root: &Path, sets: [&Dataset; 2]) -> Result<()> {
    for run in study.runs() {
        let directory = directory_of(root, &run);
        if !directory.record().exists() {
            continue;
        }
        let record = read_record(&directory)?;
        if record.result.is_none() {
            continue;
        }
        for (set, before) in sets.iter().zip([&record.data.train, &record.data.validation]) {
            if set.fingerprint != before.fingerprint {
                return Err(Error::input(format!(
                    "{}: it has changed since {} was run",
                    set.path.display(),
                    run.name
                ))
                .remedy("Take the data that the study began with, or another --output."));
            }
        }
        break;
    }
    Ok(())
}
