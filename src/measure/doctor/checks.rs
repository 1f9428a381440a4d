//! The kernels, each held against float64 at sizes that fit no tile, with outliers in the data.

use super::Checked;
use super::trial::{Packed, Random, Trial, error, error_of, wide};
use crate::error::Result;
use crate::graph::ops::{self, Affine, RowUpdates, Updated};
use crate::graph::{Pass, Precision, Role, Seed, Session, gradients};
use crate::kernels::attention::{AttentionClass, Division};
use crate::kernels::matmul::{Activation, Asked, Products, Transposition, Variant};
use crate::kernels::optimizer::AdamW;
use crate::kernels::pointwise::Dropout;
use crate::kernels::tune::{Choice, ProductClass, Tuning};
use crate::kernels::{Element, Heads, Size, Sizes, Symbol};
use crate::measure::ProductBench;
use crate::measure::reference::attention::{Attention, dropout_factors, expand};
use crate::measure::reference::{self, cross_entropy, dot, layer_norm, rounded};
use crate::sparsity::Rule;

/// Relative error allowed to pointwise kernels, norms and sums.
const POINTWISE: f64 = 1e-5;
/// Relative error allowed to products and attention.
const PRODUCT: f64 = 1e-4;
/// Relative error allowed where results, and what backward takes from forward, are stored in
/// float16: a few roundings to 11 bits.
const HALF: f64 = 2e-3;

type Run = Box<dyn Fn(&mut Session, &Tuning) -> Result<f64>>;

/// Something to check.
pub struct Check {
    pub name: &'static str,
    variant: String,
    bound: f64,
    replaceable: Option<String>,
    run: Run,
}

impl Check {
    fn new(
        name: &'static str,
        variant: impl Into<String>,
        bound: f64,
        run: impl Fn(&mut Session, &Tuning) -> Result<f64> + 'static,
    ) -> Self {
        Self { name, variant: variant.into(), bound, replaceable: None, run: Box::new(run) }
    }

    /// The same, where other kernels can take its place.
    fn instead_of(self, what: impl Into<String>) -> Self {
        Self { replaceable: Some(what.into()), ..self }
    }

    /// Whether what it checks is taken no more.
    pub fn is_set_aside(&self, tuning: &Tuning) -> bool {
        self.replaceable.as_ref().is_some_and(|what| tuning.set_aside.contains(what))
    }

    /// Runs it.
    pub fn run(self, session: &mut Session) -> Checked {
        let tuning = session.tuning.clone();
        let result = (self.run)(session, &tuning);
        let (max_error, why) = match result {
            Ok(error) => (Some(error).filter(|error| error.is_finite()), None),
            Err(why) => (None, Some(why.to_string())),
        };
        let passed = max_error.is_some_and(|error| error <= self.bound);
        let Self { name, variant, bound, replaceable, .. } = self;
        let set_aside = replaceable.filter(|_| !passed);
        Checked { name, variant, max_error, bound, passed, set_aside, why }
    }
}

/// Sentence lengths around the edges of blocks.
const LENGTHS: [usize; 6] = [1, 7, 65, 16, 17, 33];

/// Everything that training and evaluation may run on an adapter of this tuning.
pub fn all(tuning: &Tuning) -> Vec<Check> {
    let mut checks = products(tuning, Element::F32);
    for activation in [Activation::None, Activation::Gelu, Activation::Relu] {
        for sizes in [[67, 68, 132], [33, 36, 2], [5, 7, 3]] {
            let [rows, inputs, outputs] = sizes;
            checks.push(Check::new(
                "linear and its gradient",
                format!("{rows}x{inputs} to {outputs}, {activation:?}").to_lowercase(),
                PRODUCT,
                move |session, tuning| linear(session, tuning, sizes, activation, Precision::F32),
            ));
        }
    }
    for columns in [7, 260, 384, 768, 1028] {
        checks.push(Check::new(
            "LayerNorm and its gradient",
            format!("{columns} columns"),
            POINTWISE,
            move |session, tuning| norm(session, tuning, [37, columns], Precision::F32),
        ));
    }
    checks.extend(norms_within(tuning));
    checks.extend(attention(tuning));
    for policy in ["topk:0.8", "block-topk:0.6,block=4"] {
        checks.push(Check::new("mask", policy, 0.0, move |session, tuning| {
            mask(session, tuning, policy)
        }));
    }
    checks.push(Check::new("embedding and its gradient", "70 columns", POINTWISE, embedding));
    checks.push(Check::new("cross-entropy and its gradient", "3 classes", POINTWISE, loss));
    checks.push(Check::new("dropout", "68 columns", 0.0, dropout));
    checks.push(Check::new("gradient norm and AdamW", "four tensors", POINTWISE, adamw));
    checks.push(Check::new("AdamW by rows", "the same bits", 0.0, rows_late));
    checks.push(Check::new("dispatches in pieces", "the same bits", 0.0, pieces));
    checks
}

