//! Products in three transpositions, with what may follow them; the gradients of a projection; the
//! linear op and its gradient.

use super::reference::{check_gradient, dot, normal_density, normal_distribution};
use crate::support::trial::*;
use crisp::gpu::Abilities;
use crisp::graph::ops::{self, Affine};
use crisp::graph::{Graph, Pass, Precision, Seed, gradients};
use crisp::kernels::matmul::{
    self, Activation, Asked, GradientOperands, Operands, Products, Transposition, Variant,
};
use crisp::kernels::pointwise::{self, Dropout};
use crisp::kernels::{Command, Element, Size, Sizes, TensorId};
use crisp::measure::reference::linear::{Linear, activate, product, slope};
use crisp::measure::reference::rounded;
use std::collections::HashSet;

const TRANSPOSITIONS: [Transposition; 3] =
    [Transposition::Nn, Transposition::Nt, Transposition::Tn];
const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Gelu, Activation::Relu];

/// Elements behind the end of a tensor that a test watches: more than a tile of rows or columns.
const BEHIND: usize = 64 * 1024;

/// Runs one product by the default variant of each target and compares. Returns the variants.
fn check_product(
    session: &mut crisp::graph::Session,
    transposition: Transposition,
    sizes: [usize; 3],
    end: End,
) -> [Variant; 2] {
    TARGETS.map(|target| {
        let [m, n, k] = sizes.map(|size| Size::from(size as u64));
        let products = Products::One(transposition);
        let variant = Variant::default_for(target, (products, [m, n, k]).into(), &Sizes::default());
        check_variant(session, transposition, sizes, end, variant);
        variant
    })
}

/// What becomes of the sums of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// An activation.
    Plain(Activation),
    /// A bias, then an activation.
    Biased(Activation),
    /// The slope of an activation at values of their own, and a tensor is added.
    Bent(Activation),
    /// Added to what is there.
    Accumulated,
}

/// Poisoned behind its end: what lies there must not be read.
fn poisoned(trial: &mut Trial, name: &str, values: &[f32]) -> TensorId {
    let shape = [Size::from((values.len() + BEHIND) as u64)];
    trial.floats(name, shape, &[values, &[f32::NAN; BEHIND]].concat())
}

/// What a variant multiplies: float16 for some, in which numbers are exact then.
fn factors(variant: Variant, values: Vec<f32>) -> Vec<f32> {
    if !takes_float16(variant) {
        return values;
    }
    rounded(values)
}

fn takes_float16(variant: Variant) -> bool {
    matches!(variant, Variant::Matrices { float16: true, .. })
}

/// A tensor as a factor for a variant: itself, or a copy in float16.
fn factor(trial: &mut Trial, variant: Variant, tensor: TensorId) -> TensorId {
    if !takes_float16(variant) {
        return tensor;
    }
    let shape = trial.graph.shape(tensor).clone();
    let count = shape.elements();
    let half = trial.graph.activation("factor", shape);
    trial.graph.node("copy", &[half], move |_| vec![pointwise::copy(count, tensor, half)]);
    half
}

/// A trial whose activations are float16.
fn mixed_trial() -> Trial {
    let mut trial = Trial::new(rows(1));
    trial.graph = Graph::new().in_precision(Precision::Mixed);
    trial
}

/// The variants by cooperative matrices for what this adapter has of them, with subgroups taken to
/// be so many times as large as they are. Lavapipe has those of float16 from Mesa 26 on, and
/// `make cards` one that computes.
fn by_matrices(session: &crisp::graph::Session, products: Products, times: f32) -> Vec<Variant> {
    let adapter = &session.device.adapter;
    let abilities = Abilities::of(adapter);
    let lanes = (abilities.lanes as f32 * times) as u32;
    let whole = [4, 4, 4].map(|size| Size::from(size as u64));
    let of = |factors| {
        let asked = Asked { factors, ..Asked::from((products, whole)) };
        Variant::candidates(Abilities { lanes, ..abilities }, asked)
    };
    let all = [Element::F16, Element::F32].map(of).concat();
    let is_one = |variant: &Variant| matches!(variant, Variant::Matrices { .. });
    let variants: Vec<Variant> = all.into_iter().filter(is_one).collect();
    assert_eq!(variants.is_empty(), !adapter.matrices.any());
    variants
}

