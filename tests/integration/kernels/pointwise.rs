//! Sums, gradients of activations alone, dropout.

use super::reference::{is_kept, normal_density, normal_distribution, pcg4d};
use crate::support::trial::*;
use crisp::data::Batch;
use crisp::gpu::Abilities;
use crisp::graph::{Session, ops};
use crisp::kernels::matmul::Activation;
use crisp::kernels::pointwise::{self, Dropout};
use crisp::kernels::{Scalars, Size};
use crisp::sparsity::Policy;

/// The last size is more workgroups than a dimension of a dispatch holds.
#[test]
fn add_is_exact_at_every_size() {
    let mut session = session();
    let mut random = Random(3);
    for count in [1, 7, 65, 4099, 65_535 * 64 + 77] {
        let (a_values, b_values) = (random.outliers(count, 100.0), random.outliers(count, 100.0));
        let want: Vec<f32> = a_values.iter().zip(&b_values).map(|(a, b)| a + b).collect();
        let mut trial = Trial::new(rows(count));
        let a = trial.floats("a", [tokens()], &a_values);
        let b = trial.floats("b", [tokens()], &b_values);
        let y = ops::add(&mut trial.graph, a, b).unwrap();
        for target in TARGETS {
            let got = trial.run(&mut session, target, &[y]);
            assert!(bits(&got[0]) == bits(&want), "{count} elements");
        }
    }
}

/// dx = dy · f'(x): GELU'(x) = Φ(x) + x φ(x), ReLU'(x) = 1 for x > 0, else 0.
#[test]
fn gradients_of_activations() {
    let mut session = session();
    let mut random = Random(4);
    for count in [1, 7, 65, 5001] {
        for activation in [Activation::Gelu, Activation::Relu] {
            let x_values = random.outliers(count, 100.0);
            let dy_values = random.outliers(count, 100.0);
            let (mut want, mut scale) = (Vec::new(), Vec::new());
            for (x, dy) in wide(&x_values).into_iter().zip(wide(&dy_values)) {
                let terms = match activation {
                    Activation::Gelu => [normal_distribution(x), x * normal_density(x)],
                    _ => [f64::from(x > 0.0), 0.0],
                };
                want.push(dy * (terms[0] + terms[1]));
                scale.push(dy.abs() * (terms[0] + terms[1].abs()).max(1e-12));
            }
            let mut trial = Trial::new(rows(count));
            let x = trial.floats("x", [tokens()], &x_values);
            let dy = trial.floats("dy", [tokens()], &dy_values);
            let dx = trial.graph.value("dx", [tokens()]);
            trial.graph.node("activation gradient", &[dx], move |_| {
                vec![pointwise::activation_backward(activation, tokens(), x, dy, dx)]
            });
            let got = trial.run(&mut session, Abilities::GPU, &[dx]);
            let what = format!("activation gradient {activation:?} {count}");
            close_to(&what, &got[0], &want, &scale, POINTWISE);
        }
    }
}

struct Drawn {
    y: Vec<f32>,
    dx: Vec<f32>,
}

/// Dropout of ones (so that what comes back is the mask), and of a gradient of ones.
fn draw(
    session: &mut Session,
    settings: Dropout,
    scalars: Scalars,
    batch: &Batch,
    columns: usize,
) -> Drawn {
    let ones = vec![1.0; batch.ids.len() * columns];
    let mut trial = Trial::new(rows(batch.ids.len()));
    trial.scalars = scalars;
    let x = trial.floats("x", [tokens(), Size::from(columns as u64)], &ones);
    let places = trial.words("places", [tokens()], &batch.places);
    let y = ops::dropout(&mut trial.graph, settings, x, places).unwrap();
    let found = trial.gradients(y, &ones);
    let mut got = trial.run(session, Abilities::GPU, &[y, found[&x]]);
    let dx = got.pop().unwrap();
    Drawn { y: got.pop().unwrap(), dx }
}

fn batch(lengths: &[usize]) -> Batch {
    Packed::new(lengths, &Policy::dense(), 10, &mut Random(0)).batch
}

const SCALARS: Scalars = Scalars {
    seed: 0x1234_5678_9abc_def0,
    step: 7,
    learning_rate: 0.0,
    sentences: 1,
    first_sentence: 0,
    settled: 0,
};

