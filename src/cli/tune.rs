//! `crisp tune`: which variant of each matrix product of a model is fastest on this adapter, and how
//! cards best divide its attention.

use super::{Common, note, open, print, print_json, source, tuning_file};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::graph::{Plan, Precision};
use crate::kernels::Sizes;
use crate::kernels::attention::AttentionClass;
use crate::kernels::tune::Choice;
use crate::measure::{export_tuning, import_tuning, save_tuning, tune, tune_attention};
use crate::model::encode;
use crate::sparsity::Policy;
use crate::train::{Batches, Settings, TrainingPlans};
use std::fmt;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M", required_unless_present_any = ["export", "import"])]
    model: Option<String>,
    /// Writes what is known of this machine's adapters to a file, for other machines.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "import"])]
    export: Option<PathBuf>,
    /// Takes over what another machine has found of adapters, in place of what is known here.
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    import: Option<PathBuf>,
    /// Sentences per step.
    #[arg(long, value_name = "B", default_value_t = Settings::default().batch_size)]
    batch_size: usize,
    /// What activations are stored in: `f32` or `mixed`.
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
    /// Parts of a step, as `crisp train` is going to compute it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    gradient_accumulation: usize,
    /// Tokens of each sentence.
    #[arg(long, value_name = "L", required_unless_present_any = ["data", "export", "import"], conflicts_with = "data")]
    length: Option<u32>,
    /// The data that will be trained on; the sizes are those of its largest batch.
    #[arg(long, value_name = "D")]
    data: Option<String>,
    /// Word pieces kept of a sentence of the data.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_length)]
    max_length: usize,
    /// One JSON object a product, and one for attention forward and backward.
    #[arg(long)]
    json: bool,
}

/// What was measured of one class.
#[derive(serde::Serialize)]
struct Line<V> {
    product: String,
    #[serde(flatten)]
    choice: Choice<V>,
    default_gflops: Option<f64>,
    tried: Vec<(String, Option<f64>)>,
}

impl<V: fmt::Display + serde::Serialize> Line<V> {
    fn print(&self, json: bool, number: usize, count: usize) -> Result<()> {
        if json {
            return print_json(self);
        }
        let Self { product, choice: Choice { variant, gflops }, .. } = self;
        let default = self.default_gflops.map_or("none".into(), |speed| format!("{speed:.1}"));
        print(&format!(
            "{number}/{count} {product}: {variant} {gflops:.1} GFLOP/s (default {default})"
        ))
    }
}

/// What becomes of the candidates of a class that takes so many operations.
struct Tried<V> {
    class: String,
    operations: u64,
    default: V,
    default_gflops: Option<f64>,
    tried: Vec<(String, Option<f64>)>,
}

impl<V: fmt::Display + PartialEq> Tried<V> {
    fn new(class: impl fmt::Display, operations: u64, default: V) -> Self {
        let class = class.to_string();
        Self { class, operations, default, default_gflops: None, tried: Vec::new() }
    }

    fn hear(&mut self, variant: V, seconds: &Result<f64>) {
        let speed = |seconds: &f64| self.operations as f64 / seconds / 1e9;
        let gflops = seconds.as_ref().ok().map(speed);
        if let Err(why) = seconds {
            note(&format!("{}: {variant} is out: {why}", self.class));
        }
        self.tried.push((variant.to_string(), gflops));
        if variant == self.default {
            self.default_gflops = gflops;
        }
    }

    fn line(self, choice: Choice<V>) -> Line<V> {
        let Self { class: product, default_gflops, tried, .. } = self;
        Line { product, choice, default_gflops, tried }
    }
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let settings = Settings {
        batch_size: arguments.batch_size,
        gradient_accumulation: arguments.gradient_accumulation,
        precision: arguments.precision,
        max_length: arguments.max_length,
        ..Settings::default()
    };
    super::recipe::check(&settings)?;
    let path = tuning_file().ok_or_else(|| {
        Error::input("this system names no cache directory")
            .remedy("Set CRISP_CACHE to a directory that may be written.")
    })?;
    if let Some(to) = &arguments.export {
        let count = export_tuning(&path, to)?;
        return print(&format!("{count} adapters, in {}", to.display()));
    }
    if let Some(from) = &arguments.import {
        let count = import_tuning(&path, from)?;
        return print(&format!("{count} adapters, from {}", from.display()));
    }
    let Some(model) = &arguments.model else {
        return Err(Error::usage("--model: which model's products are to be measured?"));
    };
    let mut session = open(common)?;
    let model = source::model(model, settings.seed)?;
    let largest = match &arguments.data {
        Some(data) => {
            let dataset = source::dataset(data, Split::Train, model.config.task.labels())?;
            let examples = encode(&model, &dataset, settings.max_length)?;
            Batches::new(&examples, &settings, model.config.encoder.layers)?
                .largest(settings.total_steps(examples.len()))
        }
        None => {
            let sequences = settings.part_size() as u32;
            let tokens = sequences.checked_mul(arguments.length.unwrap_or_default());
            let tokens = tokens.filter(|tokens| *tokens > 0).ok_or_else(|| {
                Error::usage("--batch-size times --length: it must be 1 to 4,294,967,295 tokens")
            })?;
            let longest = arguments.length.unwrap_or_default();
            Sizes { tokens, sequences, longest, ..Sizes::default() }
        }
    };
    let tuning = &session.tuning;
    let planned = TrainingPlans::new(&model.config, &Policy::dense(), &settings, tuning, largest)?;
    let Plan { products, attention, .. } = planned.gradient;
    let choice_of = |class: &AttentionClass| !class.candidates(tuning.abilities).is_empty();
    let attention: Vec<AttentionClass> = attention.into_iter().filter(choice_of).collect();
    let count = products.len() + attention.len();
    for (number, class) in (1..).zip(&products) {
        let default = session.tuning.default((*class).into(), &Sizes::default());
        let [m, n, k] = class.sizes;
        let mut tried = Tried::new(class, class.products.operations() * m * n * k, default);
        let hear = |variant, seconds: &Result<f64>| tried.hear(variant, seconds);
        let choice = tune(&mut session, *class, hear)?;
        session.tuning.chosen.insert(class.to_string(), choice);
        // After each, so that nothing is lost when it is stopped.
        save_tuning(&session.tuning, &path, &session.device.adapter)?;
        tried.line(choice).print(arguments.json, number, count)?;
    }
    for (number, class) in (products.len() + 1..).zip(attention) {
        // As many tokens as the largest batch has.
        let sentences = (largest.tokens / class.longest).max(1);
        let default = class.default_for(session.tuning.abilities);
        let mut tried = Tried::new(class, class.operations(sentences), default);
        let hear = |division, seconds: &Result<f64>| tried.hear(division, seconds);
        let Some(choice) = tune_attention(&mut session, class, sentences, hear)? else { continue };
        session.tuning.attention.insert(class.to_string(), choice);
        save_tuning(&session.tuning, &path, &session.device.adapter)?;
        tried.line(choice).print(arguments.json, number, count)?;
    }
    note(&format!("in {}", path.display()));
    Ok(())
}
