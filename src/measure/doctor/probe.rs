//! What the kernels take for granted of subgroups, and how fast the adapter copies and multiplies.

use crate::error::Result;
use crate::graph::{Graph, Program, Session, Step};
use crate::kernels::matmul::{Products, Transposition};
use crate::kernels::probe::{INVOCATIONS, WORDS, subgroups as kernel};
use crate::kernels::tune::ProductClass;
use crate::kernels::{Element, Scalars, Size, Sizes, pointwise};
use crate::measure::ProductBench;
use serde::Serialize;
use std::time::Instant;

/// What an adapter's subgroups are like in a workgroup of 256.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Subgroups {
    /// Invocations of a subgroup.
    pub size: u32,
    /// Whether neighbours in a workgroup are neighbours in a subgroup, and exchanges bring what
    /// they should: octets of invocations may rely on it.
    pub in_order: bool,
}

/// What the adapter's subgroups are like; nothing where it has none.
pub fn subgroups(session: &mut Session) -> Result<Option<Subgroups>> {
    if !session.device.adapter.subgroups {
        return Ok(None);
    }
    let mut graph = Graph::new();
    let seen = graph.words("seen of subgroups", [Size::from(INVOCATIONS * WORDS)]);
    graph.node("probe", &[seen], move |_| vec![kernel(seen)]);
    let mut program = Program::build(session, &graph, Sizes::default(), &[seen], 1)?;
    let seen: Vec<u32> = program.run(session, &step())?.wait(&session.device)?.swap_remove(0);
    let size = seen[0];
    let in_order = (0u32..).zip(seen.chunks_exact(WORDS as usize)).all(|(index, seen)| {
        let wanted = [index ^ 1, index ^ 2, index ^ 4, index & !3, index | 3];
        // Exchanges across four places need as many.
        let wanted = if size >= 8 { &wanted[..] } else { &wanted[..2] };
        seen[0] == size && index.checked_rem(size) == Some(seen[1]) && seen[2..].starts_with(wanted)
    });
    Ok(Some(Subgroups { size, in_order }))
}

/// Elements of the tensors that are copied: 64 MiB each.
const COPIED: u64 = 16 << 20;
/// Runs, of which the fastest counts.
const RUNS: usize = 5;

/// Billions of bytes that a kernel moves in a second: two tensors read, one written.
pub fn bandwidth(session: &mut Session) -> Result<f64> {
    let mut graph = Graph::new();
    let count = Size::from(COPIED);
    let [a, b, sum] = ["a", "b", "sum"].map(|name| graph.value(name, [count]));
    // What they hold does not matter; a few at a time outweigh the cost of a submission.
    const REPEATS: u64 = 4;
    graph.node("copy", &[a, b, sum], move |_| {
        (0..REPEATS).map(|_| pointwise::add(count, a, b, sum)).collect()
    });
    let mut program = Program::build(session, &graph, Sizes::default(), &[], 1)?;
    let mut least = f64::INFINITY;
    for _ in 0..=RUNS {
        let started = Instant::now();
        program.run(session, &step())?.wait::<u32>(&session.device)?;
        least = least.min(started.elapsed().as_secs_f64());
    }
    Ok((3 * 4 * COPIED * REPEATS) as f64 / least / 1e9)
}

/// Billions of operations a second in the forward product of a feed-forward layer, by the variant
/// that training would take.
pub fn product_speed(session: &mut Session) -> Result<f64> {
    let products = Products::One(Transposition::Nt);
    let mut speed = 0.0;
    for rows in [16u64, 1024] {
        let sizes = [rows, 3072, 768];
        let class = ProductClass { products, sizes, factors: Element::F32 };
        let variant = session.tuning.products(class.into(), &Sizes::default());
        let times = ProductBench::new(session, class)?.seconds(variant, 0.05)?;
        let least = times.into_iter().fold(f64::INFINITY, f64::min);
        speed = 2.0 * sizes.iter().product::<u64>() as f64 / least / 1e9;
        // A slow adapter would take minutes for more, and is as slow then.
        if least > 0.02 {
            break;
        }
    }
    Ok(speed)
}

/// A step without inputs.
fn step() -> Step<'static> {
    Step { sizes: Sizes::default(), scalars: Scalars::default(), inputs: &[] }
}
