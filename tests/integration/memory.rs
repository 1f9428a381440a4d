//! Memory: what is planned is what is allocated, it stays flat, and activations that are computed
//! again take less of it and change no bit.

use crate::support::tiny;
use crisp::data::{Dataset, Encoded};
use crisp::engine::Prepared;
use crisp::gpu::{Abilities, Device};
use crisp::graph::{Plan, Precision, Role, Session};
use crisp::kernels::{Scalars, Sizes};
use crisp::model::{self, Config};
use crisp::sparsity::Policy;
use crisp::train::{Event, Job, Settings, Trainer, TrainingPlans, train};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn session() -> Session {
    Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")))
}

/// Sentences of these lengths, words and labels following from their places.
fn prepared(lengths: &[usize], policy: &Policy, vocabulary: u32) -> Prepared {
    let sentences: Vec<Encoded> = lengths
        .iter()
        .enumerate()
        .map(|(number, length)| Encoded {
            ids: (0..*length).map(|at| (number * 7 + at * 3) as u32 % vocabulary).collect(),
            label: Some(number as u32 % 2),
        })
        .collect();
    let rules = policy.training().for_layers(2).unwrap();
    Prepared::new(&sentences.iter().collect::<Vec<_>>(), &rules).unwrap()
}

#[test]
fn activations_computed_again_change_no_bit() {
    let model = tiny();
    let config = model.config.with_dropout(Some(0.1), None);
    for policy in ["dense", "topk:0.5", "block-topk:0.5,block=4", "local:3@0+random:0.5@1"] {
        let policy: Policy = policy.parse().unwrap();
        let results = [false, true].map(|checkpoint_activations| {
            // In parts, so that the gradients can be looked at before the update takes them.
            let settings = Settings {
                checkpoint_activations,
                gradient_accumulation: 2,
                ..Settings::default()
            };
            let mut session = session();
            model.upload(&mut session).unwrap();
            let parts = [prepared(&[1, 7, 33, 16, 20], &policy, config.encoder.vocab_size as u32)];
            let largest = parts[0].sizes();
            let mut trainer =
                Trainer::new(&mut session, &config, &policy, &settings, largest).unwrap();
            (1..=3)
                .map(|step| {
                    let scalars =
                        Scalars { seed: 3, step, learning_rate: 1e-3, ..Scalars::default() };
                    let programs = trainer.add_gradients(&session, &parts, scalars).unwrap();
                    let bits: Vec<Vec<u32>> = model::parameters(&config)
                        .iter()
                        .map(|parameter| session.get(&parameter.name, Role::Gradient).unwrap())
                        .map(|values| values.into_iter().map(f32::to_bits).collect())
                        .collect();
                    let pending = trainer.update(&session, programs, &parts, scalars).unwrap();
                    let result = trainer.finish(&session, pending, &parts).unwrap();
                    (result.loss.to_bits(), result.grad_norm.to_bits(), bits)
                })
                .collect::<Vec<_>>()
        });
        assert!(results[0] == results[1], "{policy}");
    }
}

/// DistilBERT-base on long sentences: most of what is kept goes.
#[test]
fn activations_computed_again_take_less_memory() {
    let config = Config::from_json(
        Path::new("config.json"),
        r#"{"model_type": "distilbert", "dim": 768, "n_heads": 12, "n_layers": 6, "hidden_dim": 3072,
            "vocab_size": 30522, "max_position_embeddings": 512, "activation": "gelu"}"#,
    )
    .unwrap();
    let tokens = 16 * 512;
    let offsets: Vec<u32> = (0..=16).map(|sentence| sentence * 512).collect();
    let masks = Policy::dense().for_layers(6).unwrap().masks(&offsets);
    let largest = Sizes::of_batch(&offsets, tokens as usize, &masks);
    let [kept, again] = [false, true].map(|checkpoint_activations| {
        let settings = Settings { checkpoint_activations, ..Settings::default() };
        let policy = Policy::dense();
        let tuning = Abilities::GPU.into();
        TrainingPlans::new(&config, &policy, &settings, &tuning, largest).unwrap().gradient
    });
    let [before, after] = [&kept, &again].map(Plan::made_bytes);
    assert!(after * 3 < before, "{before} bytes of activations, and {after} computed again");
    let [before, after] = [&kept, &again].map(|plan| plan.operations(&largest) as f64);
    let ratio = after / before;
    assert!((1.2..1.4).contains(&ratio), "{ratio} times the operations");
}

