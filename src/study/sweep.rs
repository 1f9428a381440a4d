//! A sweep: the runs of a study, one after another, each in its own directory, so that a sweep that was
//! stopped goes on where it was, and several machines can share it.
//!
//! ```text
//! study.json                       what is compared, with which settings
//! runs/topk-0.8-seed-1/run.json …  a run directory for each configuration and seed
//! ```

use crate::data::Dataset;
use crate::engine::Inspection;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::graph::Session;
use crate::model::Model;
use crate::report::run_page;
use crate::sparsity::Policy;
use crate::train::{
    Curves, Event, HeldDirectory, Job, PredictionLine, RunDirectory, RunRecord, Settings, Start,
    look, train,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One of the things that are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// What tables call it.
    pub name: String,
    /// The sparsity policy.
    pub sparsity: Policy,
    /// Dropout of attention weights, where it is not the model's own.
    pub attention_dropout: Option<f32>,
}

impl Configuration {
    /// A policy, with all else as in the others.
    pub fn of(policy: &Policy) -> Self {
        Self { name: policy.to_string(), sparsity: policy.clone(), attention_dropout: None }
    }

    /// Dense attention whose weights are dropped with another probability.
    pub fn attention_dropout(probability: f32) -> Self {
        Self {
            name: format!("dense, attention dropout {probability}"),
            sparsity: Policy::dense(),
            attention_dropout: Some(probability),
        }
    }
}

/// What is compared, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// The version of this program.
    pub crisp: String,
    /// What the user called the model.
    pub model: String,
    /// What the user called the data.
    pub data: String,
    /// What all runs share; seed and sparsity are each run's own.
    pub settings: Settings,
    /// What differs: the first is what the others are compared with.
    pub configurations: Vec<Configuration>,
    /// Each configuration is run once with each.
    pub seeds: Vec<u64>,
}

/// One run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Number of its configuration.
    pub configuration: usize,
    /// Its seed.
    pub seed: u64,
    /// Its directory's name, under `runs/`.
    pub name: String,
}

impl Study {
    /// All runs. Those of one seed stand together, so that what is done first has whole pairs.
    pub fn runs(&self) -> Vec<Run> {
        let slug = |name: &str| {
            let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
            let text: String =
                name.replace('→', "to").replace(", ", " ").chars().map(kept).collect();
            match text.len() {
                0..=100 => text,
                // File names end somewhere; what is cut off still tells two policies apart.
                _ => {
                    let hash = Sha256::digest(name);
                    format!("{}-{:02x}{:02x}{:02x}", &text[..90], hash[0], hash[1], hash[2])
                }
            }
        };
        let of = |seed: u64| {
            self.configurations.iter().enumerate().map(move |(configuration, of)| Run {
                configuration,
                seed,
                name: format!("{}-seed-{seed}", slug(&of.name)),
            })
        };
        self.seeds.iter().flat_map(|seed| of(*seed)).collect()
    }

    /// The settings of a run.
    pub fn settings_of(&self, run: &Run) -> Settings {
        let configuration = &self.configurations[run.configuration];
        Settings {
            sparsity: configuration.sparsity.clone(),
            attention_dropout: configuration.attention_dropout.or(self.settings.attention_dropout),
            seed: run.seed,
            ..self.settings.clone()
        }
    }

