//! Where a model or a data set comes from: a path, the hub, or the embedded quickstart.

use super::note;
use crate::data::{Dataset, Split, Tokenizer};
use crate::error::{Error, Result};
use crate::model::hub::{self, Kind};
use crate::model::{Config, Task, checkpoint};
use crate::model::{Model, load_model};
use crate::train::Settings;
use std::path::{Path, PathBuf};

/// The name of the embedded model and data.
pub const QUICKSTART: &str = "quickstart";
/// The paper's model and data, where nothing else is named.
pub const MODEL: &str = "distilbert/distilbert-base-uncased";
/// See [`MODEL`].
pub const DATA: &str = "stanfordnlp/sst2";

const CONFIG: &str = include_str!("../../assets/quickstart/config.json");
const VOCABULARY: &str = include_str!("../../assets/quickstart/vocab.txt");
const TRAIN: &str = include_str!("../../assets/quickstart/train.tsv");
const VALIDATION: &str = include_str!("../../assets/quickstart/dev.tsv");

/// The recipe for the quickstart: a small model from fresh weights wants a higher rate.
pub fn quickstart_recipe() -> Settings {
    Settings { learning_rate: 1e-3, warmup_steps: Some(40), ..Settings::default() }
}

/// Reads a model's configuration alone.
pub fn config(name: &str) -> Result<Config> {
    if name == QUICKSTART && !Path::new(name).exists() {
        return Config::from_json(Path::new("assets/quickstart/config.json"), CONFIG);
    }
    Config::load(&directory(Kind::Model, name)?)
}

/// Reads a model. Parameters that it lacks are drawn from `seed`.
pub fn model(name: &str, seed: u64) -> Result<Model> {
    if name == QUICKSTART && !Path::new(name).exists() {
        let config = config(name)?;
        let tokenizer = Tokenizer::from_vocabulary(VOCABULARY, true)?;
        let weights = checkpoint::fresh(&config, seed);
        return Model::new(config, tokenizer, weights);
    }
    let model = load_model(&directory(Kind::Model, name)?, seed)?;
    let count = model.weights.parameters.len();
    let list = |names: &[String]| {
        let shown = names.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > 6 { format!("{shown}, …") } else { shown }
    };
    match model.weights.fresh.len() {
        0 => {}
        fresh if fresh == count => note(&format!(
            "{name}: no weights there, all {count} parameters are drawn from seed {seed}"
        )),
        fresh => note(&format!(
            "{name}: {fresh} parameters are new, drawn from seed {seed}: {}",
            list(&model.weights.fresh)
        )),
    }
    if !model.weights.unused.is_empty() {
        note(&format!(
            "{name}: {} tensors of the checkpoint are not used: {}",
            model.weights.unused.len(),
            list(&model.weights.unused)
        ));
    }
    Ok(model)
}

/// Reads a model that is to learn from `data`. The paper's does not name its labels: they are those
/// of the paper's data.
pub fn model_for(data: &str, name: &str, seed: u64) -> Result<Model> {
    let mut model = model(name, seed)?;
    if name == MODEL && data == DATA {
        model.config.task = Task::Classes { labels: vec!["NEGATIVE".into(), "POSITIVE".into()] };
    }
    Ok(model)
}

/// Reads one split of a data set.
pub fn dataset(name: &str, split: Split, labels: &[String]) -> Result<Dataset> {
    if name == QUICKSTART && !Path::new(name).exists() {
        let (file, text) = match split {
            Split::Train => ("train.tsv", TRAIN),
            Split::Validation => ("dev.tsv", VALIDATION),
            Split::Test => {
                return Err(Error::input("the quickstart has no test split")
                    .remedy("It has `train` and `validation`."));
            }
        };
        let path = Path::new("assets/quickstart").join(file);
        return Dataset::from_tsv(&path, text.as_bytes(), labels);
    }
    Dataset::load(&directory(Kind::Dataset, name)?, split, labels)
}

/// Reads what a training run needs: its training and its validation sentences. Of one file, every
/// tenth sentence is held out.
pub fn training_data(name: &str, labels: &[String]) -> Result<(Dataset, Dataset)> {
    if !Path::new(name).is_file() {
        let train = dataset(name, Split::Train, labels)?;
        return Ok((train, dataset(name, Split::Validation, labels)?));
    }
    let mut train = dataset(name, Split::Train, labels)?;
    let validation = train.hold_out()?;
    note(&format!("{name}: every tenth sentence ({}) is held out", validation.examples.len()));
    Ok((train, validation))
}

fn directory(kind: Kind, name: &str) -> Result<PathBuf> {
    let what = match kind {
        Kind::Model => "a model's directory (config.json, model.safetensors, tokenizer.json)",
        Kind::Dataset => "a data file, or a directory with a train and a dev file",
    };
    if !Path::new(name).exists() && !hub::looks_like_id(name) {
        return Err(Error::input(format!("{name}: there is no such file or directory"))
            .remedy(format!("Name {what}, a hub id such as `org/name`, or `quickstart`.")));
    }
    let mut told = String::new();
    hub::locate(kind, name, &mut |file, done, total| {
        if told != file {
            told = file.to_owned();
            let size = total
                .map_or(String::new(), |total| format!(" ({})", super::progress::bytes(total)));
            if done < total.unwrap_or(u64::MAX) {
                note(&format!("{name}: fetching {file}{size}"));
            }
        }
    })
}