/// Attention over masks of every kind, by the kernels of this tuning.
pub fn attention(tuning: &Tuning) -> Vec<Check> {
    let mut checks = Vec::new();
    for (heads, policy, dropout) in [
        (Heads { count: 3, dim: 32 }, "dense", true),
        (Heads { count: 2, dim: 64 }, "dense", true),
        (Heads { count: 2, dim: 128 }, "dense", true),
        (Heads { count: 3, dim: 6 }, "dense", true),
        (Heads { count: 2, dim: 64 }, "local:9", false),
        (Heads { count: 2, dim: 64 }, "topk:0.7", false),
        (Heads { count: 2, dim: 64 }, "random:0.6", true),
        (Heads { count: 2, dim: 64 }, "block-topk:0.5,block=8", false),
        (Heads { count: 3, dim: 32 }, "block-topk:0.5", false),
    ] {
        let dropped = if dropout { ", dropout" } else { "" };
        let of = tuning.abilities.name();
        let check = Check::new(
            "attention and its gradient",
            format!("for {of}: {policy}{dropped}, {} heads of {}", heads.count, heads.dim),
            PRODUCT,
            move |session, tuning| attend(session, tuning, heads, policy, dropout, Precision::F32),
        );
        checks.push(match tuning.abilities.subgroups {
            true => check.instead_of(Tuning::SUBGROUPS),
            false => check,
        });
    }
    checks
}

/// Everything that stores float16 in mixed precision.
pub fn mixed(tuning: &Tuning) -> Vec<Check> {
    let mut checks = products(tuning, Element::F16);
    let mut add = |name, variant: String, run: Run| {
        let variant = format!("{variant}, float16");
        checks.push(Check::new(name, variant, HALF, run).instead_of(Tuning::FLOAT16));
    };
    for (sizes, activation) in [
        ([67, 68, 132], Activation::None),
        ([67, 68, 132], Activation::Gelu),
        ([33, 36, 2], Activation::None),
        ([5, 7, 3], Activation::Relu),
    ] {
        let [rows, inputs, outputs] = sizes;
        add(
            "linear and its gradient",
            format!("{rows}x{inputs} to {outputs}, {activation:?}").to_lowercase(),
            Box::new(move |session, tuning| {
                linear(session, tuning, sizes, activation, Precision::Mixed)
            }),
        );
    }
    for columns in [7, 768] {
        add(
            "LayerNorm and its gradient",
            format!("{columns} columns"),
            Box::new(move |session, tuning| norm(session, tuning, [37, columns], Precision::Mixed)),
        );
    }
    for variant in variants_within(tuning) {
        add(
            NORM_WITHIN,
            format!("of {variant}"),
            Box::new(move |session, tuning| {
                norm_within(session, tuning, variant, Precision::Mixed)
            }),
        );
    }
    for (heads, policy, dropout) in [
        (Heads { count: 3, dim: 32 }, "dense", true),
        (Heads { count: 2, dim: 64 }, "topk:0.7", true),
        (Heads { count: 3, dim: 6 }, "block-topk:0.5", false),
    ] {
        add(
            "attention and its gradient",
            format!(
                "for {}: {policy}, {} heads of {}",
                tuning.abilities.name(),
                heads.count,
                heads.dim
            ),
            Box::new(move |session, tuning| {
                attend(session, tuning, heads, policy, dropout, Precision::Mixed)
            }),
        );
    }
    let overflow = Check::new("float16", "what is too large is infinite", 0.0, overflow);
    checks.push(overflow.instead_of(Tuning::FLOAT16));
    checks
}

/// Whether a number that float16 cannot hold becomes infinite, by which overflowing gradients are
/// known, and the next number to the largest does not.
fn overflow(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let mut trial = Trial::within(Sizes::default(), Precision::Mixed);
    let values = [1e6, -1e6, 65520.0, f32::MAX, 65504.0, -65504.0, 1.0, 0.0];
    let id = trial.between([Size::from(values.len() as u64)], &values);
    let got = trial.run(session, tuning, &[id])?.swap_remove(0);
    let want = rounded(values.to_vec());
    let wrong = got.iter().zip(&want).filter(|(got, want)| **got != want.to_bits()).count();
    Ok(wrong as f64)
}