    /// Reads the study of a directory, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of a study.
    pub fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join("study.json");
        if !path.exists() {
            return Ok(None);
        }
        let mut study: Self = serde_json::from_slice(&files::read(&path)?)
            .map_err(|why| Error::input(format!("{}: {why}", path.display())))?;
        // A run that is named twice is still one run.
        let mut seen = HashSet::new();
        study.seeds.retain(|seed| seen.insert(*seed));
        Ok(Some(study))
    }

    /// Writes it to a directory, together with what a study that is there already compares: a sweep may be
    /// given more seeds or configurations later.
    ///
    /// # Errors
    /// Another model, data or settings there.
    pub fn join(mut self, root: &Path) -> Result<Self> {
        // Another process may be adding to it.
        let mut lock = files::lock(root)?;
        while lock.is_none() {
            std::thread::sleep(Duration::from_millis(50));
            lock = files::lock(root)?;
        }
        let there = Self::read(root)?;
        let foreign = ["report.html", "report.md", "report.json", "figures", "run.json"];
        if there.is_none()
            && let Some(name) = foreign.iter().find(|name| root.join(name).exists())
        {
            return Err(Error::input(format!(
                "{}: it is there already, and not of a study",
                root.join(name).display()
            ))
            .remedy("Choose another --output."));
        }
        if let Some(there) = there {
            self.check_like(&there, root)?;
            let (configurations, seeds) = (self.configurations, self.seeds);
            self.configurations = there.configurations;
            self.seeds = there.seeds;
            for configuration in configurations {
                if !self.configurations.contains(&configuration) {
                    self.configurations.push(configuration);
                }
            }
            for seed in seeds {
                if !self.seeds.contains(&seed) {
                    self.seeds.push(seed);
                }
            }
        }
        let mut text = serde_json::to_string_pretty(&self)
            .map_err(|why| Error::input(format!("study.json: {why}")))?;
        text.push('\n');
        files::write(&root.join("study.json"), text.as_bytes())?;
        Ok(self)
    }

    /// Refuses data that are others than those of the runs that are done, before anything is trained on them.
    fn check_data(&self, root: &Path, sets: [&Dataset; 2]) -> Result<()> {
        for run in self.runs() {
            let directory = RunDirectory { path: root.join("runs").join(&run.name) };
            if !directory.record().exists() {
                continue;
            }
            let record = read_record(&directory)?;
            if record.result.is_none() {
                continue;
            }
            for (set, of) in sets.iter().zip([&record.data.train, &record.data.validation]) {
                if set.fingerprint != of.fingerprint {
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

    fn check_like(&self, there: &Self, root: &Path) -> Result<()> {
        let mut differences = self.settings.differences(&there.settings);
        for (what, ours, theirs) in
            [("model", &self.model, &there.model), ("data", &self.data, &there.data)]
        {
            if ours != theirs {
                differences.push(format!("{what} was {theirs} and is {ours}"));
            }
        }
        if self.configurations.first() != there.configurations.first() {
            differences.push("its first configuration is another".into());
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::input(format!(
            "{}: a study with other settings is there: {}",
            root.display(),
            differences.join("; ")
        ))
        .remedy("Choose another --output, or the settings of its study.json."))
    }
}

/// Which part of the runs is done here: `I/N`, the I-th of N stretches, so that most seeds are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 on.
    pub index: usize,
    /// Into how many parts the runs are cut.
    pub count: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    fn holds(&self, run: usize, runs: usize) -> bool {
        run * self.count / runs.max(1) == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            Some(Self { index: index.parse().ok()?, count: count.parse().ok()? })
        });
        numbers.filter(|shard| (1..=shard.count).contains(&shard.index)).ok_or_else(|| {
            Error::usage(format!("--shard {text}: it is I/N, with I from 1 to N"))
                .remedy("`--shard 1/4` is the first of four parts.")
        })
    }
}

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
        let place = root.join("runs").join(&run.name);
        let Some(directory) = HeldDirectory::take_if_free(&place)? else {
            on(StudyEvent::Busy(run));
            continue;
        };
        let settings = study.settings_of(run);
        let mut begun = None;
        if directory.record().exists() {
            let record = read_record(&directory)?;
            let differences = settings.differences(&record.settings);
            if !differences.is_empty() {
                return Err(Error::input(format!(
                    "{}: that run was made otherwise: {}",
                    directory.path.display(),
                    differences.join("; ")
                ))
                .remedy("Remove its directory, or choose another --output."));
            }
            if let Some(why) = &record.diverged {
                on(StudyEvent::Diverged(run, why));
                continue;
            }
            if record.result.is_some() {
                let left = directory.newest()?.is_some();
                // Where its page was lost and its models are gone, the records are all that is left.
                if !left && !directory.report().exists() {
                    files::write(&directory.report(), run_page(&directory)?.as_bytes())?;
                }
                // With a checkpoint and no page it was stopped on its way out, and goes on with that.
                if directory.report().exists() {
                    on(StudyEvent::Done(run));
                    continue;
                }
            }
            begun = Some(record);
        }
        on(StudyEvent::Begun(run, number + 1, runs.len()));
        let (model, train_set, validation) = (resources.load)(run.seed)?;
        study.check_data(root, [&train_set, &validation])?;
        let mut session = (resources.open)()?;
        let job = Job {
            model_name: study.model.clone(),
            settings: settings.clone(),
            start: if begun.is_some() { Start::Resume } else { Start::New },
            // One step is timed kernel by kernel, where the adapter keeps time: attention beside
            // its operations.
            profile: session.device.timestamps(1).is_ok(),
            ..Job::new(model, train_set, validation, directory)
        };
        let tell = |event| on(StudyEvent::In(event));
        let outcome = match train(&mut session, job, resources.stop, tell) {
            Err(why) if why.kind() == Kind::Diverged => {
                let why = why.to_string();
                let directory = HeldDirectory::take(&place)?;
                let record = read_record(&directory)?;
                directory.write_record(&RunRecord { diverged: Some(why.clone()), ..record })?;
                on(StudyEvent::Diverged(run, &why));
                continue;
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
    }
    Ok(())
}

