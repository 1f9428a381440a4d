//! What there is of a study: the runs that are done, with all that they have left behind.

use super::design::{Run, Study};
use crate::engine::Inspection;
use crate::error::{Error, Result};
use crate::files;
use crate::train::{Curves, PredictionLine, RunDirectory, RunRecord};
use std::path::{Path, PathBuf};

/// What to do about records that cannot be read.
const AGAIN: &str = "The run's files are damaged, or of another version of Crisp: read them with the \
                     version that wrote them, or run it again elsewhere.";

/// Reads the record of a run.
///
/// # Errors
/// No such file, or a damaged one.
pub(super) fn read_record(directory: &RunDirectory) -> Result<RunRecord> {
    RunRecord::read(&directory.record()).map_err(|why| why.remedy(AGAIN))
}

/// The directory of a run.
pub(super) fn directory_of(root: &Path, run: &Run) -> RunDirectory {
    RunDirectory { path: root.join("runs").join(&run.name) }
}

/// A run that is done, with what it left behind.
#[derive(Debug, Clone)]
pub struct CollectedRun {
    /// Which one it is.
    pub run: Run,
    /// Its record, with its result.
    pub record: RunRecord,
    /// Its steps and evaluations.
    pub curves: Curves,
    /// What it says of each validation sentence.
    pub predictions: Vec<PredictionLine>,
    /// What its heads look at.
    pub attention: Option<Inspection>,
}

/// What there is of a study.
#[derive(Debug, Clone)]
pub struct Collected {
    /// What was to be compared.
    pub study: Study,
    /// The runs that are done.
    pub runs: Vec<CollectedRun>,
    /// Those that are not.
    pub missing: Vec<Run>,
    /// Those of them that have diverged.
    pub diverged: Vec<Run>,
}

impl Collected {
    /// Reads a study and its runs.
    ///
    /// # Errors
    /// No study there, or files of a run that are damaged.
    pub fn read(root: &Path) -> Result<Self> {
        let study = Study::read(root)?.ok_or_else(|| {
            Error::input(format!("{}: there is no study (no study.json)", root.display()))
                .remedy("Name the --output of a `crisp reproduce`.")
        })?;
        let mut collected =
            Self { study, runs: Vec::new(), missing: Vec::new(), diverged: Vec::new() };
        for run in collected.study.runs() {
            let directory = directory_of(root, &run);
            let exists = directory.record().exists();
            let record = exists.then(|| read_record(&directory)).transpose()?;
            if record.as_ref().is_some_and(|record| record.diverged.is_some()) {
                collected.diverged.push(run.clone());
            }
            match record {
                Some(record) if record.result.is_some() => {
                    let run = CollectedRun::read(run, record, &directory);
                    collected.runs.push(run.map_err(|why| why.remedy(AGAIN))?);
                }
                _ => collected.missing.push(run),
            }
        }
        Ok(collected)
    }
}

impl CollectedRun {
    /// Reads what a run has left, and holds it together.
    fn read(run: Run, record: RunRecord, directory: &RunDirectory) -> Result<Self> {
        let attention = directory.attention();
        let read = Self {
            run,
            curves: Curves::read(&directory.metrics())?,
            predictions: PredictionLine::read(&directory.predictions())?,
            attention: attention.exists().then(|| Inspection::read(&attention)).transpose()?,
            record,
        };
        read.check(directory)?;
        Ok(read)
    }

    /// Refuses files that contradict the run's result.
    fn check(&self, directory: &RunDirectory) -> Result<()> {
        let Some(result) = &self.record.result else { return Ok(()) };
        let right = |line: &&PredictionLine| line.predicted == line.label as usize;
        let count = self.predictions.len();
        let accuracy = self.predictions.iter().filter(right).count() as f64 / count.max(1) as f64;
        if count != result.examples || (accuracy - result.eval_accuracy).abs() > 1e-9 {
            return Err(Error::input(format!(
                "{}: {count} predictions with an accuracy of {accuracy:.4}, and run.json has {} \
                 with {:.4}",
                directory.predictions().display(),
                result.examples,
                result.eval_accuracy
            )));
        }
        if self.curves.steps.len() != result.steps as usize {
            return Err(Error::input(format!(
                "{}: {} steps, and run.json has {}",
                directory.metrics().display(),
                self.curves.steps.len(),
                result.steps
            )));
        }
        Ok(())
    }
}

/// Copies the records of the finished runs of other directories (of shards) into one study. Calls
/// `waiting` where another process is adding to that study.
///
/// # Errors
/// Studies that differ in more than seeds and configurations; what the operating system refuses.
pub fn merge(shards: &[PathBuf], root: &Path, waiting: &mut dyn FnMut(&Path)) -> Result<()> {
    for shard in shards {
        let there = Collected::read(shard)?;
        there.study.join(root, waiting)?;
        for run in &there.runs {
            copy_records(&directory_of(shard, &run.run), &directory_of(root, &run.run))?;
        }
    }
    Ok(())
}

/// Copies what a run has left behind, unless the other directory holds a run that is done.
fn copy_records(from: &RunDirectory, to: &RunDirectory) -> Result<()> {
    let done = |record: &RunRecord| record.result.is_some() || record.diverged.is_some();
    if to.record().exists() && done(&RunRecord::read(&to.record())?) {
        return Ok(());
    }
    files::create_dir(&to.path)?;
    // The record last: with it the run counts as done.
    for path in [
        RunDirectory::metrics,
        RunDirectory::predictions,
        RunDirectory::attention,
        RunDirectory::report,
        RunDirectory::record,
    ] {
        if path(from).exists() {
            files::write(&path(to), &files::read(&path(from))?)?;
        }
    }
    Ok(())
}
