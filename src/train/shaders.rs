//! The complete shader texts that plans are made of, for reading, for tests and for other
//! compilers. Needs no device.

use super::{Settings, TrainingPlans};
use crate::engine::AttentionPairs;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Abilities;
use crate::graph::{Graph, Pass, Plan, Precision};
use crate::kernels::matmul::{
    Activation, Asked, GradientOperands, Operands, Products, Transposition, Variant, gradients,
    matmul,
};
use crate::kernels::normed::{self, Product, Sum};
use crate::kernels::tune::Tuning;
use crate::kernels::{Command, Element, Launch, Size, Sizes, TensorId, pointwise, probe};
use crate::model::{Config, Halves, Inputs, Weights, network};
use crate::sparsity::Policy;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Policies that between them need every kernel.
pub const POLICIES: [&str; 5] = ["dense", "topk:0.8", "block-topk:0.8", "local:32", "random:0.8"];
const ADAPTERS: [Abilities; 3] = [Abilities::CPU, Abilities::GPU, Abilities::PLAIN_GPU];
/// The batch that plans have room for: 8 sentences of 64 tokens. Only which variant of a product
/// is taken depends on it.
const LARGEST: Sizes = Sizes {
    tokens: 512,
    sequences: 8,
    distinct: 512,
    blocks: 32,
    pairs: 128,
    bit_pairs: 128,
    visits: 32,
    longest: 64,
};

/// A complete text, as compilers and drivers see it.
#[derive(Debug, Clone)]
pub struct Text {
    /// The first launch of it: kernel, constants, text, parameters and bindings.
    pub launch: Launch,
    /// What it is used for, such as `training topk:0.8 on gpu`.
    pub used: BTreeSet<String>,
}

/// Texts by the names that their files have.
#[derive(Debug, Clone, Default)]
pub struct Shaders(BTreeMap<String, Text>);

impl Shaders {
    /// The texts that training and evaluating a model take, under policies of every kind and on
    /// each kind of adapter.
    ///
    /// # Errors
    /// Sizes of the model that do not fit each other, or that kernels cannot count.
    pub fn of_model(config: &Config) -> Result<Self> {
        let mut shaders = Self::default();
        for policy in POLICIES {
            shaders.add_model(config, &policy.parse()?, "")?;
        }
        if let Some(policy) = &config.sparsity {
            shaders.add_model(config, policy, "")?;
        }
        Ok(shaders)
    }

    /// The texts of models of usual and of odd shapes, with each activation and size of a block,
    /// and those that `crisp tune` may choose from.
    ///
    /// # Errors
    /// None, unless Crisp itself is wrong.
    pub fn all() -> Result<Self> {
        let mut shaders = Self::default();
        // All layers of a model share one size of blocks.
        let blocks = [4, 8, 32].map(|block| {
            format!("block-topk:0.8,block={block}@0+topk:0.8@1+local:8@2+random:0.8@3")
        });
        for (heads, dim) in [(12, 64), (12, 32), (8, 128), (3, 6), (1, 1)] {
            for (activation, dropout) in [("gelu", 0.1), ("relu", 0.0)] {
                let config = shape(heads, dim, activation, dropout)?;
                for policy in POLICIES.into_iter().chain(blocks.iter().map(String::as_str)) {
                    let what = format!(", {heads} heads of {dim}, {activation}");
                    shaders.add_model(&config, &policy.parse()?, &what)?;
                }
            }
        }
        for abilities in ADAPTERS.into_iter().chain(Abilities::WITH_MATRICES) {
            for factors in [Element::F32, Element::F16] {
                shaders.add_products(abilities, factors)?;
            }
        }
        shaders.add_normed()?;
        // Of no model here: their gradients meet in products.
        let [a, b, sum] = [0, 1, 2].map(TensorId);
        let add = pointwise::add(Size::from(132u32), a, b, sum);
        shaders.add([add].into_iter(), "gradients that meet elsewhere")?;
        shaders.add([probe::subgroups(a)].into_iter(), "crisp doctor")?;
        Ok(shaders)
    }

