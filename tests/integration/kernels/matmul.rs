//! Products in three transpositions, with bias and activation; the linear op and its gradient.

use super::reference::{check_gradient, dot, normal_density, normal_distribution};
use crate::support::trial::*;
use crisp::gpu::Abilities;
use crisp::graph::Pass;
use crisp::graph::ops::{self, Affine};
use crisp::kernels::matmul::{self, Activation, Operands, Transposition, Variant};
use crisp::kernels::{Command, Size, Sizes};
use std::collections::HashSet;

const TRANSPOSITIONS: [Transposition; 3] =
    [Transposition::Nn, Transposition::Nt, Transposition::Tn];
const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Gelu, Activation::Relu];

/// Elements behind the end of a tensor that a test watches: more than a tile of rows or columns.
const BEHIND: usize = 64 * 1024;

/// GELU(x) = x Φ(x), ReLU(x) = max(x, 0).
fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Gelu => x * normal_distribution(x),
        Activation::Relu => x.max(0.0),
    }
}

/// GELU'(x) = Φ(x) + x φ(x), ReLU'(x) = 1 for x > 0, else 0.
fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => 1.0,
        Activation::Gelu => normal_distribution(x) + x * normal_density(x),
        Activation::Relu => f64::from(x > 0.0),
    }
}

fn transposed(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns * rows).map(|at| x[at % rows * columns + at / rows]).collect()
}

/// C[i, j] = Σ_l A[i, l] B[l, j], A being `[m, k]` or `[k, m]`, B `[k, n]` or `[n, k]`.
fn product(transposition: Transposition, [m, n, k]: [usize; 3], a: &[f64], b: &[f64]) -> Vec<f64> {
    // As rows of A and rows of Bᵀ, both of length k.
    let a = if transposition == Transposition::Tn { transposed(a, k, m) } else { a.to_vec() };
    let b = if transposition == Transposition::Nt { b.to_vec() } else { transposed(b, k, n) };
    let mut c = Vec::with_capacity(m * n);
    for i in 0..m {
        c.extend((0..n).map(|j| dot(&a[i * k..][..k], &b[j * k..][..k])));
    }
    c
}

/// Runs one product by the default variant of each target and compares. Returns the variants.
fn check_product(
    session: &mut crisp::graph::Session,
    transposition: Transposition,
    sizes: [usize; 3],
    biased: bool,
    activation: Activation,
) -> [Variant; 2] {
    TARGETS.map(|target| {
        let [m, n, k] = sizes.map(|size| Size::from(size as u64));
        let variant = Variant::default_for(target, transposition, [m, n, k], &Sizes::default());
        check_variant(session, transposition, sizes, biased, activation, variant);
        variant
    })
}

