//! Products measured on the adapter: how long a variant takes, and whether it is right.

use super::{Executor, Graph, Plan, Session};
use crate::error::{Error, Result};
use crate::kernels::matmul::{Activation, Operands, Transposition, Variant, matmul};
use crate::kernels::tune::{Choice, Class};
use crate::kernels::{Scalars, Size, Sizes};
use std::time::Instant;

/// Submissions measured, after one that warms up; the fastest counts for the tuner, the median for a
/// benchmark.
const RUNS: usize = 5;
/// Elements of the result that are compared with sums in float64.
const CHECKED: u64 = 64;
/// Relative error allowed: that of the kernels' tests.
const TOLERANCE: f64 = 1e-4;

/// The factors of a product on the device, to measure variants with.
pub struct ProductBench<'a> {
    session: &'a mut Session,
    class: Class,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl<'a> ProductBench<'a> {
    /// Uploads factors of these sizes.
    ///
    /// # Errors
    /// Out of memory, or larger than the device can bind.
    pub fn new(session: &'a mut Session, class: Class) -> Result<Self> {
        let [m, n, k] = class.sizes;
        let (device, largest) = (&session.device, (m * k).max(k * n).max(m * n) * 4);
        if largest > device.max_binding_bytes {
            return Err(Error::device(format!(
                "{class}: {largest} bytes in one piece, and {} binds {} at most",
                device.adapter.name, device.max_binding_bytes
            )));
        }
        let values = |count: u64, start: u64| -> Vec<f32> {
            // Spread over [-0.5, 0.5], without a period that sums would cancel over.
            (start..start + count)
                .map(|i| {
                    let mixed = (i as u32).wrapping_mul(2_654_435_761).rotate_left(13);
                    (mixed.wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 24) as f32 - 0.5
                })
                .collect()
        };
        let (a, b) = (values(m * k, 0), values(k * n, m * k));
        session.replace(A, &a)?;
        session.replace(B, &b)?;
        Ok(Self { session, class, a, b })
    }

    /// Seconds of one product by this variant: of each submission, of so many products each that
    /// it takes about `seconds`. The result has been checked.
    ///
    /// # Errors
    /// It does not compile, or does not run; or it computes something else.
    pub fn seconds(&mut self, variant: Variant, seconds: f64) -> Result<Vec<f64>> {
        let mut once = self.plan(variant, 1)?;
        self.check(&mut once, variant)?;
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
    pub fn plan(&mut self, variant: Variant, repeats: usize) -> Result<Executor> {
        let Class { transposition, sizes: [m, n, k] } = self.class;
        let mut graph = Graph::new();
        let a = graph.parameter(A, &[m * k]);
        let b = graph.parameter(B, &[k * n]);
        let c = graph.value("c", [Size::from(m), Size::from(n)]);
        for _ in 0..repeats {
            graph.node("matmul", &[c], move |lowering| {
                let operands =
                    Operands { a, b, bias: None, c, before: None, activation: Activation::None };
                let sizes = [m.into(), n.into(), k.into()];
                matmul(variant, transposition, sizes, operands, |size| lowering.scratch(size))
            });
        }
        let plan = Plan::new(&graph, self.session.tuning.clone(), Sizes::default(), &[c])?;
        Executor::new(self.session, plan)
    }

    /// Seconds of one run.
    ///
    /// # Errors
    /// The device failed.
    pub fn time(&self, executor: &mut Executor) -> Result<f64> {
        let (sizes, scalars) = (Sizes::default(), Scalars::default());
        let started = Instant::now();
        executor.run(self.session, sizes, scalars, &[], &[])?.wait::<f32>(self.session)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Compares elements spread over the result with their sums in float64.
    fn check(&self, executor: &mut Executor, variant: Variant) -> Result<()> {
        let Class { transposition, sizes: [m, n, k] } = self.class;
        let c = executor
            .plan()
            .tensor("c")
            .ok_or_else(|| Error::internal("a product without result"))?;
        let outputs = [(c, (m * n) as usize)];
        let (sizes, scalars) = (Sizes::default(), Scalars::default());
        let pending = executor.run(self.session, sizes, scalars, &[], &outputs)?;
        let got: Vec<f32> = pending.wait(self.session)?.swap_remove(0);
        for number in 0..CHECKED.min(m * n) {
            // Both ends, and steps that are no multiple of a tile.
            let at = number * (m * n - 1) / (CHECKED.min(m * n) - 1).max(1);
            let (row, column) = (at / n, at % n);
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for depth in 0..k {
                let a = match transposition {
                    Transposition::Tn => self.a[(depth * m + row) as usize],
                    _ => self.a[(row * k + depth) as usize],
                };
                let b = match transposition {
                    Transposition::Nt => self.b[(column * k + depth) as usize],
                    _ => self.b[(depth * n + column) as usize],
                };
                let term = f64::from(a) * f64::from(b);
                sum += term;
                magnitude += term.abs();
            }
            let error = (f64::from(got[at as usize]) - sum).abs();
            if error.is_nan() || error > TOLERANCE * magnitude.max(f64::MIN_POSITIVE) {
                return Err(Error::device(format!(
                    "{variant}: element [{row}, {column}] of {} is {}, and should be {sum}",
                    self.class, got[at as usize]
                )));
            }
        }
        Ok(())
    }
}

const A: &str = "a (measured)";
const B: &str = "b (measured)";

/// The fastest of the candidates for a class. `tried` hears of each: its seconds, or why it is out.
///
/// # Errors
/// Factors that do not fit the device, or no candidate that works.
pub fn tune(
    session: &mut Session,
    class: Class,
    mut tried: impl FnMut(Variant, &Result<f64>),
) -> Result<Choice> {
    let target = session.tuning.target;
    let [m, n, k] = class.sizes;
    let sizes = class.sizes.map(Size::from);
    let mut best: Option<(f64, Variant)> = None;
    let mut bench = ProductBench::new(session, class)?;
    for variant in Variant::candidates(target, class.transposition, sizes) {
        let seconds = bench
            .seconds(variant, SECONDS_PER_RUN)
            .map(|times| times.into_iter().fold(f64::INFINITY, f64::min));
        tried(variant, &seconds);
        if let Ok(seconds) = seconds
            // Later candidates take more memory: a hair's breadth is not worth it.
            && best.is_none_or(|(least, _)| seconds < 0.98 * least)
        {
            best = Some((seconds, variant));
        }
    }
    session.forget(&[A, B]);
    let (seconds, variant) = best.ok_or_else(|| {
        Error::device(format!("{class}: no variant of the product works on this adapter"))
    })?;
    Ok(Choice { variant, gflops: 2.0 * (m * n * k) as f64 / seconds / 1e9 })
}

/// Long enough that the cost of a submission vanishes, short enough for many candidates.
const SECONDS_PER_RUN: f64 = 0.02;