    /// Each text by the name of its file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Text)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text))
    }

    /// Writes every text to a file in a directory, and `shaders.json`, which says of each file the
    /// kernel, the constants that were set in it, what it stores in float16 and what it is used for. Returns how many texts.
    ///
    /// # Errors
    /// A directory that has files already, and what the operating system refuses.
    pub fn write(&self, directory: &Path) -> Result<usize> {
        files::create_dir(directory)?;
        let mut entries = directory.read_dir().map_err(|why| Error::io(directory, "list", &why))?;
        if entries.next().is_some() {
            let message = format!("{}: has files already", directory.display());
            return Err(Error::usage(message).remedy("Name a new or an empty directory."));
        }
        let mut list = Map::new();
        for (name, Text { launch, used }) in &self.0 {
            let shader = &launch.shader;
            files::write(&directory.join(name), shader.text.as_bytes())?;
            let mut constants: Map<String, Value> = shader
                .constants
                .split(',')
                .filter_map(|constant| constant.split_once('='))
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            let mut entry = json!({ "kernel": shader.name, "used": used });
            if let Some(Value::String(names)) = constants.shift_remove("F16") {
                entry["float16"] = names.split('.').collect();
            }
            entry["constants"] = constants.into();
            list.insert(name.clone(), entry);
        }
        let list = serde_json::to_string_pretty(&list)
            .map_err(|why| Error::internal(format!("writing the list of shaders: {why}")))?;
        files::write(&directory.join("shaders.json"), list.as_bytes())?;
        Ok(self.0.len())
    }

    /// Adds what training and evaluating a model take under a policy.
    fn add_model(&mut self, config: &Config, policy: &Policy, what: &str) -> Result<()> {
        for abilities in ADAPTERS {
            for precision in [Precision::F32, Precision::Mixed] {
                for (phase, plan) in plans(config, policy, precision, &abilities.into(), LARGEST)? {
                    let of = abilities.name();
                    let used = format!("{phase} {policy} in {precision} on {of}{what}");
                    self.add(plan.commands.into_iter().map(|(_, command)| command), &used)?;
                }
            }
        }
        Ok(())
    }

    /// Adds what the tuner may choose for products of factors that are stored in such elements.
    fn add_products(&mut self, abilities: Abilities, factors: Element) -> Result<()> {
        let sizes = [132u32, 68, 36].map(Size::from);
        let asked = |products| Asked { factors, ..Asked::from((products, sizes)) };
        for transposition in [Transposition::Nn, Transposition::Nt, Transposition::Tn] {
            for variant in Variant::candidates(abilities, asked(Products::One(transposition))) {
                let commands = ends().into_iter().map(|operands| {
                    let scratch = |_| SUMS[1];
                    stored(matmul(variant, transposition, sizes, operands, scratch), factors)
                });
                let commands = commands.collect::<Result<Vec<_>>>()?;
                self.add(commands.into_iter(), "a product that was tuned")?;
            }
        }
        for variant in Variant::candidates(abilities, asked(Products::Gradients)) {
            let commands = gradient_ends()
                .into_iter()
                .filter_map(|operands| Some(stored(gradients(variant, sizes, operands)?, factors)));
            let commands = commands.collect::<Result<Vec<_>>>()?;
            self.add(commands.into_iter(), "gradients that were tuned")?;
        }
        Ok(())
    }

    /// Adds what the tuner may choose for the projections around a LayerNorm.
    fn add_normed(&mut self) -> Result<()> {
        let sizes = [132u32, 68, 36].map(Size::from);
        let [a, b, bias, before, bent, addend, c] = [0, 1, 2, 3, 4, 5, 6].map(TensorId);
        let asked = (Products::One(Transposition::Nt), sizes).into();
        for variant in Variant::candidates(Abilities::GPU, asked) {
            let sum = Sum { a, weight: b, bias, residual: addend, z: c, statistics: before };
            let product = |activation| {
                let (z, statistics, gamma, beta, x, y) = (a, b, bent, addend, c, before);
                let (weight, epsilon) = (TensorId(7), 0.0);
                Product { z, statistics, gamma, beta, epsilon, x, weight, bias, activation, y }
            };
            let products = [Activation::None, Activation::Gelu, Activation::Relu]
                .map(|activation| normed::product(variant, sizes, product(activation)));
            let commands = [normed::sum(variant, sizes, sum)].into_iter().chain(products);
            self.add(commands.flatten(), "projections around a LayerNorm that were tuned")?;
        }
        Ok(())
    }

    fn add(&mut self, commands: impl Iterator<Item = Command>, used: &str) -> Result<()> {
        for command in commands {
            let Command::Launch(launch) = command else { continue };
            // A file system takes 255 bytes: what is off goes without saying.
            let constants = launch.shader.constants.split(',');
            let on: Vec<&str> =
                constants.filter(|constant| !constant.ends_with("=false")).collect();
            let name = match on.join(",").as_str() {
                "" => format!("{}.wgsl", launch.shader.name),
                constants => format!("{}-{constants}.wgsl", launch.shader.name),
            };
            let text = launch.shader.text.clone();
            let new = || Text { launch, used: BTreeSet::new() };
            let entry = self.0.entry(name.clone()).or_insert_with(new);
            if entry.launch.shader.text != text {
                return Err(Error::internal(format!("{name}: there are two texts of this name")));
            }
            entry.used.insert(used.to_owned());
        }
        Ok(())
    }
}

