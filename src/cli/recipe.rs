//! The flags that say how something is trained, and what they mean together with a file of settings.

use super::{note, progress, source};
use crate::error::Result;
use crate::model::hub::{self, Kind};
use crate::train::{Settings, SettingsFile};
use std::path::PathBuf;

/// What training runs have in common.
#[derive(clap::Args, Clone)]
pub struct Recipe {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// A directory with train and dev files, one file, a hub id, or `quickstart`.
    #[arg(long, value_name = "D")]
    data: Option<String>,
    /// Where it goes; by default a new directory under `runs/`, or for a study `studies/` and the model's name.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Settings in TOML, named as these flags; a flag wins over the file.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Passes over the training set [default: 3].
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Optimizer steps, instead of epochs.
    #[arg(long, value_name = "N")]
    max_steps: Option<u32>,
    /// Sentences per step [default: 32].
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Word pieces kept of a sentence [default: 128].
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Highest learning rate [default: 5e-5; quickstart 1e-3].
    #[arg(long, value_name = "F")]
    learning_rate: Option<f32>,
    /// Steps of warm-up [default: 6 % of all].
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u32>,
    /// Weight decay, not on biases and LayerNorms [default: 0.01].
    #[arg(long, value_name = "F")]
    weight_decay: Option<f32>,
    /// Largest global gradient norm, 0 for none [default: 1].
    #[arg(long, value_name = "F")]
    clip: Option<f32>,
    /// Override every dropout probability of the model.
    #[arg(long, value_name = "F")]
    dropout: Option<f32>,
    /// Override the model's dropout of attention weights.
    #[arg(long, value_name = "F")]
    attention_dropout: Option<f32>,
    /// Keep the order of the file.
    #[arg(long)]
    no_shuffle: bool,
    /// Use the first N training sentences.
    #[arg(long, value_name = "N")]
    max_train_samples: Option<usize>,
    /// Use the first N evaluation sentences.
    #[arg(long, value_name = "N")]
    max_eval_samples: Option<usize>,
    /// Steps between evaluations [default: an epoch].
    #[arg(long, value_name = "N")]
    eval_every: Option<u32>,
    /// Steps between checkpoints [default: at each evaluation].
    #[arg(long, value_name = "N")]
    save_every: Option<u32>,
    /// Keep no activations but those between the blocks, and compute the others again in backward: less
    /// memory for long inputs, a third more work, the same result.
    #[arg(long)]
    checkpoint_activations: bool,
    /// Precision of storage [default: f32].
    #[arg(long, value_name = "P", value_parser = ["f32"])]
    precision: Option<String>,
}

/// What is trained on what, and the settings that were given.
pub struct Chosen {
    /// The model's name.
    pub model: String,
    /// The data's name.
    pub data: String,
    /// Flags and file.
    pub given: SettingsFile,
    /// What holds where nothing was given.
    pub recipe: Settings,
    /// What to say with the result where the paper's task could not be had.
    pub fallback: Option<String>,
}

impl Recipe {
    /// The flags over the file, with `sparsity` and `seed`, where a command has such flags.
    ///
    /// # Errors
    /// A file that cannot be read, or that is none of settings.
    pub fn given(self, sparsity: Option<String>, seed: Option<u64>) -> Result<SettingsFile> {
        let file = match &self.config {
            Some(path) => SettingsFile::load(path)?,
            None => SettingsFile::default(),
        };
        let flags = SettingsFile {
            model: self.model,
            data: self.data,
            output: self.output,
            sparsity,
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            max_length: self.max_length,
            learning_rate: self.learning_rate,
            warmup_steps: self.warmup_steps,
            weight_decay: self.weight_decay,
            clip: self.clip,
            dropout: self.dropout,
            attention_dropout: self.attention_dropout,
            seed,
            shuffle: self.no_shuffle.then_some(false),
            max_train_samples: self.max_train_samples,
            max_eval_samples: self.max_eval_samples,
            eval_every: self.eval_every,
            save_every: self.save_every,
            checkpoint_activations: self.checkpoint_activations.then_some(true),
            precision: self.precision,
        };
        Ok(flags.over(file))
    }
}

/// What the settings are about: with neither model nor data the paper's task, or the quickstart where that
/// cannot be had.
pub fn choose(given: SettingsFile) -> Chosen {
    let mut fallback = None;
    let (model, data) = match (given.model.clone(), given.data.clone()) {
        (Some(model), Some(data)) => (model, data),
        (None, None) => match paper_task() {
            Ok(()) => (source::MODEL.into(), source::DATA.into()),
            Err(why) => {
                let text = format!(
                    "NOTE: {} or {} cannot be had here, so this trains the embedded quickstart: \
                     our own small corpus and a small model from fresh weights, not the paper's task.",
                    source::MODEL,
                    source::DATA
                );
                note(&format!("{text}\n  The reason: {why}"));
                fallback = Some(text);
                (source::QUICKSTART.into(), source::QUICKSTART.into())
            }
        },
        (Some(model), None) if model == source::QUICKSTART => (model.clone(), model),
        (None, Some(data)) if data == source::QUICKSTART => (data.clone(), data),
        (Some(model), None) => (model, source::DATA.into()),
        (None, Some(data)) => (source::MODEL.into(), data),
    };
    let recipe = match model == source::QUICKSTART {
        true => source::quickstart_recipe(),
        false => Settings::default(),
    };
    Chosen { model, data, given, recipe, fallback }
}

/// Looks for the paper's model and data, in the cache and then on the network.
fn paper_task() -> Result<()> {
    for (kind, id) in [(Kind::Model, source::MODEL), (Kind::Dataset, source::DATA)] {
        note(&format!("looking for {id} in the hub's cache, then on the network"));
        let mut told = String::new();
        hub::resolve(kind, id, &mut |file, _, total| {
            if told != file {
                told = file.to_owned();
                let size =
                    total.map_or(String::new(), |total| format!(" ({})", progress::bytes(total)));
                note(&format!("fetching {file}{size}"));
            }
        })?;
    }
    Ok(())
}
