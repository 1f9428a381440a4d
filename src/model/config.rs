//! `config.json`: the sizes and settings of a DistilBERT-like encoder with a classification head.
//!
//! Every family has its own spelling, which is read into one [`Config`]; one is written, a
//! DistilBERT configuration that `transformers` loads.

use super::family::{FAMILIES, Family, LAYER_NORM_EPS};
use super::keys::{Keys, shown};
use super::{Encoder, Head, Task};
use crate::error::{Error, Result};
use crate::files;
use crate::kernels::matmul::Activation;
use crate::model::files::CONFIG;
use crate::sparsity::Policy;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// More elements than one tensor may have: 2³⁰ float32 are 4 GiB, the end of a 32-bit byte index.
const MOST_ELEMENTS: u128 = 1 << 30;
/// More parameters than a model may have (16 GiB in float32).
const MOST_PARAMETERS: u128 = 1 << 32;
const MOST_LAYERS: usize = 1024;
const MOST_LABELS: usize = 1 << 16;

/// The architecture of a model: everything about it but the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// From tokens to hidden states.
    pub encoder: Encoder,
    /// From hidden states to outputs.
    pub head: Head,
    /// What the outputs mean.
    pub task: Task,
    /// The sparsity policy that the model was trained with.
    pub sparsity: Option<Policy>,
}

