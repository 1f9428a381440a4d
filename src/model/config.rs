//! `config.json`: the sizes and settings of a DistilBERT-like encoder with a classification head.
//!
//! Two spellings are read, DistilBERT's own and BERT's, into one [`Config`]; one is written, a
//! DistilBERT configuration that `transformers` loads.

use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// More elements than one tensor may have: 2³⁰ float32 are 4 GiB, the end of a 32-bit byte index.
const MOST_ELEMENTS: u128 = 1 << 30;
/// More parameters than a model may have (16 GiB in float32).
const MOST_PARAMETERS: u128 = 1 << 32;
const MOST_LAYERS: usize = 1024;
const MOST_LABELS: usize = 1 << 16;

/// What DistilBERT computes with; `transformers` has no key for it in a DistilBERT configuration.
const DISTILBERT_EPS: f32 = 1e-12;

/// The non-linearity between the two feed-forward matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · Φ(x) with the exact error function, not the tanh approximation.
    Gelu,
    /// max(0, x).
    Relu,
}

impl Activation {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Gelu => "gelu",
            Activation::Relu => "relu",
        }
    }
}

/// The architecture of a model: everything about it but the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding: the longest sentence, in word pieces.
    pub max_positions: usize,
    /// Width of the hidden states.
    pub dim: usize,
    /// Width between the two feed-forward matrices.
    pub hidden_dim: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; they divide `dim`.
    pub heads: usize,
    /// Between the feed-forward matrices.
    pub activation: Activation,
    /// Probability of dropping an element of the embeddings and of the feed-forward output.
    pub dropout: f32,
    /// Probability of dropping an attention weight.
    pub attention_dropout: f32,
    /// Probability of dropping an input of the classifier.
    pub classifier_dropout: f32,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f32,
    /// Added to the variance in every LayerNorm. DistilBERT's is 1e-12 and always that in
    /// `transformers`; a BERT checkpoint brings its own. Another value than 1e-12 is written under
    /// the key `crisp`, where this crate finds it again and `transformers` does not look: there
    /// such a model computes with 1e-12.
    pub layer_norm_eps: f32,
    /// Whose row of a freshly drawn word embedding is zero.
    pub pad_token_id: usize,
    /// Whether fresh position embeddings are sines and cosines rather than drawn.
    pub sinusoidal_positions: bool,
    /// Names of the classes, in the order of their ids.
    pub labels: Vec<String>,
    /// The sparsity policy that the model was trained with, such as `topk:0.8`.
    pub sparsity: Option<String>,
}

