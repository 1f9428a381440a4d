//! Global gradient norm, clip factor and AdamW.

use crate::support::trial::*;
use crisp::gpu::Abilities;
use crisp::graph::ops::{self, RowUpdates, Updated};
use crisp::graph::{Program, Role, Session};
use crisp::kernels::optimizer::AdamW;
use crisp::kernels::{Scalars, Size, Sizes, Symbol};
use crisp::measure::reference::adamw as reference;
use std::collections::BTreeSet;

/// norm = sqrt(Σ g²) / sentences over all tensors; factor = min(1, limit / (norm + 1e-6)) /
/// sentences, 1 / sentences without a limit.
#[test]
fn gradient_norm_and_clip_factor() {
    let mut session = session();
    let mut random = Random(50);
    for counts in
        [&[1usize][..], &[7], &[64], &[4096, 4097, 1, 65], &[1, 1_300_003, 768, 3], &[1; 300]]
    {
        for limit in [0.0f32, 1.0, 1e6] {
            let values: Vec<Vec<f32>> =
                counts.iter().map(|count| random.outliers(*count, 100.0)).collect();
            let square: f64 = values.iter().flatten().map(|g| f64::from(*g).powi(2)).sum();
            let sentences = [1, 7, 32][counts.len() % 3];
            let norm64 = square.sqrt() / f64::from(sentences);
            let clip64 =
                if limit > 0.0 { (f64::from(limit) / (norm64 + 1e-6)).min(1.0) } else { 1.0 };
            let factor64 = clip64 / f64::from(sentences);
            let mut trial = Trial::new(rows(1));
            trial.scalars.sentences = sentences;
            let gradients: Vec<_> = values
                .iter()
                .map(|values| trial.floats("g", [Size::from(values.len() as u64)], values))
                .collect();
            let norm = ops::clip(&mut trial.graph, &gradients, limit).unwrap();
            for target in TARGETS {
                let got = trial.run(&mut session, target, &[norm]);
                let what = format!("gradient norm of {} tensors, limit {limit}", counts.len());
                let want = [norm64, factor64, 1.0];
                close_to(&what, &got[0], &want, &want, POINTWISE);
            }
        }
    }
}

#[test]
fn a_gradient_of_zero_is_clipped_to_zero_without_dividing_by_it() {
    let mut session = session();
    let mut trial = Trial::new(rows(1));
    let gradient = trial.floats("g", [Size::from(5u32)], &[0.0; 5]);
    let norm = ops::clip(&mut trial.graph, &[gradient], 1.0).unwrap();
    assert_eq!(trial.run(&mut session, Abilities::GPU, &[norm])[0], [0.0, 1.0, 1.0]);
}

fn check_adamw(session: &mut Session, counts: &[usize], decay: f32, limit: f32, target: Abilities) {
    let mut random = Random(51 + counts[0] as u64);
    let settings = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay };
    let mut trial = Trial::new(rows(1));
    let (mut references, mut gradients, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    for (index, count) in counts.iter().enumerate() {
        // Parameters live as long as the session, so each case has its own names.
        let name = format!("{target:?} {decay} {limit} {counts:?} {index}");
        let weight_values = random.outliers(*count, 100.0);
        session.set(&name, Role::Weight, &[*count as u64], &weight_values).unwrap();
        let weight = trial.graph.parameter(&name, &[*count as u64]);
        let gradient = trial.floats("g", [Size::from(*count as u64)], &vec![0.0; *count]);
        references.push(reference::AdamW {
            weight: wide(&weight_values),
            first: vec![0.0; *count],
            second: vec![0.0; *count],
        });
        gradients.push(gradient);
        updated.push((name, Updated { weight, gradient, settings, half: None }));
    }
    let norm = ops::clip(&mut trial.graph, &gradients, limit).unwrap();
    for (_, updated) in &updated {
        ops::adamw(&mut trial.graph, *updated, norm).unwrap();
    }
    let plan = trial.plan(target, trial.sizes, &[norm]);
    let mut program = Program::new(session, plan, 1).unwrap();
    for t in 1..=6 {
        let rate = 1e-3 * f64::from(7 - t);
        trial.scalars =
            Scalars { seed: 0, step: t as u32, learning_rate: rate as f32, ..Scalars::default() };
        let values: Vec<Vec<f32>> =
            counts.iter().map(|count| random.outliers(*count, 100.0)).collect();
        for (gradient, values) in gradients.iter().zip(&values) {
            trial.replace(*gradient, values);
        }
        let square: f64 = values.iter().flatten().map(|g| f64::from(*g).powi(2)).sum();
        let factor =
            if limit > 0.0 { (f64::from(limit) / (square.sqrt() + 1e-6)).min(1.0) } else { 1.0 };
        for (reference, values) in references.iter_mut().zip(&values) {
            let clipped: Vec<f64> = values.iter().map(|g| f64::from(*g) * factor).collect();
            reference.step(&clipped, rate, f64::from(decay), t);
        }
        trial.step(session, &mut program);
    }
    for ((name, _), reference) in updated.iter().zip(&references) {
        let count = reference.weight.len();
        let what = format!("AdamW of {count}, decay {decay}, limit {limit}");
        let weight = session.get(name, Role::Weight).unwrap();
        // A weight near 0 is as exact as the steps that led there, each of about the rate.
        let scale: Vec<f64> = reference.weight.iter().map(|w| w.abs().max(5e-3)).collect();
        close_to(&what, &weight, &reference.weight, &scale, 1e-6);
        let first = session.get(name, Role::FirstMoment).unwrap();
        close(&format!("{what}: first moment"), &first, &reference.first, POINTWISE);
        let second = session.get(name, Role::SecondMoment).unwrap();
        // 1 - β₂ is 0.001, but for 1.3e-5 of it in float32.
        let scale: Vec<f64> = reference.second.iter().map(|v| v.max(1e-30)).collect();
        close_to(&format!("{what}: second moment"), &second, &reference.second, &scale, 2e-5);
    }
}

