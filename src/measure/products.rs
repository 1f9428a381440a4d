//! Products measured on the adapter: how long a variant takes, and whether it is right.

use crate::error::{Error, Result};
use crate::graph::{Graph, Program, Role, Session, Step, ops};
use crate::kernels::matmul::{
    GradientOperands, Operands, Products, Transposition, Variant, gradients, matmul,
};
use crate::kernels::tune::{Choice, ProductClass};
use crate::kernels::{Element, Scalars, Size, Sizes};
use crate::measure::reference::rounded;
use crate::random::SplitMix64;
use std::time::Instant;

/// Submissions measured, after one that warms up; the fastest counts for the tuner, the median for
/// a benchmark.
pub(super) const RUNS: usize = 5;
/// Elements of the result that are compared with sums in float64.
const CHECKED: u64 = 64;
/// Relative error allowed: that of the kernels' tests.
pub(super) const TOLERANCE: f64 = 1e-4;

/// The factors of a product on the device, to measure variants with.
pub struct ProductBench<'a> {
    session: &'a mut Session,
    class: ProductClass,
    factors: [Vec<f32>; 3],
}

/// A result, as a product whose elements can be computed again.
struct Checked<'a> {
    transposition: Transposition,
    sizes: [u64; 3],
    a: &'a [f32],
    b: &'a [f32],
}

