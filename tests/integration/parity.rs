//! The whole model against `transformers` and PyTorch, through stored fixtures
//! (`tests/fixtures/make_fixtures.py` made them): logits, the gradient of every parameter, 20
//! training steps; under every policy; odd sizes, lengths 1 to 66 in one batch.

use crisp::data::{Encoded, Tokenizer};
use crisp::engine::{Evaluator, Prepared};
use crisp::gpu::{Abilities, Device};
use crisp::graph::{Precision, Role, Session};
use crisp::kernels::{Scalars, Sizes};
use crisp::model::checkpoint::{self, Tensor};
use crisp::model::{Config, Model, Task, parameter_shapes, parameters};
use crisp::sparsity::Policy;
use crisp::train::{LearningRate, Settings, Trainer};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture's tensors: floats as they are, integers apart.
struct Fixture {
    floats: HashMap<String, Vec<f32>>,
    integers: HashMap<String, Vec<u32>>,
}

impl Fixture {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (mut floats, mut integers) = (HashMap::new(), HashMap::new());
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let words =
                view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
            match view.dtype() {
                Dtype::F32 => {
                    floats.insert(name, words.map(f32::from_bits).collect());
                }
                Dtype::I32 => {
                    integers.insert(name, words.collect());
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        Self { floats, integers }
    }

    /// What is stored for a policy: its file has a dash for whatever is no letter, digit or point.
    fn of(directory: &str, policy: &Policy) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let name = policy.to_string().replace(|c| !plain(c), "-");
        Self::read(&fixtures(directory).join(format!("{name}.safetensors")))
    }

    /// The sentences laid end to end under this prefix.
    fn sentences(&self, prefix: &str) -> Vec<Encoded> {
        let ids = &self.integers[&format!("{prefix}.ids")];
        let offsets = &self.integers[&format!("{prefix}.offsets")];
        let labels = self.integers.get(&format!("{prefix}.labels"));
        offsets
            .windows(2)
            .enumerate()
            .map(|(index, ends)| Encoded {
                ids: ids[ends[0] as usize..ends[1] as usize].to_vec(),
                label: labels.map(|labels| labels[index]),
            })
            .collect()
    }
}

struct Loaded {
    config: Config,
    session: Session,
}

/// A model on a device, its dropout off: the fixtures have none.
fn load(directory: &str) -> Loaded {
    let directory = fixtures(directory);
    let config = Config::load(&directory).unwrap();
    let weights = checkpoint::load(&directory, &config, 0).unwrap();
    let device = Device::open(None).unwrap_or_else(|error| panic!("{error}"));
    let mut session = Session::new(device);
    // Any tokenizer whose ids the model has will do: the fixtures hold ids.
    let tokenizer =
        Tokenizer::from_vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", true).unwrap();
    let model = Model::new(config.clone(), tokenizer, weights).unwrap();
    model.upload(&mut session).unwrap();
    Loaded { config, session }
}

/// A batch with the masks that a model's training has for it at a step of 20.
fn pack(sentences: &[&Encoded], policy: &Policy, config: &Config, step: usize) -> Prepared {
    let rules = policy.training().for_layers(config.encoder.layers).unwrap();
    Prepared::new(sentences, &rules.at(step as u32, 20)).unwrap()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

fn logits_agree(directory: &str, policy: &str, kernels: Option<Abilities>) {
    let policy: Policy = policy.parse().unwrap();
    let fixture = Fixture::of(directory, &policy.evaluation());
    let Loaded { config, mut session } = load(directory);
    if let Some(abilities) = kernels {
        session.tuning = abilities.into();
    }
    let sentences = fixture.sentences("input");
    for batch_size in [sentences.len(), 1, 3] {
        let mut evaluator = Evaluator::for_examples(
            &mut session,
            &config,
            &policy,
            Precision::F32,
            &sentences,
            batch_size,
        )
        .unwrap();
        let predictions = evaluator.predict(&session, &sentences, batch_size, |_| {}).unwrap();
        let ours: Vec<f32> =
            predictions.iter().flat_map(|prediction| prediction.logits.clone()).collect();
        let theirs = &fixture.floats["logits"];
        assert_eq!(ours.len(), theirs.len());
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let difference = (ours - theirs).abs();
            assert!(
                difference <= 1e-4,
                "{directory} {policy}, batches of {batch_size}, logit {index}: {ours}, and \
                 transformers has {theirs}"
            );
        }
        let evaluation = evaluator.evaluate(&session, &sentences, batch_size).unwrap();
        let theirs = f64::from(fixture.floats["loss"][0]);
        assert!((evaluation.loss - theirs).abs() < 1e-5, "{} {theirs}", evaluation.loss);
    }
}