/// Compares a result with its reference, and what lies behind it with zeros.
fn close_and_zero_behind(what: &str, got: &[f32], want: &[f64]) {
    let (got, behind) = got.split_at(want.len());
    close(what, got, want, PRODUCT);
    assert!(behind.iter().all(|value| *value == 0.0), "{what}: writes behind its end");
}

/// Runs one product by a variant and compares.
fn check_variant(
    session: &mut crisp::graph::Session,
    transposition: Transposition,
    sizes: [usize; 3],
    end: End,
    variant: Variant,
) {
    let [m, n, k] = sizes;
    let mut random = Random((m * 1_000_003 + n * 1009 + k) as u64);
    let a_values = factors(variant, random.outliers(m * k, 100.0));
    let b_values = factors(variant, random.outliers(k * n, 100.0));
    let bias_values = random.outliers(n, 100.0);
    let bent_values = random.outliers(m * n, 100.0);
    let addend_values = random.outliers(m * n, 100.0);
    let mut before = product(transposition, sizes, &wide(&a_values), &wide(&b_values));
    if matches!(end, End::Biased(_)) {
        for (at, value) in before.iter_mut().enumerate() {
            *value += f64::from(bias_values[at % n]);
        }
    }
    let after = |(at, sum): (usize, &f64)| match end {
        End::Plain(activation) | End::Biased(activation) => activate(activation, *sum),
        End::Bent(activation) => {
            let slope = slope(activation, f64::from(bent_values[at]));
            sum * slope + f64::from(addend_values[at])
        }
        End::Accumulated => 2.0 * sum,
    };
    let after: Vec<f64> = before.iter().enumerate().map(after).collect();

    let and_behind = |size: usize| [Size::from((size + BEHIND) as u64)];
    let mut trial = mixed_trial();
    let [a, b] = [("a", &a_values), ("b", &b_values)].map(|(name, values)| {
        let values = poisoned(&mut trial, name, values);
        factor(&mut trial, variant, values)
    });
    let bias = poisoned(&mut trial, "bias", &bias_values);
    let bent = poisoned(&mut trial, "bent", &bent_values);
    let addend = poisoned(&mut trial, "addend", &addend_values);
    let c = trial.graph.value("c", and_behind(m * n));
    let operands = Operands::product(a, b, c);
    let (operands, bends) = match end {
        End::Plain(activation) => (Operands { activation, ..operands }, activation),
        End::Biased(activation) => {
            (Operands { bias: Some(bias), activation, ..operands }, activation)
        }
        End::Bent(activation) => {
            let (bent, addend) = (Some(bent), Some(addend));
            (Operands { activation, bent, addend, ..operands }, Activation::None)
        }
        // Twice the product: from zeros, and from itself.
        End::Accumulated => (Operands { accumulate: true, ..operands }, Activation::None),
    };
    let kept = (bends != Activation::None).then(|| trial.graph.value("before", and_behind(m * n)));
    let outputs: Vec<_> = [c].into_iter().chain(kept).collect();
    let cleared = outputs.clone();
    trial.graph.node("product", &outputs, move |lowering| {
        let operands = Operands { before: kept, ..operands };
        let sizes = [m, n, k].map(|size| Size::from(size as u64));
        let product =
            matmul::matmul(variant, transposition, sizes, operands, |size| lowering.scratch(size));
        let times = if end == End::Accumulated { 2 } else { 1 };
        let cleared = cleared.iter().map(|tensor| Command::Clear(*tensor));
        cleared.chain(std::iter::repeat_n(product, times)).collect()
    });
    let what = format!("{variant} {transposition:?} {sizes:?} {end:?}");
    let got = trial.run(session, Abilities::GPU, &outputs);
    close_and_zero_behind(&what, &got[0], &after);
    if kept.is_some() {
        close_and_zero_behind(&format!("{what}: before the activation"), &got[1], &before);
    }
}

