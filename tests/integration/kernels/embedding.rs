//! Word plus position embedding and its gradients.

use super::reference::{check_gradient, dot};
use crate::support::trial::*;
use crisp::graph::{Program, Role, ops};
use crisp::kernels::Size;
use crisp::sparsity::Policy;

/// y[t] = words[id of t] + positions[position of t].
fn forward(packed: &Packed, columns: usize, words: &[f64], positions: &[f64]) -> Vec<f64> {
    let mut y = Vec::new();
    for (id, (_, position)) in packed.batch.ids.iter().zip(packed.places()) {
        let word = &words[*id as usize * columns..][..columns];
        y.extend(word.iter().zip(&positions[position * columns..]).map(|(a, b)| a + b));
    }
    y
}

/// dwords[i] = Σ dy[t] over the tokens with id i, dpositions[p] = Σ dy[t] over those at position p.
fn backward(
    packed: &Packed,
    columns: usize,
    vocabulary: usize,
    positions: usize,
    dy: &[f64],
) -> [Vec<f64>; 2] {
    let mut dwords = vec![0.0; vocabulary * columns];
    let mut dpositions = vec![0.0; positions * columns];
    for (token, (id, (_, position))) in packed.batch.ids.iter().zip(packed.places()).enumerate() {
        for column in 0..columns {
            let value = dy[token * columns + column];
            dwords[*id as usize * columns + column] += value;
            dpositions[position * columns + column] += value;
        }
    }
    [dwords, dpositions]
}

/// The gradient of the whole word embedding, from that of the batch's words.
fn of_all_words(packed: &Packed, columns: usize, vocabulary: usize, rows: &[f32]) -> Vec<f32> {
    let mut all = vec![0.0; vocabulary * columns];
    for (id, row) in packed.batch.segment_ids.iter().zip(rows.chunks_exact(columns)) {
        all[*id as usize * columns..][..columns].copy_from_slice(row);
    }
    all
}

#[test]
fn embedding_and_its_gradient() {
    let mut session = session();
    let mut random = Random(20);
    for (lengths, vocabulary, positions, columns) in [
        (&[1][..], 1, 1, 1),
        (&[1, 1, 1], 2, 5, 7),
        (&LENGTHS, 40, 70, 7),
        (&LENGTHS, 5, 65, 65),
        (&LENGTHS, 1000, 128, 768),
    ] {
        let packed = Packed::new(lengths, &Policy::dense(), vocabulary, &mut random);
        let count = packed.tokens() * columns;
        let word_values = random.outliers(vocabulary * columns, 100.0);
        let position_values = random.outliers(positions * columns, 100.0);
        let dy_values = random.outliers(count, 100.0);
        let y64 = forward(&packed, columns, &wide(&word_values), &wide(&position_values));
        let gradients64 = backward(&packed, columns, vocabulary, positions, &wide(&dy_values));

        let mut trial = Trial::new(packed.sizes);
        let width = Size::from(columns as u64);
        let words = trial.floats("words", [(vocabulary as u64).into(), width], &word_values);
        let table = trial.floats("positions", [(positions as u64).into(), width], &position_values);
        let inputs = trial.token_inputs(&packed.batch);
        let y = ops::embedding(&mut trial.graph, words, table, inputs).unwrap();
        let found = trial.gradients(y, &dy_values);
        for target in TARGETS {
            let what = format!("embedding {lengths:?} {vocabulary} {columns}");
            let outputs = [y, found[&words], found[&table]];
            let plan = trial.plan(target, packed.sizes, &outputs);
            let mut program = Program::new(&mut session, plan, 1).unwrap();
            // The second step finds the first one's gradient in its memory.
            for step in 1..=2 {
                let got: Vec<Vec<f32>> = trial
                    .step(&session, &mut program)
                    .into_iter()
                    .map(|words| words.into_iter().map(f32::from_bits).collect())
                    .collect();
                close(&what, &got[0], &y64, POINTWISE);
                let dwords = of_all_words(&packed, columns, vocabulary, &got[1]);
                let got = [&got[0], &dwords, &got[2]];
                for (at, name) in ["dwords", "dpositions"].iter().enumerate() {
                    let what = format!("{what}: {name}, step {step}");
                    close(&what, got[at + 1], &gradients64[at], POINTWISE);
                }
            }
        }
    }
}

/// Parts of a step add their words' gradients to the same rows.
#[test]
fn gradients_of_words_are_added_up() {
    let mut session = session();
    let mut random = Random(21);
    let batches = [3, 200].map(|n| Packed::new(&[9, 4], &Policy::dense(), n, &mut random));
    let largest = batches[0].sizes.max(batches[1].sizes);
    for target in TARGETS {
        let mut trial = Trial::new(largest);
        let name = format!("words {target:?}");
        let words = trial.graph.parameter(&name, &[200, 6]);
        let width = Size::from(6u32);
        let table = trial.floats("positions", [Size::from(9u32), width], &[0.0; 54]);
        let fixed = trial.inputs.len();
        let inputs = trial.token_inputs(&batches[0].batch);
        let y = ops::embedding(&mut trial.graph, words, table, inputs).unwrap();
        let dy_values = random.normals(13 * 6);
        let found = trial.gradients(y, &dy_values);
        ops::accumulate_words(&mut trial.graph, words, found[&words], inputs.sorted).unwrap();
        let plan = trial.plan(target, largest, &[]);
        let mut program = Program::new(&mut session, plan, 1).unwrap();
        let mut want = vec![0.0; 200 * 6];
        for packed in [&batches[1], &batches[0], &batches[1]] {
            let batch = &packed.batch;
            let words = [
                &batch.placed_ids,
                &batch.places,
                &batch.offsets,
                &batch.sorted_tokens,
                &batch.segments,
                &batch.segment_ids,
            ];
            for (input, words) in trial.inputs[fixed..].iter_mut().zip(words) {
                input.1.clone_from(words);
            }
            trial.sizes = packed.sizes;
            trial.step(&session, &mut program);
            let [dwords, _] = backward(packed, 6, 200, 9, &wide(&dy_values));
            want.iter_mut().zip(dwords).for_each(|(sum, more)| *sum += more);
        }
        let got = session.get(&name, Role::Gradient).unwrap();
        close("gradients of words of three parts", &got, &want, POINTWISE);
    }
}

#[test]
fn the_reference_of_embedding_agrees_with_differences() {
    let mut random = Random(22);
    let packed = Packed::new(&[3, 5], &Policy::dense(), 4, &mut random);
    let [words, positions, dy] =
        [12, 15, 24].map(|count: usize| wide(&random.outliers(count, 40.0)));
    let [dwords, dpositions] = backward(&packed, 3, 4, 5, &dy);
    check_gradient("dwords", &words, &dwords, |words| {
        dot(&dy, &forward(&packed, 3, words, &positions))
    });
    check_gradient("dpositions", &positions, &dpositions, |positions| {
        dot(&dy, &forward(&packed, 3, &words, positions))
    });
}
