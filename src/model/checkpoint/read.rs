//! From the checkpoints that Hugging Face's models come in to the parameters of a model.

use super::file::{damaged, finite, names_in_order, open, to_f32};
use super::fresh::{draw, fresh};
use super::{Loaded, Tensor};
use crate::error::{Error, Result};
use crate::files;
use crate::model::family::{FAMILIES, Family, Known};
use crate::model::files::{INDEX, WEIGHTS};
use crate::model::names::{POSITIONS, is_head};
use crate::model::{Config, parameter_shapes};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// Reads a model's parameters from `model.safetensors` in `dir`, or from the files that
/// `model.safetensors.index.json` names, in float32, float16 or bfloat16.
///
/// Read are the families of [`crate::model`], recognized by the names of their tensors, with or
/// without a head (for masked words, for classification).
///
/// Parameters of the head that the checkpoint lacks are drawn. Where there is no checkpoint at all,
/// everything is: weights from a normal distribution with deviation
/// [`initializer_range`](crate::model::Encoder::initializer_range), biases 0, LayerNorms 1 and 0,
/// the word embedding's padding row 0, and positions as sines and cosines if the configuration says
/// so. An element is a function of (`seed`, name of the tensor, index of the element) alone,
/// whatever the platform and whichever other parameters are drawn: SplitMix64 over that triple, and
/// the Box–Muller transform in float64.
///
/// # Errors
/// No directory; a checkpoint in another format than safetensors; a file that is cut off, damaged
/// or belongs to another model; a tensor whose shape is not what the configuration says, whose type
/// is not one of the three, that holds NaN or infinity, or that is missing from the encoder.
pub fn load(dir: &Path, config: &Config, seed: u64) -> Result<Loaded> {
    let shapes = parameter_shapes(config);
    let Some(sources) = find_weights(dir)? else { return Ok(fresh(config, seed)) };
    let listed = sources.iter().filter_map(|(_, listed)| listed.as_ref());
    // Known before the first of several files: it may hold no telling name.
    let mut found = Found::new(listed.flatten());
    for (path, listed) in &sources {
        found.read_file(path, listed.as_ref(), &shapes, config)?;
    }
    found.fold_segments();
    found.finish(&sources[0].0, shapes, config, seed)
}

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

struct Found {
    family: &'static Family,
    parameters: HashMap<String, Tensor>,
    /// The embedding of segments, `[segments, dim]`.
    segments: Option<Tensor>,
    unused: Vec<String>,
}

impl Found {
    fn new<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        let mut found = Self {
            family: FAMILIES[0],
            parameters: HashMap::new(),
            segments: None,
            unused: Vec::new(),
        };
        found.recognize(names);
        found
    }

    /// Takes the family that one of the names gives away, if any does.
    fn recognize<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            if let Some(family) = FAMILIES.iter().find(|family| (family.owns)(name)) {
                self.family = family;
                return;
            }
        }
    }

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
        self.recognize(names.iter());
        for name in names {
            let view = file.tensor(&name).map_err(|why| damaged(path, &why))?;
            match (self.family.place)(&name) {
                Some(Known::Parameter(ours)) if expected.contains_key(ours.as_str()) => {
                    let shape = expected[ours.as_str()];
                    if view.shape() != shape {
                        return Err(wrong_shape(path, &name, view.shape(), shape, config));
                    }
                    let tensor = finite(path, &name, to_f32(path, &name, &view)?)?;
                    if self.parameters.insert(ours.clone(), tensor).is_some() {
                        return Err(Error::input(format!(
                            "{}: {name} and another tensor both stand for {ours}",
                            path.display()
                        ))
                        .remedy("Save the model again with one of them."));
                    }
                }
                Some(Known::Segments) => {
                    match *view.shape() {
                        [segments, dim] if segments > 0 && dim == config.encoder.dim => {}
                        _ => {
                            let shape = [1, config.encoder.dim];
                            return Err(wrong_shape(path, &name, view.shape(), &shape, config));
                        }
                    }
                    let tensor = finite(path, &name, to_f32(path, &name, &view)?)?;
                    self.segments = Some(tensor);
                }
                _ => self.unused.push(name),
            }
        }
        Ok(())
    }

    fn fold_segments(&mut self) {
        let (Some(types), Some(positions)) = (&self.segments, self.parameters.get_mut(POSITIONS))
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
        if self.segments.is_none() {
            missing.extend(self.family.segments);
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
            config.task.outputs(),
            config.task.labels().join(", ")
        ))
    } else {
        error.remedy("Check that config.json and the weights belong to the same model.")
    }
}