/// Every variant that products may be computed by, of factors that are stored in such elements.
fn products(tuning: &Tuning, factors: Element) -> Vec<Check> {
    let one = [Transposition::Nn, Transposition::Nt, Transposition::Tn].map(Products::One);
    let mut checks = Vec::new();
    for products in one.into_iter().chain([Products::Gradients]) {
        let class = ProductClass { products, sizes: [132, 140, 260], factors };
        for variant in Variant::candidates(tuning.abilities, class.into()) {
            let check =
                Check::new("product", format!("{class}, {variant}"), PRODUCT, move |session, _| {
                    ProductBench::new(session, class)?.error(variant)
                });
            // Of sizes that no other variant is for there is only this one.
            checks.push(match variant {
                Variant::Tiled => check,
                variant => check.instead_of(variant.to_string()),
            });
        }
    }
    checks
}

const PROJECTION: Products = Products::One(Transposition::Nt);

/// A LayerNorm within the projections around it, by every variant that can.
fn norms_within(tuning: &Tuning) -> Vec<Check> {
    let check = |variant: Variant| {
        Check::new(NORM_WITHIN, format!("of {variant}"), PRODUCT, move |session, tuning| {
            norm_within(session, tuning, variant, Precision::F32)
        })
        .instead_of(Tuning::NORMED)
    };
    variants_within(tuning).map(check).collect()
}

const NORM_WITHIN: &str = "LayerNorm within projections";

fn variants_within(tuning: &Tuning) -> impl Iterator<Item = Variant> {
    let asked = (PROJECTION, [4u32; 3].map(Size::from)).into();
    let candidates = Variant::candidates(tuning.abilities, asked);
    candidates.into_iter().filter(|variant| matches!(variant, Variant::Blocked { .. }))
}

fn norm_within(
    session: &mut Session,
    tuning: &Tuning,
    variant: Variant,
    precision: Precision,
) -> Result<f64> {
    let [rows, inputs, columns, out] = [141, 36, 68, 132];
    let (epsilon, activation) = (1e-6, Activation::Gelu);
    let mut random = Random::new(10);
    let [a, residual] = [inputs, columns].map(|width| rounded(random.outliers(rows * width, 30.0)));
    let mut affine =
        |count: usize, width: usize| [count, width].map(|it| rounded(random.outliers(it, 30.0)));
    let first = affine(columns * inputs, columns);
    let norm = affine(columns, columns);
    let second = affine(out * columns, out);
    let [first64, norm64, second64] =
        [&first, &norm, &second].map(|it| [wide(&it[0]), wide(&it[1])]);
    let of_first =
        reference::linear::Linear { rows, inputs, out: columns, activation: Activation::None };
    let mut z = of_first.forward(&wide(&a), &first64[0], &first64[1]);
    z.iter_mut().zip(&residual).for_each(|(z, residual)| *z += f64::from(*residual));
    let x = layer_norm::forward(&z, &norm64[0], &norm64[1], f64::from(epsilon));
    let of_second = reference::linear::Linear { rows, inputs: columns, out, activation };
    let y = of_second.forward(&x, &second64[0], &second64[1]);

    let sizes = Sizes { tokens: rows as u32, ..Sizes::default() };
    let mut trial = Trial::within(sizes, precision);
    let shapes = [[columns, inputs], [out, columns]].map(|shape| shape.map(|size| size as u64));
    let of_first = trial.weight(session, "checked first weight", &shapes[0], &first[0])?;
    let of_second = trial.weight(session, "checked second weight", &shapes[1], &second[0])?;
    let [inputs, columns, out] = [inputs, columns, out].map(|size| Size::from(size as u64));
    let a = trial.between([Symbol::Tokens.into(), inputs], &a);
    let residual = trial.between([Symbol::Tokens.into(), columns], &residual);
    let weights = [of_first, trial.floats([columns], &norm[0]), of_second];
    let biases = [(columns, &first[1]), (columns, &norm[1]), (out, &second[1])]
        .map(|(width, values)| trial.floats([width], values));
    let [first, norm, second] =
        [0, 1, 2].map(|at| Affine { weight: weights[at], bias: biases[at] });
    let normed = ops::Normed { first, residual, norm, epsilon, second, activation };
    let results = ops::normed(&mut trial.graph, a, normed)?;
    let mut tuning = tuning.clone();
    for [n, k] in [[columns, inputs], [out, columns]] {
        let sizes = [Symbol::Tokens.into(), n, k];
        let asked = Asked { factors: precision.between_kernels(), ..(PROJECTION, sizes).into() };
        let class = ProductClass::of(asked, &trial.sizes).to_string();
        tuning.chosen.insert(class, Choice { variant, gflops: 0.0 });
    }
    Ok(largest(&trial.run(session, &tuning, &results)?, &[x, y]))
}