/// What the tuner may choose is right for every size, not only for those that it was measured at.
#[test]
fn every_variant_is_right() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        for target in TARGETS {
            let whole = [4, 4, 4].map(|size| Size::from(size as u64));
            for variant in Variant::candidates(target, (Products::One(transposition), whole).into())
            {
                // What a training step does with products of this transposition.
                let end = match transposition {
                    Transposition::Nn => End::Bent(Activation::Gelu),
                    Transposition::Nt => End::Biased(Activation::Gelu),
                    Transposition::Tn => End::Accumulated,
                };
                for (sizes, end) in [
                    ([132, 68, 36], end),
                    ([1, 4, 4], end),
                    ([68, 132, 260], End::Plain(Activation::None)),
                    // Odd sizes fall back to the variant that takes any.
                    ([7, 5, 3], end),
                ] {
                    check_variant(&mut session, transposition, sizes, end, variant);
                }
            }
        }
    }
}

/// Rows that cannot be copied to a texture many at a time, and too wide to lie side by side there.
#[test]
fn products_of_rows_as_wide_as_half_a_texture() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        for sizes in [[8, 12, 4100], [4100, 8, 12], [8, 4100, 12]] {
            let end = End::Plain(Activation::None);
            check_product(&mut session, transposition, sizes, end);
        }
    }
}

/// Sizes that fit no tile, of whole vectors.
#[test]
fn products_by_cooperative_matrices() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        for variant in by_matrices(&session, Products::One(transposition), 1.0) {
            for activation in ACTIVATIONS {
                for (sizes, end) in [
                    ([132, 68, 36], End::Bent(activation)),
                    ([68, 132, 260], End::Biased(activation)),
                    ([4, 4, 4], End::Plain(activation)),
                    ([64, 64, 64], End::Accumulated),
                ] {
                    check_variant(&mut session, transposition, sizes, end, variant);
                }
                if transposition != Transposition::Tn {
                    let end = End::Biased(activation);
                    check_variant(&mut session, transposition, [37, 140, 100], end, variant);
                    check_variant(&mut session, transposition, [1, 4, 12], end, variant);
                }
            }
        }
    }
}

/// Of subgroups that are smaller than they are taken to be some compute what is thrown away; where
/// they are larger, blocks of the result wait for another turn.
#[test]
fn matrices_need_subgroups_of_no_certain_size() {
    let mut session = session();
    for times in [0.5, 2.0, 4.0] {
        let transposition = Transposition::Nt;
        for variant in by_matrices(&session, Products::One(transposition), times) {
            let end = End::Biased(Activation::Gelu);
            check_variant(&mut session, transposition, [68, 132, 36], end, variant);
        }
        for variant in by_matrices(&session, Products::Gradients, times) {
            let launch = move |sizes, operands| matmul::gradients(variant, sizes, operands);
            check_gradients(&mut session, variant, [68, 36, 132], (true, true), launch);
        }
    }
}

/// dx = dy·W (times a slope, and something added), dW = dyᵀ·x, dbias = Σ_rows dy: all in one
/// launch, the latter two twice, where they are added to what is there. Twice the same bits.
fn check_gradients(
    session: &mut crisp::graph::Session,
    variant: Variant,
    [rows, inputs, out]: [usize; 3],
    (curved, accumulate): (bool, bool),
    launch: impl Fn([Size; 3], GradientOperands) -> Option<Command> + 'static,
) {
    let mut random = Random((rows + inputs + out) as u64);
    let dy = factors(variant, random.outliers(rows * out, 100.0));
    let weight = factors(variant, random.outliers(out * inputs, 100.0));
    let [x, bent, addend] = [0; 3].map(|_| random.outliers(rows * inputs, 100.0));
    let x = factors(variant, x);
    let mut dx = product(Transposition::Nn, [rows, inputs, out], &wide(&dy), &wide(&weight));
    if curved {
        for ((dx, bent), addend) in dx.iter_mut().zip(&bent).zip(&addend) {
            *dx = *dx * slope(Activation::Gelu, f64::from(*bent)) + f64::from(*addend);
        }
    }
    let times = if accumulate { 2 } else { 1 };
    let dweight = product(Transposition::Tn, [out, inputs, rows], &wide(&dy), &wide(&x));
    let dbias = product(Transposition::Tn, [out, 1, rows], &wide(&dy), &vec![1.0; rows]);
    let [dweight, dbias] = [dweight, dbias]
        .map(|sums| sums.into_iter().map(|sum| sum * f64::from(times)).collect::<Vec<_>>());

    let mut trial = mixed_trial();
    let and_behind = |size: usize| [Size::from((size + BEHIND) as u64)];
    let results = [("dx", &dx), ("dweight", &dweight), ("dbias", &dbias)]
        .map(|(name, want)| trial.graph.value(name, and_behind(want.len())));
    let [dy, weight, x] = [("dy", &dy), ("weight", &weight), ("x", &x)].map(|(name, values)| {
        let values = poisoned(&mut trial, name, values);
        factor(&mut trial, variant, values)
    });
    let mut input = |name, values| poisoned(&mut trial, name, values);
    let operands = GradientOperands {
        dy,
        weight,
        x,
        bent: Some((Activation::Gelu, input("bent", &bent))).filter(|_| curved),
        addend: Some(input("addend", &addend)).filter(|_| curved),
        dx: results[0],
        dweight: results[1],
        dbias: results[2],
        accumulate,
    };
    trial.graph.node("gradients", &results, move |_| {
        let sizes = [rows, inputs, out].map(|size| Size::from(size as u64));
        let command = launch(sizes, operands).expect("one launch");
        let cleared = results.iter().map(|tensor| Command::Clear(*tensor));
        cleared.chain(std::iter::repeat_n(command, times as usize)).collect()
    });
    let what = format!("{variant}: gradients of {rows} {inputs} {out}");
    let got = trial.run(session, Abilities::GPU, &results);
    close_and_zero_behind(&format!("{what}: dx"), &got[0], &dx);
    close_and_zero_behind(&format!("{what}: dweight"), &got[1], &dweight);
    close_and_zero_behind(&format!("{what}: dbias"), &got[2], &dbias);
    let again = trial.run(session, Abilities::GPU, &results);
    for (got, again) in got.iter().zip(&again) {
        assert_eq!(bits(got), bits(again), "{what}: twice");
    }
}