/// Runs one product by a variant and compares.
fn check_variant(
    session: &mut crisp::graph::Session,
    transposition: Transposition,
    sizes: [usize; 3],
    biased: bool,
    activation: Activation,
    variant: Variant,
) {
    let [m, n, k] = sizes;
    let mut random = Random((m * 1_000_003 + n * 1009 + k) as u64);
    let a_values = random.outliers(m * k, 100.0);
    let b_values = random.outliers(k * n, 100.0);
    let bias_values = random.outliers(n, 100.0);
    let mut before = product(transposition, sizes, &wide(&a_values), &wide(&b_values));
    if biased {
        for (at, value) in before.iter_mut().enumerate() {
            *value += f64::from(bias_values[at % n]);
        }
    }
    let after: Vec<f64> = before.iter().map(|value| activate(activation, *value)).collect();

    // What lies behind the operands must not be read, what lies behind the result not written.
    let poisoned = |values: &[f32]| [values, &[f32::NAN; BEHIND]].concat();
    let and_behind = |size: usize| [Size::from((size + BEHIND) as u64)];
    let mut trial = Trial::new(rows(1));
    let a = trial.floats("a", and_behind(m * k), &poisoned(&a_values));
    let b = trial.floats("b", and_behind(k * n), &poisoned(&b_values));
    let bias = trial.floats("bias", and_behind(n), &poisoned(&bias_values));
    let c = trial.graph.value("c", and_behind(m * n));
    let kept =
        (activation != Activation::None).then(|| trial.graph.value("before", and_behind(m * n)));
    let outputs: Vec<_> = [c].into_iter().chain(kept).collect();
    let cleared = outputs.clone();
    trial.graph.node("product", &outputs, move |lowering| {
        let bias = biased.then_some(bias);
        let operands = Operands { a, b, bias, c, before: kept, activation };
        let sizes = [m, n, k].map(|size| Size::from(size as u64));
        let product =
            matmul::matmul(variant, transposition, sizes, operands, |size| lowering.scratch(size));
        cleared.iter().map(|tensor| Command::Clear(*tensor)).chain(product).collect()
    });
    let what = format!("{variant} {transposition:?} {sizes:?} {activation:?} bias {biased}");
    for (index, got) in trial.run(session, Abilities::GPU, &outputs).into_iter().enumerate() {
        let (what, want) = match index {
            0 => (what.clone(), &after),
            _ => (format!("{what}: before the activation"), &before),
        };
        let (got, behind) = got.split_at(m * n);
        close(&what, got, want, PRODUCT);
        assert!(behind.iter().all(|value| *value == 0.0), "{what}: writes behind its end");
    }
}

/// What the tuner may choose is right for every size, not only for those that it was measured at.
#[test]
fn every_variant_is_right() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        for target in TARGETS {
            let whole = [4, 4, 4].map(|size| Size::from(size as u64));
            let mut splits_seen = 0;
            for variant in Variant::candidates(target, transposition, whole) {
                // Parts are cut in the same way whatever the tile.
                if let Variant::Blocked { split: 2.., tile, .. } = variant {
                    splits_seen += 1;
                    if tile != [64, 64] {
                        continue;
                    }
                }
                for (sizes, biased, activation) in [
                    ([132, 68, 36], true, Activation::Gelu),
                    ([1, 4, 4], false, Activation::None),
                    ([68, 132, 260], false, Activation::None),
                    // Odd sizes fall back to the variant that takes any.
                    ([7, 5, 3], true, Activation::Relu),
                ] {
                    check_variant(&mut session, transposition, sizes, biased, activation, variant);
                }
            }
            assert_eq!(splits_seen > 0, target == Abilities::GPU);
        }
    }
}

#[test]
fn products_of_every_shape() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        let mut seen = Vec::new();
        for sizes in [
            [1, 1, 1],
            [1, 4, 4],
            [4, 4, 1],
            [7, 5, 3],
            [4, 8, 7],
            [65, 65, 65],
            [17, 100, 36],
            [16, 96, 64],
            [20, 92, 68],
            [33, 6, 260],
            [8, 1, 2],
            [57, 768, 768],
            [768, 96, 57],
            [2, 768, 130],
        ] {
            seen.extend(check_product(&mut session, transposition, sizes, false, Activation::None));
        }
        let kinds = seen.iter().map(std::mem::discriminant).collect::<HashSet<_>>();
        assert_eq!(kinds.len(), 3, "{transposition:?} has run {seen:?} only");
    }
}

#[test]
fn products_with_bias_and_activation() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        for activation in ACTIVATIONS {
            let mut seen = Vec::new();
            for (sizes, biased) in
                [([20, 100, 68], true), ([68, 36, 20], false), ([7, 66, 5], true)]
            {
                seen.extend(check_product(&mut session, transposition, sizes, biased, activation));
            }
            let kinds = seen.iter().map(std::mem::discriminant).collect::<HashSet<_>>();
            assert_eq!(kinds.len(), 3, "{transposition:?} has run {seen:?} only");
        }
    }
}

