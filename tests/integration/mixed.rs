//! Mixed precision: float16 between kernels, and a loss scale that follows the gradients. (The
//! kernels themselves are held against float64 by the doctor, for each kind of device.)

use crate::support::tiny;
use crate::support::trial::{Random, TARGETS, Trial, bits, session};
use crisp::data::{Dataset, Encoded};
use crisp::engine::{Evaluator, Prepared};
use crisp::gpu::Abilities;
use crisp::graph::ops::{self, RowUpdates, Updated};
use crisp::graph::{Graph, LOSS_SCALE, Precision, Program, Role, Session};
use crisp::kernels::optimizer::AdamW;
use crisp::kernels::{Scalars, Size, Sizes, Symbol};
use crisp::model::Config;
use crisp::sparsity::Policy;
use crisp::train::{Event, Job, Settings, Trainer, metrics, train};
use half::f16;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const ADAMW: AdamW = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.1 };

fn mixed() -> Graph {
    Graph::new().in_precision(Precision::Mixed)
}

/// Norm, factor and scale of a gradient, and what is known of the loss scale afterwards.
fn clipped(
    session: &mut Session,
    target: Abilities,
    known: [f32; 4],
    gradient: &[f32],
) -> [Vec<f32>; 2] {
    session.set(LOSS_SCALE, Role::Weight, &[4], &known).unwrap();
    let mut trial = Trial::new(Sizes::default());
    trial.graph = mixed();
    trial.scalars.sentences = 4;
    let gradient = trial.floats("g", [Size::from(gradient.len() as u64)], gradient);
    let norm = ops::clip(&mut trial.graph, &[gradient], 1.0).unwrap();
    let got = trial.run(session, target, &[norm]).swap_remove(0);
    [got, session.get(LOSS_SCALE, Role::Weight).unwrap()]
}

#[test]
fn the_loss_scale_follows_the_gradients() {
    let mut session = session();
    let mut gradient = vec![0.0; 300];
    for target in TARGETS {
        // Of four sentences, at a scale of 1024: a mean of norm 5 / 2, clipped to 1.
        (gradient[3], gradient[299]) = (3.0 * 2048.0, 4.0 * 2048.0);
        let [got, known] = clipped(&mut session, target, [1024.0, 7.0, 3.0, 0.0], &gradient);
        assert_eq!([got[0], got[2]], [2.5, 1024.0]);
        assert!((got[1] * 4.0 * 1024.0 - 0.4).abs() < 1e-6, "{got:?}");
        assert_eq!(known, [1024.0, 8.0, 3.0, 0.0]);
        // After 2,000 good steps it is doubled, up to the largest.
        let [_, known] = clipped(&mut session, target, [1024.0, 1999.0, 3.0, 0.0], &gradient);
        assert_eq!(known, [2048.0, 0.0, 3.0, 0.0]);
        let [_, known] = clipped(&mut session, target, [16777216.0, 1999.0, 3.0, 0.0], &gradient);
        assert_eq!(known, [16777216.0, 0.0, 3.0, 0.0]);
        // Whatever is no number halves it, down to 1, and the step is counted as skipped.
        for wrong in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            gradient[17] = wrong;
            let [got, known] = clipped(&mut session, target, [1024.0, 7.0, 3.0, 0.0], &gradient);
            assert_eq!(got, [0.0, 0.0, 1024.0]);
            assert_eq!(known, [512.0, 0.0, 4.0, 0.0]);
            let [_, known] = clipped(&mut session, target, [1.0, 7.0, 3.0, 0.0], &gradient);
            assert_eq!(known, [1.0, 0.0, 4.0, 0.0]);
        }
        gradient[17] = 0.0;
    }
}