/// What to do about records that cannot be read.
const AGAIN: &str = "The run's files are damaged: remove its directory, and run it again.";

fn read_record(directory: &RunDirectory) -> Result<RunRecord> {
    RunRecord::read(&directory.record()).map_err(|why| why.remedy(AGAIN))
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
            let directory = RunDirectory { path: root.join("runs").join(&run.name) };
            let record = match directory.record().exists() {
                true => Some(read_record(&directory)?),
                false => None,
            };
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
            attention: match attention.exists() {
                true => Some(Inspection::read(&attention)?),
                false => None,
            },
            record,
        };
        let Some(result) = &read.record.result else { return Ok(read) };
        let right = |line: &&PredictionLine| line.predicted == line.label as usize;
        let accuracy = read.predictions.iter().filter(right).count() as f64
            / read.predictions.len().max(1) as f64;
        if read.predictions.len() != result.examples
            || (accuracy - result.eval_accuracy).abs() > 1e-9
        {
            return Err(Error::input(format!(
                "{}: {} predictions with an accuracy of {accuracy:.4}, and run.json has {} with {:.4}",
                directory.predictions().display(),
                read.predictions.len(),
                result.examples,
                result.eval_accuracy
            )));
        }
        if read.curves.steps.len() != result.steps as usize {
            return Err(Error::input(format!(
                "{}: {} steps, and run.json has {}",
                directory.metrics().display(),
                read.curves.steps.len(),
                result.steps
            )));
        }
        Ok(read)
    }
}

/// Copies the records of the finished runs of other directories (of shards) into one study.
///
/// # Errors
/// Studies that differ in more than seeds and configurations; what the operating system refuses.
pub fn merge(shards: &[PathBuf], root: &Path) -> Result<()> {
    for shard in shards {
        let there = Collected::read(shard)?;
        there.study.join(root)?;
        for found in &there.runs {
            let from = shard.join("runs").join(&found.run.name);
            let to = root.join("runs").join(&found.run.name);
            let record = to.join("run.json");
            let done = |record: &RunRecord| record.result.is_some() || record.diverged.is_some();
            if record.exists() && done(&RunRecord::read(&record)?) {
                continue;
            }
            files::create_dir(&to)?;
            // The record last: with it the run counts as done.
            for name in
                ["metrics.jsonl", "predictions.jsonl", "attention.json", "report.html", "run.json"]
            {
                let path = from.join(name);
                if path.exists() {
                    files::write(&to.join(name), &files::read(&path)?)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(seeds: &[u64]) -> Study {
        let policies = ["dense", "topk:0.2", "topk:0→0.8@1-2"];
        Study {
            crisp: "0".into(),
            model: "m".into(),
            data: "d".into(),
            settings: Settings::default(),
            configurations: policies
                .iter()
                .map(|policy| Configuration::of(&policy.parse().unwrap()))
                .chain([Configuration::attention_dropout(0.3)])
                .collect(),
            seeds: seeds.to_vec(),
        }
    }

    #[test]
    fn runs_of_one_seed_stand_together_and_shards_cover_them_once() {
        let study = study(&[1, 2, 3]);
        let runs = study.runs();
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(
            names[..4],
            [
                "dense-seed-1",
                "topk-0.2-seed-1",
                "topk-0to0.8-1-2-seed-1",
                "dense-attention-dropout-0.3-seed-1"
            ]
        );
        assert_eq!(runs.len(), 12);
        for count in [1, 5, 12, 20] {
            let mut seen = vec![0; runs.len()];
            for index in 1..=count {
                let shard: Shard = format!("{index}/{count}").parse().unwrap();
                (0..runs.len())
                    .filter(|run| shard.holds(*run, runs.len()))
                    .for_each(|run| seen[run] += 1);
            }
            assert!(seen.iter().all(|times| *times == 1), "{count}: {seen:?}");
        }
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_study_grows_by_seeds_and_refuses_other_settings() {
        let directory = tempfile::tempdir().unwrap();
        study(&[1, 2]).join(directory.path()).unwrap();
        let mut more = study(&[3, 2]);
        more.configurations.push(Configuration::of(&"local:4".parse().unwrap()));
        let joined = more.join(directory.path()).unwrap();
        assert_eq!(joined.seeds, [1, 2, 3]);
        assert_eq!(joined.configurations.len(), 5);
        let mut other = study(&[1]);
        other.settings.learning_rate = 1.0;
        let error = other.join(directory.path()).unwrap_err().to_string();
        assert!(error.contains("learning_rate"), "{error}");
    }
}