fn linear(
    session: &mut Session,
    tuning: &Tuning,
    sizes: [usize; 3],
    activation: Activation,
    precision: Precision,
) -> Result<f64> {
    let [rows, inputs, out] = sizes;
    let mut random = Random::new(1);
    let [x, weight, bias, dy] = [rows * inputs, out * inputs, out, rows * out]
        .map(|count| rounded(random.outliers(count, 20.0)));
    let reference = reference::linear::Linear { rows, inputs, out, activation };
    let (x64, weight64, bias64) = (wide(&x), wide(&weight), wide(&bias));
    let mut want = vec![reference.forward(&x64, &weight64, &bias64)];
    want.extend(reference.backward(&x64, &weight64, &bias64, &wide(&dy)));

    let sizes = Sizes { tokens: rows as u32, ..Sizes::default() };
    let mut trial = Trial::within(sizes, precision);
    let shape = [out as u64, inputs as u64];
    let weight = trial.weight(session, "checked weight", &shape, &weight)?;
    let [tokens, inputs, out] =
        [Symbol::Tokens.into(), Size::from(inputs as u64), Size::from(out as u64)];
    let x = trial.between([tokens, inputs], &x);
    let bias = trial.floats([out], &bias);
    let pass = Pass::Training { recompute: false };
    let y = ops::linear(&mut trial.graph, x, Affine { weight, bias }, activation, pass)?;
    let found = trial.gradients(y, &dy)?;
    let got = trial.run(session, tuning, &[y, found[&x], found[&weight], found[&bias]])?;
    Ok(largest(&got, &want))
}

/// The largest error of several tensors.
fn largest(got: &[Vec<u32>], want: &[Vec<f64>]) -> f64 {
    got.iter().zip(want).map(|(got, want)| error(got, want)).fold(0.0, f64::max)
}

fn norm(
    session: &mut Session,
    tuning: &Tuning,
    [rows, columns]: [usize; 2],
    precision: Precision,
) -> Result<f64> {
    let mut random = Random::new(2);
    let [x, residual, dy] = [0; 3].map(|_| rounded(random.outliers(rows * columns, 50.0)));
    let [gamma, beta] = [0; 2].map(|_| random.outliers(columns, 10.0));
    let z: Vec<f64> = x.iter().zip(&residual).map(|(x, y)| f64::from(*x) + f64::from(*y)).collect();
    let mut want = vec![layer_norm::forward(&z, &wide(&gamma), &wide(&beta), 1e-6)];
    want.extend(layer_norm::backward(&z, &wide(&gamma), &wide(&dy), 1e-6));

    let sizes = Sizes { tokens: rows as u32, ..Sizes::default() };
    let mut trial = Trial::within(sizes, precision);
    let width = Size::from(columns as u64);
    let shape = [Symbol::Tokens.into(), width];
    let x = trial.between(shape, &x);
    let residual = trial.between(shape, &residual);
    let affine =
        Affine { weight: trial.floats([width], &gamma), bias: trial.floats([width], &beta) };
    let y = ops::layer_norm(&mut trial.graph, x, Some(residual), affine, 1e-6)?;
    let found = trial.gradients(y, &dy)?;
    let outputs = [y, found[&x], found[&affine.weight], found[&affine.bias]];
    Ok(largest(&trial.run(session, tuning, &outputs)?, &want))
}

/// The largest error of attention of a class of heads that is divided like this, forward and
/// backward.
///
/// # Errors
/// It does not compile, or does not run.
pub(in crate::measure) fn attention_error(
    session: &mut Session,
    class: AttentionClass,
    division: Division,
) -> Result<f64> {
    let mut tuning = session.tuning.clone();
    // Sentences of other lengths are checked than are measured.
    let longest = LENGTHS.iter().max().map_or(0, |longest| longest.next_power_of_two() as u32);
    let checked = AttentionClass { longest, ..class }.to_string();
    tuning.attention.insert(checked, Choice { variant: division, gflops: 0.0 });
    attend(session, &tuning, class.heads, "dense", true, Precision::F32)
}