/// Copies are what the weights round to, to the nearest, ties to even; a step that is skipped leaves
/// weights, moments and copies alone, though its gradients are no numbers.
#[test]
fn updates_keep_copies_and_skipped_ones_change_nothing() {
    let mut session = session();
    let roles = [Role::Weight, Role::FirstMoment, Role::SecondMoment];
    for (target, count) in TARGETS.into_iter().flat_map(|target| [(target, 7), (target, 4100)]) {
        let mut random = Random(61);
        let name = format!("{target:?} {count}");
        let shape = [count as u64];
        session.set(&name, Role::Weight, &shape, &random.outliers(count, 1e6)).unwrap();
        let mut trial = Trial::new(Sizes::default());
        trial.graph = mixed();
        let weight = trial.graph.parameter(&name, &shape);
        let half = trial.graph.half_of(weight);
        let gradient = trial.floats("g", shape.map(Size::from), &random.outliers(count, 30.0));
        let norm = trial.floats("norm", [Size::from(3u32)], &[1.0, 0.5, 1.0]);
        let updated = Updated { weight, gradient, settings: ADAMW, half: Some(half) };
        ops::adamw(&mut trial.graph, updated, norm).unwrap();
        let copy = ops::stored_in(&mut trial.graph, half, crisp::kernels::Element::F32);
        let plan = trial.plan(target, trial.sizes, &[copy]);
        let mut program = Program::new(&mut session, plan, 1).unwrap();
        let mut step = |trial: &Trial, session: &Session| {
            let copy = trial.step(session, &mut program).swap_remove(0);
            (copy, roles.map(|role| bits(&session.get(&name, role).unwrap())))
        };
        let after = step(&trial, &session);
        let want: Vec<u32> = after.1[0]
            .iter()
            .map(|bits| f16::from_f32(f32::from_bits(*bits)).to_f32().to_bits())
            .collect();
        assert_eq!(after.0, want);
        trial.replace(norm, &[0.0, 0.0, 1.0]);
        trial.replace(gradient, &vec![f32::NAN; count]);
        assert!(step(&trial, &session) == after, "a skipped step");
        trial.replace(norm, &[1.0, 0.5, 1.0]);
        trial.replace(gradient, &random.outliers(count, 30.0));
        assert!(step(&trial, &session) != after, "one that is not");
    }
}

/// Rows that wait while steps are skipped catch up with those only that were not.
#[test]
fn rows_that_wait_pass_over_skipped_steps() {
    let mut session = session();
    let (rows, columns) = (5usize, 6usize);
    let shape = [rows as u64, columns as u64];
    for target in TARGETS {
        let mut random = Random(62);
        let values = random.outliers(rows * columns, 30.0);
        let names = ["late", "at once"].map(|name| format!("{name} {target:?}"));
        for name in &names {
            session.set(name, Role::Weight, &shape, &values).unwrap();
        }
        for step in 1..=20u32 {
            let skipped = [1, 2, 7, 8, 15, 20].contains(&step);
            let norm = if skipped { [0.0, 0.0, 1.0] } else { [1.0, 0.5, 1.0] };
            let of_row = match skipped {
                true => vec![f32::INFINITY; columns],
                false => random.outliers(columns, 30.0),
            };
            let scalars = Scalars { step, learning_rate: 1e-3, ..Scalars::default() };
            // Row 4 is never used, the others now and then.
            let row = random.below(4);
            let mut late = Trial::new(Sizes { distinct: 1, ..Sizes::default() });
            (late.graph, late.scalars) = (mixed(), scalars);
            let weight = late.graph.parameter(&names[0], &shape);
            let updates = RowUpdates::new(&mut late.graph, weight, ADAMW).unwrap();
            let ids = late.words("ids", [Symbol::Distinct.into()], &[row as u32]);
            let of_rows = [Symbol::Distinct.into(), Size::from(columns as u64)];
            let gradient = late.floats("g", of_rows, &of_row);
            let result = late.floats("norm", [Size::from(3u32)], &norm);
            updates.catch_up(&mut late.graph, ids);
            updates.adamw(&mut late.graph, ids, gradient, result).unwrap();
            if step == 20 {
                updates.settle(&mut late.graph);
            }
            late.run(&mut session, target, &[]);

            let mut at_once = Trial::new(Sizes::default());
            (at_once.graph, at_once.scalars) = (mixed(), scalars);
            let weight = at_once.graph.parameter(&names[1], &shape);
            let mut all = vec![0.0; rows * columns];
            all[row * columns..(row + 1) * columns].copy_from_slice(&of_row);
            let gradient = at_once.floats("g", shape.map(Size::from), &all);
            let result = at_once.floats("norm", [Size::from(3u32)], &norm);
            let updated = Updated { weight, gradient, settings: ADAMW, half: None };
            ops::adamw(&mut at_once.graph, updated, result).unwrap();
            at_once.run(&mut session, target, &[]);
        }
        for role in [Role::Weight, Role::FirstMoment, Role::SecondMoment] {
            let [late, at_once] = [0, 1].map(|at| bits(&session.get(&names[at], role).unwrap()));
            assert!(late == at_once, "{target:?}: {role}");
        }
    }
}

fn data(config: &Config) -> Dataset {
    let rows: String = (0..60usize)
        .map(|number| {
            let letter = |at: usize| char::from(b'a' + ((number * number + at * 3) % 26) as u8);
            let sentence = format!("{} {} {} ", letter(0), letter(1), letter(2));
            format!("{}\t{}\n", sentence.repeat(1 + number % 7), number % 2)
        })
        .collect();
    let text = format!("sentence\tlabel\n{rows}");
    Dataset::from_tsv(Path::new("data.tsv"), text.as_bytes(), config.task.labels()).unwrap()
}