fn job(output: &Path, settings: Settings) -> Job {
    let model = tiny();
    let rows: String = (0..40)
        .map(|number| format!("{}\t{}\n", "good film ".repeat(1 + number % 9), number % 2))
        .collect();
    let text = format!("sentence\tlabel\n{rows}");
    let labels = model.config.task.labels().to_vec();
    let data = || Dataset::from_tsv(Path::new("data.tsv"), text.as_bytes(), &labels).unwrap();
    Job { settings, ..Job::new(model, data(), data(), output) }
}

/// A whole run, with evaluations and checkpoints: as many bytes as were announced, to the last one.
#[test]
fn what_is_planned_is_what_is_allocated() {
    let [single, mixed] = [Precision::F32, Precision::Mixed];
    for (policy, batch_size, checkpoint_activations, gradient_accumulation, precision) in [
        ("dense", 1, false, 1, single),
        ("dense", 6, false, 1, single),
        ("topk:0.5", 7, true, 1, single),
        ("block-topk:0.5,block=8", 40, false, 1, single),
        ("block-topk:0.5,block=8", 9, false, 4, single),
        ("random:0.5", 7, true, 7, single),
        ("topk:0.5", 7, true, 1, mixed),
        ("block-topk:0.5,block=8", 9, false, 4, mixed),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            sparsity: policy.parse().unwrap(),
            batch_size,
            max_steps: Some(9),
            eval_every: Some(4),
            checkpoint_activations,
            gradient_accumulation,
            precision,
            ..Settings::default()
        };
        let mut session = session();
        let mut planned = 0;
        let stop = AtomicBool::new(false);
        let job = job(&directory.path().join("run"), settings);
        let outcome = train(&mut session, job, &stop, |event| {
            if let Event::Planned { memory, evaluation, .. } = event {
                planned = memory.parameters
                    + memory.activations
                    + memory.others
                    + evaluation
                    + memory.saving;
            }
        })
        .unwrap();
        let what =
            format!("{policy}, batch {batch_size}, {gradient_accumulation} parts, {precision}");
        assert_eq!(planned, outcome.result.device_bytes, "{what}");
    }
}

/// A session may train again: nothing of the first run, such as its moments, is left in the second.
#[test]
fn a_second_run_in_a_session_is_like_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut session = session();
    let mut run = |name: &str| {
        let settings = Settings { max_steps: Some(5), ..Settings::default() };
        let job = job(&directory.path().join(name), settings);
        let mut losses = Vec::new();
        train(&mut session, job, &AtomicBool::new(false), |event| {
            if let Event::Step { line } = event {
                losses.push((line.loss.to_bits(), line.grad_norm.to_bits()));
            }
        })
        .unwrap();
        losses
    };
    let first = run("first");
    assert_eq!(first.len(), 5);
    assert_eq!(run("second"), first);
}

#[test]
fn memory_is_flat_over_a_thousand_steps() {
    let model = tiny();
    let policy = Policy::dense();
    let vocabulary = model.config.encoder.vocab_size as u32;
    let batches = [
        prepared(&[3, 4], &policy, vocabulary),
        prepared(&[9, 2, 5], &policy, vocabulary),
        prepared(&[1], &policy, vocabulary),
    ];
    let largest = batches.iter().fold(Sizes::default(), |max, batch| max.max(batch.sizes()));
    let mut session = session();
    model.upload(&mut session).unwrap();
    let settings = Settings::default();
    let mut trainer =
        Trainer::new(&mut session, &model.config, &policy, &settings, largest).unwrap();
    let mut under_way = None;
    let mut after_first = 0;
    for step in 1..=1000u32 {
        let scalars = Scalars { seed: 1, step, learning_rate: 1e-5, ..Scalars::default() };
        let parts = std::slice::from_ref(&batches[step as usize % 3]);
        let pending = trainer.step(&session, parts, scalars).unwrap();
        if let Some((before, parts)) = under_way.replace((pending, parts)) {
            trainer.finish(&session, before, parts).unwrap();
        }
        if step == 1 {
            after_first = session.device.allocated_bytes();
        }
    }
    assert_eq!(session.device.allocated_bytes(), after_first);
    assert_eq!(session.device.peak_bytes(), after_first);
}