/// What the targets choose is what the other tests here rely on.
#[test]
fn where_vectors_fit_cpu_adapters_stream_and_gpus_block() {
    let mut session = session();
    let mut choice = |transposition, sizes| {
        check_product(&mut session, transposition, sizes, false, Activation::None)
    };
    let streaming = Variant::STREAMING;
    let (blocked, tiled) =
        (Variant::Blocked { tile: [64, 64], thread: [4, 4], split: 1 }, Variant::Tiled);
    for transposition in TRANSPOSITIONS {
        assert_eq!(choice(transposition, [8, 8, 8]), [streaming, blocked]);
        assert_eq!(choice(transposition, [8, 6, 8]), [tiled, tiled]);
    }
    assert_eq!(choice(Transposition::Nt, [7, 8, 8]), [streaming, blocked]);
    assert_eq!(choice(Transposition::Nt, [8, 8, 7]), [tiled, tiled]);
    assert_eq!(choice(Transposition::Nn, [8, 8, 7]), [tiled, tiled]);
    assert_eq!(choice(Transposition::Tn, [8, 8, 7]), [streaming, blocked]);
    assert_eq!(choice(Transposition::Tn, [7, 8, 8]), [tiled, tiled]);
}

/// y = f(x Wᵀ + b), and with dz = dy · f'(z): dx = dz W, dW = dzᵀ x, db = Σ_rows dz.
struct Linear {
    rows: usize,
    inputs: usize,
    out: usize,
    activation: Activation,
}

impl Linear {
    fn before(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let mut z = product(Transposition::Nt, [self.rows, self.out, self.inputs], x, weight);
        for (at, value) in z.iter_mut().enumerate() {
            *value += bias[at % self.out];
        }
        z
    }

    fn forward(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let z = self.before(x, weight, bias);
        z.into_iter().map(|value| activate(self.activation, value)).collect()
    }

    /// dx, dW, db.
    fn backward(&self, x: &[f64], weight: &[f64], bias: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let z = self.before(x, weight, bias);
        let dz: Vec<f64> =
            z.iter().zip(dy).map(|(z, dy)| dy * slope(self.activation, *z)).collect();
        let (rows, inputs, out) = (self.rows, self.inputs, self.out);
        let dx = product(Transposition::Nn, [rows, inputs, out], &dz, weight);
        let dweight = product(Transposition::Tn, [out, inputs, rows], &dz, x);
        let dbias = (0..out).map(|j| (0..rows).map(|i| dz[i * out + j]).sum()).collect();
        [dx, dweight, dbias]
    }
}

#[test]
fn linear_and_its_gradient() {
    let mut session = session();
    let mut random = Random(1);
    for (count, inputs, out) in
        [(1, 1, 1), (7, 5, 3), (65, 20, 12), (9, 64, 2), (1, 2, 64), (139, 36, 100), (57, 768, 768)]
    {
        for activation in ACTIVATIONS {
            if count == 57 && activation != Activation::Gelu {
                continue;
            }
            let reference = Linear { rows: count, inputs, out, activation };
            let x_values = random.outliers(count * inputs, 50.0);
            // As large as weights are, so that sums lie where activations bend.
            let scale = 0.3 / (inputs as f32).sqrt();
            let weight_values: Vec<f32> =
                random.outliers(out * inputs, 50.0).iter().map(|w| w * scale).collect();
            let bias_values = random.outliers(out, 50.0);
            let dy_values = random.outliers(count * out, 50.0);
            let (x64, weight64) = (wide(&x_values), wide(&weight_values));
            let (bias64, dy64) = (wide(&bias_values), wide(&dy_values));
            let y64 = reference.forward(&x64, &weight64, &bias64);
            let gradients64 = reference.backward(&x64, &weight64, &bias64, &dy64);

            let mut trial = Trial::new(rows(count));
            let [inputs, out] = [inputs, out].map(|size| Size::from(size as u64));
            let x = trial.floats("x", [tokens(), inputs], &x_values);
            let weight = trial.floats("weight", [out, inputs], &weight_values);
            let bias = trial.floats("bias", [out], &bias_values);
            let affine = Affine { weight, bias };
            let training = Pass::Training { recompute: false };
            let graph = &mut trial.graph;
            let plain = ops::linear(graph, x, affine, activation, Pass::Inference).unwrap();
            let y = ops::linear(graph, x, affine, activation, training).unwrap();
            let found = trial.gradients(y, &dy_values);
            for target in TARGETS {
                let what = format!("linear {target:?} {count} {inputs} {out} {activation:?}");
                let outputs = [y, found[&x], found[&weight], found[&bias], plain];
                let got = trial.run(&mut session, target, &outputs);
                close(&what, &got[0], &y64, PRODUCT);
                let names = ["dx", "dweight", "dbias"];
                for ((name, got), want) in names.iter().zip(&got[1..]).zip(&gradients64) {
                    close(&format!("{what}: {name}"), got, want, PRODUCT);
                }
                assert_eq!(bits(&got[0]), bits(&got[4]), "{what}: with and without training");
            }
        }
    }
}