#[test]
fn gradients_in_one_launch() {
    let mut session = session();
    let whole = [4, 4, 4].map(|size| Size::from(size as u64));
    let variants = Variant::candidates(Abilities::GPU, (Products::Gradients, whole).into());
    assert!(variants.len() > 5);
    assert!(Variant::candidates(Abilities::CPU, (Products::Gradients, whole).into()).is_empty());
    let by_matrices = by_matrices(&session, Products::Gradients, 1.0);
    for variant in variants.into_iter().chain(by_matrices) {
        // More rows than columns, and fewer: either half may come first.
        for (sizes, ends) in [
            ([141, 68, 36], (true, false)),
            ([37, 132, 260], (false, true)),
            ([1, 4, 4], (false, true)),
            ([7, 64, 128], (true, false)),
        ] {
            let launch = move |sizes, operands| matmul::gradients(variant, sizes, operands);
            check_gradients(&mut session, variant, sizes, ends, launch);
        }
    }
    for (sizes, ends) in [([141, 67, 3], (true, false)), ([1, 1, 1], (false, true))] {
        check_gradients(&mut session, Variant::Narrow, sizes, ends, matmul::narrow_gradients);
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
            seen.extend(check_product(
                &mut session,
                transposition,
                sizes,
                End::Plain(Activation::None),
            ));
        }
        let kinds = seen.iter().map(std::mem::discriminant).collect::<HashSet<_>>();
        let all = if transposition == Transposition::Nt { 4 } else { 3 };
        assert_eq!(kinds.len(), all, "{transposition:?} has run {seen:?} only");
    }
}

#[test]
fn products_and_what_becomes_of_them() {
    let mut session = session();
    for transposition in TRANSPOSITIONS {
        for activation in ACTIVATIONS {
            let mut seen = Vec::new();
            for (sizes, biased) in [
                ([20, 100, 68], true),
                ([68, 36, 20], false),
                ([7, 66, 5], true),
                ([9, 3, 150], true),
            ] {
                let end = if biased { End::Biased(activation) } else { End::Plain(activation) };
                seen.extend(check_product(&mut session, transposition, sizes, end));
                check_product(&mut session, transposition, sizes, End::Bent(activation));
                check_product(&mut session, transposition, sizes, End::Accumulated);
            }
            let kinds = seen.iter().map(std::mem::discriminant).collect::<HashSet<_>>();
            let all = if transposition == Transposition::Nt { 4 } else { 3 };
            assert_eq!(kinds.len(), all, "{transposition:?} has run {seen:?} only");
        }
    }
}

