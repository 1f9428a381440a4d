//! The parameters of a model: their names and shapes in a checkpoint, and how the device holds
//! them.

use super::names::{POSITIONS, WORDS, is_layer_norm};
use super::{Config, Encoder, Tensor};
use crate::error::{Error, Result};
use crate::graph::ops::Affine;
use crate::graph::{Graph, Group, Within};
use crate::kernels::TensorId;
use std::collections::HashMap;

/// Names and shapes of a model's parameters, from the embeddings to the classifier.
pub fn parameter_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let Encoder { dim, hidden_dim, .. } = config.encoder;
    let linear = |name: &str, outputs: usize, inputs: usize| {
        [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
    };
    let norm = |name: &str| ["weight", "bias"].map(|kind| (format!("{name}.{kind}"), vec![dim]));
    let mut shapes = vec![
        (WORDS.to_string(), vec![config.encoder.vocab_size, dim]),
        (POSITIONS.to_string(), vec![config.encoder.max_positions, dim]),
    ];
    shapes.extend(norm("distilbert.embeddings.LayerNorm"));
    for layer in 0..config.encoder.layers {
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
    shapes.extend(linear("classifier", config.task.outputs(), dim));
    shapes
}

/// A parameter as the device holds it: one tensor of the checkpoint, or several laid one behind
/// another (query, key and value are projected by one product).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a session's store.
    pub name: String,
    /// The checkpoint's names of its parts, in order.
    pub parts: Vec<String>,
    /// Its shape; the parts share it equally along the first dimension.
    pub shape: Vec<u64>,
}

impl Parameter {
    /// Elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product::<u64>() as usize
    }

    /// Whether weight decay applies: not to biases and LayerNorms.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }

    /// The values of a checkpoint's tensors, laid one behind another.
    ///
    /// # Errors
    /// A part that is missing.
    pub fn gather(&self, tensors: &HashMap<&str, &Tensor>) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.count());
        for part in &self.parts {
            let tensor = tensors
                .get(part.as_str())
                .ok_or_else(|| Error::input(format!("the checkpoint lacks the tensor {part}")))?;
            values.extend_from_slice(&tensor.data);
        }
        if values.len() != self.count() {
            return Err(Error::input(format!(
                "{}: {} values, and the shape {:?} has {}",
                self.name,
                values.len(),
                self.shape,
                self.count()
            )));
        }
        Ok(values)
    }

    /// The checkpoint's tensors, cut out of the values.
    pub fn scatter(&self, values: &[f32]) -> Vec<(String, Tensor)> {
        let parts = self.parts.len();
        let mut shape: Vec<usize> = self.shape.iter().map(|size| *size as usize).collect();
        shape[0] /= parts;
        self.parts
            .iter()
            .zip(values.chunks_exact((self.count() / parts).max(1)))
            .map(|(name, data)| {
                (name.clone(), Tensor { shape: shape.clone(), data: data.to_vec() })
            })
            .collect()
    }
}

/// All parameters of a model, in the order of the checkpoint.
pub fn parameters(config: &Config) -> Vec<Parameter> {
    let one = |(name, shape): (String, Vec<usize>)| Parameter {
        parts: vec![name.clone()],
        name,
        shape: shape.into_iter().map(|size| size as u64).collect(),
    };
    let mut result: Vec<Parameter> = Vec::new();
    for parameter in parameter_shapes(config).into_iter().map(one) {
        // Query comes first; key and value of the same kind join it.
        let fused = [".q_lin.", ".k_lin.", ".v_lin."]
            .iter()
            .find(|part| parameter.name.contains(*part))
            .map(|part| parameter.name.replace(part, ".qkv_lin."));
        match fused {
            None => result.push(parameter),
            Some(name) => match result.iter_mut().find(|fused| fused.name == name) {
                Some(fused) => {
                    fused.parts.extend(parameter.parts);
                    fused.shape[0] += parameter.shape[0];
                }
                None => result.push(Parameter { name, ..parameter }),
            },
        }
    }
    result
}

/// Parameters of a model that lie together, and are updated alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterGroup {
    /// Which ones.
    pub group: Group,
    /// Whether weight decay applies to them.
    pub decays: bool,
}

/// Bytes of a group at most, unless one parameter has more: what every WebGPU device binds.
const GROUP_BYTES: u64 = 128 << 20;

/// All parameters of a model but the word embedding, in groups: first the LayerNorms and biases,
/// those of LayerNorms in front, then the matrices.
pub fn parameter_groups(config: &Config) -> Vec<ParameterGroup> {
    let mut grouped = parameters(config);
    grouped.retain(|parameter| parameter.name != WORDS);
    grouped.sort_by_key(|parameter| (parameter.decays(), !is_layer_norm(&parameter.name)));
    let mut groups: Vec<ParameterGroup> = Vec::new();
    for parameter in grouped {
        let bytes = 4 * Group::taken(&parameter.shape);
        let fits = |last: &&mut ParameterGroup| {
            last.decays == parameter.decays() && 4 * last.group.elements() + bytes <= GROUP_BYTES
        };
        let member = (parameter.name.clone(), parameter.shape.clone());
        match groups.last_mut().filter(fits) {
            Some(last) => last.group.members.push(member),
            None => {
                let name = format!("parameters, group {}", groups.len() + 1);
                let group = Group { name, members: vec![member] };
                groups.push(ParameterGroup { group, decays: parameter.decays() });
            }
        }
    }
    groups
}

/// The parameters of a model in a graph, by the names that the checkpoint has for them.
pub struct Weights {
    tensors: HashMap<String, TensorId>,
}

impl Weights {
    /// Adds a model's parameters to a graph.
    pub fn new(graph: &mut Graph, config: &Config) -> Self {
        let mut places: HashMap<String, Within> = HashMap::new();
        for ParameterGroup { group, .. } in parameter_groups(config) {
            let places_of_group = group.places();
            let names = group.members.into_iter().map(|(name, _)| name);
            places.extend(names.zip(places_of_group));
        }
        let mut tensors = HashMap::new();
        for Parameter { name, shape, .. } in parameters(config) {
            let tensor = match places.remove(&name) {
                Some(within) => graph.member(&name, &shape, within),
                None => graph.parameter(&name, &shape),
            };
            tensors.insert(name, tensor);
        }
        Self { tensors }
    }

    /// The parameter of this name.
    ///
    /// # Errors
    /// The model has none.
    pub fn tensor(&self, name: &str) -> Result<TensorId> {
        let tensor = self.tensors.get(name).copied();
        tensor.ok_or_else(|| Error::internal(format!("the model has no parameter {name}")))
    }

    /// `NAME.weight` and `NAME.bias`.
    ///
    /// # Errors
    /// The model has none.
    pub fn affine(&self, name: &str) -> Result<Affine> {
        let tensor = |kind: &str| self.tensor(&format!("{name}.{kind}"));
        Ok(Affine { weight: tensor("weight")?, bias: tensor("bias")? })
    }
}