impl Config {
    /// Reads `config.json` in a model's directory.
    ///
    /// # Errors
    /// Where the file cannot be read, and as [`Config::from_json`].
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            let message = if dir.is_dir() {
                format!("{}: no config.json in this directory", dir.display())
            } else {
                format!("{}: no such directory", dir.display())
            };
            return Err(Error::input(message).remedy(
                "A model is a directory with config.json, model.safetensors and tokenizer files.",
            ));
        }
        Self::from_json(&path, &files::read_text(&path)?)
    }

    /// Reads a configuration from text; `path` is what errors call it.
    ///
    /// Keys that do not change what is computed are ignored, as `transformers` does.
    ///
    /// # Errors
    /// Text that is not JSON, a model outside the family (another `model_type`, a decoder, relative
    /// positions, another activation, regression), and sizes that contradict each other or cannot
    /// be held. The message names the file, the key and the value.
    pub fn from_json(path: &Path, text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|why| {
            Error::input(format!("{}: not JSON: {why}", path.display()))
                .remedy("Download or save the model again.")
        })?;
        let Value::Object(map) = &value else {
            return Err(Error::input(format!(
                "{}: a JSON object is needed, this is {}",
                path.display(),
                shown(&value)
            )));
        };
        let keys = Keys { path, map };
        let (encoder, head) = (keys.family()?.describe)(&keys)?;
        let task = Task::Classes { labels: keys.labels()? };
        let config = Config { encoder, head, task, sparsity: keys.crisp()?.sparsity()? };
        config.check(&keys)?;
        Ok(config)
    }

    /// The same model with other probabilities of dropout: of all kinds, and of attention weights.
    pub fn with_dropout(&self, all: Option<f32>, attention: Option<f32>) -> Self {
        let mut config = self.clone();
        let Head::FirstToken { dropout } = &mut config.head;
        *dropout = all.unwrap_or(*dropout);
        config.encoder.dropout = all.unwrap_or(config.encoder.dropout);
        config.encoder.attention_dropout =
            attention.or(all).unwrap_or(config.encoder.attention_dropout);
        config
    }

    /// The configuration as the text of a `config.json` for
    /// `transformers.DistilBertForSequenceClassification`.
    ///
    /// It reads back here as an equal [`Config`]. What a checkpoint of BERT loses on the way: BERT
    /// drops elements after the attention output too, DistilBERT does not; and `transformers`
    /// computes every DistilBERT with the LayerNorm ε 1e-12 (see [`Encoder::layer_norm_eps`]).
    pub fn to_json(&self) -> String {
        let Self { encoder, head, task, sparsity } = self;
        let Head::FirstToken { dropout: head_dropout } = head;
        let by_id = task.labels().iter().enumerate();
        let epsilon = encoder.layer_norm_eps;
        let written = Written {
            activation: encoder.activation,
            architectures: ["DistilBertForSequenceClassification"],
            attention_dropout: encoder.attention_dropout,
            crisp: Extra {
                sparsity: sparsity.as_ref().map(Policy::to_string),
                layer_norm_eps: (epsilon != LAYER_NORM_EPS).then_some(epsilon),
            }
            .unless_empty(),
            dim: encoder.dim,
            dropout: encoder.dropout,
            hidden_dim: encoder.hidden_dim,
            id2label: by_id
                .clone()
                .map(|(id, label)| (id.to_string(), Value::from(label.as_str())))
                .collect(),
            initializer_range: encoder.initializer_range,
            label2id: by_id.map(|(id, label)| (label.clone(), Value::from(id))).collect(),
            max_position_embeddings: encoder.max_positions,
            model_type: "distilbert",
            n_heads: encoder.heads,
            n_layers: encoder.layers,
            pad_token_id: encoder.pad_token_id,
            seq_classif_dropout: *head_dropout,
            sinusoidal_pos_embds: encoder.sinusoidal_positions,
            tie_weights_: true,
            vocab_size: encoder.vocab_size,
        };
        let mut text = serde_json::to_string_pretty(&written)
            .expect("strings, whole numbers and finite floats are always JSON");
        text.push('\n');
        text
    }

    fn check(&self, keys: &Keys) -> Result<()> {
        let path = keys.path.display();
        let encoder = &self.encoder;
        if !encoder.dim.is_multiple_of(encoder.heads) {
            return Err(Error::input(format!(
                "{path}: width {} (`dim` or `hidden_size`) cannot be split over {} heads \
                 (`n_heads` or `num_attention_heads`)",
                encoder.dim, encoder.heads
            ))
            .remedy("Choose a number of heads that divides the width."));
        }
        if encoder.sinusoidal_positions && !encoder.dim.is_multiple_of(2) {
            return Err(Error::input(format!(
                "{path}: `sinusoidal_pos_embds` pairs sines with cosines, and `dim` {} is odd",
                encoder.dim
            )));
        }
        if encoder.pad_token_id >= encoder.vocab_size {
            return Err(Error::input(format!(
                "{path}: `pad_token_id` is {}, and `vocab_size` only {}",
                encoder.pad_token_id, encoder.vocab_size
            )));
        }
        if encoder.layers > MOST_LAYERS {
            return Err(Error::input(format!(
                "{path}: {} layers (`n_layers` or `num_hidden_layers`), at most {MOST_LAYERS} are \
                 supported",
                encoder.layers
            )));
        }
        let [vocab, positions, dim, hidden, layers] = [
            encoder.vocab_size,
            encoder.max_positions,
            encoder.dim,
            encoder.hidden_dim,
            encoder.layers,
        ]
        .map(|size| size as u128);
        // Each factor is below 2³², so no product of two leaves 128 bits.
        for (what, elements) in [
            ("the word embedding", vocab * dim),
            ("the position embedding", positions * dim),
            ("an attention matrix", dim * dim),
            ("a feed-forward matrix", hidden * dim),
        ] {
            if elements > MOST_ELEMENTS {
                return Err(Error::input(format!(
                    "{path}: {what} would have {elements} elements, more than the {MOST_ELEMENTS} \
                     that one tensor may have"
                ))
                .remedy("Check the sizes in the file: one of them is too large."));
            }
        }
        let parameters = (vocab + positions) * dim + layers * (4 * dim + 2 * hidden) * dim;
        if parameters > MOST_PARAMETERS {
            return Err(Error::input(format!(
                "{path}: {parameters} parameters, more than the {MOST_PARAMETERS} supported"
            ))
            .remedy("Check the sizes in the file: one of them is too large."));
        }
        Ok(())
    }
}

/// The file that [`Config::to_json`] writes; keys in the alphabet's order as `transformers` does.
#[derive(Serialize)]
struct Written<'a> {
    activation: Activation,
    architectures: [&'a str; 1],
    attention_dropout: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    crisp: Option<Extra>,
    dim: usize,
    dropout: f32,
    hidden_dim: usize,
    id2label: Map<String, Value>,
    initializer_range: f32,
    label2id: Map<String, Value>,
    max_position_embeddings: usize,
    model_type: &'a str,
    n_heads: usize,
    n_layers: usize,
    pad_token_id: usize,
    seq_classif_dropout: f32,
    sinusoidal_pos_embds: bool,
    tie_weights_: bool,
    vocab_size: usize,
}

/// What `transformers` has no key for.
#[derive(Serialize)]
struct Extra {
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_norm_eps: Option<f32>,
}

impl Extra {
    fn unless_empty(self) -> Option<Self> {
        (self.sparsity.is_some() || self.layer_norm_eps.is_some()).then_some(self)
    }
}