fn attend(
    session: &mut Session,
    tuning: &Tuning,
    heads: Heads,
    policy: &str,
    dropped: bool,
    precision: Precision,
) -> Result<f64> {
    let mut random = Random::new(3);
    let packed = Packed::new(&LENGTHS, policy, 10, &mut random)?;
    let (tokens, width) = (packed.batch.tokens(), heads.width() as usize);
    let qkv = rounded(random.outliers(tokens * 3 * width, 8.0));
    let dout = rounded(random.outliers(tokens * width, 30.0));
    let dropout = dropped.then_some(Dropout { probability: 0.2, site: 5 });

    let mut trial = Trial::within(packed.sizes, precision);
    let shape = [Symbol::Tokens.into(), Size::from(3 * heads.width())];
    let id = trial.between(shape, &qkv);
    let inputs = trial.mask(&packed);
    let mask = ops::mask(&mut trial.graph, packed.rule(), heads, id, inputs)?;
    let out = ops::attention(&mut trial.graph, heads, dropout, mask, id)?;
    let found = trial.gradients(out, &dout)?;
    let mut outputs = vec![out, found[&id]];
    let chosen = mask.chosen_bits().or(mask.chosen_visits());
    outputs.extend(chosen.map(|(chosen, _)| chosen));
    let got = trial.run(session, tuning, &outputs)?;

    // The choice itself is checked elsewhere.
    let chosen = got.get(2).map_or(&[][..], Vec::as_slice);
    let masks = match packed.rule().rule {
        Rule::BlockTopk { .. } => expand(&packed.mask, heads, chosen, &[]),
        _ => expand(&packed.mask, heads, &[], chosen),
    };
    // Whatever the choice is, every query keeps a key.
    if masks.iter().any(|mask| mask.chunks_exact(tokens).any(|row| !row.contains(&true))) {
        return Ok(f64::INFINITY);
    }
    let places = packed.places();
    let factors = dropout.map(|dropout| dropout_factors(&places, heads, dropout, trial.scalars));
    let reference = Attention { heads, tokens, masks, factors };
    let (qkv, dout) = (wide(&qkv), wide(&dout));
    let gradient = reference.backward(&qkv, &dout);
    let terms: Vec<f64> = gradient.terms.iter().map(|term| term.max(1e-30)).collect();
    let backward = error_of(&got[1], &gradient.dqkv, &terms);
    Ok(error(&got[0], &reference.forward(&qkv)).max(backward))
}

/// The share of rows that keep other keys than those with the highest scores, the lowest among
/// equals. Small whole numbers: their scores are exact, and often equal.
fn mask(session: &mut Session, tuning: &Tuning, policy: &str) -> Result<f64> {
    let heads = Heads { count: 2, dim: 64 };
    let mut random = Random::new(4);
    // Blocks of four tokens, all full: their means are exact.
    let packed = Packed::new(&[700, 64, 32], policy, 10, &mut random)?;
    let width = heads.width() as usize;
    let tokens = packed.batch.tokens();
    let qkv: Vec<f32> = (0..tokens * 3 * width).map(|_| random.below(5) as f32 - 2.0).collect();
    let mut trial = Trial::new(packed.sizes);
    let shape = [Symbol::Tokens.into(), Size::from(3 * heads.width())];
    let id = trial.floats(shape, &qkv);
    let inputs = trial.mask(&packed);
    let mask = ops::mask(&mut trial.graph, packed.rule(), heads, id, inputs)?;
    let by_blocks = mask.chosen_visits().is_some();
    let chosen = mask.bits.filter(|_| !by_blocks).unwrap_or(mask.visits);
    let got = trial.run(session, tuning, &[chosen])?.swap_remove(0);
    let masks = match by_blocks {
        true => expand(&packed.mask, heads, &got, &[]),
        false => expand(&packed.mask, heads, &[], &got),
    };
    // Rows and keys, both by their first tokens: of single tokens, or means of blocks.
    let unit = if by_blocks { packed.rules.block as usize } else { 1 };
    let qkv = wide(&qkv);
    let mean = |which: usize, head: usize, first: usize| -> Vec<f64> {
        let component = |d: usize| {
            let at = |token: usize| qkv[(token * 3 + which) * width + head * 64 + d];
            (first..first + unit).map(at).sum::<f64>() / unit as f64
        };
        (0..64).map(component).collect()
    };
    let (mut wrong, mut rows) = (0, 0);
    for (head, mask) in masks.iter().enumerate() {
        for block in &packed.mask.blocks {
            let last = &packed.mask.blocks[(block.blocks_first + block.blocks - 1) as usize];
            let keys = block.sequence_first as usize..(last.first + last.length) as usize;
            let means: Vec<(usize, Vec<f64>)> =
                keys.step_by(unit).map(|key| (key, mean(1, head, key))).collect();
            for row in (block.first as usize..).step_by(unit).take(block.length as usize / unit) {
                let query = mean(0, head, row);
                let mut order: Vec<(f64, usize)> =
                    means.iter().map(|(key, mean)| (dot(&query, mean), *key)).collect();
                order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                let kept: Vec<usize> =
                    order.iter().take(block.keep as usize).map(|(_, key)| *key).collect();
                let is_right =
                    means.iter().all(|(key, _)| mask[row * tokens + key] == kept.contains(key));
                wrong += usize::from(!is_right);
                rows += 1;
            }
        }
    }
    Ok(wrong as f64 / rows.max(1) as f64)
}

