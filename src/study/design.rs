//! The design of a study: which configurations are compared, with which seeds and settings.

use crate::error::{Error, Result};
use crate::files;
use crate::sparsity::Policy;
use crate::train::{RunDirectory, Settings};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// The design, in a study's directory.
const STUDY: &str = "study.json";

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

impl Run {
    fn new(configuration: usize, name: &str, seed: u64) -> Self {
        Self { configuration, seed, name: format!("{}-seed-{seed}", file_name(name)) }
    }
}

/// A configuration's name as it may stand in a file's name on every system.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let text: String = name.replace('→', "to").replace(", ", " ").chars().map(plain).collect();
    if text.len() <= 100 {
        return text;
    }
    // File names end somewhere; what is cut off still tells two policies apart.
    let hash = Sha256::digest(name);
    format!("{}-{:02x}{:02x}{:02x}", &text[..90], hash[0], hash[1], hash[2])
}

impl Study {
    /// All runs. Those of one seed stand together, so that what is done first has whole pairs.
    pub fn runs(&self) -> Vec<Run> {
        let of_seed = |seed: u64| {
            let all = self.configurations.iter().enumerate();
            all.map(move |(number, configuration)| Run::new(number, &configuration.name, seed))
        };
        self.seeds.iter().flat_map(|seed| of_seed(*seed)).collect()
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
        let path = root.join(STUDY);
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

    /// Writes it to a directory, together with what a study that is there already compares: a sweep
    /// may be given more seeds or configurations later. Calls `waiting` once if another process is
    /// adding to it, and waits until that is done.
    ///
    /// # Errors
    /// Another model, data or settings there.
    pub fn join(mut self, root: &Path, waiting: &mut dyn FnMut(&Path)) -> Result<Self> {
        let mut lock = files::lock(root)?;
        if lock.is_none() {
            waiting(root);
        }
        while lock.is_none() {
            std::thread::sleep(Duration::from_millis(50));
            lock = files::lock(root)?;
        }
        match Self::read(root)? {
            Some(there) => {
                self.check_like(&there, root)?;
                self.extend(there);
            }
            None => check_free(root)?,
        }
        files::write_json(&root.join(STUDY), &self)?;
        Ok(self)
    }

    /// Puts what another design compares before what this one does.
    fn extend(&mut self, there: Self) {
        let configurations = std::mem::replace(&mut self.configurations, there.configurations);
        let seeds = std::mem::replace(&mut self.seeds, there.seeds);
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

/// Refuses a directory whose files, which a study would replace, are something else's.
fn check_free(root: &Path) -> Result<()> {
    let reports = ["report.html", "report.md", "report.json", "figures"];
    let record = RunDirectory { path: root.into() }.record();
    let mut foreign = reports.iter().map(|name| root.join(name)).chain([record]);
    match foreign.find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(Error::input(format!(
            "{}: it is there already, and not of a study",
            path.display()
        ))
        .remedy("Choose another --output.")),
    }
}

/// Which part of the runs is done here: `I/N`, the I-th of N stretches, so that most seeds are
/// whole.
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

    /// Whether a run of so many is among its own.
    pub(super) fn holds(&self, run: usize, runs: usize) -> bool {
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
        let mut no_wait = |_: &Path| panic!("nobody else is there");
        study(&[1, 2]).join(directory.path(), &mut no_wait).unwrap();
        let mut more = study(&[3, 2]);
        more.configurations.push(Configuration::of(&"local:4".parse().unwrap()));
        let joined = more.join(directory.path(), &mut no_wait).unwrap();
        assert_eq!(joined.seeds, [1, 2, 3]);
        assert_eq!(joined.configurations.len(), 5);
        let mut other = study(&[1]);
        other.settings.learning_rate = 1.0;
        let error = other.join(directory.path(), &mut no_wait).unwrap_err().to_string();
        assert!(error.contains("learning_rate"), "{error}");
    }

    #[test]
    fn a_study_that_another_process_adds_to_is_waited_for_and_that_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = files::lock(directory.path()).unwrap();
        let mut waits = Vec::new();
        // The other process is done as soon as it is waited for.
        let mut waiting = |root: &Path| {
            waits.push(root.to_owned());
            drop(lock.take().expect("told twice"));
        };
        study(&[1]).join(directory.path(), &mut waiting).unwrap();
        assert_eq!(waits, [directory.path()]);
        assert!(Study::read(directory.path()).unwrap().is_some());
    }
}
