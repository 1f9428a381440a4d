//! Summed softmax cross-entropy and its gradient.

use super::reference::check_gradient;
use crate::support::trial::*;
use crisp::graph::{Seed, gradients, ops};
use crisp::kernels::Size;
use crisp::measure::reference::cross_entropy::{backward, forward};

#[test]
fn cross_entropy_and_its_gradient() {
    let mut session = session();
    let mut random = Random(40);
    for (count, classes) in [(1, 2), (7, 2), (32, 2), (65, 7), (300, 3), (4, 65)] {
        for size in [0.1, 1.0, 1000.0] {
            let logits: Vec<f32> =
                random.outliers(count * classes, 100.0).iter().map(|x| x * size).collect();
            let labels: Vec<u32> = (0..count).map(|_| random.below(classes) as u32).collect();
            let loss64 = forward(&wide(&logits), &labels, classes);
            let [gradient64, terms] = backward(&wide(&logits), &labels, classes);

            let mut trial = Trial::new(rows(count));
            let shape = [sequences(), Size::from(classes as u64)];
            let input = trial.floats("logits", shape, &logits);
            let labels = trial.words("labels", [sequences()], &labels);
            let loss = ops::cross_entropy(&mut trial.graph, input, labels).unwrap();
            let found = gradients(&mut trial.graph, loss, Seed::One).unwrap();
            for target in TARGETS {
                let what = format!("cross-entropy {count} {classes} logits of {size}");
                let got = trial.run(&mut session, target, &[loss, found[&input]]);
                // A loss is a difference of logits, so one near 0 is as exact as 1 would be.
                close_to(&what, &got[0], &[loss64], &[loss64.max(1.0)], POINTWISE);
                let what = format!("{what}: gradient");
                close_to(&what, &got[1], &gradient64, &terms, POINTWISE);
            }
        }
    }
}

#[test]
fn the_reference_of_cross_entropy_agrees_with_differences() {
    let mut random = Random(41);
    let labels = [0, 2, 1, 1];
    let logits = wide(&random.outliers(12, 35.0));
    check_gradient("dlogits", &logits, &backward(&logits, &labels, 3)[0], |logits| {
        forward(logits, &labels, 3)
    });
}