impl Config {
    /// Reads `config.json` in a model's directory.
    ///
    /// # Errors
    /// Where the file cannot be read, and as [`Config::from_json`].
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
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
        let bert = keys.family()? == Family::Bert;
        let pick = |distilbert, general| if bert { general } else { distilbert };
        // `transformers` takes BERT's names of these sizes for DistilBERT too.
        let either = |distilbert, general| [pick(distilbert, general), general];
        let extra = keys.crisp()?;
        let dropout = keys.probability(&[pick("dropout", "hidden_dropout_prob")], 0.1)?;
        let layer_norm_eps = if bert {
            keys.positive(&["layer_norm_eps"], 1e-12)?
        } else {
            extra.positive(&["layer_norm_eps"], DISTILBERT_EPS)?
        };
        let config = Config {
            vocab_size: keys.size(&["vocab_size"], 30_522)?,
            max_positions: keys.size(&["max_position_embeddings"], 512)?,
            dim: keys.size(&either("dim", "hidden_size"), 768)?,
            hidden_dim: keys.size(&[pick("hidden_dim", "intermediate_size")], 3072)?,
            layers: keys
                .size(&either("n_layers", "num_hidden_layers"), if bert { 12 } else { 6 })?,
            heads: keys.size(&either("n_heads", "num_attention_heads"), 12)?,
            activation: keys.activation(pick("activation", "hidden_act"))?,
            dropout,
            attention_dropout: keys
                .probability(&[pick("attention_dropout", "attention_probs_dropout_prob")], 0.1)?,
            classifier_dropout: if bert {
                keys.probability(&["classifier_dropout"], dropout)?
            } else {
                keys.probability(&["seq_classif_dropout"], 0.2)?
            },
            initializer_range: keys.positive(&["initializer_range"], 0.02)?,
            layer_norm_eps,
            pad_token_id: keys.whole(&["pad_token_id"], 0)?,
            sinusoidal_positions: !bert && keys.flag("sinusoidal_pos_embds", false)?,
            labels: keys.labels()?,
            sparsity: extra.text("sparsity")?,
        };
        if bert {
            keys.refuse_other_berts()?;
        }
        config.check(&keys)?;
        Ok(config)
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// The configuration as the text of a `config.json` for
    /// `transformers.DistilBertForSequenceClassification`.
    ///
    /// It reads back here as an equal [`Config`]. What a checkpoint of BERT loses on the way: BERT
    /// drops elements after the attention output too, DistilBERT does not; and `transformers`
    /// computes every DistilBERT with the LayerNorm ε 1e-12 (see [`Config::layer_norm_eps`]).
    pub fn to_json(&self) -> String {
        let by_id = self.labels.iter().enumerate();
        let written = Written {
            activation: self.activation.name(),
            architectures: ["DistilBertForSequenceClassification"],
            attention_dropout: self.attention_dropout,
            crisp: Extra {
                sparsity: self.sparsity.as_deref(),
                layer_norm_eps: (self.layer_norm_eps != DISTILBERT_EPS)
                    .then_some(self.layer_norm_eps),
            }
            .unless_empty(),
            dim: self.dim,
            dropout: self.dropout,
            hidden_dim: self.hidden_dim,
            id2label: by_id
                .clone()
                .map(|(id, label)| (id.to_string(), Value::from(label.as_str())))
                .collect(),
            initializer_range: self.initializer_range,
            label2id: by_id.map(|(id, label)| (label.clone(), Value::from(id))).collect(),
            max_position_embeddings: self.max_positions,
            model_type: "distilbert",
            n_heads: self.heads,
            n_layers: self.layers,
            pad_token_id: self.pad_token_id,
            seq_classif_dropout: self.classifier_dropout,
            sinusoidal_pos_embds: self.sinusoidal_positions,
            tie_weights_: true,
            vocab_size: self.vocab_size,
        };
        let mut text = serde_json::to_string_pretty(&written)
            .expect("strings, whole numbers and finite floats are always JSON");
        text.push('\n');
        text
    }

