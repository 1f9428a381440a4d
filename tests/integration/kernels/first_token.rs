//! The hidden state of each sentence's first token. It is a copy, so it is exact.

use crate::support::trial::*;
use crisp::graph::ops;
use crisp::kernels::Size;
use crisp::sparsity::Policy;

/// y[s] = x[first token of s];  dx[t] = dy[s] where t is the first token of s, else 0.
#[test]
fn first_tokens_and_their_gradient() {
    let mut session = session();
    let mut random = Random(30);
    for (lengths, columns) in
        [(&[1][..], 1), (&[1, 1, 2], 7), (&LENGTHS, 65), (&LENGTHS, 768), (&[3; 70], 6)]
    {
        let packed = Packed::new(lengths, &Policy::dense(), 10, &mut random);
        let x_values = random.outliers(packed.tokens() * columns, 100.0);
        let dy_values = random.outliers(lengths.len() * columns, 100.0);
        let (mut y_want, mut dx_want) = (Vec::new(), Vec::new());
        for (token, (sequence, position)) in packed.places().into_iter().enumerate() {
            if position == 0 {
                y_want.extend_from_slice(&x_values[token * columns..][..columns]);
                dx_want.extend_from_slice(&dy_values[sequence * columns..][..columns]);
            } else {
                dx_want.extend(vec![0.0; columns]);
            }
        }
        let mut trial = Trial::new(packed.sizes);
        let x = trial.floats("x", [tokens(), Size::from(columns as u64)], &x_values);
        let inputs = trial.token_inputs(&packed.batch);
        let y = ops::first_token(&mut trial.graph, x, inputs).unwrap();
        let found = trial.gradients(y, &dy_values);
        for target in TARGETS {
            let got = trial.run(&mut session, target, &[y, found[&x]]);
            assert!(bits(&got[0]) == bits(&y_want), "{lengths:?} {columns}");
            assert!(bits(&got[1]) == bits(&dx_want), "{lengths:?} {columns}: gradient");
        }
    }
}