impl Keys<'_> {
    fn family(&self) -> Result<&'static Family> {
        let named = self.text("model_type")?;
        // Files from before 2020 have no model_type, only the class that was saved.
        let class =
            self.get("architectures").and_then(|value| value.get(0)).and_then(Value::as_str);
        let family = match (&named, class) {
            (Some(named), _) => FAMILIES.iter().find(|family| family.model_type == named),
            (None, Some(class)) => FAMILIES.iter().find(|family| class.starts_with(family.class)),
            (None, None) => None,
        };
        if let Some(family) = family {
            return Ok(family);
        }
        let types: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let remedy = format!("Crisp reads models of the type {}.", types.join(" or "));
        let path = self.path.display();
        Err(match named {
            Some(other) => Error::input(format!(
                "{path}: `model_type` is {}, not a model that Crisp knows",
                shown(&Value::from(other))
            ))
            .remedy(remedy),
            None => {
                Error::input(format!("{path}: no `model_type`, so the kind of model is unknown"))
                    .remedy(format!("{remedy} Add the key if this is one of them."))
            }
        })
    }

    fn sparsity(&self) -> Result<Option<Policy>> {
        let text = self.text("sparsity")?;
        let parse = |text: String| {
            text.parse().map_err(|error: Error| error.at(format!("{}: crisp", self.path.display())))
        };
        text.map(parse).transpose()
    }

    /// `id2label` decides, as in `transformers`; else the order of `label2id`; else `num_labels`.
    fn labels(&self) -> Result<Vec<String>> {
        if let Some(value) = self.get("problem_type")
            && value.as_str() != Some("single_label_classification")
        {
            return Err(self.wrong("problem_type", value, "\"single_label_classification\""));
        }
        let count = match self.get("num_labels") {
            Some(_) => Some(self.whole(&["num_labels"], 2)?),
            None => None,
        };
        let named = match (self.get("id2label"), self.get("label2id")) {
            (Some(value), _) => Some(("id2label", value, self.by_id(value)?)),
            (None, Some(value)) => Some(("label2id", value, self.by_label(value)?)),
            (None, None) => None,
        };
        let labels = match (named, count) {
            (Some((key, value, labels)), Some(count)) if labels.len() != count => {
                return Err(self.wrong(
                    key,
                    value,
                    &format!("as long as `num_labels`, which is {count}"),
                ));
            }
            (Some((_, _, labels)), _) => labels,
            (None, count) => {
                let count = count.unwrap_or(2);
                if count > MOST_LABELS {
                    return Err(Error::input(format!(
                        "{}: `num_labels` is {count}, at most {MOST_LABELS} are supported",
                        self.path.display()
                    )));
                }
                (0..count).map(|id| format!("LABEL_{id}")).collect()
            }
        };
        if labels.len() < 2 {
            return Err(Error::input(format!(
                "{}: {} label(s) (`id2label`, `label2id` or `num_labels`); a classifier needs two",
                self.path.display(),
                labels.len()
            ))
            .remedy("A model with one output is a regression, which Crisp does not train."));
        }
        let mut sorted: Vec<&String> = labels.iter().collect();
        sorted.sort();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::input(format!(
                "{}: two labels are called {:?} (`id2label`)",
                self.path.display(),
                pair[0]
            ))
            .remedy("Give every class its own name."));
        }
        Ok(labels)
    }

    fn by_id(&self, value: &Value) -> Result<Vec<String>> {
        let wrong = || self.wrong("id2label", value, "{\"0\": name, \"1\": name, …} without gaps");
        let map = value.as_object().ok_or_else(wrong)?;
        (0..map.len())
            .map(|id| match map.get(&id.to_string()) {
                Some(Value::String(label)) => Ok(label.clone()),
                Some(Value::Number(label)) => Ok(label.to_string()),
                _ => Err(wrong()),
            })
            .collect()
    }

    fn by_label(&self, value: &Value) -> Result<Vec<String>> {
        let wrong = || self.wrong("label2id", value, "{name: 0, name: 1, …} without gaps");
        let map = value.as_object().ok_or_else(wrong)?;
        let mut labels = vec![None; map.len()];
        for (label, id) in map {
            let slot = id
                .as_u64()
                .and_then(|id| usize::try_from(id).ok())
                .and_then(|id| labels.get_mut(id))
                .ok_or_else(wrong)?;
            *slot = Some(label.clone());
        }
        labels.into_iter().map(|label| label.ok_or_else(wrong)).collect()
    }
}