    fn check(&self, keys: &Keys) -> Result<()> {
        let path = keys.path.display();
        if !self.dim.is_multiple_of(self.heads) {
            return Err(Error::input(format!(
                "{path}: width {} (`dim` or `hidden_size`) cannot be split over {} heads \
                 (`n_heads` or `num_attention_heads`)",
                self.dim, self.heads
            ))
            .remedy("Choose a number of heads that divides the width."));
        }
        if self.sinusoidal_positions && !self.dim.is_multiple_of(2) {
            return Err(Error::input(format!(
                "{path}: `sinusoidal_pos_embds` pairs sines with cosines, and `dim` {} is odd",
                self.dim
            )));
        }
        if self.pad_token_id >= self.vocab_size {
            return Err(Error::input(format!(
                "{path}: `pad_token_id` is {}, and `vocab_size` only {}",
                self.pad_token_id, self.vocab_size
            )));
        }
        if self.layers > MOST_LAYERS {
            return Err(Error::input(format!(
                "{path}: {} layers (`n_layers` or `num_hidden_layers`), at most {MOST_LAYERS} are \
                 supported",
                self.layers
            )));
        }
        let [vocab, positions, dim, hidden, layers] =
            [self.vocab_size, self.max_positions, self.dim, self.hidden_dim, self.layers]
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
    activation: &'a str,
    architectures: [&'a str; 1],
    attention_dropout: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    crisp: Option<Extra<'a>>,
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
struct Extra<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_norm_eps: Option<f32>,
}

impl Extra<'_> {
    fn unless_empty(self) -> Option<Self> {
        (self.sparsity.is_some() || self.layer_norm_eps.is_some()).then_some(self)
    }
}

#[derive(PartialEq)]
enum Family {
    DistilBert,
    Bert,
}

/// Typed access to the keys of one file; `null` counts as absent, as Python's `None` does.
struct Keys<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The first of several names for the same thing.
    fn first<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &'a Value)> {
        keys.iter().find_map(|key| self.get(key).map(|value| (*key, value)))
    }

    fn wrong(&self, key: &str, value: &Value, needed: &str) -> Error {
        Error::input(format!(
            "{}: `{key}` is {}, and must be {needed}",
            self.path.display(),
            shown(value)
        ))
    }

    fn whole(&self, keys: &[&str], default: usize) -> Result<usize> {
        let Some((key, value)) = self.first(keys) else {
            return Ok(default);
        };
        value
            .as_u64()
            .filter(|&number| number < 1 << 31)
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.wrong(key, value, "a whole number from 0 and below 2147483648"))
    }

    fn size(&self, keys: &[&str], default: usize) -> Result<usize> {
        match (self.whole(keys, default)?, self.first(keys)) {
            (0, Some((key, value))) => Err(self.wrong(key, value, "at least 1")),
            (size, _) => Ok(size),
        }
    }

    fn number<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &'a Value, Option<f32>)> {
        let (key, value) = self.first(keys)?;
        let number = value.as_f64().map(|number| number as f32);
        Some((key, value, number))
    }

    fn probability(&self, keys: &[&str], default: f32) -> Result<f32> {
        match self.number(keys) {
            None => Ok(default),
            Some((_, _, Some(number))) if (0.0..1.0).contains(&number) => Ok(number),
            Some((key, value, _)) => {
                Err(self.wrong(key, value, "a probability from 0 and below 1"))
            }
        }
    }

    /// A positive number that float32 can hold: neither rounded to zero nor infinite.
    fn positive(&self, keys: &[&str], default: f32) -> Result<f32> {
        match self.number(keys) {
            None => Ok(default),
            Some((_, _, Some(number))) if number > 0.0 && number.is_finite() => Ok(number),
            Some((key, value, _)) => Err(self.wrong(key, value, "a number above 0")),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value) => Err(self.wrong(key, value, "a string")),
        }
    }

    fn crisp(&self) -> Result<Keys<'a>> {
        static EMPTY: std::sync::OnceLock<Map<String, Value>> = std::sync::OnceLock::new();
        let map = match self.get("crisp") {
            None => EMPTY.get_or_init(Map::new),
            Some(Value::Object(map)) => map,
            Some(value) => return Err(self.wrong("crisp", value, "an object")),
        };
        Ok(Keys { path: self.path, map })
    }

    fn family(&self) -> Result<Family> {
        let remedy = "Crisp reads models of the type distilbert or bert.";
        let named = self.text("model_type")?;
        // Files from before 2020 have no model_type, only the class that was saved.
        let class =
            self.get("architectures").and_then(|value| value.get(0)).and_then(Value::as_str);
        match (named.as_deref(), class) {
            (Some("distilbert"), _) => Ok(Family::DistilBert),
            (Some("bert"), _) => Ok(Family::Bert),
            (Some(other), _) => Err(Error::input(format!(
                "{}: `model_type` is {}, not a model that Crisp knows",
                self.path.display(),
                shown(&Value::from(other))
            ))
            .remedy(remedy)),
            (None, Some(class)) if class.starts_with("DistilBert") => Ok(Family::DistilBert),
            (None, Some(class)) if class.starts_with("Bert") => Ok(Family::Bert),
            (None, _) => Err(Error::input(format!(
                "{}: no `model_type`, so the kind of model is unknown",
                self.path.display()
            ))
            .remedy(format!("{remedy} Add the key if this is one of them."))),
        }
    }

    fn activation(&self, key: &str) -> Result<Activation> {
        match self.get(key) {
            None => Ok(Activation::Gelu),
            Some(Value::String(name)) if name == "gelu" => Ok(Activation::Gelu),
            Some(Value::String(name)) if name == "relu" => Ok(Activation::Relu),
            Some(value) => {
                let error = self.wrong(key, value, "\"gelu\" or \"relu\"");
                Err(match value.as_str() {
                    Some(name) if name.contains("gelu") => error.remedy(format!(
                        "\"gelu\" here is the exact function, {} another one: results would \
                         differ from those the model was trained for.",
                        shown(value)
                    )),
                    _ => error,
                })
            }
        }
    }

    /// The settings that turn a BERT into another architecture.
    fn refuse_other_berts(&self) -> Result<()> {
        for key in ["is_decoder", "add_cross_attention"] {
            if self.flag(key, false)? {
                return Err(self
                    .wrong(key, &Value::Bool(true), "false")
                    .remedy("Crisp reads encoders only."));
            }
        }
        match self.get("position_embedding_type") {
            None => Ok(()),
            Some(Value::String(kind)) if kind == "absolute" => Ok(()),
            Some(value) => Err(self
                .wrong("position_embedding_type", value, "\"absolute\"")
                .remedy("Relative positions change the attention, which Crisp does not compute.")),
        }
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

/// A value for a message, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
