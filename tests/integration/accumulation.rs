//! A step in several parts is the step in one: the same losses and gradient norms, with dropout and
//! with masks drawn at random, in the memory of a part.

use crate::support::tiny;
use crisp::data::Encoded;
use crisp::engine::Prepared;
use crisp::gpu::{Abilities, Device};
use crisp::graph::Session;
use crisp::kernels::{Scalars, Sizes};
use crisp::model::Config;
use crisp::sparsity::Policy;
use crisp::train::{Batches, Settings, Trainer, TrainingPlans};
use std::path::Path;

/// 70 sentences of 1 to 40 tokens: two steps of 32 an epoch, and one of 6.
fn examples(vocabulary: u32) -> Vec<Encoded> {
    let sentence = |number: u32| Encoded {
        ids: (0..1 + number * 7 % 40).map(|at| (number * 31 + at * 5) % vocabulary).collect(),
        label: Some(number % 2),
    };
    (0..70).map(sentence).collect()
}

/// Loss and gradient norm of each of 20 steps.
fn run(policy: &Policy, parts: usize) -> Vec<[f32; 2]> {
    let model = tiny();
    let config = model.config.with_dropout(Some(0.1), None);
    let examples = examples(config.encoder.vocab_size as u32);
    let settings = Settings {
        gradient_accumulation: parts,
        sparsity: policy.clone(),
        max_steps: Some(20),
        ..Settings::default()
    };
    let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
    model.upload(&mut session).unwrap();
    let mut batches = Batches::new(&examples, &settings, config.encoder.layers).unwrap();
    let largest = batches.largest(20);
    let mut trainer = Trainer::new(&mut session, &config, policy, &settings, largest).unwrap();
    (1..=20)
        .map(|step| {
            let scalars = Scalars { seed: 9, step, learning_rate: 1e-3, ..Scalars::default() };
            let batch: Vec<Prepared> = batches.prepare(step).unwrap();
            // The last step of an epoch has 6 sentences, and so no more parts than of 8 each.
            assert_eq!(batch.len(), if step % 3 == 0 { 1 } else { parts }, "step {step}");
            let pending = trainer.step(&session, &batch, scalars).unwrap();
            let result = trainer.finish(&session, pending, &batch).unwrap();
            [result.loss, result.grad_norm]
        })
        .collect()
}

#[test]
fn a_step_in_parts_is_the_step_in_one() {
    for policy in ["dense", "topk:0.5", "random:0.5@0+local:5@1"] {
        let policy: Policy = policy.parse().unwrap();
        let [whole, apart] = [1, 4].map(|parts| run(&policy, parts));
        let mut losses: Vec<u32> = whole.iter().map(|[loss, _]| loss.to_bits()).collect();
        losses.dedup();
        assert_eq!(losses.len(), 20, "every step has a loss of its own");
        for (step, (whole, apart)) in (1..).zip(whole.iter().zip(&apart)) {
            for (what, whole, apart) in
                [("loss", whole[0], apart[0]), ("gradient norm", whole[1], apart[1])]
            {
                assert!(
                    (whole - apart).abs() <= 1e-5 * whole.abs(),
                    "{policy}, step {step}: the {what} is {whole} at once and {apart} in parts"
                );
            }
        }
    }
}

/// What is drawn for a sentence follows from its number in the step: the same batch as the second
/// half of a step has another loss than as the first.
#[test]
fn parts_do_not_repeat_each_others_dropout() {
    let model = tiny();
    let config = model.config.with_dropout(Some(0.3), None);
    let policy = Policy::dense();
    let rules = policy.training().for_layers(config.encoder.layers).unwrap();
    let examples = examples(config.encoder.vocab_size as u32);
    let half: Vec<&Encoded> = examples.iter().take(4).collect();
    let settings = Settings { gradient_accumulation: 2, ..Settings::default() };
    let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
    model.upload(&mut session).unwrap();
    let largest = Prepared::new(&half, &rules).unwrap().sizes();
    let mut trainer = Trainer::new(&mut session, &config, &policy, &settings, largest).unwrap();
    let scalars = Scalars { seed: 9, step: 1, ..Scalars::default() };
    let mut loss = |before: usize| {
        let parts = [Prepared::part(&half, before, &rules).unwrap()];
        let pending = trainer.step(&session, &parts, scalars).unwrap();
        trainer.finish(&session, pending, &parts).unwrap().loss
    };
    assert_eq!(loss(0), loss(0));
    assert_ne!(loss(0), loss(4));
}

/// Kernels index by label unchecked, and read-backs are reserved for so many parts.
#[test]
fn parts_that_were_not_planned_for_are_refused() {
    let model = tiny();
    let policy = Policy::dense();
    let rules = policy.training().for_layers(model.config.encoder.layers).unwrap();
    let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
    model.upload(&mut session).unwrap();
    let part = |label: Option<u32>| {
        Prepared::new(&[&Encoded { ids: vec![2, 7, 3], label }], &rules).unwrap()
    };
    let largest = part(Some(0)).sizes();
    let settings = Settings::default();
    let mut trainer =
        Trainer::new(&mut session, &model.config, &policy, &settings, largest).unwrap();
    for (parts, what) in [
        (vec![], "0 parts"),
        (vec![part(Some(0)), part(Some(1))], "2 parts"),
        (vec![part(None)], "none of the 2 classes"),
        (vec![part(Some(2))], "none of the 2 classes"),
    ] {
        let step = trainer.step(&session, &parts, Scalars::default()).err().unwrap();
        let profile = trainer.profile(&session, &parts, Scalars::default()).err().unwrap();
        for why in [step.to_string(), profile.to_string()] {
            assert!(why.contains(what), "{why}");
        }
    }
}

/// DistilBERT-base on 32 sentences of 128 tokens: a quarter of the activations.
#[test]
fn parts_take_the_memory_of_a_part() {
    let config = Config::from_json(
        Path::new("config.json"),
        r#"{"model_type": "distilbert", "dim": 768, "n_heads": 12, "n_layers": 6, "hidden_dim": 3072,
            "vocab_size": 30522, "max_position_embeddings": 512, "activation": "gelu"}"#,
    )
    .unwrap();
    let policy = Policy::dense();
    let sizes = |sentences: u32| -> Sizes {
        let offsets: Vec<u32> = (0..=sentences).map(|sentence| sentence * 128).collect();
        let masks = policy.for_layers(6).unwrap().masks(&offsets);
        Sizes::of_batch(&offsets, sentences as usize * 128, &masks)
    };
    let made = |parts: usize, sentences: u32| {
        let settings = Settings { gradient_accumulation: parts, ..Settings::default() };
        let tuning = Abilities::GPU.into();
        let plans = TrainingPlans::new(&config, &policy, &settings, &tuning, sizes(sentences));
        plans.unwrap().gradient.made_bytes()
    };
    // In parts a gradient leaves the plan's memory at once, and the largest of them has to have
    // been there: the word embedding's. What is left are activations.
    let words = 30522 * 768 * 4;
    let [all, quarter] = [made(2, 32), made(4, 8)].map(|bytes| bytes - words);
    assert!(quarter < all * 27 / 100, "{quarter} bytes for 8 sentences, {all} for 32");
    let quarter = quarter + words;
    assert!(quarter < made(1, 32) / 2, "{quarter} bytes in parts, {} at once", made(1, 32));
}
