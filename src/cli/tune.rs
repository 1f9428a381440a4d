//! `crisp tune`: which variant of each matrix product of a model is fastest on this adapter.

use super::{Common, note, open, print, print_json, source, tuning_file};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::graph::Precision;
use crate::kernels::Sizes;
use crate::kernels::tune::{Choice, ProductClass};
use crate::measure::{export_tuning, import_tuning, save_tuning, tune};
use crate::model::encode;
use crate::sparsity::Policy;
use crate::train::{Batches, Settings, TrainingPlans};
use std::collections::BTreeSet;
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
    /// One JSON object a product.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    product: String,
    #[serde(flatten)]
    choice: Choice,
    default_gflops: Option<f64>,
    tried: &'a [(String, Option<f64>)],
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
            Sizes { tokens, sequences, ..Sizes::default() }
        }
    };
    let tuning = &session.tuning;
    let planned = TrainingPlans::new(&model.config, &Policy::dense(), &settings, tuning, largest)?;
    let classes: BTreeSet<ProductClass> = planned.gradient.products;
    for (number, class) in classes.iter().enumerate() {
        let default = session.tuning.default((*class).into(), &Sizes::default());
        let [m, n, k] = class.sizes;
        let operations = class.products.operations() * m * n * k;
        let speed = |seconds: f64| operations as f64 / seconds / 1e9;
        let mut tried = Vec::new();
        let mut default_gflops = None;
        let choice = tune(&mut session, *class, |variant, seconds| {
            let gflops = seconds.as_ref().ok().map(|seconds| speed(*seconds));
            if variant == default {
                default_gflops = gflops;
            }
            if let Err(why) = seconds {
                note(&format!("{class}: {variant} is out: {why}"));
            }
            tried.push((variant.to_string(), gflops));
        })?;
        session.tuning.chosen.insert(class.to_string(), choice);
        // After each, so that nothing is lost when it is stopped.
        save_tuning(&session.tuning, &path, &session.device.adapter)?;
        if arguments.json {
            let product = class.to_string();
            print_json(&Line { product, choice, default_gflops, tried: &tried })?;
        } else {
            let default = default_gflops.map_or("none".into(), |speed| format!("{speed:.1}"));
            print(&format!(
                "{}/{} {class}: {} {:.1} GFLOP/s (default {default})",
                number + 1,
                classes.len(),
                choice.variant,
                choice.gflops,
            ))?;
        }
    }
    note(&format!("in {}", path.display()));
    Ok(())
}
