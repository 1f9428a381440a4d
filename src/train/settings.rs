//! Every setting of a training run, in one visible block.

use crate::error::{Error, Result};
use crate::sparsity::Policy;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a run is trained with. Written to `run.json`, compared on `--resume`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Sparsity policy, e.g. `dense` or `topk:0.8`.
    pub sparsity: String,
    /// Passes over the training set; `max_steps` overrides it.
    pub epochs: u32,
    /// Optimizer steps, if they are to end before or after the epochs.
    pub max_steps: Option<u32>,
    /// Sentences per step.
    pub batch_size: usize,
    /// Parts of a step, one after another: memory of one, the result of the whole.
    pub gradient_accumulation: usize,
    /// Word pieces kept of a sentence, `[CLS]` and `[SEP]` included.
    pub max_length: usize,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Steps of warm-up; by default 6 % of all.
    pub warmup_steps: Option<u32>,
    /// AdamW's decoupled decay; not on biases and LayerNorms.
    pub weight_decay: f32,
    /// Largest global gradient norm; 0 clips nothing.
    pub clip: f32,
    /// Overrides every dropout probability of the model.
    pub dropout: Option<f32>,
    /// Overrides the model's dropout of attention weights, also where `dropout` is given.
    #[serde(default)]
    pub attention_dropout: Option<f32>,
    /// Data order, fresh weights and dropout follow from it.
    pub seed: u64,
    /// A new order of the training set in each epoch.
    pub shuffle: bool,
    /// Training sentences used, from the start of the file.
    pub max_train_samples: Option<usize>,
    /// Evaluation sentences used, from the start of the file.
    pub max_eval_samples: Option<usize>,
    /// Steps between evaluations; by default once an epoch. There is one at the end in any case.
    pub eval_every: Option<u32>,
    /// Steps between checkpoints; by default at each evaluation.
    pub save_every: Option<u32>,
    /// Compute activations again in backward instead of keeping them.
    #[serde(default)]
    pub checkpoint_activations: bool,
    /// `f32`.
    pub precision: String,
}

impl Default for Settings {
    /// The recipe for fine-tuning a pretrained model.
    fn default() -> Self {
        Self {
            sparsity: Policy::dense().to_string(),
            epochs: 3,
            max_steps: None,
            batch_size: 32,
            gradient_accumulation: 1,
            max_length: 128,
            learning_rate: 5e-5,
            warmup_steps: None,
            weight_decay: 0.01,
            clip: 1.0,
            dropout: None,
            attention_dropout: None,
            seed: 42,
            shuffle: true,
            max_train_samples: None,
            max_eval_samples: None,
            eval_every: None,
            save_every: None,
            checkpoint_activations: false,
            precision: "f32".into(),
        }
    }
}

impl Settings {
    /// The sparsity policy.
    ///
    /// # Errors
    /// It is none.
    pub fn policy(&self) -> Result<Policy> {
        self.sparsity.parse()
    }

    /// Steps of the whole run over so many examples.
    pub fn total_steps(&self, examples: usize) -> u32 {
        let per_epoch = examples.div_ceil(self.batch_size.max(1)) as u64;
        let total = self.max_steps.map_or(per_epoch * u64::from(self.epochs), u64::from);
        total.min(u64::from(u32::MAX)) as u32
    }

    /// Refuses values that cannot mean anything.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        self.policy()?;
        let refuse = |name: &str, value: String, wanted: &str| {
            Err(Error::usage(format!("--{name} {value}: it must be {wanted}")))
        };
        if self.batch_size == 0 || self.batch_size > crate::data::Batch::MAX {
            return refuse("batch-size", self.batch_size.to_string(), "between 1 and 65,535");
        }
        if self.epochs == 0 && self.max_steps.is_none() {
            return refuse("epochs", "0".into(), "at least 1");
        }
        if self.max_steps == Some(0) {
            return refuse("max-steps", "0".into(), "at least 1");
        }
        if self.max_length < 3 {
            let wanted = "at least 3 ([CLS], one word piece, [SEP])";
            return refuse("max-length", self.max_length.to_string(), wanted);
        }
        for (name, value) in [
            ("learning-rate", self.learning_rate),
            ("weight-decay", self.weight_decay),
            ("clip", self.clip),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(name, value.to_string(), "a number of 0 or more");
            }
        }
        for (name, value) in
            [("dropout", self.dropout), ("attention-dropout", self.attention_dropout)]
        {
            if let Some(dropout) = value.filter(|p| !(0.0..1.0).contains(p)) {
                return refuse(name, dropout.to_string(), "in [0, 1)");
            }
        }
        for (name, value) in [("eval-every", self.eval_every), ("save-every", self.save_every)] {
            if value == Some(0) {
                return refuse(name, "0".into(), "at least 1");
            }
        }
        for (name, value) in [
            ("max-train-samples", self.max_train_samples),
            ("max-eval-samples", self.max_eval_samples),
        ] {
            if value == Some(0) {
                return refuse(name, "0".into(), "at least 1");
            }
        }
        if self.precision != "f32" {
            return refuse("precision", self.precision.clone(), "f32");
        }
        Ok(())
    }

    /// The settings that differ, by name, with both values: what a resumed run may not change.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let value = |settings: &Self| serde_json::to_value(settings).unwrap_or_default();
        let (ours, theirs) = (value(self), value(other));
        let mut found = Vec::new();
        for (name, ours) in ours.as_object().into_iter().flatten() {
            let theirs = &theirs[name];
            if ours != theirs {
                found.push(format!("{name} was {} and is {}", shown(theirs), shown(ours)));
            }
        }
        found
    }
}