fn embedding(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let (vocabulary, columns, positions) = (40usize, 70usize, 80usize);
    let mut random = Random::new(5);
    let packed = Packed::new(&LENGTHS, "dense", vocabulary, &mut random)?;
    let batch = &packed.batch;
    let words = random.outliers(vocabulary * columns, 30.0);
    let table = random.outliers(positions * columns, 30.0);
    let dy = random.outliers(batch.tokens() * columns, 30.0);
    let mut want = vec![vec![]; 3];
    want[1] = vec![0.0; batch.segment_ids.len() * columns];
    want[2] = vec![0.0; positions * columns];
    for (token, (id, (_, position))) in batch.ids.iter().zip(packed.places()).enumerate() {
        let row = batch.segment_ids.iter().position(|other| other == id).unwrap_or_default();
        for column in 0..columns {
            let word = f64::from(words[*id as usize * columns + column]);
            want[0].push(word + f64::from(table[position * columns + column]));
            let dy = f64::from(dy[token * columns + column]);
            want[1][row * columns + column] += dy;
            want[2][position * columns + column] += dy;
        }
    }
    let mut trial = Trial::new(packed.sizes);
    let width = Size::from(columns as u64);
    let words = trial.floats([Size::from(vocabulary as u64), width], &words);
    let table = trial.floats([Size::from(positions as u64), width], &table);
    let inputs = trial.tokens(batch);
    let y = ops::embedding(&mut trial.graph, words, table, inputs)?;
    let found = trial.gradients(y, &dy)?;
    let got = trial.run(session, tuning, &[y, found[&words], found[&table]])?;
    Ok(largest(&got, &want))
}

fn loss(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let (rows, classes) = (67usize, 3usize);
    let mut random = Random::new(6);
    let logits = random.outliers(rows * classes, 20.0);
    let labels: Vec<u32> = (0..rows).map(|_| random.below(classes) as u32).collect();
    let want = cross_entropy::forward(&wide(&logits), &labels, classes);
    let [gradient, terms] = cross_entropy::backward(&wide(&logits), &labels, classes);
    let mut trial = Trial::new(Sizes { sequences: rows as u32, ..Sizes::default() });
    let sequences = Size::from(Symbol::Sequences);
    let logits = trial.floats([sequences, Size::from(classes as u64)], &logits);
    let labels = trial.words([sequences], &labels);
    let loss = ops::cross_entropy(&mut trial.graph, logits, labels)?;
    let found = gradients(&mut trial.graph, loss, Seed::One)?;
    let got = trial.run(session, tuning, &[loss, found[&logits]])?;
    Ok(error(&got[0], &[want]).max(error_of(&got[1], &gradient, &terms)))
}

