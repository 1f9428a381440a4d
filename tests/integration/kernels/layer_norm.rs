//! LayerNorm of a sum and its gradients.

use super::reference::check_gradient;
use crate::support::trial::*;
use crisp::graph::ops::{self, Affine};
use crisp::graph::{Graph, Group, Role};
use crisp::kernels::pointwise::Dropout;
use crisp::kernels::{Size, TensorId};
use crisp::measure::reference::dot;
use crisp::measure::reference::layer_norm::{backward, forward};
use crisp::sparsity::Policy;
use std::collections::HashMap;

#[test]
fn layer_norm_and_its_gradient() {
    let mut session = session();
    let mut random = Random(10);
    for (count, columns) in
        [(1, 1), (1, 7), (65, 65), (5, 770), (139, 768), (300, 64), (3, 260), (7, 1024), (2, 1028)]
    {
        for with_residual in [false, true] {
            let epsilon = 1e-12f32;
            let x_values = random.outliers(count * columns, 100.0);
            let residual_values = random.outliers(count * columns, 30.0);
            let gamma_values = random.outliers(columns, 30.0);
            let beta_values = random.outliers(columns, 30.0);
            let dy_values = random.outliers(count * columns, 100.0);
            let mut z64 = wide(&x_values);
            if with_residual {
                z64.iter_mut().zip(&residual_values).for_each(|(z, r)| *z += f64::from(*r));
            }
            let (gamma64, dy64) = (wide(&gamma_values), wide(&dy_values));
            let y64 = forward(&z64, &gamma64, &wide(&beta_values), f64::from(epsilon));
            let gradients64 = backward(&z64, &gamma64, &dy64, f64::from(epsilon));

            let mut trial = Trial::new(rows(count));
            let width = Size::from(columns as u64);
            let x = trial.floats("x", [tokens(), width], &x_values);
            let residual = with_residual
                .then(|| trial.floats("residual", [tokens(), width], &residual_values));
            let gamma = trial.floats("norm.weight", [width], &gamma_values);
            let beta = trial.floats("norm.bias", [width], &beta_values);
            let affine = Affine { weight: gamma, bias: beta };
            let y = ops::layer_norm(&mut trial.graph, x, residual, affine, epsilon).unwrap();
            let found = trial.gradients(y, &dy_values);
            for target in TARGETS {
                let what = format!("layer norm {count} {columns} residual {with_residual}");
                let outputs = [y, found[&x], found[&gamma], found[&beta]];
                let got = trial.run(&mut session, target, &outputs);
                close(&what, &got[0], &y64, POINTWISE);
                let names = ["dx", "dgamma", "dbeta"];
                for ((name, got), want) in names.iter().zip(&got[1..]).zip(&gradients64) {
                    close(&format!("{what}: {name}"), got, want, POINTWISE);
                }
            }
            if let Some(residual) = residual {
                assert_eq!(found[&residual], found[&x], "x and residual share their gradient");
            }
        }
    }
}

/// Gradients of parameters that lie together in the store: one launch sums those of many norms.
#[test]
fn norms_whose_parameters_lie_together() {
    let mut session = session();
    let mut random = Random(14);
    for (count, columns, norms) in [(1, 4, 1), (9, 64, 3), (700, 68, 2), (5, 260, 31), (3, 65, 2)] {
        for target in TARGETS {
            let name = |norm: usize, what: &str| format!("{target:?} {columns} {norm}.{what}");
            let mut members = vec![(name(norms, "before"), vec![3])];
            for norm in 0..norms {
                for what in ["weight", "bias"] {
                    members.push((name(norm, what), vec![columns as u64]));
                }
            }
            let group = Group { name: format!("{target:?} {columns} {norms}"), members };
            session.store.lay_out(std::slice::from_ref(&group)).unwrap();
            let mut trial = Trial::new(rows(count));
            let width = Size::from(columns as u64);
            let mut affine = Vec::new();
            let mut values = Vec::new();
            let members = group.members.iter().zip(group.places()).skip(1);
            for ((name, shape), within) in members {
                let value = random.outliers(columns, 30.0);
                session.set(name, Role::Weight, shape, &value).unwrap();
                affine.push(trial.graph.member(name, shape, within));
                values.push(wide(&value));
            }
            // The inputs are apart, so that each has a gradient of its own: y is their sum.
            let dy_values = random.outliers(count * columns, 100.0);
            let (mut y, mut want) = (None, Vec::new());
            for norm in 0..norms {
                let x_values = random.outliers(count * columns, 100.0);
                let x = trial.floats("x", [tokens(), width], &x_values);
                let [weight, bias] = [0, 1].map(|at| affine[2 * norm + at]);
                let graph = &mut trial.graph;
                let normed =
                    ops::layer_norm(graph, x, None, Affine { weight, bias }, 1e-6).unwrap();
                let (gamma, dy) = (&values[2 * norm], wide(&dy_values));
                let [_, dgamma, dbeta] = backward(&wide(&x_values), gamma, &dy, 1e-6);
                want.extend([dgamma, dbeta]);
                y = Some(match y {
                    None => normed,
                    Some(so_far) => sum(graph, so_far, normed),
                });
            }
            trial.gradients(y.unwrap(), &dy_values);
            trial.run(&mut session, target, &[]);
            for ((name, _), want) in group.members[1..].iter().zip(&want) {
                let got = session.get(name, Role::Gradient).unwrap();
                close(&format!("gradient of {name}"), &got, want, POINTWISE);
            }
            let before = session.get(&group.members[0].0, Role::Gradient).unwrap();
            assert_eq!(before, [0.0; 3], "nothing else in the group is touched");
        }
    }
}