impl<'a> ProductBench<'a> {
    /// Uploads factors of these sizes: of gradients that of the result, weight and input.
    ///
    /// # Errors
    /// Out of memory, or larger than the device can bind.
    pub fn new(session: &'a mut Session, class: ProductClass) -> Result<Self> {
        let [m, n, k] = class.sizes;
        let (device, largest) = (&session.device, (m * k).max(k * n).max(m * n) * 4);
        if largest > device.max_binding_bytes {
            return Err(Error::device(format!(
                "{class}: {largest} bytes in one piece, and {} binds {} at most",
                device.adapter.name, device.max_binding_bytes
            )));
        }
        // Spread over [-0.5, 0.5].
        let mut generator = SplitMix64(1);
        let mut values = |count: u64| -> Vec<f32> {
            (0..count).map(|_| (generator.word() >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
        };
        let mut factors = [values(m * k), values(k * n), values(m * n)];
        if class.factors == Element::F16 {
            factors = factors.map(rounded);
        }
        for (name, values) in FACTORS.iter().zip(&factors) {
            // Another class may have left one of another size.
            forget(session, name);
            session.set(name, Role::Weight, &[values.len() as u64], values)?;
        }
        if class.factors == Element::F16 {
            let mut graph = Graph::new();
            for (name, values) in FACTORS.iter().zip(&factors) {
                let factor = graph.parameter(name, &[values.len() as u64]);
                ops::keep_half(&mut graph, factor);
            }
            Program::build(session, &graph, Sizes::default(), &[], 0)?.run(session, &nothing())?;
        }
        Ok(Self { session, class, factors })
    }

    /// Seconds of one product by this variant: of each submission, of so many products each that
    /// it takes about `seconds`. The result has been checked.
    ///
    /// # Errors
    /// It does not compile, or does not run; or it computes something else.
    pub fn seconds(&mut self, variant: Variant, seconds: f64) -> Result<Vec<f64>> {
        self.check(variant)?;
        let mut once = self.plan(variant, 1)?;
        let single = self.time(&mut once)?;
        let repeats = ((seconds / single).ceil() as usize).clamp(1, 100);
        let mut many = if repeats == 1 { once } else { self.plan(variant, repeats)? };
        self.time(&mut many)?;
        (0..RUNS).map(|_| Ok(self.time(&mut many)? / repeats as f64)).collect()
    }

    /// The product `repeats` times over.
    ///
    /// # Errors
    /// It does not compile.
    pub fn plan(&mut self, variant: Variant, repeats: usize) -> Result<Program> {
        self.build(variant, repeats, false)
    }

    /// The product `repeats` times over; the results come back where they are wanted.
    fn build(&mut self, variant: Variant, repeats: usize, wanted: bool) -> Result<Program> {
        let ProductClass { products, sizes, factors } = self.class;
        let [m, n, k] = sizes;
        let sizes = sizes.map(Size::from);
        let mut graph = Graph::new();
        let [a, b, x] = [0, 1, 2].map(|at| {
            let factor = graph.parameter(FACTORS[at], &[self.factors[at].len() as u64]);
            match factors {
                Element::F16 => graph.half_of(factor),
                _ => factor,
            }
        });
        let c = graph.value("c", [Size::from(m), Size::from(n)]);
        let mut results = vec![c];
        if products == Products::Gradients {
            results.push(graph.value("dweight", [Size::from(k), Size::from(n)]));
            results.push(graph.value("dbias", [Size::from(k)]));
        }
        for _ in 0..repeats {
            let made = results.clone();
            graph.node("matmul", &results, move |lowering| match products {
                Products::One(transposition) => {
                    let operands = Operands::product(a, b, c);
                    let scratch = |size| lowering.scratch(size);
                    vec![matmul(variant, transposition, sizes, operands, scratch)]
                }
                Products::Gradients => {
                    let operands = GradientOperands {
                        dy: a,
                        weight: b,
                        x,
                        bent: None,
                        addend: None,
                        dx: c,
                        dweight: made[1],
                        dbias: made[2],
                        accumulate: false,
                    };
                    gradients(variant, sizes, operands).into_iter().collect()
                }
            });
        }
        let outputs = if wanted { &results[..] } else { &[] };
        Program::build(self.session, &graph, Sizes::default(), outputs, 1)
    }

    /// Seconds of one run.
    ///
    /// # Errors
    /// The device failed.
    pub fn time(&self, program: &mut Program) -> Result<f64> {
        let started = Instant::now();
        program.run(self.session, &nothing())?.wait::<f32>(&self.session.device)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Whether the variant is as exact as it has to be.
    fn check(&mut self, variant: Variant) -> Result<()> {
        let Worst { error, row, column, is, sum } = self.worst(variant)?;
        if error <= TOLERANCE {
            return Ok(());
        }
        Err(Error::device(format!(
            "{variant}: element [{row}, {column}] of a result of {} is {is}, and should be {sum}",
            self.class
        )))
    }

    /// The largest error of a variant, relative to what an element is a sum of.
    ///
    /// # Errors
    /// It does not compile, or does not run.
    pub fn error(&mut self, variant: Variant) -> Result<f64> {
        Ok(self.worst(variant)?.error)
    }

    /// Compares elements spread over each result with their sums in float64.
    fn worst(&mut self, variant: Variant) -> Result<Worst> {
        let ProductClass { products, sizes, .. } = self.class;
        let [m, n, k] = sizes;
        let mut program = self.build(variant, 1, true)?;
        let pending = program.run(self.session, &nothing())?;
        let got: Vec<Vec<f32>> = pending.wait(&self.session.device)?;
        let [a, b, x] = &self.factors;
        // A sum of columns is a product with ones.
        let ones = vec![1.0; m as usize];
        let checked = |transposition, sizes, a, b| Checked { transposition, sizes, a, b };
        let results = match products {
            Products::One(transposition) => vec![checked(transposition, sizes, a, b)],
            Products::Gradients => vec![
                checked(Transposition::Nn, sizes, a, b),
                checked(Transposition::Tn, [k, n, m], a, x),
                checked(Transposition::Tn, [k, 1, m], a, &ones),
            ],
        };
        let worst = results.iter().zip(&got).map(|(result, got)| result.worst(got));
        Ok(worst.fold(Worst::default(), Worst::or))
    }
}

/// The element that is furthest from what it should be.
#[derive(Default)]
struct Worst {
    /// Relative; infinite where it is not a number.
    error: f64,
    row: u64,
    column: u64,
    is: f32,
    sum: f64,
}

impl Worst {
    fn or(self, other: Self) -> Self {
        if other.error > self.error { other } else { self }
    }
}

impl Checked<'_> {
    /// Compares elements spread over the result with their sums in float64.
    fn worst(&self, got: &[f32]) -> Worst {
        let mut worst = Worst::default();
        let [m, n, k] = self.sizes;
        for number in 0..CHECKED.min(m * n) {
            // Both ends, and steps that are no multiple of a tile.
            let at = number * (m * n - 1) / (CHECKED.min(m * n) - 1).max(1);
            let (row, column) = (at / n, at % n);
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for depth in 0..k {
                let a = match self.transposition {
                    Transposition::Tn => self.a[(depth * m + row) as usize],
                    _ => self.a[(row * k + depth) as usize],
                };
                let b = match self.transposition {
                    Transposition::Nt => self.b[(column * k + depth) as usize],
                    _ => self.b[(depth * n + column) as usize],
                };
                let term = f64::from(a) * f64::from(b);
                sum += term;
                magnitude += term.abs();
            }
            let is = got[at as usize];
            let error = (f64::from(is) - sum).abs() / magnitude.max(f64::MIN_POSITIVE);
            let error = if error.is_nan() { f64::INFINITY } else { error };
            worst = worst.or(Worst { error, row, column, is, sum });
        }
        worst
    }
}

/// A step without inputs.
fn nothing() -> Step<'static> {
    Step { sizes: Sizes::default(), scalars: Scalars::default(), inputs: &[] }
}

fn forget(session: &mut Session, factor: &str) {
    for role in [Role::Weight, Role::Half] {
        session.store.remove(factor, role);
    }
}

const FACTORS: [&str; 3] = ["a (measured)", "b (measured)", "x (measured)"];

/// The fastest of the candidates for a class. `tried` hears of each: its seconds, or why it is out.
///
/// # Errors
/// Factors that do not fit the device, or no candidate that works.
pub fn tune(
    session: &mut Session,
    class: ProductClass,
    mut tried: impl FnMut(Variant, &Result<f64>),
) -> Result<Choice> {
    let abilities = session.tuning.abilities;
    let [m, n, k] = class.sizes;
    let mut bench = ProductBench::new(session, class)?;
    let best = fastest(Variant::candidates(abilities, class.into()), |variant| {
        let seconds = bench
            .seconds(variant, SECONDS_PER_RUN)
            .map(|times| times.into_iter().fold(f64::INFINITY, f64::min));
        tried(variant, &seconds);
        seconds.ok()
    });
    FACTORS.iter().for_each(|name| forget(session, name));
    let (seconds, variant) = best.ok_or_else(|| {
        Error::device(format!("{class}: no variant of the product works on this adapter"))
    })?;
    let operations = class.products.operations() * m * n * k;
    Ok(Choice { variant, gflops: operations as f64 / seconds / 1e9 })
}

/// Long enough that the cost of a submission vanishes, short enough for many candidates.
const SECONDS_PER_RUN: f64 = 0.02;

/// The fastest of some candidates, and its seconds, by a function that measures one.
pub(super) fn fastest<V: Copy>(
    candidates: Vec<V>,
    mut seconds: impl FnMut(V) -> Option<f64>,
) -> Option<(f64, V)> {
    let mut best: Option<(f64, V)> = None;
    for candidate in candidates {
        if let Some(seconds) = seconds(candidate)
            // Later candidates take more memory: a hair's breadth is not worth it.
            && best.is_none_or(|(least, _)| seconds < 0.98 * least)
        {
            best = Some((seconds, candidate));
        }
    }
    best
}