#[test]
fn the_reference_of_linear_agrees_with_differences() {
    let mut random = Random(2);
    for activation in ACTIVATIONS {
        let reference = Linear { rows: 5, inputs: 6, out: 4, activation };
        let [x, weight, bias, dy] =
            [30, 24, 4, 20].map(|count| wide(&random.outliers(count, 40.0)));
        let [dx, dweight, dbias] = reference.backward(&x, &weight, &bias, &dy);
        let value =
            |x: &[f64], weight: &[f64], bias: &[f64]| dot(&dy, &reference.forward(x, weight, bias));
        check_gradient("dx", &x, &dx, |x| value(x, &weight, &bias));
        check_gradient("dweight", &weight, &dweight, |weight| value(&x, weight, &bias));
        check_gradient("dbias", &bias, &dbias, |bias| value(&x, &weight, bias));
    }
}

/// Through a product with the identity, GELU alone is left: every element relative to its own
/// magnitude, down to the tail.
#[test]
fn gelu_keeps_its_digits_in_the_tail() {
    let mut session = session();
    let values: Vec<f32> = (-9000..=9000).map(|step| step as f32 / 1000.0).collect();
    let padded: Vec<f32> = values.iter().copied().chain([100.0, -100.0, 0.0]).collect();
    let count = padded.len() / 4;
    let identity: Vec<f32> = (0..16).map(|at| f32::from(u8::from(at % 5 == 0))).collect();
    let four = Size::from(4u32);
    let mut trial = Trial::new(rows(count));
    let x = trial.floats("x", [tokens(), four], &padded);
    let weight = trial.floats("weight", [four, four], &identity);
    let bias = trial.floats("bias", [four], &[0.0; 4]);
    let affine = Affine { weight, bias };
    let training = Pass::Training { recompute: false };
    let y = ops::linear(&mut trial.graph, x, affine, Activation::Gelu, training).unwrap();
    let ones = vec![1.0; padded.len()];
    let found = trial.gradients(y, &ones);
    let want: Vec<f64> = padded.iter().map(|x| activate(Activation::Gelu, f64::from(*x))).collect();
    let slopes: Vec<f64> = padded.iter().map(|x| slope(Activation::Gelu, f64::from(*x))).collect();
    // GELU' is the sum of two terms that cancel at -0.75: it is as exact as its terms.
    let slope_scale: Vec<f64> = wide(&padded)
        .iter()
        .map(|x| normal_distribution(*x) + (x * normal_density(*x)).abs())
        .collect();
    // A rounding of the exponent x² / 2 is one of the result, times x² / 2: hence the floor.
    let floor = |values: &[f64]| values.iter().map(|v| v.abs().max(1e-12)).collect::<Vec<_>>();
    for target in TARGETS {
        assert_eq!(trial.shaders(target)[0] == "matmul_streaming", target == Abilities::CPU);
        let got = trial.run(&mut session, target, &[y, found[&x]]);
        close_to(&format!("gelu {target:?}"), &got[0], &want, &floor(&want), POINTWISE);
        let what = format!("gelu gradient {target:?}");
        close_to(&what, &got[1], &slopes, &floor(&slope_scale), POINTWISE);
    }
}