/// The share of elements that are not what the generator says.
fn dropout(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let columns = 68usize;
    let mut random = Random::new(7);
    let packed = Packed::new(&LENGTHS, "dense", 10, &mut random)?;
    let settings = Dropout { probability: 0.3, site: 9 };
    let x = vec![1.0; packed.batch.tokens() * columns];
    let mut trial = Trial::new(packed.sizes);
    let id = trial.floats([Symbol::Tokens.into(), Size::from(columns as u64)], &x);
    let places = trial.words([Size::from(Symbol::Tokens)], &packed.batch.places);
    let y = ops::dropout(&mut trial.graph, settings, id, places)?;
    let got = trial.run(session, tuning, &[y])?.swap_remove(0);
    let scalars = trial.scalars;
    let is_right = |(at, got): (usize, &u32)| {
        let (row, column) = (at / columns, at % columns);
        let word = reference::pcg4d([
            scalars.seed as u32 ^ (settings.site << 16),
            (scalars.seed >> 32) as u32 ^ scalars.step,
            packed.batch.places[row],
            column as u32 / 4,
        ])[column % 4];
        (f32::from_bits(*got) != 0.0) == reference::is_kept(word, settings.probability)
    };
    let wrong = got.iter().enumerate().filter(|element| !is_right(*element)).count();
    Ok(wrong as f64 / x.len() as f64)
}

/// The share of elements that are other bits where a layer's dispatches are cut into pieces.
fn pieces(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let heads = Heads { count: 2, dim: 64 };
    let mut random = Random::new(9);
    let packed = Packed::new(&LENGTHS, "topk:0.6", 10, &mut random)?;
    let (tokens, width) = (packed.batch.tokens(), heads.width() as usize);
    let x = random.outliers(tokens * width, 8.0);
    let weight = random.outliers(3 * width * width, 1.0);
    let bias = random.outliers(3 * width, 1.0);
    let dout = random.outliers(tokens * width, 30.0);
    let mut trial = Trial::new(packed.sizes);
    let [columns, outputs] = [heads.width(), 3 * heads.width()].map(Size::from);
    let x = trial.floats([Symbol::Tokens.into(), columns], &x);
    let weight = trial.floats([outputs, columns], &weight);
    let bias = trial.floats([outputs], &bias);
    let inputs = trial.mask(&packed);
    let pass = Pass::Training { recompute: false };
    let affine = Affine { weight, bias };
    let qkv = ops::linear(&mut trial.graph, x, affine, Activation::None, pass)?;
    let mask = ops::mask(&mut trial.graph, packed.rule(), heads, qkv, inputs)?;
    let out = ops::attention(&mut trial.graph, heads, None, mask, qkv)?;
    let found = trial.gradients(out, &dout)?;
    let outputs = [out, found[&x], found[&weight], found[&bias]];
    let whole = trial.run(session, tuning, &outputs)?;
    session.device.pace.at_most(100_000);
    let pieces = trial.run(session, tuning, &outputs);
    session.device.pace.at_most(u64::MAX);
    let pieces = pieces?;
    let pairs = || whole.iter().flatten().zip(pieces.iter().flatten());
    let wrong = pairs().filter(|(whole, piece)| whole != piece).count();
    Ok(wrong as f64 / pairs().count() as f64)
}

const ADAMW: AdamW = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.1 };

fn adamw(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let counts = [5usize, 769, 4100, 1];
    let mut random = Random::new(8);
    let mut trial = Trial::new(Sizes::default());
    let (mut all, mut references) = (Vec::new(), Vec::new());
    let mut square = 0.0;
    for count in counts {
        let name = format!("checked, {count}");
        let (weight, gradient) = (random.outliers(count, 30.0), random.outliers(count, 30.0));
        session.set(&name, Role::Weight, &[count as u64], &weight)?;
        for role in Role::MOMENTS {
            session.set(&name, role, &[count as u64], &vec![0.0; count])?;
        }
        square += gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        references.push((
            name.clone(),
            reference::adamw::AdamW {
                weight: wide(&weight),
                first: vec![0.0; count],
                second: vec![0.0; count],
            },
            wide(&gradient),
        ));
        let weight = trial.graph.parameter(&name, &[count as u64]);
        let gradient = trial.floats([Size::from(count as u64)], &gradient);
        all.push(Updated { weight, gradient, settings: ADAMW, half: None });
    }
    let gradients: Vec<_> = all.iter().map(|updated| updated.gradient).collect();
    let norm = ops::clip(&mut trial.graph, &gradients, 1.0)?;
    for updated in all {
        ops::adamw(&mut trial.graph, updated, norm)?;
    }
    trial.scalars.step = 1;
    let got = trial.run(session, tuning, &[norm])?.swap_remove(0);
    let norm = square.sqrt();
    let factor = (1.0 / (norm + 1e-6)).min(1.0);
    let want = [norm, factor, 1.0];
    let mut most = error_of(&got, &want, &want);
    for (name, mut reference, gradient) in references {
        let gradient: Vec<f64> = gradient.iter().map(|value| value * factor).collect();
        reference.step(
            &gradient,
            f64::from(trial.scalars.learning_rate),
            f64::from(ADAMW.decay),
            1,
        );
        let weights = session.get(&name, Role::Weight)?;
        let words: Vec<u32> = weights.iter().map(|value| value.to_bits()).collect();
        let scale: Vec<f64> = reference.weight.iter().map(|value| value.abs().max(5e-3)).collect();
        most = most.max(error_of(&words, &reference.weight, &scale));
        for role in [Role::Weight].into_iter().chain(Role::MOMENTS) {
            session.store.remove(&name, role);
        }
    }
    Ok(most)
}