/// A setting as a person writes it. Those in float32 are stored in float64: 5e-5 would read
/// 0.0000499999987….
pub fn shown(setting: &serde_json::Value) -> String {
    match setting {
        serde_json::Value::Null => "default".into(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) if number.is_f64() => {
            (number.as_f64().unwrap_or_default() as f32).to_string()
        }
        other => other.to_string(),
    }
}

/// Settings of which each may be absent: a configuration file, or the flags of a command.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs)] // each is the setting of the same name in `Settings`
pub struct SettingsFile {
    pub model: Option<String>,
    pub data: Option<String>,
    pub output: Option<std::path::PathBuf>,
    pub sparsity: Option<String>,
    pub epochs: Option<u32>,
    pub max_steps: Option<u32>,
    pub batch_size: Option<usize>,
    pub max_length: Option<usize>,
    pub learning_rate: Option<f32>,
    pub warmup_steps: Option<u32>,
    pub weight_decay: Option<f32>,
    pub clip: Option<f32>,
    pub dropout: Option<f32>,
    pub attention_dropout: Option<f32>,
    pub seed: Option<u64>,
    pub shuffle: Option<bool>,
    pub max_train_samples: Option<usize>,
    pub max_eval_samples: Option<usize>,
    pub eval_every: Option<u32>,
    pub save_every: Option<u32>,
    pub checkpoint_activations: Option<bool>,
    pub precision: Option<String>,
}

impl SettingsFile {
    /// Reads a TOML file of settings, named as the command's flags are.
    ///
    /// # Errors
    /// No file, no TOML, or a key that is no setting: names the file and the line.
    pub fn load(path: &Path) -> Result<Self> {
        let text = crate::files::read_text(path)?;
        toml::from_str(&text).map_err(|why| {
            Error::input(format!("{}: {why}", path.display()))
                .remedy("Keys are the names of the flags, e.g. `batch-size = 16`.")
        })
    }

    /// These settings, where given, else the other's.
    pub fn over(self, other: Self) -> Self {
        Self {
            model: self.model.or(other.model),
            data: self.data.or(other.data),
            output: self.output.or(other.output),
            sparsity: self.sparsity.or(other.sparsity),
            epochs: self.epochs.or(other.epochs),
            max_steps: self.max_steps.or(other.max_steps),
            batch_size: self.batch_size.or(other.batch_size),
            max_length: self.max_length.or(other.max_length),
            learning_rate: self.learning_rate.or(other.learning_rate),
            warmup_steps: self.warmup_steps.or(other.warmup_steps),
            weight_decay: self.weight_decay.or(other.weight_decay),
            clip: self.clip.or(other.clip),
            dropout: self.dropout.or(other.dropout),
            attention_dropout: self.attention_dropout.or(other.attention_dropout),
            seed: self.seed.or(other.seed),
            shuffle: self.shuffle.or(other.shuffle),
            max_train_samples: self.max_train_samples.or(other.max_train_samples),
            max_eval_samples: self.max_eval_samples.or(other.max_eval_samples),
            eval_every: self.eval_every.or(other.eval_every),
            save_every: self.save_every.or(other.save_every),
            checkpoint_activations: self.checkpoint_activations.or(other.checkpoint_activations),
            precision: self.precision.or(other.precision),
        }
    }

    /// The settings of a run: these where given, else those of the recipe.
    ///
    /// # Errors
    /// Values that cannot mean anything.
    pub fn complete(&self, recipe: Settings) -> Result<Settings> {
        let given = self.clone();
        let settings = Settings {
            // Written as it is understood, so that two spellings of one policy are one.
            sparsity: match given.sparsity {
                Some(text) => text.parse::<Policy>()?.to_string(),
                None => recipe.sparsity,
            },
            epochs: given.epochs.unwrap_or(recipe.epochs),
            max_steps: given.max_steps.or(recipe.max_steps),
            batch_size: given.batch_size.unwrap_or(recipe.batch_size),
            max_length: given.max_length.unwrap_or(recipe.max_length),
            learning_rate: given.learning_rate.unwrap_or(recipe.learning_rate),
            warmup_steps: given.warmup_steps.or(recipe.warmup_steps),
            weight_decay: given.weight_decay.unwrap_or(recipe.weight_decay),
            clip: given.clip.unwrap_or(recipe.clip),
            dropout: given.dropout.or(recipe.dropout),
            attention_dropout: given.attention_dropout.or(recipe.attention_dropout),
            seed: given.seed.unwrap_or(recipe.seed),
            shuffle: given.shuffle.unwrap_or(recipe.shuffle),
            max_train_samples: given.max_train_samples.or(recipe.max_train_samples),
            max_eval_samples: given.max_eval_samples.or(recipe.max_eval_samples),
            eval_every: given.eval_every.or(recipe.eval_every),
            save_every: given.save_every.or(recipe.save_every),
            checkpoint_activations: given
                .checkpoint_activations
                .unwrap_or(recipe.checkpoint_activations),
            precision: given.precision.unwrap_or(recipe.precision),
        };
        settings.check()?;
        Ok(settings)
    }
}
