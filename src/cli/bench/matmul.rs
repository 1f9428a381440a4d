//! `crisp bench matmul`: one matrix product.

use crate::cli::{Common, open, print, print_json};
use crate::error::{Error, Result};
use crate::graph::Precision;
use crate::kernels::Sizes;
use crate::kernels::matmul::{Products, Transposition};
use crate::kernels::tune::ProductClass;
use crate::measure::ProductBench;
use crate::study::median;

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
    /// What the factors are stored in: float32 (f32) or float16 (mixed).
    #[arg(long, default_value_t = Precision::F32)]
    precision: Precision,
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

/// A submission repeats the product until it takes about so long, so that its own cost vanishes.
const SECONDS_PER_RUN: f64 = 0.2;

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let Arguments { m, n, k, .. } = arguments;
    if [m, n, k].iter().any(|size| *size == 0 || *size > 1 << 20) {
        return Err(Error::usage(format!("--m {m} --n {n} --k {k}: each is 1 to 1,048,576")));
    }
    let products = Products::One(match arguments.transpose.as_str() {
        "nn" => Transposition::Nn,
        "nt" => Transposition::Nt,
        _ => Transposition::Tn,
    });
    let mut session = open(common)?;
    let factors = arguments.precision.between_kernels();
    let class = ProductClass { products, sizes: [m, n, k], factors };
    let variant = session.tuning.products(class.into(), &Sizes::default());
    let mut bench = ProductBench::new(&mut session, class)?;
    let seconds = median(bench.seconds(variant, SECONDS_PER_RUN)?);
    let report = Report {
        gflops: 2.0 * (m * n * k) as f64 / seconds / 1e9,
        seconds,
        variant: variant.to_string(),
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