/// What the targets choose is what the other tests here rely on.
#[test]
fn where_vectors_fit_cpu_adapters_stream_and_gpus_block() {
    let mut session = session();
    let mut choice = |transposition, sizes| {
        check_product(&mut session, transposition, sizes, End::Plain(Activation::None))
    };
    let streaming = Variant::STREAMING;
    let (blocked, tiled) =
        (Variant::Blocked { tile: [32, 32], thread: [4, 4], slices: 4 }, Variant::Tiled);
    for transposition in TRANSPOSITIONS {
        assert_eq!(choice(transposition, [8, 8, 8]), [streaming, blocked]);
        assert_eq!(choice(transposition, [8, 22, 8]), [tiled, tiled]);
    }
    assert_eq!(choice(Transposition::Nt, [7, 8, 8]), [streaming, blocked]);
    assert_eq!(choice(Transposition::Nt, [8, 20, 7]), [tiled, tiled]);
    let narrow = Variant::Narrow;
    assert_eq!(choice(Transposition::Nt, [8, 8, 7]), [narrow, narrow]);
    assert_eq!(choice(Transposition::Nt, [8, 6, 8]), [narrow, narrow]);
    assert_eq!(choice(Transposition::Nn, [8, 6, 8]), [tiled, tiled]);
    assert_eq!(choice(Transposition::Nn, [8, 8, 7]), [tiled, tiled]);
    assert_eq!(choice(Transposition::Tn, [8, 8, 7]), [streaming, blocked]);
    assert_eq!(choice(Transposition::Tn, [7, 8, 8]), [tiled, tiled]);
}

/// A launch is done when its last workgroup is: on a large GPU, of 128 multiprocessors, none of
/// those of DistilBERT-base may do much more than its share, whatever the sentences' lengths.
#[test]
fn no_workgroup_of_a_default_does_much_more_than_its_share() {
    for tokens in [420, 576, 900, 4096, 8192] {
        let largest = Sizes { tokens, ..Sizes::default() };
        for (inputs, out) in [(768u64, 2304u64), (768, 768), (768, 3072), (3072, 768)] {
            let forward = [crate::support::trial::tokens(), out.into(), inputs.into()];
            let backward = [crate::support::trial::tokens(), inputs.into(), out.into()];
            for (products, sizes) in
                [(Products::One(Transposition::Nt), forward), (Products::Gradients, backward)]
            {
                let variant =
                    Variant::default_for(Abilities::GPU, (products, sizes).into(), &largest);
                let Variant::Blocked { tile: [rows, columns], .. } = variant else {
                    panic!("{variant} for {products:?} {sizes:?}");
                };
                let [m, n, k] = sizes.map(|size| size.at(&largest));
                let longest = match products {
                    Products::One(_) => k,
                    Products::Gradients => k.max(m),
                };
                let share = products.operations() / 2 * m * n * k / 128;
                let most = u64::from(rows * columns) * longest;
                assert!(most * 2 < share * 3, "{variant} for {products:?} {m} {n} {k}");
            }
        }
    }
}

/// Where an adapter has them for factors in float16, and a result is large enough to fill it.
#[test]
fn matrices_compute_large_products_of_float16() {
    for abilities in Abilities::WITH_MATRICES {
        for products in [Products::One(Transposition::Nt), Products::Gradients] {
            let taken = |rows: u64, columns: u64, factors| {
                let sizes = [rows, columns, columns].map(Size::from);
                let asked = Asked { factors, ..Asked::from((products, sizes)) };
                Variant::default_for(abilities, asked, &Sizes::default())
            };
            let candidates = |factors| {
                let whole = [4u64; 3].map(Size::from);
                let asked = Asked { factors, ..Asked::from((products, whole)) };
                let all = Variant::candidates(abilities, asked).into_iter();
                all.filter(|variant| matches!(variant, Variant::Matrices { .. })).count()
            };
            assert!(candidates(Element::F16) >= 2);
            assert_eq!(candidates(Element::F32) >= 2, abilities.matrices.float32.is_some());
            let is_blocked = |variant| matches!(variant, Variant::Blocked { .. });
            if abilities.streaming {
                assert_eq!(taken(8192, 768, Element::F16), Variant::STREAMING);
                continue;
            }
            let Variant::Matrices { tile: small, .. } = taken(160, 768, Element::F16) else {
                panic!("{abilities:?}")
            };
            let Variant::Matrices { tile: large, .. } = taken(8192, 768, Element::F16) else {
                panic!("{abilities:?}")
            };
            assert!(small[0] * small[1] < large[0] * large[1], "{abilities:?}");
            assert!(
                is_blocked(taken(4, 256, Element::F16))
                    && is_blocked(taken(8192, 768, Element::F32))
            );
        }
    }
}