fn gradients_agree(directory: &str, policy: &str) {
    let policy: Policy = policy.parse().unwrap();
    // Of the last step, when a warm-up is over.
    let fixture = Fixture::of(directory, &policy.training().evaluation());
    let Loaded { config, mut session } = load(directory);
    let sentences = fixture.sentences("input");
    let batch = pack(&sentences.iter().collect::<Vec<_>>(), &policy, &config, 20);
    let largest = batch.sizes();
    // Gradients that are added up over parts stay in the store until the update takes them.
    let settings = Settings { gradient_accumulation: 2, ..Settings::default() };
    let mut trainer = Trainer::new(&mut session, &config, &policy, &settings, largest).unwrap();
    let scalars = Scalars { seed: 0, step: 1, learning_rate: 0.0, ..Scalars::default() };
    let parts = [batch];
    let programs = trainer.add_gradients(&session, &parts, scalars).unwrap();
    let gradients: HashMap<String, Tensor> = parameters(&config)
        .iter()
        .flat_map(|parameter| {
            let sum = session.get(&parameter.name, Role::Gradient).unwrap();
            let mean: Vec<f32> = sum.iter().map(|sum| sum / sentences.len() as f32).collect();
            parameter.scatter(&mean)
        })
        .collect();
    let result = trainer.update(&session, programs, &parts, scalars).unwrap();
    let result = trainer.finish(&session, result, &parts).unwrap();
    let emptied = session.get("classifier.bias", Role::Gradient).unwrap();
    assert!(emptied.iter().all(|value| *value == 0.0), "{emptied:?}");
    let global = f64::from(fixture.floats["grad_norm"][0]);
    // Random keys differ between evaluation and training.
    let loss = fixture.floats.get("loss.training").unwrap_or(&fixture.floats["loss"])[0];
    assert!((result.loss - loss).abs() < 1e-5 * loss.abs().max(1.0), "{} {loss}", result.loss);
    assert!((f64::from(result.grad_norm) - global).abs() < 1e-4 * global);
    let mut compared = 0;
    for (name, _) in parameter_shapes(&config) {
        let Tensor { data, .. } = &gradients[&name];
        let expected = f64::from(fixture.floats[&format!("gradient_norm.{name}")][0]);
        // Where a gradient is zero but for rounding (key biases), the global norm is the measure.
        let tolerance = 1e-4 * expected.max(1e-3 * global);
        assert!((norm(data) - expected).abs() < tolerance, "{name}: {} {expected}", norm(data));
        if let Some(theirs) = fixture.floats.get(&format!("gradient.{name}")) {
            let difference = distance(data, theirs);
            assert!(
                difference < tolerance,
                "{directory} {policy}: the gradient of {name} is off by {difference:.3e}, its norm \
                 being {expected:.3e}"
            );
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} gradients were compared");
}

/// By the kernels that suit the adapter, or by those of another kind of device.
fn training_agrees(directory: &str, policy: &str, kernels: Option<Abilities>) {
    let policy: Policy = policy.parse().unwrap();
    let fixture = Fixture::of(directory, &policy.training());
    let Loaded { config, mut session } = load(directory);
    if let Some(abilities) = kernels {
        session.tuning = abilities.into();
    }
    let start: HashMap<String, Tensor> = checkpoint::load(&fixtures(directory), &config, 0)
        .unwrap()
        .parameters
        .into_iter()
        .collect();
    let pool = fixture.sentences("pool");
    let order = &fixture.integers["train.order"];
    let steps: Vec<Prepared> = order
        .chunks_exact(6)
        .enumerate()
        .map(|(index, step)| {
            let sentences: Vec<_> = step.iter().map(|i| &pool[*i as usize]).collect();
            pack(&sentences, &policy, &config, index + 1)
        })
        .collect();
    let largest = steps.iter().fold(Sizes::default(), |largest, batch| largest.max(batch.sizes()));
    let mut trainer =
        Trainer::new(&mut session, &config, &policy, &Settings::default(), largest).unwrap();
    let schedule = LearningRate { peak: 3e-4, warmup: 3, total: 20 };
    for (index, batch) in steps.iter().enumerate() {
        let step = index as u32 + 1;
        let learning_rate = schedule.at(step);
        let theirs = fixture.floats["train.learning_rates"][index];
        assert!((learning_rate - theirs).abs() <= 1e-6 * theirs, "{learning_rate} {theirs}");
        let scalars = Scalars { seed: 0, step, learning_rate, ..Scalars::default() };
        let parts = std::slice::from_ref(batch);
        let pending = trainer.step(&session, parts, scalars).unwrap();
        let result = trainer.finish(&session, pending, parts).unwrap();
        for (what, ours, theirs) in [
            ("loss", result.loss, fixture.floats["train.losses"][index]),
            ("gradient norm", result.grad_norm, fixture.floats["train.grad_norms"][index]),
        ] {
            assert!(
                (ours - theirs).abs() <= 1e-3 * theirs.abs(),
                "{directory} {policy}, step {step}: the {what} is {ours}, and PyTorch's {theirs}"
            );
        }
    }
    trainer.settle(&session).unwrap();
    // How far each parameter has moved, and for dense where to.
    for parameter in parameters(&config) {
        let values = session.get(&parameter.name, Role::Weight).unwrap();
        for (name, tensor) in parameter.scatter(&values) {
            let Some(moved) = fixture.floats.get(&format!("train.update_norm.{name}")) else {
                assert!(name.ends_with("k_lin.bias"), "{name} is not in the fixture");
                continue;
            };
            let moved = f64::from(moved[0]);
            let ours = distance(&tensor.data, &start[&name].data);
            assert!((ours - moved).abs() < 5e-3 * moved, "{name} moved by {ours}, not {moved}");
            if let Some(theirs) = fixture.floats.get(&format!("train.final.{name}")) {
                let off = distance(&tensor.data, theirs);
                assert!(off < 5e-3 * moved, "{name} is off by {off:.3e} after moving {moved:.3e}");
            }
        }
    }
}

macro_rules! cases {
    ($($name:ident: $directory:literal, $policy:literal;)*) => {$(
        mod $name {
            #[test]
            fn logits() {
                super::logits_agree($directory, $policy, None);
            }
            #[test]
            fn logits_by_the_kernels_for_cards() {
                super::logits_agree($directory, $policy, Some(super::Abilities::GPU));
            }
            #[test]
            fn gradients() {
                super::gradients_agree($directory, $policy);
            }
            #[test]
            fn training() {
                super::training_agrees($directory, $policy, None);
            }
            #[test]
            fn training_by_the_kernels_for_cards() {
                let kernels = Some(super::Abilities::GPU);
                super::training_agrees($directory, $policy, kernels);
            }
        }
    )*};
}

cases! {
    odd_dense: "odd", "dense";
    odd_topk_80: "odd", "topk:0.8";
    odd_topk_50: "odd", "topk:0.5";
    odd_block_topk_50: "odd", "block-topk:0.5";
    tiny_dense: "tiny", "dense";
    tiny_topk_80: "tiny", "topk:0.8";
    tiny_topk_50: "tiny", "topk:0.5";
    tiny_block_topk_50: "tiny", "block-topk:0.5";
    tiny_local: "tiny", "local:5";
    tiny_local_global: "tiny", "local:3,global";
    tiny_random: "tiny", "random:0.5";
    tiny_random_seeded: "tiny", "random:0.8,over=24,seed=7";
    tiny_topk_over: "tiny", "topk:0.5,over=24";
    tiny_block_topk_of_8: "tiny", "block-topk:0.5,block=8";
    tiny_by_layer: "tiny", "topk:0.5@0+local:4@1";
    odd_by_layer: "odd", "local:6@0-1+topk:0.8@3-4";
    // The rest is made of other policies, and has files of its own only for what no other shows.
    tiny_warm_up: "tiny", "topk:0→0.8,warmup=10";
    tiny_only_in_training: "tiny", "topk:0.8,only=train";
    tiny_only_in_evaluation: "tiny", "topk:0.8,only=eval";
    tiny_by_phase: "tiny", "topk:0.8,only=train+local:5,only=eval";
}

#[test]
fn half_precision_checkpoints_give_the_logits_of_their_rounded_weights() {
    logits_agree("tiny-f16", "dense", None);
    logits_agree("tiny-bf16", "dense", None);
}

/// A folded BERT is a DistilBERT: the head is put in by hand so that the logits are the hidden
/// state of the first token, as far as ReLU lets it through.
#[test]
fn a_folded_bert_has_the_hidden_states_of_bert() {
    let directory = fixtures("bert");
    let fixture = Fixture::read(&directory.join("reference.safetensors"));
    let mut config = Config::load(&directory).unwrap();
    let dim = config.encoder.dim;
    config.task = Task::Classes { labels: (0..2 * dim).map(|label| label.to_string()).collect() };
    let loaded = checkpoint::load(&directory, &config, 0).unwrap();
    assert!(loaded.unused.iter().any(|name| name.contains("pooler")), "{:?}", loaded.unused);
    // relu(x + 100) - 100 is x for what a LayerNorm puts out.
    let identity = |size: usize| -> Vec<f32> {
        (0..size * size).map(|i| f32::from(u8::from(i / size == i % size))).collect()
    };
    let device = Device::open(None).unwrap_or_else(|error| panic!("{error}"));
    let mut session = Session::new(device);
    let tensors: HashMap<&str, &Tensor> =
        loaded.parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for parameter in parameters(&config) {
        let values = match parameter.name.as_str() {
            "pre_classifier.weight" => identity(dim),
            "pre_classifier.bias" => vec![100.0; dim],
            "classifier.weight" => [identity(dim), identity(dim)].concat(),
            "classifier.bias" => vec![-100.0; 2 * dim],
            _ => parameter.gather(&tensors).unwrap(),
        };
        session.set(&parameter.name, Role::Weight, &parameter.shape, &values).unwrap();
    }
    let sentences = fixture.sentences("input");
    let mut evaluator = Evaluator::for_examples(
        &mut session,
        &config,
        &Policy::dense(),
        Precision::F32,
        &sentences,
        3,
    )
    .unwrap();
    let predictions = evaluator.predict(&session, &sentences, 3, |_| {}).unwrap();
    for (prediction, theirs) in
        predictions.iter().zip(fixture.floats["hidden.first"].chunks_exact(dim))
    {
        for (ours, theirs) in prediction.logits.iter().zip(theirs) {
            assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
        }
    }
}
