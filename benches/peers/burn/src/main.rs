//! The training step that `crisp bench step` times, in Burn. One line of JSON on stdout.

mod model;

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::module::attention;
use burn::tensor::{Device, DeviceKind, Distribution, Tensor, TensorData};
use clap::Parser;
use serde_json::json;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

const LEARNING_RATE: f64 = 5e-5;
const WEIGHT_DECAY: f32 = 0.01;
const LARGEST_NORM: f64 = 1.0;
const LONGEST: usize = 128;
const ATTENTION_HEADS: usize = 12;
const ATTENTION_HEAD_DIM: usize = 64;

#[derive(Parser)]
#[command(about = "The training step of `crisp bench step` in Burn, timed")]
struct Arguments {
    /// A directory with a DistilBERT's config.json, and for --data its tokenizer. Weights are fresh.
    #[arg(long, required_unless_present = "attention")]
    model: Option<PathBuf>,
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// One batch of random tokens, every sentence of this length.
    #[arg(long, conflicts_with = "data", required_unless_present_any = ["data", "attention"])]
    length: Option<usize>,
    /// A directory with SST-2's train.tsv: its batches in file order, padded to their longest.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Attention alone, forward and backward: one sequence of this length, 12 heads of 64.
    #[arg(long, value_name = "LENGTH", conflicts_with_all = ["model", "length", "data"])]
    attention: Option<usize>,
    /// Steps measured, after one that warms up; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    device.seed(42);
    let mut report = match (arguments.attention, &arguments.model) {
        (Some(length), _) => bench_attention(length, arguments.steps, &device),
        (None, Some(model)) => bench_step(model, &arguments, &device)?,
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    report["framework"] = framework().into();
    report["adapter"] = device.identity().map(|identity| identity.name).into();
    println!("{report}");
    Ok(())
}

fn bench_step(
    directory: &Path,
    arguments: &Arguments,
    device: &Device,
) -> Result<serde_json::Value, Box<dyn Error>> {
    let config: model::Config = serde_json::from_str(&read(&directory.join("config.json"))?)?;
    let rows = arguments.batch_size as usize;
    let batches = match (arguments.length, &arguments.data) {
        (Some(length), _) if (1..=config.max_position_embeddings).contains(&length) => {
            vec![random_batch(rows, length, config.vocab_size)]
        }
        (Some(length), _) => {
            let longest = config.max_position_embeddings;
            return Err(format!("--length {length}: the model takes 1 to {longest}").into());
        }
        (None, Some(data)) => {
            let longest = LONGEST.min(config.max_position_embeddings);
            let tokenizer = tokenizer(directory, longest)?;
            sst2_batches(data, &tokenizer, rows, arguments.steps as usize + 1)?
        }
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let mut model = config.init(device);
    let mut optimizer = optimizer();
    let (first, median) = time(arguments.steps, |step| {
        let batch = &batches[step % batches.len()];
        let started = Instant::now();
        let loss = model.loss(
            Tensor::from_data(batch.data(&batch.ids), device),
            batch.padding.as_ref().map(|padding| Tensor::from_data(batch.data(padding), device)),
            Tensor::from_ints(batch.labels.as_slice(), device),
        );
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        clip(&mut gradients, &model, device);
        model = optimizer.step(LEARNING_RATE, model.clone(), gradients);
        device.sync().expect("the device finishes the step");
        let loss: f32 = loss.into_scalar();
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("step {step}  loss {loss:.6}  {seconds:.3} s");
        seconds
    });
    Ok(json!({
        "seconds_per_step": median,
        "sentences_per_second": rows as f64 / median,
        "first_step_seconds": first,
    }))
}

fn bench_attention(length: usize, steps: u32, device: &Device) -> serde_json::Value {
    let random = || {
        let shape = [1, ATTENTION_HEADS, length, ATTENTION_HEAD_DIM];
        Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad()
    };
    let (query, key, value) = (random(), random(), random());
    device.sync().expect("the device draws the inputs");
    let (first, median) = time(steps, |_| {
        let started = Instant::now();
        let output =
            attention(query.clone(), key.clone(), value.clone(), None, None, Default::default());
        let gradients = output.sum().backward();
        device.sync().expect("the device finishes the gradient");
        let seconds = started.elapsed().as_secs_f64();
        assert!([&query, &key, &value].iter().all(|input| input.grad(&gradients).is_some()));
        seconds
    });
    json!({
        "attention_length": length,
        "forward_backward_seconds": median,
        "first_seconds": first,
    })
}

/// The seconds of the first run, and the median of `steps` more.
fn time(steps: u32, mut run: impl FnMut(usize) -> f64) -> (f64, f64) {
    let first = run(0);
    let mut seconds: Vec<f64> = (1..=steps as usize).map(run).collect();
    seconds.sort_by(f64::total_cmp);
    (first, seconds[seconds.len() / 2])
}

/// AdamW with decay on matrices only.
fn optimizer() -> ModuleOptimizer {
    let config = AdamWConfig::new().with_epsilon(1e-8);
    let vectors = ParamGroup::from_any_predicates(vec!["bias", "gamma", "beta"]);
    let undecayed = config.clone().with_weight_decay(0.0).build();
    config.with_weight_decay(WEIGHT_DECAY).init().with_group(vectors, undecayed, None)
}

/// Clips by the norm of all gradients together, which Burn's own clipping does tensor by tensor.
fn clip(gradients: &mut GradientsParams, model: &model::DistilBert, device: &Device) {
    let zero = Tensor::zeros([1], &device.clone().inner());
    let mut norm = SumOfSquares { gradients, sum: zero };
    model.visit(&mut norm);
    let factor = (norm.sum.sqrt() + 1e-6).recip().mul_scalar(LARGEST_NORM).clamp_max(1.0);
    model.visit(&mut Scale { gradients, factor });
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    sum: Tensor<1>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.sum = self.sum.clone() + gradient.square().sum();
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            self.gradients.register(parameter.id, gradient * self.factor.clone().unsqueeze());
        }
    }
}