/// An overflow is provoked by a loss scale that is far too large: the steps are skipped, which the
/// records say, and training goes on as if they had not been.
#[test]
fn a_run_survives_overflows_and_counts_them() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        precision: Precision::Mixed,
        loss_scale: 16_777_216.0,
        batch_size: 8,
        max_steps: Some(24),
        learning_rate: 1e-3,
        ..Settings::default()
    };
    let model = tiny();
    let (training, validation) = (data(&model.config), data(&model.config));
    let output = directory.path().join("run");
    let job = Job { settings, ..Job::new(model, training, validation, output.as_path()) };
    let mut lines = Vec::new();
    let outcome = train(&mut session(), job, &AtomicBool::new(false), |event| {
        if let Event::Step { line } = event {
            lines.push(line);
        }
    })
    .unwrap();
    let skipped = lines.iter().take_while(|line| line.skipped).count();
    assert!((1..20).contains(&skipped), "{skipped} steps were skipped");
    for (number, line) in lines.iter().enumerate() {
        let halved = 16_777_216.0 * 0.5f32.powi(number.min(skipped) as i32);
        assert_eq!(line.loss_scale, Some(halved), "step {}", line.step);
        assert_eq!(line.skipped, number < skipped, "step {}", line.step);
        assert_eq!(line.grad_norm == 0.0, line.skipped);
        assert!(line.loss.is_finite() && line.grad_norm.is_finite());
    }
    assert_eq!(outcome.result.skipped_steps as usize, skipped);
    let read = metrics::Curves::read(&output.join("metrics.jsonl")).unwrap().steps;
    assert_eq!(read, lines);
}

/// The model of the fixtures, its loss and gradient norm of a batch, and its logits.
fn computed(
    target: Abilities,
    policy: &Policy,
    precision: Precision,
    parts: usize,
) -> (Vec<f32>, Vec<f32>) {
    let model = tiny();
    let config = model.config.clone();
    let mut session = session();
    session.tuning = target.into();
    model.upload(&mut session).unwrap();
    let vocabulary = config.encoder.vocab_size as u32;
    let sentence = |number: u32| Encoded {
        ids: (0..1 + number * 7 % 33).map(|at| (number * 31 + at * 5) % vocabulary).collect(),
        label: Some(number % 2),
    };
    let examples: Vec<Encoded> = (0..12).map(sentence).collect();
    let mut evaluator =
        Evaluator::for_examples(&mut session, &config, policy, precision, &examples, 5).unwrap();
    let predictions = evaluator.predict(&session, &examples, 5, |_| {}).unwrap();
    let logits = predictions.into_iter().flat_map(|prediction| prediction.logits).collect();
    let rules = policy.training().for_layers(config.encoder.layers).unwrap();
    let settings = Settings { precision, gradient_accumulation: parts, ..Settings::default() };
    let all: Vec<&Encoded> = examples.iter().collect();
    let batch: Vec<Prepared> = all
        .chunks(examples.len() / parts)
        .enumerate()
        .map(|(number, part)| Prepared::part(part, number * part.len(), &rules).unwrap())
        .collect();
    let largest = batch.iter().fold(Sizes::default(), |sizes, part| sizes.max(part.sizes()));
    let mut trainer = Trainer::new(&mut session, &config, policy, &settings, largest).unwrap();
    let mut results = Vec::new();
    for step in 1..=10 {
        let scalars = Scalars { seed: 3, step, learning_rate: 1e-4, ..Scalars::default() };
        let pending = trainer.step(&session, &batch, scalars).unwrap();
        let result = trainer.finish(&session, pending, &batch).unwrap();
        assert!(!result.skipped, "step {step}");
        results.extend([result.loss, result.grad_norm]);
    }
    (logits, results)
}

/// Ten steps and the logits stay as close to float32 as float16 is, by every kind of kernels, at
/// once and in parts; and the same again has the same bits.
#[test]
fn mixed_precision_is_close_to_float32() {
    for (policy, parts) in [("dense", 1), ("dense", 2), ("local:5", 1), ("random:0.5@1", 1)] {
        let policy: Policy = policy.parse().unwrap();
        let single = computed(Abilities::CPU, &policy, Precision::F32, parts);
        for target in [Abilities::CPU, Abilities::GPU, Abilities::PLAIN_GPU] {
            let half = computed(target, &policy, Precision::Mixed, parts);
            for (what, half, single) in
                [("logits", &half.0, &single.0), ("loss and norm", &half.1, &single.1)]
            {
                for (at, (half, single)) in half.iter().zip(single).enumerate() {
                    let error = (half - single).abs() / single.abs().max(1.0);
                    assert!(error < 4e-3, "{policy}, {what} {at}: {half}, in float32 {single}");
                }
                assert!(half != single, "{policy}: {what} are those of float32");
            }
            let again = computed(target, &policy, Precision::Mixed, parts);
            assert!(half == again, "{policy}: the same steps again");
        }
    }
}