/// The share of weights whose bits differ between an update at each step and one that comes late.
fn rows_late(session: &mut Session, tuning: &Tuning) -> Result<f64> {
    let (rows, columns, steps) = (6u64, 33u64, 40u32);
    let mut random = Random::new(9);
    let names = ["checked late", "checked at once"];
    let values = random.outliers((rows * columns) as usize, 30.0);
    let moment: Vec<f32> = values.iter().map(|value| value.abs() * 0.01).collect();
    for name in names {
        session.set(name, Role::Weight, &[rows, columns], &values)?;
        for role in Role::MOMENTS {
            session.set(name, role, &[rows, columns], &moment)?;
        }
    }
    let mut want = reference::adamw::AdamW {
        weight: wide(&values),
        first: wide(&moment),
        second: wide(&moment),
    };
    for step in 1..=steps {
        // Row 0 has a gradient at each step; the others have none, and are caught up at the end.
        let gradient = random.outliers(columns as usize, 10.0);
        let scalars = |trial: &Trial| crate::kernels::Scalars {
            step,
            learning_rate: 1e-3 * (steps - step + 1) as f32,
            ..trial.scalars
        };
        let mut late = Trial::new(Sizes { distinct: 1, ..Sizes::default() });
        late.scalars = scalars(&late);
        let weight = late.graph.parameter(names[0], &[rows, columns]);
        let updates = RowUpdates::new(&mut late.graph, weight, ADAMW)?;
        let ids = late.words([Symbol::Distinct.into()], &[0]);
        let of_row = late.floats([Symbol::Distinct.into(), Size::from(columns)], &gradient);
        let norm = late.floats([Size::from(3u32)], &[1.0, 0.5, 1.0]);
        updates.catch_up(&mut late.graph, ids);
        updates.adamw(&mut late.graph, ids, of_row, norm)?;
        if step == steps {
            updates.settle(&mut late.graph);
        }
        late.run(session, tuning, &[])?;

        let mut at_once = Trial::new(Sizes::default());
        at_once.scalars = scalars(&at_once);
        let weight = at_once.graph.parameter(names[1], &[rows, columns]);
        let mut all = gradient.clone();
        all.resize((rows * columns) as usize, 0.0);
        let gradient = at_once.floats([Size::from(rows), Size::from(columns)], &all);
        let norm = at_once.floats([Size::from(3u32)], &[1.0, 0.5, 1.0]);
        ops::adamw(
            &mut at_once.graph,
            Updated { weight, gradient, settings: ADAMW, half: None },
            norm,
        )?;
        let rate = f64::from(at_once.scalars.learning_rate);
        let halved: Vec<f64> = all.iter().map(|value| f64::from(*value) * 0.5).collect();
        want.step(&halved, rate, f64::from(ADAMW.decay), step as i32);
        at_once.run(session, tuning, &[])?;
    }
    let [late, at_once] =
        [session.get(names[0], Role::Weight)?, session.get(names[1], Role::Weight)?];
    // Both alike, and right.
    let words: Vec<u32> = at_once.iter().map(|value| value.to_bits()).collect();
    let scale: Vec<f64> = want.weight.iter().map(|value| value.abs().max(5e-3)).collect();
    if error_of(&words, &want.weight, &scale) > PRODUCT {
        return Ok(f64::INFINITY);
    }
    let differ = late.iter().zip(&at_once).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    for name in names {
        for role in [Role::Weight, Role::Steps, Role::History].into_iter().chain(Role::MOMENTS) {
            session.store.remove(name, role);
        }
    }
    Ok(differ as f64 / late.len() as f64)
}