#[test]
fn adamw_takes_the_steps_of_torch() {
    let mut session = session();
    for target in TARGETS {
        for counts in [&[1usize][..], &[7, 65, 2], &[5000, 769]] {
            for (decay, limit) in [(0.0, 0.0), (0.01, 0.0), (0.1, 1.0)] {
                check_adamw(&mut session, counts, decay, limit, target);
            }
        }
    }
}

/// Rows that are updated when they are needed come to the bits of rows that are updated at each
/// step: words that never occur, that occur at each step, and after a long absence; looked at after
/// all have been brought up to date, more than once.
#[test]
fn rows_updated_late_have_the_bits_of_rows_updated_at_once() {
    let mut session = session();
    let (vocabulary, columns) = (23usize, 6usize);
    for (target, decay) in TARGETS.into_iter().flat_map(|target| [(target, 0.0), (target, 0.1)]) {
        let mut random = Random(52);
        let settings = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay };
        let values = random.outliers(vocabulary * columns, 100.0);
        let shape = [vocabulary as u64, columns as u64];
        let names = ["late", "at once"].map(|name| format!("{name} {target:?} {decay}"));
        for name in &names {
            session.set(name, Role::Weight, &shape, &values).unwrap();
        }
        // Word 0 at each step, a few others now and then, word 22 never, word 21 twice.
        let words_of = |random: &mut Random, step: u32| -> BTreeSet<u32> {
            match step {
                1002 | 1039 => [0, 5, 21].into(),
                _ => [0, 1 + random.below(20) as u32, 1 + random.below(20) as u32].into(),
            }
        };
        let sizes_of = |words: usize| Sizes { distinct: words as u32, ..Sizes::default() };
        let largest = sizes_of(3);

        let mut late = Trial::new(largest);
        let weight = late.graph.parameter(&names[0], &shape);
        let rows = RowUpdates::new(&mut late.graph, weight, settings).unwrap();
        let ids = late.words("ids", [Symbol::Distinct.into()], &[]);
        let rows_shape = [Symbol::Distinct.into(), Size::from(columns as u64)];
        let gradient = late.floats("g", rows_shape, &[]);
        let norm = late.floats("norm", [Size::from(3u32)], &[1.0, 0.25, 1.0]);
        rows.catch_up(&mut late.graph, ids);
        rows.adamw(&mut late.graph, ids, gradient, norm).unwrap();
        let plan = late.plan(target, largest, &[]);
        let mut late_program = Program::new(&mut session, plan, 1).unwrap();

        let mut settle = Trial::new(Sizes::default());
        let weight = settle.graph.parameter(&names[0], &shape);
        RowUpdates::new(&mut settle.graph, weight, settings).unwrap().settle(&mut settle.graph);
        let plan = settle.plan(target, settle.sizes, &[]);
        let mut settle_program = Program::new(&mut session, plan, 1).unwrap();

        let mut at_once = Trial::new(Sizes::default());
        let weight = at_once.graph.parameter(&names[1], &shape);
        let size = Size::from((vocabulary * columns) as u64);
        let dense = at_once.floats("g", shape.map(Size::from), &vec![0.0; size.factor as usize]);
        let norm = at_once.floats("norm", [Size::from(3u32)], &[1.0, 0.25, 1.0]);
        ops::adamw(
            &mut at_once.graph,
            Updated { weight, gradient: dense, settings, half: None },
            norm,
        )
        .unwrap();
        let plan = at_once.plan(target, at_once.sizes, &[]);
        let mut at_once_program = Program::new(&mut session, plan, 1).unwrap();

        // The history is a ring of 1,024 steps.
        let mut settled = 1000;
        for step in 1001..=1060u32 {
            let ids_of_step: Vec<u32> = words_of(&mut random, step).into_iter().collect();
            let values = random.outliers(ids_of_step.len() * columns, 100.0);
            let mut all = vec![0.0; vocabulary * columns];
            for (id, row) in ids_of_step.iter().zip(values.chunks_exact(columns)) {
                all[*id as usize * columns..][..columns].copy_from_slice(row);
            }
            let learning_rate = 1e-3 * (1061 - step) as f32;
            let scalars = Scalars { step, learning_rate, settled, ..Scalars::default() };
            (late.scalars, at_once.scalars) = (scalars, scalars);
            late.sizes = sizes_of(ids_of_step.len());
            late.replace_words(ids, &ids_of_step);
            late.replace(gradient, &values);
            at_once.replace(dense, &all);
            late.step(&session, &mut late_program);
            at_once.step(&session, &mut at_once_program);
            if [1007, 1008, 1031, 1060].contains(&step) {
                settle.scalars = scalars;
                settle.step(&session, &mut settle_program);
                settled = step;
                for role in [Role::Weight, Role::FirstMoment, Role::SecondMoment] {
                    let [got, want] =
                        [0, 1].map(|which| bits(&session.get(&names[which], role).unwrap()));
                    assert!(got == want, "{target:?}, decay {decay}: {role} after step {step}");
                }
            }
        }
    }
}
