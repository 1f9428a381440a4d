//! `crisp bench attention`: attention over the mask of a policy, beside dense attention in the same
//! run.

use crate::cli::{Common, open, print, print_json};
use crate::engine::OPERATIONS_PER_PAIR;
use crate::error::{Error, Result};
use crate::graph::{Session, ops};
use crate::kernels::Heads;
use crate::measure::AttentionBench;
use crate::sparsity::Policy;
use crate::study::median;

#[derive(clap::Args)]
pub struct Arguments {
    /// Tokens of each sentence.
    #[arg(long, value_name = "L", default_value_t = 512)]
    length: u32,
    /// Sentences.
    #[arg(long, value_name = "B", default_value_t = 1)]
    batch: u32,
    /// Heads.
    #[arg(long, value_name = "H", default_value_t = 12)]
    heads: u32,
    /// Components of each head.
    #[arg(long, value_name = "D", default_value_t = 64)]
    head_dim: u32,
    /// `dense`, `topk:0.8`, `block-topk:0.8`, `local:64`, `random:0.8`.
    #[arg(long, value_name = "S", default_value = "dense")]
    sparsity: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    forward_seconds: f64,
    backward_seconds: f64,
    /// Making the mask: on the device, and the host's part of it.
    mask_seconds: f64,
    dense_forward_seconds: f64,
    dense_backward_seconds: f64,
    realised_sparsity: f64,
    /// Operations that forward and backward need: 4 · head_dim a pair of query and key, and 10 ·
    /// head_dim.
    flops: u64,
    dense_flops: u64,
    /// Bytes on the device.
    bytes: u64,
    dense_bytes: u64,
    sparsity: String,
    adapter: String,
}

/// What was measured of one policy: medians in seconds, and the pairs of query and key that count.
struct Measured {
    forward: f64,
    backward: f64,
    mask: f64,
    pairs: u64,
    bytes: u64,
}

/// Runs that count, after one that warms up.
const RUNS: usize = 5;

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let Arguments { length, batch, heads, head_dim, .. } = arguments;
    let most = 65_535;
    if [length, batch].iter().any(|size| *size == 0 || *size > most)
        || [heads, head_dim].iter().any(|size| *size == 0 || *size > 1024)
    {
        return Err(Error::usage(format!(
            "--length {length} --batch {batch} --heads {heads} --head-dim {head_dim}: the first two \
             are 1 to {most}, the others 1 to 1024"
        )));
    }
    let policy = arguments.sparsity.parse::<Policy>()?.evaluation();
    let mut session = open(common)?;
    let heads = Heads { count: heads, dim: head_dim };
    let dense = measure(&mut session, &Policy::dense(), heads, length, batch)?;
    let sparse = measure(&mut session, &policy, heads, length, batch)?;
    let operations = |pairs: u64| OPERATIONS_PER_PAIR * u64::from(head_dim) * pairs;
    let report = Report {
        forward_seconds: sparse.forward,
        backward_seconds: sparse.backward,
        mask_seconds: sparse.mask,
        dense_forward_seconds: dense.forward,
        dense_backward_seconds: dense.backward,
        realised_sparsity: 1.0 - sparse.pairs as f64 / dense.pairs as f64,
        flops: operations(sparse.pairs),
        dense_flops: operations(dense.pairs),
        bytes: sparse.bytes,
        dense_bytes: dense.bytes,
        sparsity: policy.to_string(),
        adapter: session.device.adapter.name.clone(),
    };
    if arguments.json {
        return print_json(&report);
    }
    let all = report.forward_seconds + report.backward_seconds + report.mask_seconds;
    print(&format!(
        "{policy}: forward {:.2} ms, backward {:.2} ms, mask {:.2} ms; dense: forward {:.2} ms, \
         backward {:.2} ms; {:.2} times as fast; {:.1} % of the pairs left out",
        report.forward_seconds * 1e3,
        report.backward_seconds * 1e3,
        report.mask_seconds * 1e3,
        report.dense_forward_seconds * 1e3,
        report.dense_backward_seconds * 1e3,
        (report.dense_forward_seconds + report.dense_backward_seconds) / all,
        report.realised_sparsity * 100.0,
    ))
}

fn measure(
    session: &mut Session,
    policy: &Policy,
    heads: Heads,
    length: u32,
    batch: u32,
) -> Result<Measured> {
    let mut bench =
        AttentionBench::new(session, &policy.evaluation().for_layers(1)?, heads, length, batch)?;
    let (mut forward, mut backward, mut masks) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=RUNS {
        let timings = bench.profile(session)?;
        if run == 0 {
            continue;
        }
        // With the copies that a kernel needs before it.
        let of = |wanted: &dyn Fn(&str) -> bool| -> f64 {
            let found = timings.iter().filter(|timing| wanted(timing.op));
            found.fold(0.0, |sum, timing| sum + timing.before + timing.seconds)
        };
        forward.push(of(&|op| op == ops::ATTENTION[0]));
        backward.push(of(&|op| op == ops::ATTENTION[1]));
        masks.push(bench.host_seconds + of(&|op| ops::MASKS.contains(&op)));
    }
    let pairs = bench.pairs(session)?;
    Ok(Measured {
        forward: median(forward),
        backward: median(backward),
        mask: median(masks),
        pairs,
        bytes: bench.bytes(),
    })
}