/// Sentences of one length, row by row.
struct Batch {
    ids: Vec<i32>,
    /// True where a token only fills up; none if nothing does.
    padding: Option<Vec<bool>>,
    labels: Vec<i32>,
}

impl Batch {
    fn data<T: burn::tensor::Element>(&self, values: &[T]) -> TensorData {
        let rows = self.labels.len();
        TensorData::new(values.to_vec(), [rows, values.len() / rows])
    }
}

fn random_batch(rows: usize, length: usize, vocabulary: usize) -> Batch {
    // A linear congruential generator; its upper half is random enough.
    let mut state = 42u64;
    let mut id = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % vocabulary as u64) as i32
    };
    Batch {
        ids: (0..rows * length).map(|_| id()).collect(),
        padding: None,
        labels: (0..rows).map(|row| (row % 2) as i32).collect(),
    }
}

fn sst2_batches(
    directory: &Path,
    tokenizer: &Tokenizer,
    rows: usize,
    count: usize,
) -> Result<Vec<Batch>, Box<dyn Error>> {
    let text = read(&directory.join("train.tsv"))?;
    let lines: Vec<&str> = text.lines().skip(1).take(rows * count).collect();
    let batch = |lines: &[&str]| -> Result<Batch, Box<dyn Error>> {
        let mut sentences = Vec::new();
        let mut labels = Vec::new();
        for line in lines {
            let (sentence, label) =
                line.rsplit_once('\t').ok_or("train.tsv: a line without tab")?;
            sentences.push(sentence);
            labels.push(label.trim().parse()?);
        }
        let encoded = tokenizer.encode_batch(sentences, true).map_err(|why| why.to_string())?;
        let ids = encoded.iter().flat_map(|one| one.get_ids()).map(|id| *id as i32).collect();
        let padding: Vec<bool> = encoded
            .iter()
            .flat_map(|one| one.get_attention_mask())
            .map(|real| *real == 0)
            .collect();
        Ok(Batch { ids, padding: padding.contains(&true).then_some(padding), labels })
    };
    // A file that is too short starts again from its first batch; no batch is smaller.
    let batches = lines.chunks_exact(rows).map(batch).collect::<Result<Vec<_>, _>>()?;
    if batches.is_empty() {
        return Err(format!("train.tsv: fewer than {rows} sentences").into());
    }
    Ok(batches)
}

/// BERT's tokenizer, cutting at `longest` tokens and padding to the longest of a batch.
fn tokenizer(directory: &Path, longest: usize) -> Result<Tokenizer, Box<dyn Error>> {
    let whole = directory.join("tokenizer.json");
    let mut tokenizer = if whole.exists() {
        Tokenizer::from_file(whole).map_err(|why| why.to_string())?
    } else {
        let vocabulary = directory.join("vocab.txt").to_string_lossy().into_owned();
        let model = WordPiece::from_file(&vocabulary).build();
        let model = model.map_err(|why| format!("{vocabulary}: {why}"))?;
        let mut tokenizer = Tokenizer::new(model);
        let special = |piece: &str| {
            let id = tokenizer.token_to_id(piece).ok_or(format!("vocab.txt: no {piece}"))?;
            Ok::<_, String>((piece.to_owned(), id))
        };
        let frame = BertProcessing::new(special("[SEP]")?, special("[CLS]")?);
        tokenizer
            .with_normalizer(Some(BertNormalizer::default()))
            .map_err(|why| why.to_string())?
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(Some(frame));
        tokenizer
    };
    let truncation = TruncationParams { max_length: longest, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(|why| why.to_string())?;
    tokenizer.with_padding(Some(PaddingParams::default()));
    Ok(tokenizer)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))
}

/// Burn and the features it was built with.
fn framework() -> String {
    let mut name = String::from("burn 0.22.1");
    for (feature, on) in [
        ("vulkan", cfg!(feature = "vulkan")),
        ("fusion", cfg!(feature = "fusion")),
        ("autotune", cfg!(feature = "autotune")),
    ] {
        if on {
            name += " ";
            name += feature;
        }
    }
    name
}