/// a + b, with a gradient.
fn sum(graph: &mut Graph, a: TensorId, b: TensorId) -> TensorId {
    let y = ops::add(graph, a, b).unwrap();
    graph.gradient(move |_, dy| Ok(dy[0].map_or(vec![], |dy| vec![(a, dy), (b, dy)])));
    y
}

/// The beginning of an encoder: embedding, LayerNorm and dropout in one op, and one after another.
#[test]
fn an_embedding_with_its_layer_norm_is_embedding_layer_norm_and_dropout() {
    let mut session = session();
    let mut random = Random(15);
    for (columns, vocabulary) in [(7usize, 9usize), (68, 5), (260, 40), (1024, 12)] {
        for dropout in [None, Some(Dropout { probability: 0.3, site: 5 })] {
            let packed = Packed::new(&LENGTHS, &Policy::dense(), vocabulary, &mut random);
            let dy_values = random.outliers(packed.tokens() * columns, 30.0);
            let shapes =
                [vec![vocabulary, columns], vec![70, columns], vec![columns], vec![columns]];
            for target in TARGETS {
                let named = |at: usize| format!("{target:?} {columns} {dropout:?} {at}");
                let shape = |at: usize| -> Vec<u64> {
                    shapes[at].iter().map(|size| *size as u64).collect()
                };
                let members = (1..4).map(|at| (named(at), shape(at))).collect();
                let group = Group { name: named(4), members };
                session.store.lay_out(std::slice::from_ref(&group)).unwrap();
                for (at, sizes) in shapes.iter().enumerate() {
                    let values = random.outliers(sizes.iter().product(), 30.0);
                    session.set(&named(at), Role::Weight, &shape(at), &values).unwrap();
                }
                let mut results = Vec::new();
                for together in [true, false] {
                    let mut trial = Trial::new(packed.sizes);
                    let inputs = trial.token_inputs(&packed.batch);
                    let graph = &mut trial.graph;
                    let words = graph.parameter(&named(0), &shape(0));
                    let within = group.places();
                    let [positions, weight, bias] = [1, 2, 3]
                        .map(|at| graph.member(&named(at), &shape(at), within[at - 1].clone()));
                    let affine = Affine { weight, bias };
                    let y = if together {
                        let tables = [words, positions];
                        ops::embedding_layer_norm(graph, tables, inputs, affine, 1e-6, dropout)
                            .unwrap()
                    } else {
                        let x = ops::embedding(graph, words, positions, inputs).unwrap();
                        let y = ops::layer_norm(graph, x, None, affine, 1e-6).unwrap();
                        match dropout {
                            Some(dropout) => {
                                ops::dropout(graph, dropout, y, inputs.places).unwrap()
                            }
                            None => y,
                        }
                    };
                    let found = trial.gradients(y, &dy_values);
                    let mut of_case = trial.run(&mut session, target, &[y, found[&words]]);
                    for at in 1..4 {
                        of_case.push(session.get(&named(at), Role::Gradient).unwrap());
                    }
                    results.push(of_case);
                }
                let names = ["y", "dwords", "dpositions", "dgamma", "dbeta"];
                for (at, name) in names.iter().enumerate() {
                    let what = format!("{name}, {columns} columns, {dropout:?}, {target:?}");
                    close(&what, &results[0][at], &wide(&results[1][at]), POINTWISE);
                }
            }
        }
    }
}