#[test]
fn linear_and_its_gradient() {
    let mut session = session();
    let mut random = Random(1);
    for (count, inputs, out) in [
        (1, 1, 1),
        (7, 5, 3),
        (65, 20, 12),
        (9, 64, 2),
        (1, 2, 64),
        (21, 34, 18),
        (139, 36, 100),
        (57, 768, 768),
    ] {
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

/// Two layers and a third that reads the same input: gradients of activations are taken and sums of
/// gradients made where the products end, so that no launch does only that.
#[test]
fn gradients_of_layers_meet_in_their_products() {
    let mut session = session();
    let mut random = Random(3);
    for [count, inputs, inner, out] in [[37, 36, 68, 12], [5, 7, 6, 3], [130, 64, 96, 64]] {
        for activation in [Activation::Gelu, Activation::Relu] {
            let first = Linear { rows: count, inputs, out: inner, activation };
            let second = Linear { rows: count, inputs: inner, out, activation: Activation::None };
            let third = Linear { rows: count, inputs, out, activation: Activation::None };
            let scale = 0.3 / (inputs.max(inner) as f32).sqrt();
            let mut values = |count: usize, scale: f32| -> Vec<f32> {
                random.outliers(count, 50.0).iter().map(|value| value * scale).collect()
            };
            let x_values = values(count * inputs, 1.0);
            let layers = [&first, &second, &third]
                .map(|layer| (values(layer.inputs * layer.out, scale), values(layer.out, 1.0)));
            let [dy_second, dy_third] = [0; 2].map(|_| values(count * out, 1.0));
            let wide_layers = layers.clone().map(|(weight, bias)| (wide(&weight), wide(&bias)));
            let [(w1, b1), (w2, b2), (w3, b3)] = &wide_layers;
            let x64 = wide(&x_values);
            let y1 = first.forward(&x64, w1, b1);
            let from_second = second.backward(&y1, w2, b2, &wide(&dy_second));
            let from_third = third.backward(&x64, w3, b3, &wide(&dy_third));
            let from_first = first.backward(&x64, w1, b1, &from_second[0]);
            let dx: Vec<f64> =
                from_first[0].iter().zip(&from_third[0]).map(|(a, b)| a + b).collect();

            let mut trial = Trial::new(rows(count));
            let x = trial.floats("x", [tokens(), Size::from(inputs as u64)], &x_values);
            let mut affine = |name: &str, layer: &Linear, (weight, bias): &(Vec<f32>, Vec<f32>)| {
                let [inputs, out] = [layer.inputs, layer.out].map(|size| Size::from(size as u64));
                let weight = trial.floats(&format!("{name}.weight"), [out, inputs], weight);
                Affine { weight, bias: trial.floats(&format!("{name}.bias"), [out], bias) }
            };
            let of_first = affine("first", &first, &layers[0]);
            let of_second = affine("second", &second, &layers[1]);
            let of_third = affine("third", &third, &layers[2]);
            let training = Pass::Training { recompute: false };
            let graph = &mut trial.graph;
            let none = Activation::None;
            let inner = ops::linear(graph, x, of_first, activation, training).unwrap();
            let second = ops::linear(graph, inner, of_second, none, training).unwrap();
            let third = ops::linear(graph, x, of_third, none, training).unwrap();
            // A loss of both: its gradient is that of each.
            let shape = graph.shape(second).clone();
            let dy_second = trial.floats("d second", shape.clone(), &dy_second);
            let dy_third = trial.floats("d third", shape.clone(), &dy_third);
            let both = trial.graph.value("both", shape);
            trial.graph.node("both", &[both], move |_| vec![]);
            trial.graph.gradient(move |_, _| Ok(vec![(second, dy_second), (third, dy_third)]));
            let found = gradients(&mut trial.graph, both, Seed::One).unwrap();
            let wanted = [
                ("dx", x, &dx),
                ("first weight", of_first.weight, &from_first[1]),
                ("first bias", of_first.bias, &from_first[2]),
                ("second weight", of_second.weight, &from_second[1]),
                ("second bias", of_second.bias, &from_second[2]),
                ("third weight", of_third.weight, &from_third[1]),
                ("third bias", of_third.bias, &from_third[2]),
            ];
            let outputs = wanted.map(|(_, of, _)| found[&of]);
            for target in TARGETS {
                let what = format!("layers {target:?} {count} {inputs} {activation:?}");
                let shaders = trial.shaders(target);
                let apart = |name: &&&str| name.starts_with("pointwise");
                assert_eq!(shaders.iter().filter(apart).count(), 0, "{what}: {shaders:?}");
                if target == Abilities::GPU && inputs % 4 == 0 {
                    assert_eq!(shaders.len(), 6, "{what}: {shaders:?}");
                }
                let got = trial.run(&mut session, target, &outputs);
                for ((name, _, want), got) in wanted.iter().zip(&got) {
                    close(&format!("{what}: {name}"), got, want, PRODUCT);
                }
                let again = trial.run(&mut session, target, &outputs);
                for (got, again) in got.iter().zip(&again) {
                    assert_eq!(bits(got), bits(again), "{what}: twice");
                }
            }
        }
    }
}

/// A result that a product reads, and something else too: its gradient comes by both ways.
#[test]
fn an_activation_with_two_readers() {
    let mut session = session();
    let mut random = Random(4);
    let layer = Linear { rows: 9, inputs: 8, out: 8, activation: Activation::Gelu };
    let next = Linear { activation: Activation::None, ..layer };
    let x_values = random.outliers(72, 50.0);
    let [first, second] = [0; 2].map(|_| {
        let weight: Vec<f32> = random.outliers(64, 50.0).iter().map(|w| 0.1 * w).collect();
        (weight, random.outliers(8, 50.0))
    });
    let dy_values = random.outliers(72, 50.0);
    let dropout = Dropout { probability: 0.0, site: 0 };
    let (w1, b1) = (wide(&first.0), wide(&first.1));
    let (w2, b2) = (wide(&second.0), wide(&second.1));
    let (x64, dy64) = (wide(&x_values), wide(&dy_values));
    let [mut dinner, ..] = next.backward(&layer.forward(&x64, &w1, &b1), &w2, &b2, &dy64);
    dinner.iter_mut().zip(&dy64).for_each(|(dinner, dy)| *dinner += dy);
    let want = layer.backward(&x64, &w1, &b1, &dinner);
    for product_first in [false, true] {
        let mut trial = Trial::new(rows(9));
        let eight = Size::from(8u32);
        let x = trial.floats("x", [tokens(), eight], &x_values);
        let mut affine = |(weight, bias): &(Vec<f32>, Vec<f32>)| Affine {
            weight: trial.floats("weight", [eight, eight], weight),
            bias: trial.floats("bias", [eight], bias),
        };
        let (of_first, of_second) = (affine(&first), affine(&second));
        let dy = trial.floats("dy", [tokens(), eight], &dy_values);
        let graph = &mut trial.graph;
        let training = Pass::Training { recompute: false };
        let inner = ops::linear(graph, x, of_first, layer.activation, training).unwrap();
        // Nothing is dropped: another way for the gradient to come.
        let other = |graph: &mut Graph| ops::dropout_rows(graph, dropout, inner).unwrap();
        let product = |graph: &mut Graph| {
            ops::linear(graph, inner, of_second, next.activation, training).unwrap()
        };
        let ways = if product_first {
            [product(graph), other(graph)]
        } else {
            [other(graph), product(graph)]
        };
        let both = graph.value("both", [tokens(), eight]);
        graph.node("both", &[both], move |_| vec![]);
        graph.gradient(move |_, _| Ok(ways.map(|way| (way, dy)).to_vec()));
        let found = gradients(graph, both, Seed::One).unwrap();
        let outputs = [x, of_first.weight, of_first.bias].map(|of| found[&of]);
        for target in TARGETS {
            let got = trial.run(&mut session, target, &outputs);
            for (got, want) in got.iter().zip(&want) {
                close(&format!("two readers {target:?} {product_first}"), got, want, PRODUCT);
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
