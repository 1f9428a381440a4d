//! `crisp bench matmul`: one matrix product.

use crate::cli::{Common, open, print, print_json};
use crate::error::{Error, Result};
use crate::graph::{Executor, Graph, Plan, Session};
use crate::kernels::matmul::{Activation, Operands, Transposition, matmul};
use crate::kernels::{Command, Scalars, Size, Sizes};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// Rows of the result.
    #[arg(long, default_value_t = 576)]
    m: u64,
    /// Columns of the result.
    #[arg(long, default_value_t = 768)]
    n: u64,
    /// Length of the sums.
    #[arg(long, default_value_t = 768)]
    k: u64,
    /// How the factors lie: nn, nt or tn.
    #[arg(long, default_value = "nn", value_parser = ["nn", "nt", "tn"])]
    transpose: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    gflops: f64,
    seconds: f64,
    variant: String,
    adapter: String,
}

/// Submissions measured, after one that warms up; the median counts.
const RUNS: usize = 7;
/// A submission repeats the product until it takes about so long, so that its own cost vanishes.
const SECONDS_PER_RUN: f64 = 0.2;

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let Arguments { m, n, k, .. } = arguments;
    if [m, n, k].iter().any(|size| *size == 0 || *size > 1 << 20) {
        return Err(Error::usage(format!("--m {m} --n {n} --k {k}: each is 1 to 1,048,576")));
    }
    let transposition = match arguments.transpose.as_str() {
        "nn" => Transposition::Nn,
        "nt" => Transposition::Nt,
        _ => Transposition::Tn,
    };
    let mut session = open(common)?;
    let values =
        |count: u64| -> Vec<f32> { (0..count).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect() };
    session.set("a", &values(m * k))?;
    session.set("b", &values(k * n))?;
    let (mut once, _) = product(&mut session, [m, n, k], transposition, 1)?;
    time(&session, &mut once)?;
    let single = time(&session, &mut once)?;
    let repeats = ((SECONDS_PER_RUN / single).ceil() as usize).clamp(1, 100);
    let (mut many, variant) = product(&mut session, [m, n, k], transposition, repeats)?;
    time(&session, &mut many)?;
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        seconds.push(time(&session, &mut many)? / repeats as f64);
    }
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds[RUNS / 2];
    let report = Report {
        gflops: 2.0 * (m * n * k) as f64 / seconds / 1e9,
        seconds,
        variant,
        adapter: session.device.adapter.name.clone(),
    };
    if arguments.json {
        return print_json(&report);
    }
    print(&format!(
        "{m}×{n}×{k} {}: {:.1} GFLOP/s, {:.2} ms, {}",
        arguments.transpose,
        report.gflops,
        report.seconds * 1e3,
        report.variant
    ))
}

/// A plan of the same product several times over.
fn product(
    session: &mut Session,
    [m, n, k]: [u64; 3],
    transposition: Transposition,
    repeats: usize,
) -> Result<(Executor, String)> {
    let mut graph = Graph::new();
    let a = graph.parameter("a", &[m * k]);
    let b = graph.parameter("b", &[k * n]);
    let c = graph.value("c", [Size::from(m), Size::from(n)]);
    for _ in 0..repeats {
        graph.node("matmul", &[c], move |lowering| {
            let operands =
                Operands { a, b, bias: None, c, before: None, activation: Activation::None };
            let target = lowering.target;
            let sizes = [m.into(), n.into(), k.into()];
            vec![matmul(transposition, sizes, operands, target, |size| lowering.scratch(size))]
        });
    }
    let plan = Plan::new(&graph, session.target(), Sizes::default(), &[c])?;
    let variant = match plan.commands.first() {
        Some((_, Command::Launch(launch))) => launch.shader.name.to_owned(),
        _ => String::new(),
    };
    Ok((Executor::new(session, plan)?, variant))
}

fn time(session: &Session, executor: &mut Executor) -> Result<f64> {
    let started = Instant::now();
    executor.run(session, Sizes::default(), Scalars::default(), &[], &[])?.wait::<f32>(session)?;
    Ok(started.elapsed().as_secs_f64())
}