/// A tensor that is added to itself receives its gradient twice.
#[test]
fn a_tensor_that_is_its_own_residual_receives_both_gradients() {
    let mut session = session();
    let mut random = Random(11);
    let (x_values, dy_values) = (random.normals(21), random.normals(21));
    let z64: Vec<f64> = x_values.iter().map(|x| 2.0 * f64::from(*x)).collect();
    let want: Vec<f64> =
        backward(&z64, &[1.0; 7], &wide(&dy_values), 1e-6)[0].iter().map(|dz| 2.0 * dz).collect();
    let mut trial = Trial::new(rows(3));
    let width = Size::from(7u32);
    let x = trial.floats("x", [tokens(), width], &x_values);
    let gamma = trial.floats("gamma", [width], &[1.0; 7]);
    let beta = trial.floats("beta", [width], &[0.0; 7]);
    let affine = Affine { weight: gamma, bias: beta };
    let y = ops::layer_norm(&mut trial.graph, x, Some(x), affine, 1e-6).unwrap();
    let found = trial.gradients(y, &dy_values);
    let got = trial.run(&mut session, TARGETS[0], &[found[&x]]);
    close("layer norm of x + x", &got[0], &want, POINTWISE);
}

/// One pass gives the very bits of dropout followed by LayerNorm, forward and backward.
#[test]
fn dropout_before_a_layer_norm_is_dropout_and_layer_norm() {
    let mut session = session();
    let mut random = Random(13);
    let packed = Packed::new(&LENGTHS, &Policy::dense(), 10, &mut random);
    for columns in [1usize, 7, 65, 770] {
        let count = packed.tokens() * columns;
        let [x_values, residual_values, dy_values] = [0; 3].map(|_| random.outliers(count, 30.0));
        let gamma_values = random.normals(columns);
        let mut trial = Trial::new(packed.sizes);
        let width = Size::from(columns as u64);
        let x = trial.floats("x", [tokens(), width], &x_values);
        let residual = trial.floats("residual", [tokens(), width], &residual_values);
        let gamma = trial.floats("norm.weight", [width], &gamma_values);
        let beta = trial.floats("norm.bias", [width], &vec![0.5; columns]);
        let affine = Affine { weight: gamma, bias: beta };
        let places = trial.words("places", [tokens()], &packed.batch.places);
        let settings = Dropout { probability: 0.3, site: 5 };
        let graph = &mut trial.graph;
        let dropped = ops::dropout(graph, settings, x, places).unwrap();
        let apart = ops::layer_norm(graph, dropped, Some(residual), affine, 1e-6).unwrap();
        let fused = ops::dropout_layer_norm(
            graph,
            Some((settings, places)),
            x,
            Some(residual),
            affine,
            1e-6,
        )
        .unwrap();
        let found_apart = trial.gradients(apart, &dy_values);
        let found_fused = trial.gradients(fused, &dy_values);
        let outputs = |y: TensorId, found: &HashMap<TensorId, TensorId>| {
            [y, found[&x], found[&residual], found[&gamma], found[&beta]]
        };
        for target in TARGETS {
            let want = trial.run(&mut session, target, &outputs(apart, &found_apart));
            let got = trial.run(&mut session, target, &outputs(fused, &found_fused));
            for (want, got) in want.iter().zip(&got) {
                assert_eq!(bits(want), bits(got), "{columns} columns");
            }
        }
    }
}

#[test]
fn the_reference_of_layer_norm_agrees_with_differences() {
    let mut random = Random(12);
    let [z, dy] = [35, 35].map(|count| wide(&random.outliers(count, 40.0)));
    let [gamma, beta] = [7, 7].map(|count| wide(&random.normals(count)));
    let [dz, dgamma, dbeta] = backward(&z, &gamma, &dy, 1e-3);
    let value = |z: &[f64], gamma: &[f64], beta: &[f64]| dot(&dy, &forward(z, gamma, beta, 1e-3));
    check_gradient("dz", &z, &dz, |z| value(z, &gamma, &beta));
    check_gradient("dgamma", &gamma, &dgamma, |gamma| value(&z, gamma, &beta));
    check_gradient("dbeta", &beta, &dbeta, |beta| value(&z, &gamma, beta));
}