/// y = x / (1 - p) where the generator keeps the element, else 0; its words are drawn from (seed
/// and site, seed and step, place of the row, column / 4).
#[test]
fn dropout_is_the_stated_function_of_its_counter() {
    let mut session = session();
    let mut random = Random(5);
    let batch = batch(&LENGTHS);
    for (columns, probability, site) in [(1, 0.5, 0), (7, 0.1, 3), (64, 0.9, 17), (770, 0.2, 40)] {
        let count = batch.ids.len() * columns;
        let x_values = random.outliers(count, 100.0);
        let dy_values = random.outliers(count, 100.0);
        let factor = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            let word = pcg4d([
                SCALARS.seed as u32 ^ (site << 16),
                (SCALARS.seed >> 32) as u32 ^ SCALARS.step,
                batch.places[row],
                column as u32 / 4,
            ])[column % 4];
            let kept = is_kept(word, probability);
            if kept { 1.0 / (1.0 - f64::from(probability)) } else { 0.0 }
        };
        let map = |values: &[f32]| -> Vec<f64> {
            values.iter().enumerate().map(|(at, x)| f64::from(*x) * factor(at)).collect()
        };
        let mut trial = Trial::new(rows(batch.ids.len()));
        trial.scalars = SCALARS;
        let x = trial.floats("x", [tokens(), Size::from(columns as u64)], &x_values);
        let places = trial.words("places", [tokens()], &batch.places);
        let settings = Dropout { probability, site };
        let y = ops::dropout(&mut trial.graph, settings, x, places).unwrap();
        let found = trial.gradients(y, &dy_values);
        for target in TARGETS {
            let got = trial.run(&mut session, target, &[y, found[&x]]);
            let what = format!("dropout {columns} {probability}");
            close(&what, &got[0], &map(&x_values), POINTWISE);
            close(&format!("{what}: gradient"), &got[1], &map(&dy_values), POINTWISE);
        }
    }
}

/// Over n draws the share of zeros lies within 5 standard deviations of p, and two masks that
/// should have nothing to do with each other agree as often as chance has it.
#[test]
fn dropout_drops_its_share_and_never_the_same_twice() {
    let mut session = session();
    let batch = batch(&[400, 100]);
    let columns = 301;
    let n = (batch.ids.len() * columns) as f64;
    for probability in [0.01f32, 0.1, 0.5, 0.9] {
        let p = f64::from(probability);
        let settings = Dropout { probability, site: 5 };
        let first = draw(&mut session, settings, SCALARS, &batch, columns);
        assert!(bits(&first.y) == bits(&first.dx), "backward drew another mask");
        let zeros = first.y.iter().filter(|value| **value == 0.0).count() as f64;
        let spread = (p * (1.0 - p) / n).sqrt();
        assert!((zeros / n - p).abs() < 5.0 * spread, "{zeros} zeros of {n} at {p}");

        let again = draw(&mut session, settings, SCALARS, &batch, columns);
        assert!(bits(&first.y) == bits(&again.y), "the same draw gave another mask");
        let others = [
            ("step", settings, Scalars { step: 8, ..SCALARS }),
            ("site", Dropout { site: 6, ..settings }, SCALARS),
            ("seed", settings, Scalars { seed: SCALARS.seed + 1, ..SCALARS }),
            ("high seed", settings, Scalars { seed: SCALARS.seed + (1 << 32), ..SCALARS }),
        ];
        let both = p * p;
        for (what, settings, scalars) in others {
            let other = draw(&mut session, settings, scalars, &batch, columns);
            let pairs = first.y.iter().zip(&other.y).filter(|(a, b)| **a == 0.0 && **b == 0.0);
            let share = pairs.count() as f64 / n;
            let spread = (both * (1.0 - both) / n).sqrt();
            assert!(
                (share - both).abs() < 5.0 * spread,
                "another {what}: {share} dropped in both at {p}"
            );
        }
    }
}

#[test]
fn neighbouring_elements_are_dropped_independently() {
    let mut session = session();
    let batch = batch(&[600]);
    let columns = 256;
    let settings = Dropout { probability: 0.5, site: 1 };
    let y = draw(&mut session, settings, SCALARS, &batch, columns).y;
    for distance in [1, 2, 3, 4, 8, columns, 2 * columns, 16 * columns] {
        let n = (y.len() - distance) as f64;
        let both =
            (distance..y.len()).filter(|at| y[*at] == 0.0 && y[at - distance] == 0.0).count();
        let share = both as f64 / n;
        let spread = (0.25 * 0.75 / n).sqrt();
        assert!((share - 0.25).abs() < 5.0 * spread, "at distance {distance}: {share}");
    }
}

/// The mask belongs to the sentence's number and the position in it, not to the place in memory.
#[test]
fn dropout_does_not_depend_on_how_the_batch_is_packed() {
    let mut session = session();
    let columns = 37;
    let settings = Dropout { probability: 0.3, site: 2 };
    let (one, other) = (batch(&[3, 9, 5]), batch(&[8, 9, 1, 20]));
    let masks = [&one, &other].map(|b| draw(&mut session, settings, SCALARS, b, columns).y);
    for (at, place) in one.places.iter().enumerate() {
        let Some(there) = other.places.iter().position(|other| other == place) else { continue };
        let row = |mask: &[f32], at: usize| bits(&mask[at * columns..][..columns]);
        assert_eq!(row(&masks[0], at), row(&masks[1], there), "place {place:#x}");
    }
}

#[test]
fn dropout_of_nothing_changes_nothing() {
    let mut session = session();
    let batch = batch(&[7, 2]);
    let x_values = Random(6).outliers(9 * 5, 100.0);
    let mut trial = Trial::new(rows(9));
    let x = trial.floats("x", [tokens(), Size::from(5u32)], &x_values);
    let places = trial.words("places", [tokens()], &batch.places);
    let settings = Dropout { probability: 0.0, site: 2 };
    let y = ops::dropout(&mut trial.graph, settings, x, places).unwrap();
    let got = trial.run(&mut session, Abilities::GPU, &[y]);
    assert_eq!(bits(&got[0]), bits(&x_values));
}
