//! A LayerNorm within the projections around it.

use crate::support::trial::*;
use crisp::gpu::Abilities;
use crisp::graph::ops::{self, Affine};
use crisp::graph::{Graph, Plan};
use crisp::kernels::matmul::{Activation, Products, Transposition, Variant};
use crisp::kernels::normed::{Product, Sum, product, statistics, sum};
use crisp::kernels::tune::Tuning;
use crisp::kernels::{Command, Size};
use crisp::measure::reference::layer_norm;
use crisp::measure::reference::linear::Linear;

/// Elements behind the end of a tensor that a test watches: more than a tile of rows or columns.
const BEHIND: usize = 16 * 1024;
const EPSILON: f32 = 1e-6;

/// Values of two projections and of what stands between them, and what comes of them.
struct Data {
    sizes: [usize; 4],
    a: Vec<f32>,
    residual: Vec<f32>,
    first: [Vec<f32>; 2],
    norm: [Vec<f32>; 2],
    second: [Vec<f32>; 2],
    activation: Activation,
    z: Vec<f64>,
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Data {
    /// Of sizes rows, inputs, columns and out.
    fn new(sizes: [usize; 4], activation: Activation) -> Self {
        let [rows, inputs, columns, out] = sizes;
        let mut random = Random((rows * 1_000_003 + inputs * 1009 + columns + out) as u64);
        let a = random.outliers(rows * inputs, 100.0);
        let residual = random.outliers(rows * columns, 100.0);
        let first = [columns * inputs, columns].map(|count| random.outliers(count, 100.0));
        let norm = [0; 2].map(|_| random.outliers(columns, 30.0));
        let second = [out * columns, out].map(|count| random.outliers(count, 100.0));
        Self::of(sizes, activation, a, residual, [first, norm, second])
    }

    /// Rows whose means are far larger than their deviations, which sums of squares do not survive.
    fn far_from_zero(sizes: [usize; 4]) -> Self {
        let [rows, inputs, columns, out] = sizes;
        let mut random = Random(7);
        let a = random.normals(rows * inputs);
        let mut residual = random.normals(rows * columns);
        for (at, value) in residual.iter_mut().enumerate() {
            *value += 300.0 * (at / columns % 3) as f32;
        }
        let projection = |random: &mut Random, out, inputs| {
            let weight = random.normals(out * inputs);
            let scale = 1.0 / (inputs as f32).sqrt();
            [weight.iter().map(|value| value * scale).collect(), random.normals(out)]
        };
        let first = projection(&mut random, columns, inputs);
        let norm = [0; 2].map(|_| random.normals(columns));
        let second = projection(&mut random, out, columns);
        Self::of(sizes, Activation::None, a, residual, [first, norm, second])
    }

    fn of(
        sizes: [usize; 4],
        activation: Activation,
        a: Vec<f32>,
        residual: Vec<f32>,
        [first, norm, second]: [[Vec<f32>; 2]; 3],
    ) -> Self {
        let [rows, inputs, columns, out] = sizes;
        let linear = Linear { rows, inputs, out: columns, activation: Activation::None };
        let mut z = linear.forward(&wide(&a), &wide(&first[0]), &wide(&first[1]));
        z.iter_mut().zip(&residual).for_each(|(z, residual)| *z += f64::from(*residual));
        let x = layer_norm::forward(&z, &wide(&norm[0]), &wide(&norm[1]), f64::from(EPSILON));
        let linear = Linear { rows, inputs: columns, out, activation };
        let y = linear.forward(&x, &wide(&second[0]), &wide(&second[1]));
        Self { sizes, a, residual, first, norm, second, activation, z, x, y }
    }

    /// Runs both projections by a variant, and compares. Behind its end no input may be read, and
    /// no result be written.
    fn check(&self, session: &mut crisp::graph::Session, variant: Variant) {
        let [rows, inputs, columns, out] = self.sizes.map(|size| Size::from(size as u64));
        let entries = self.sizes[0] * statistics(self.sizes[2] as u32) as usize;
        let mut trial = Trial::new(crate::support::trial::rows(1));
        let mut input = |name, values: &[f32]| {
            let shape = [Size::from((values.len() + BEHIND) as u64)];
            trial.floats(name, shape, &[values, &[f32::NAN; BEHIND]].concat())
        };
        let [a, residual] = [input("a", &self.a), input("residual", &self.residual)];
        let mut affine = |values: &[Vec<f32>; 2]| Affine {
            weight: input("weight", &values[0]),
            bias: input("bias", &values[1]),
        };
        let [first, norm, second] = [affine(&self.first), affine(&self.norm), affine(&self.second)];
        let lengths = [self.z.len(), entries, self.x.len(), self.y.len()];
        let results = [("z", 0), ("statistics", 1), ("x", 2), ("y", 3)]
            .map(|(name, at)| trial.graph.value(name, [Size::from((lengths[at] + BEHIND) as u64)]));
        let [z, statistics, x, y] = results;
        let activation = self.activation;
        trial.graph.node("projections", &results, move |_| {
            let Affine { weight, bias } = first;
            let tensors = Sum { a, weight, bias, residual, z, statistics };
            let sum = sum(variant, [rows, columns, inputs], tensors);
            let Affine { weight: gamma, bias: beta } = norm;
            let Affine { weight, bias } = second;
            let epsilon = EPSILON;
            let tensors =
                Product { z, statistics, gamma, beta, epsilon, x, weight, bias, activation, y };
            let product = product(variant, [rows, out, columns], tensors);
            let cleared = results.iter().map(|tensor| Command::Clear(*tensor));
            cleared.chain([sum, product].map(Option::unwrap)).collect()
        });
        let what = format!("{variant} {:?}", self.sizes);
        let got = trial.run(session, Abilities::GPU, &results);
        for ((name, got), want) in
            [("z", &got[0]), ("x", &got[2]), ("y", &got[3])].iter().zip([&self.z, &self.x, &self.y])
        {
            close(&format!("{what}: {name}"), &got[..want.len()], want, PRODUCT);
        }
        for (got, length) in got.iter().zip(lengths) {
            let behind = &got[length..];
            assert!(behind.iter().all(|value| *value == 0.0), "{what}: writes behind an end");
        }
        let again = trial.run(session, Abilities::GPU, &results);
        for (got, again) in got.iter().zip(&again) {
            assert_eq!(bits(got), bits(again), "{what}: twice");
        }
    }
}

#[test]
fn by_every_variant() {
    let mut session = session();
    let whole = [4, 4, 4].map(|size| Size::from(size as u64));
    let candidates =
        Variant::candidates(Abilities::GPU, (Products::One(Transposition::Nt), whole).into());
    let blocked = |variant: &Variant| matches!(variant, Variant::Blocked { .. });
    let variants: Vec<Variant> = candidates.into_iter().filter(blocked).collect();
    assert!(variants.len() > 5);
    let data = [
        Data::new([1, 4, 4, 4], Activation::Relu),
        // Columns that are no multiple of 32, nor of any tile.
        Data::new([141, 36, 68, 132], Activation::Gelu),
        Data::new([67, 132, 260, 36], Activation::None),
        Data::far_from_zero([70, 64, 164, 64]),
    ];
    for variant in variants {
        data.iter().for_each(|data| data.check(&mut session, variant));
    }
}

/// The op, by the kernels of both targets, and where the doctor has found those for cards wrong.
fn trial(data: &Data) -> (Trial, [crisp::kernels::TensorId; 2]) {
    let [rows, inputs, columns, out] = data.sizes;
    let mut trial = Trial::new(crate::support::trial::rows(rows));
    let [inputs, columns, out] = [inputs, columns, out].map(|size| Size::from(size as u64));
    let a = trial.floats("a", [tokens(), inputs], &data.a);
    let residual = trial.floats("residual", [tokens(), columns], &data.residual);
    let mut affine = |name: &str, shape: &[Size], values: &[Vec<f32>; 2]| {
        let weight = format!("{name}.weight");
        let weight = match *shape {
            [out, inputs] => trial.floats(&weight, [out, inputs], &values[0]),
            _ => trial.floats(&weight, [shape[0]], &values[0]),
        };
        Affine { weight, bias: trial.floats(&format!("{name}.bias"), [shape[0]], &values[1]) }
    };
    let normed = ops::Normed {
        first: affine("first", &[columns, inputs], &data.first),
        residual,
        norm: affine("norm", &[columns], &data.norm),
        epsilon: EPSILON,
        second: affine("second", &[out, columns], &data.second),
        activation: data.activation,
    };
    let results = ops::normed(&mut trial.graph, a, normed).unwrap();
    (trial, results)
}

#[test]
fn the_op_takes_two_launches_on_cards_and_three_elsewhere() {
    let mut session = session();
    for (sizes, vectors) in [([37, 36, 68, 132], true), ([5, 7, 9, 3], false)] {
        let data = Data::new(sizes, Activation::Gelu);
        let (trial, results) = trial(&data);
        for target in TARGETS {
            let got = trial.run(&mut session, target, &results);
            for ((name, got), want) in ["x", "y"].iter().zip(&got).zip([&data.x, &data.y]) {
                close(&format!("{target:?} {sizes:?}: {name}"), got, want, PRODUCT);
            }
            let fused = trial.shaders(target) == ["normed_sum", "normed_product"];
            assert_eq!(fused, vectors && target == Abilities::GPU, "{target:?} {sizes:?}");
        }
        let mut careful = Tuning::from(Abilities::GPU);
        careful.set_aside(Tuning::NORMED);
        let plan = Plan::new(&trial.graph, careful, trial.sizes, &results).unwrap();
        assert_eq!(plan.commands.len(), 3, "set aside");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    for wrong in 0..5 {
        let mut graph = Graph::new();
        let [three, four, five] = [3u32, 4, 5].map(Size::from);
        let of = |at: usize, right: Size| if at == wrong { Size::from(8u32) } else { right };
        let mut input = |name: &str, shape: &[Size]| match *shape {
            [rows, columns] => graph.input(name, crisp::kernels::Element::F32, [rows, columns]),
            _ => graph.input(name, crisp::kernels::Element::F32, [shape[0]]),
        };
        let a = input("a", &[tokens(), three]);
        let residual = input("residual", &[tokens(), four]);
        let weight = input("first.weight", &[four, of(0, three)]);
        let first = Affine { weight, bias: input("first.bias", &[of(1, four)]) };
        let weight = input("norm.weight", &[of(2, four)]);
        let norm = Affine { weight, bias: input("norm.bias", &[of(3, four)]) };
        let weight = input("second.weight", &[five, of(4, four)]);
        let second = Affine { weight, bias: input("second.bias", &[five]) };
        let (epsilon, activation) = (EPSILON, Activation::None);
        let normed = ops::Normed { first, residual, norm, epsilon, second, activation };
        let why = ops::normed(&mut graph, a, normed).unwrap_err().to_string();
        let names = ["first.weight", "first.bias", "norm.weight", "norm.bias", "second.weight"];
        assert!(why.contains(names[wrong]), "{why}");
    }
}
