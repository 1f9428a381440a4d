//! Column sums: the gradient of a bias.

use crate::support::trial::*;
use crisp::kernels::Size;
use crisp::kernels::column_sum::column_sum;

/// y[j] = Σ_i x[i, j], for widths that come in whole texels and for odd ones.
#[test]
fn column_sums_of_every_shape() {
    let mut session = session();
    let mut random = Random(6);
    for (count, columns) in [(1, 1), (7, 5), (65, 12), (9, 64), (2, 260), (1031, 36), (57, 770)] {
        let values = random.outliers(count * columns, 100.0);
        let mut want = vec![0.0; columns];
        for (at, value) in wide(&values).into_iter().enumerate() {
            want[at % columns] += value;
        }
        let mut trial = Trial::new(rows(count));
        let width = Size::from(columns as u64);
        let x = trial.floats("x", [tokens(), width], &values);
        let y = trial.graph.value("y", [width]);
        trial.graph.node("column sum", &[y], move |lowering| {
            vec![column_sum(lowering.abilities(), tokens(), columns as u32, x, y, false)]
        });
        // The same once more, added to what is there.
        let twice = trial.graph.value("twice", [width]);
        trial.graph.node("column sum", &[twice], move |lowering| {
            let sum = |accumulate| {
                column_sum(lowering.abilities(), tokens(), columns as u32, x, twice, accumulate)
            };
            vec![sum(false), sum(true)]
        });
        for target in TARGETS {
            let got = trial.run(&mut session, target, &[y, twice]);
            let what = format!("column sum {target:?} {count} {columns}");
            close(&what, &got[0], &want, POINTWISE);
            let doubled: Vec<f32> = got[0].iter().map(|sum| 2.0 * sum).collect();
            assert_eq!(bits(&got[1]), bits(&doubled), "{what}: added to itself");
        }
    }
}
