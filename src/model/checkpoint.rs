//! Parameters: reading them from the checkpoints that Hugging Face's models come in, drawing those
//! that a checkpoint lacks, writing them.
//!
//! Whatever layout a file has, the parameters that leave this module carry the names and shapes of
//! `DistilBertForSequenceClassification`, see [`parameter_shapes`]. A matrix is
//! `[outputs, inputs]`, as `torch.nn.Linear` keeps it.

use crate::error::{Error, Result};
use crate::files;
use crate::model::config::Config;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const POSITIONS: &str = "distilbert.embeddings.position_embeddings.weight";
const WORDS: &str = "distilbert.embeddings.word_embeddings.weight";
/// Where BERT keeps the embedding of "first sentence" and "second sentence".
const TOKEN_TYPES: &str = "embeddings.token_type_embeddings.weight";

/// A parameter in float32, the last dimension contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its size in each dimension.
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`.
    pub data: Vec<f32>,
}

/// What [`load`] found in a model's directory.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Every parameter of the model, in the order of [`parameter_shapes`].
    pub parameters: Vec<(String, Tensor)>,
    /// Parameters that the checkpoint lacks and that were drawn: the head of a model that was only
    /// pretrained, or all of them where there is no checkpoint.
    pub fresh: Vec<String>,
    /// Tensors of the checkpoint that this model has no use for, by their name in the file.
    pub unused: Vec<String>,
}

/// Names and shapes of a model's parameters, from the embeddings to the classifier.
pub fn parameter_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let Config { dim, hidden_dim, .. } = *config;
    let linear = |name: &str, outputs: usize, inputs: usize| {
        [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
    };
    let norm = |name: &str| ["weight", "bias"].map(|kind| (format!("{name}.{kind}"), vec![dim]));
    let mut shapes = vec![
        (WORDS.to_string(), vec![config.vocab_size, dim]),
        (POSITIONS.to_string(), vec![config.max_positions, dim]),
    ];
    shapes.extend(norm("distilbert.embeddings.LayerNorm"));
    for layer in 0..config.layers {
        let block = format!("distilbert.transformer.layer.{layer}");
        for matrix in ["q_lin", "k_lin", "v_lin", "out_lin"] {
            shapes.extend(linear(&format!("{block}.attention.{matrix}"), dim, dim));
        }
        shapes.extend(norm(&format!("{block}.sa_layer_norm")));
        shapes.extend(linear(&format!("{block}.ffn.lin1"), hidden_dim, dim));
        shapes.extend(linear(&format!("{block}.ffn.lin2"), dim, hidden_dim));
        shapes.extend(norm(&format!("{block}.output_layer_norm")));
    }
    shapes.extend(linear("pre_classifier", dim, dim));
    shapes.extend(linear("classifier", config.labels.len(), dim));
    shapes
}

/// Every parameter drawn afresh, as [`load`] does where there is no checkpoint.
pub fn fresh(config: &Config, seed: u64) -> Loaded {
    let shapes = parameter_shapes(config);
    Loaded {
        fresh: shapes.iter().map(|(name, _)| name.clone()).collect(),
        parameters: shapes
            .into_iter()
            .map(|(name, shape)| {
                let tensor = draw(&name, shape, config, seed);
                (name, tensor)
            })
            .collect(),
        unused: Vec::new(),
    }
}

/// Reads a model's parameters from `model.safetensors` in `dir`, or from the files that
/// `model.safetensors.index.json` names, in float32, float16 or bfloat16.
///
/// Read are DistilBERT with or without a head (for masked words, for classification), and the
/// encoder of a BERT, recognized by its names. Two things differ there:
///
/// - BERT adds to every token the embedding of its segment. With one segment that is a constant, so
///   row 0 of the segment embedding is added to every row of the position embedding.
/// - BERT's own head is not used (its tensors are in [`Loaded::unused`]): it is a pooler with tanh
///   and then a classifier, DistilBERT's is a matrix with ReLU and then a classifier. The shapes
///   agree, the functions do not, so the head is drawn afresh.
///
/// Parameters of the head that the checkpoint lacks are drawn. Where there is no checkpoint at all,
/// everything is: weights from a normal distribution with deviation
/// [`initializer_range`](Config::initializer_range), biases 0, LayerNorms 1 and 0, the word
/// embedding's padding row 0, and positions as sines and cosines if the configuration says so. An
/// element is a function of (`seed`, name of the tensor, index of the element) alone, whatever the
/// platform and whichever other parameters are drawn: SplitMix64 over that triple, and the
/// Box–Muller transform in float64.
///
/// # Errors
/// No directory; a checkpoint in another format than safetensors; a file that is cut off, damaged
/// or belongs to another model; a tensor whose shape is not what the configuration says, whose type is
/// not one of the three, that holds NaN or infinity, or that is missing from the encoder.
pub fn load(dir: &Path, config: &Config, seed: u64) -> Result<Loaded> {
    let shapes = parameter_shapes(config);
    let Some(sources) = find_weights(dir)? else { return Ok(fresh(config, seed)) };
    let listed = sources.iter().filter_map(|(_, listed)| listed.as_ref());
    let mut found = Found {
        // Known before the first of several files: it may hold no telling name.
        bert: listed.flatten().any(|name| is_bert(name)),
        ..Found::default()
    };
    for (path, listed) in &sources {
        found.read_file(path, listed.as_ref(), &shapes, config)?;
    }
    found.fold_token_types();
    found.finish(&sources[0].0, shapes, config, seed)
}

/// Writes tensors as a safetensors file in the given order, beside `path` and then renamed, so that
/// a crash leaves the old file or the new one.
///
/// `metadata` goes into the file's header, after `format: pt`, without which `transformers` refuses
/// the file. The same content gives the same bytes.
///
/// # Errors
/// Two tensors of one name, a tensor whose data does not fill its shape, and what the operating
/// system says about the file.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let header = header(tensors, metadata).map_err(|error| error.at(path.display()))?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let beside = path.with_file_name(name);
    // One tensor after the other: a checkpoint is 260 MB, a copy of it would be too.
    let write = || {
        let mut file = BufWriter::new(fs::File::create(&beside)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in tensors {
            file.write_all(&little_endian(&tensor.data))?;
        }
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|why| {
        let _ = fs::remove_file(&beside);
        Error::io(path, "write", &why)
    })
}

/// Reads every tensor of one safetensors file as float32, by its name and in its order there.
///
/// # Errors
/// A file that cannot be read, is cut off or damaged, or holds another type than float32, float16
/// and bfloat16. NaN and infinity are passed on: the caller knows what they mean.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let bytes = files::read(path)?;
    let file = open(path, &bytes)?;
    names_in_order(&file)
        .into_iter()
        .map(|name| {
            let view = file.tensor(&name).map_err(|why| damaged(path, &why))?;
            let tensor = convert(path, &name, &view)?;
            Ok((name, tensor))
        })
        .collect()
}

// ---- Where the weights are ----

/// A weights file and, if an index names it, the tensors that the index promises in it.
type Source = (PathBuf, Option<Vec<String>>);

fn find_weights(dir: &Path) -> Result<Option<Vec<Source>>> {
    if !dir.is_dir() {
        return Err(Error::input(format!("{}: no such directory", dir.display())));
    }
    let single = dir.join(WEIGHTS);
    if single.exists() {
        return Ok(Some(vec![(single, None)]));
    }
    let index = dir.join(INDEX);
    if index.exists() {
        return read_index(&index).map(Some);
    }
    refuse_other_formats(dir)?;
    Ok(None)
}

fn read_index(path: &Path) -> Result<Vec<Source>> {
    let wrong = |what: String| {
        Error::input(format!("{}: {what}", path.display()))
            .remedy("Download the index and the files it names again.")
    };
    let index: Value = serde_json::from_str(&files::read_text(path)?)
        .map_err(|why| wrong(format!("not JSON: {why}")))?;
    let map = index
        .get("weight_map")
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
        .ok_or_else(|| wrong("no `weight_map` from tensors to files".into()))?;
    let mut shards: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (tensor, file) in map {
        // A name, not a path: an index must not point outside its own directory.
        let file = file
            .as_str()
            .filter(|file| !file.is_empty() && !file.contains(['/', '\\', ':']) && *file != "..")
            .ok_or_else(|| wrong(format!("{tensor} is mapped to {file}, not to a file name")))?;
        shards.entry(file).or_default().push(tensor.clone());
    }
    shards
        .into_iter()
        .map(|(file, tensors)| {
            let shard = path.with_file_name(file);
            if !shard.exists() {
                return Err(wrong(format!("{file} is named here and not in the directory")));
            }
            Ok((shard, Some(tensors)))
        })
        .collect()
}

/// A directory without `model.safetensors` means "train from nothing", unless weights lie there in
/// a form that would silently be passed over.
fn refuse_other_formats(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|why| Error::io(dir, "list", &why))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    for name in names {
        let error = Error::input(format!(
            "{}: the weights are in {name}, and Crisp reads model.safetensors",
            dir.display()
        ));
        match name.as_str() {
            "pytorch_model.bin" | "pytorch_model.bin.index.json" => {
                return Err(error.remedy(
                    "Convert them once, in Python: from transformers import AutoModel; \
                     AutoModel.from_pretrained(DIR).save_pretrained(NEW_DIR) (for a trained \
                     classifier AutoModelForSequenceClassification), and copy the tokenizer's \
                     files too.",
                ));
            }
            "tf_model.h5" | "flax_model.msgpack" | "model.ckpt.index" => {
                return Err(error.remedy(
                    "Save the model from PyTorch, with save_pretrained, to get safetensors.",
                ));
            }
            "adapter_model.safetensors" | "adapter_model.bin" => {
                return Err(
                    error.remedy("This is an adapter: merge it into its base model and save that.")
                );
            }
            _ if name.ends_with(".safetensors") => {
                return Err(error.remedy("Rename the file if it is the model's only weights."));
            }
            _ => {}
        }
    }
    Ok(())
}

// ---- From a file's tensors to ours ----

#[derive(Default)]
struct Found {
    parameters: HashMap<String, Tensor>,
    /// BERT's segment embedding `[segments, dim]`.
    token_types: Option<Tensor>,
    bert: bool,
    unused: Vec<String>,
}

/// What a tensor of the file is to this model.
enum Place {
    Parameter(String),
    TokenTypes,
}

impl Found {
    fn read_file(
        &mut self,
        path: &Path,
        listed: Option<&Vec<String>>,
        shapes: &[(String, Vec<usize>)],
        config: &Config,
    ) -> Result<()> {
        let bytes = files::read(path)?;
        let file = open(path, &bytes)?;
        let names = names_in_order(&file);
        if let Some(absent) = listed.into_iter().flatten().find(|tensor| !names.contains(tensor)) {
            return Err(Error::input(format!(
                "{}: {absent} is not in this file, though {INDEX} says so",
                path.display()
            ))
            .remedy("Download the index and the files it names again."));
        }
        let expected: HashMap<&str, &[usize]> =
            shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        self.bert |= names.iter().any(|name| is_bert(name));
        for name in names {
            let view = file.tensor(&name).map_err(|why| damaged(path, &why))?;
            match place(&name, self.bert) {
                Some(Place::Parameter(ours)) if expected.contains_key(ours.as_str()) => {
                    let shape = expected[ours.as_str()];
                    if view.shape() != shape {
                        return Err(wrong_shape(path, &name, view.shape(), shape, config));
                    }
                    let tensor = finite(path, &name, convert(path, &name, &view)?)?;
                    if self.parameters.insert(ours.clone(), tensor).is_some() {
                        return Err(Error::input(format!(
                            "{}: {name} and another tensor both stand for {ours}",
                            path.display()
                        ))
                        .remedy("Save the model again with one of them."));
                    }
                }
                Some(Place::TokenTypes) if self.bert => {
                    match *view.shape() {
                        [segments, dim] if segments > 0 && dim == config.dim => {}
                        _ => {
                            let shape = [1, config.dim];
                            return Err(wrong_shape(path, &name, view.shape(), &shape, config));
                        }
                    }
                    let tensor = finite(path, &name, convert(path, &name, &view)?)?;
                    self.token_types = Some(tensor);
                }
                _ => self.unused.push(name),
            }
        }
        Ok(())
    }

    fn fold_token_types(&mut self) {
        let (Some(types), Some(positions)) =
            (&self.token_types, self.parameters.get_mut(POSITIONS))
        else {
            return;
        };
        let dim = positions.shape[1];
        for position in positions.data.chunks_exact_mut(dim) {
            for (element, segment) in position.iter_mut().zip(&types.data[..dim]) {
                *element += segment;
            }
        }
    }

    fn finish(
        mut self,
        path: &Path,
        shapes: Vec<(String, Vec<usize>)>,
        config: &Config,
        seed: u64,
    ) -> Result<Loaded> {
        if !self.parameters.keys().any(|name| !is_head(name)) {
            let some: Vec<&str> = self.unused.iter().take(3).map(String::as_str).collect();
            return Err(Error::input(format!(
                "{}: this does not look like a DistilBERT or BERT checkpoint: none of its tensors \
                 has a known name (it has {})",
                path.display(),
                if some.is_empty() {
                    "none".to_string()
                } else {
                    format!("{}, …", some.join(", "))
                }
            ))
            .remedy("Use a model of the type distilbert or bert."));
        }
        let mut missing: Vec<&str> = shapes
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !is_head(name) && !self.parameters.contains_key(*name))
            .collect();
        if self.bert && self.token_types.is_none() {
            missing.push(TOKEN_TYPES);
        }
        if !missing.is_empty() {
            let listed = missing[..missing.len().min(8)].join(", ");
            let more = missing.len().saturating_sub(8);
            return Err(Error::input(format!(
                "{}: {} tensor(s) of the encoder are missing: {listed}{}",
                path.display(),
                missing.len(),
                if more > 0 { format!(", and {more} more") } else { String::new() }
            ))
            .remedy(
                "Check that config.json (layers, sizes) and the weights belong to the same model.",
            ));
        }
        let mut fresh = Vec::new();
        let parameters = shapes
            .into_iter()
            .map(|(name, shape)| {
                let tensor = self.parameters.remove(&name).unwrap_or_else(|| {
                    fresh.push(name.clone());
                    draw(&name, shape, config, seed)
                });
                (name, tensor)
            })
            .collect();
        Ok(Loaded { parameters, fresh, unused: self.unused })
    }
}

fn is_head(name: &str) -> bool {
    name.starts_with("pre_classifier.") || name.starts_with("classifier.")
}

fn is_layer_norm(name: &str) -> bool {
    name.contains("LayerNorm.") || name.contains("layer_norm.")
}

fn is_bert(name: &str) -> bool {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    name.starts_with("encoder.layer.") || name == TOKEN_TYPES
}

/// Which parameter a tensor is, from its name in any of the layouts; `None` if it is none.
fn place(name: &str, bert: bool) -> Option<Place> {
    let prefix = if bert { "bert." } else { "distilbert." };
    let inner = name.strip_prefix(prefix).unwrap_or(name);
    if is_head(name) {
        return (!bert).then(|| Place::Parameter(name.to_string()));
    }
    if bert && inner == TOKEN_TYPES {
        return Some(Place::TokenTypes);
    }
    let ours = if let Some(rest) = inner.strip_prefix("encoder.layer.") {
        let (layer, rest) = rest.split_once('.').filter(|_| bert)?;
        let (module, kind) = rest.rsplit_once('.')?;
        let module = match module {
            "attention.self.query" => "attention.q_lin",
            "attention.self.key" => "attention.k_lin",
            "attention.self.value" => "attention.v_lin",
            "attention.output.dense" => "attention.out_lin",
            "attention.output.LayerNorm" => "sa_layer_norm",
            "intermediate.dense" => "ffn.lin1",
            "output.dense" => "ffn.lin2",
            "output.LayerNorm" => "output_layer_norm",
            _ => return None,
        };
        format!("distilbert.transformer.layer.{layer}.{module}.{kind}")
    } else {
        format!("distilbert.{inner}")
    };
    // Checkpoints converted from TensorFlow call a LayerNorm's weight and bias gamma and beta.
    let ours = match ours.rsplit_once('.') {
        Some((module, "gamma")) => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        _ => ours,
    };
    Some(Place::Parameter(ours))
}

fn wrong_shape(
    path: &Path,
    name: &str,
    found: &[usize],
    expected: &[usize],
    config: &Config,
) -> Error {
    let error = Error::input(format!(
        "{}: {name} has the shape {found:?}, and config.json makes it {expected:?}",
        path.display()
    ));
    if name.starts_with("classifier.") {
        error.remedy(format!(
            "config.json names {} labels ({}). Use the checkpoint with its own config.json, or \
             start from one without a classifier.",
            config.labels.len(),
            config.labels.join(", ")
        ))
    } else {
        error.remedy("Check that config.json and the weights belong to the same model.")
    }
}

// ---- The file format ----

fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::input(format!(
            "{}: a Git LFS pointer, not the weights themselves",
            path.display()
        ))
        .remedy("Run `git lfs pull` in the model's directory."));
    }
    SafeTensors::deserialize(bytes).map_err(|why| damaged(path, &why))
}

fn damaged(path: &Path, why: &safetensors::SafeTensorError) -> Error {
    Error::input(format!("{}: not a whole safetensors file: {why}", path.display()))
        .remedy("The file is cut off or damaged; download or save it again.")
}

fn names_in_order(file: &SafeTensors) -> Vec<String> {
    let mut names: Vec<(usize, String)> =
        file.iter().map(|(name, view)| (view.data().as_ptr() as usize, name.to_string())).collect();
    // Empty tensors share an address; the name makes their order definite.
    names.sort();
    names.into_iter().map(|(_, name)| name).collect()
}

fn convert(path: &Path, name: &str, view: &TensorView) -> Result<Tensor> {
    let bytes = view.data();
    // Not a cast: nothing aligns a tensor within its file.
    let two = |decode: fn([u8; 2]) -> f32| {
        bytes.chunks_exact(2).map(|pair| decode([pair[0], pair[1]])).collect()
    };
    let data: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect(),
        Dtype::F16 => two(|pair| f16::from_le_bytes(pair).to_f32()),
        Dtype::BF16 => two(|pair| bf16::from_le_bytes(pair).to_f32()),
        other => {
            return Err(Error::input(format!(
                "{}: {name} is stored as {other:?}; F32, F16 and BF16 can be read",
                path.display()
            ))
            .remedy("Save the model in float32, unquantized."));
        }
    };
    Ok(Tensor { shape: view.shape().to_vec(), data })
}

fn finite(path: &Path, name: &str, tensor: Tensor) -> Result<Tensor> {
    let Some(first) = tensor.data.iter().position(|x| !x.is_finite()) else {
        return Ok(tensor);
    };
    let count = tensor.data.iter().filter(|x| !x.is_finite()).count();
    Err(Error::input(format!(
        "{}: {name} (shape {:?}) has {count} element(s) that are not finite, the first is element \
         {first}: {}",
        path.display(),
        tensor.shape,
        tensor.data[first]
    ))
    .remedy("The training that wrote it diverged, or the file is damaged; use an earlier one."))
}

/// The JSON in front of the data, padded so that the data starts at a multiple of 8 bytes.
///
/// Written here and not by the safetensors crate, which orders the metadata anew in every run.
fn header(tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut notes = Map::new();
    notes.insert("format".into(), "pt".into());
    for (key, value) in metadata {
        notes.insert((*key).into(), (*value).into());
    }
    let mut header = Map::new();
    header.insert("__metadata__".into(), Value::Object(notes));
    let mut names = BTreeSet::from(["__metadata__"]);
    let mut start = 0;
    for (name, tensor) in tensors {
        if !names.insert(name) {
            return Err(Error::input(format!("two tensors are called {name}")));
        }
        let elements =
            tensor.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements != Some(tensor.data.len()) {
            return Err(Error::input(format!(
                "{name} has {} elements, which do not fill the shape {:?}",
                tensor.data.len(),
                tensor.shape
            )));
        }
        let end = start + 4 * tensor.data.len();
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut bytes = Value::Object(header).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

fn little_endian(data: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(data))
    } else {
        Cow::Owned(data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
}

// ---- Fresh parameters ----

fn draw(name: &str, shape: Vec<usize>, config: &Config, seed: u64) -> Tensor {
    let elements = shape.iter().product();
    let data = if name.ends_with(".bias") {
        vec![0.0; elements]
    } else if is_layer_norm(name) {
        vec![1.0; elements]
    } else if name == POSITIONS && config.sinusoidal_positions {
        sinusoids(config.max_positions, config.dim)
    } else {
        let mut data = normal(name, elements, config.initializer_range, seed);
        if name == WORDS {
            let row = config.pad_token_id * config.dim;
            if let Some(padding) = data.get_mut(row..row + config.dim) {
                padding.fill(0.0);
            }
        }
        data
    };
    Tensor { shape, data }
}

/// `[positions, dim]`: sin and cos of position / 10000^(2i / dim), at 2i and 2i + 1.
fn sinusoids(positions: usize, dim: usize) -> Vec<f32> {
    (0..positions)
        .flat_map(|position| {
            (0..dim).map(move |element| {
                let exponent = (element - element % 2) as f64 / dim as f64;
                let angle = position as f64 / libm::pow(10_000.0, exponent);
                match element % 2 {
                    0 => libm::sin(angle) as f32,
                    _ => libm::cos(angle) as f32,
                }
            })
        })
        .collect()
}

/// Normal numbers from (seed, name, index). The logarithm and the cosine come from `libm`, as the
/// platform's own differ from each other in the last bit.
fn normal(name: &str, elements: usize, deviation: f32, seed: u64) -> Vec<f32> {
    let key = name.bytes().fold(split_mix(seed), |key, byte| split_mix(key ^ u64::from(byte)));
    let uniform =
        |counter: u64| (split_mix(key.wrapping_add(counter.wrapping_mul(GAMMA))) >> 11) as f64;
    let unit = 1.0 / (1u64 << 53) as f64;
    let mut data = vec![0.0; elements.next_multiple_of(2)];
    // Each pair follows from its number alone, so threads may share them out in any way.
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let share = data.len().div_ceil(threads).next_multiple_of(2).max(1 << 16);
    thread::scope(|scope| {
        for (part, values) in data.chunks_mut(share).enumerate() {
            let first = (part * share / 2) as u64;
            scope.spawn(move || {
                for (pair, values) in (first..).zip(values.chunks_exact_mut(2)) {
                    // In (0, 1]: the logarithm of zero is not wanted.
                    let radius = libm::sqrt(-2.0 * libm::log((uniform(2 * pair) + 1.0) * unit));
                    let angle = std::f64::consts::TAU * uniform(2 * pair + 1) * unit;
                    let scale = f64::from(deviation) * radius;
                    values[0] = (scale * libm::cos(angle)) as f32;
                    values[1] = (scale * libm::sin(angle)) as f32;
                }
            });
        }
    });
    data.truncate(elements);
    data
}

/// The golden ratio in 64 bits: the step between SplitMix64's states.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output for a state.
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