/// What takes part in products: factors, what else passes between kernels, and what is float32 in
/// any case: a bias, or the gradients of weight and bias.
const FACTORS: [TensorId; 3] = [TensorId(0), TensorId(1), TensorId(2)];
const BETWEEN: [TensorId; 4] = [TensorId(3), TensorId(4), TensorId(5), TensorId(8)];
const SUMS: [TensorId; 2] = [TensorId(6), TensorId(7)];

/// Every end that products have.
fn ends() -> Vec<Operands> {
    let ([a, b, _], [c, bent, addend, before], [bias, _]) = (FACTORS, BETWEEN, SUMS);
    let product = Operands::product(a, b, c);
    let activated = |activation| {
        let keeps = activation != Activation::None;
        let (bias, before) = (keeps.then_some(bias), keeps.then_some(before));
        Operands { bias, activation, before, ..product }
    };
    let sloped =
        |activation| Operands { activation, bent: Some(bent), addend: Some(addend), ..product };
    let mut ends = [Activation::None, Activation::Gelu, Activation::Relu].map(activated).to_vec();
    ends.extend([Activation::Gelu, Activation::Relu].map(sloped));
    ends.push(Operands { accumulate: true, ..product });
    ends
}

/// Ends that gradients have.
fn gradient_ends() -> [GradientOperands; 2] {
    let ([dy, weight, x], [dx, bent, addend, _], [dweight, dbias]) = (FACTORS, BETWEEN, SUMS);
    let of = |bent: Option<(Activation, TensorId)>, accumulate| {
        let addend = bent.map(|_| addend);
        GradientOperands { dy, weight, x, bent, addend, dx, dweight, dbias, accumulate }
    };
    [of(None, false), of(Some((Activation::Gelu, bent)), true)]
}

/// A command whose factors, and what passes between kernels, are stored in such elements.
fn stored(command: Command, factors: Element) -> Result<Command> {
    let Command::Launch(launch) = command else { return Ok(command) };
    let name = launch.shader.name;
    let is_float16 = |tensor| factors == Element::F16 && !SUMS.contains(&tensor);
    let launch = launch.in_float16(is_float16).map_err(|binding| {
        Error::internal(format!("{name} knows no float16 at its binding {binding}"))
    })?;
    Ok(Command::Launch(launch))
}

/// The plans that training and evaluating a model take under a policy, for batches up to a size,
/// each with what it is for: `training`, `settling` (of late updates), `training in parts` (two
/// plans), `evaluation`.
///
/// # Errors
/// Sizes of the model that do not fit each other, or that kernels cannot count.
pub fn plans(
    config: &Config,
    policy: &Policy,
    precision: Precision,
    tuning: &Tuning,
    largest: Sizes,
) -> Result<Vec<(&'static str, Plan)>> {
    let mut plans = Vec::new();
    for (phase, parts) in [("training", 1), ("training in parts", 2)] {
        let settings = Settings { gradient_accumulation: parts, precision, ..Settings::default() };
        let of_step = TrainingPlans::new(config, policy, &settings, tuning, largest)?;
        plans.push((phase, of_step.gradient));
        plans.extend(of_step.update.map(|plan| (phase, plan)));
        plans.extend(of_step.settle.map(|plan| ("settling", plan)));
    }
    if precision == Precision::Mixed {
        plans.push(("copying", Halves::plan(config, tuning)?));
    }
    let mut graph = Graph::new().in_precision(precision);
    let rules = policy.evaluation().for_layers(config.encoder.layers)?;
    let weights = Weights::new(&mut graph, config);
    let inputs = Inputs::new(&mut graph, &rules);
    let network = network(&mut graph, config, &weights, &inputs, Pass::Inference)?;
    let outputs: Vec<TensorId> =
        [network.logits].into_iter().chain(AttentionPairs::wanted(&network.attention)).collect();
    plans.push(("evaluation", Plan::new(&graph, tuning.clone(), largest, &outputs)?));
    Ok(plans)
}

/// A model of few layers with heads of this size.
fn shape(heads: u32, dim: u32, activation: &str, dropout: f32) -> Result<Config> {
    let width = heads * dim;
    let config = json!({
        "model_type": "distilbert",
        "vocab_size": 100,
        "max_position_embeddings": 512,
        "n_layers": 4,
        "n_heads": heads,
        "dim": width,
        "hidden_dim": 4 * width,
        "activation": activation,
        "dropout": dropout,
        "attention_dropout": dropout,
        "seq_classif_dropout": dropout,
    });
    Config::from_json(Path::new("a shape of models"), &config.to_string())
}
