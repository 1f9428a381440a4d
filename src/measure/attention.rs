//! Attention alone, forward and backward, on random queries, keys and values: what benchmarks run,
//! and what the tuner chooses by.

use super::doctor::attention_error;
use super::products::{RUNS, TOLERANCE, fastest};
use crate::error::{Error, Result};
use crate::gpu::Pending;
use crate::graph::ops::{self, LayerRule};
use crate::graph::{Graph, Program, Seed, Session, Step, Timing, gradients};
use crate::kernels::attention::{AttentionClass, Division};
use crate::kernels::tune::Choice;
use crate::kernels::{Element, Heads, Scalars, Size, Sizes, Symbol, TensorId};
use crate::random::SplitMix64;
use crate::sparsity::{BlockMask, LayerRules, Policy};
use std::time::Instant;

/// Attention over the masks of the first of some rules, ready to run.
pub struct AttentionBench {
    program: Program,
    mask: BlockMask,
    heads: Heads,
    sizes: Sizes,
    inputs: Vec<(TensorId, Vec<u32>)>,
    /// What the host's part of the mask took.
    pub host_seconds: f64,
}

impl AttentionBench {
    /// Attention over `batch` sentences of `length` tokens each.
    ///
    /// # Errors
    /// Sizes that do not fit the device, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        rules: &LayerRules,
        heads: Heads,
        length: u32,
        batch: u32,
    ) -> Result<Self> {
        // Known before anything is built.
        let width = u64::from(heads.count) * u64::from(heads.dim);
        let bytes = 3 * u64::from(length) * u64::from(batch) * width * 4;
        if bytes > session.device.max_binding_bytes {
            return Err(Error::device(format!(
                "{batch} sentences of {length} tokens need {bytes} bytes in one piece, and {} binds {} at most",
                session.device.adapter.name, session.device.max_binding_bytes
            )));
        }
        let (rule, block) = (&rules.rules[0], rules.block);
        let tokens = length * batch;
        let offsets: Vec<u32> = (0..=batch).map(|sequence| sequence * length).collect();
        let started = Instant::now();
        let mask = BlockMask::new(rule, block, &offsets);
        let host_seconds = started.elapsed().as_secs_f64();
        let sizes = Sizes {
            tokens,
            sequences: batch,
            distinct: 0,
            blocks: mask.block_count(),
            pairs: mask.pair_count(),
            bit_pairs: mask.bit_pairs(),
            visits: mask.visits.len() as u32,
            longest: length,
        };
        let width = heads.count * heads.dim;
        let mut graph = Graph::new();
        let mut input = |name: &str, symbol: Symbol, columns: u32| {
            graph.input(name, Element::F32, [Size::from(symbol), Size::from(columns)])
        };
        let qkv = input("qkv", Symbol::Tokens, 3 * width);
        let given_dout = input("half of d context", Symbol::Tokens, width);
        let given = ops::MaskInputs::new(&mut graph, rule, block);
        // A launch before the others: the times of a profile begin with the first one, and the
        // copies that attention needs before it are to be seen.
        let dout = ops::add(&mut graph, given_dout, given_dout)?;
        let chosen = ops::mask(&mut graph, LayerRule { rule, block, layer: 0 }, heads, qkv, given)?;
        let out = ops::attention(&mut graph, heads, None, chosen, qkv)?;
        gradients(&mut graph, out, Seed::Tensor(dout))?;
        // The visits, where each head has its own.
        let by_head = (chosen.visits != given.visits).then_some(chosen.visits);
        let program = Program::build(session, &graph, sizes, by_head.as_slice(), 1)?;
        // Spread over [-1, 1].
        let mut generator = SplitMix64(1);
        let mut values = |columns: u32| -> Vec<u32> {
            let draw = |_| (generator.word() >> 40) as f32 / (1 << 23) as f32 - 1.0;
            (0..tokens * columns).map(draw).map(f32::to_bits).collect()
        };
        let mut inputs = vec![
            (qkv, values(3 * width)),
            (given_dout, values(width)),
            (given.blocks, bytemuck::cast_slice(&mask.blocks).to_vec()),
            (given.visits, mask.visits.clone()),
        ];
        inputs.extend(given.bits.map(|bits| (bits, mask.bits.clone())));
        Ok(Self { program, mask, heads, sizes, inputs, host_seconds })
    }

    /// Submits mask, forward and backward once.
    ///
    /// # Errors
    /// An error of the device.
    pub fn run(&mut self, session: &Session) -> Result<Pending> {
        let inputs: Vec<_> = self.inputs.iter().map(|(id, words)| (*id, &words[..])).collect();
        let (sizes, scalars) = (self.sizes, Scalars::default());
        self.program.run(session, &Step { sizes, scalars, inputs: &inputs })
    }

    /// Runs it once, timed launch by launch.
    ///
    /// # Errors
    /// An error of the device; an adapter that keeps no time.
    pub fn profile(&mut self, session: &Session) -> Result<Vec<Timing>> {
        let inputs: Vec<_> = self.inputs.iter().map(|(id, words)| (*id, &words[..])).collect();
        let (sizes, scalars) = (self.sizes, Scalars::default());
        let step = Step { sizes, scalars, inputs: &inputs };
        let (pending, timings) = self.program.profile(session, &step)?;
        pending.wait::<u32>(&session.device)?;
        Ok(timings)
    }

    /// Pairs of query and key that count, over all heads.
    ///
    /// # Errors
    /// An error of the device, which knows what a rule by blocks has chosen.
    pub fn pairs(&mut self, session: &Session) -> Result<u64> {
        if let Some(pairs) = self.mask.known_pairs() {
            return Ok(pairs * u64::from(self.heads.count));
        }
        let visits: Vec<u32> = self.run(session)?.wait(&session.device)?.swap_remove(0);
        let by_head = visits.chunks_exact(self.mask.visits.len().max(1));
        Ok(by_head.map(|visits| self.mask.pairs(visits, &[])).sum())
    }

    /// Bytes that it takes on the device.
    pub fn bytes(&self) -> u64 {
        self.program.plan().own_bytes(1)
    }
}

/// The fastest way to divide attention of a class, over so many sentences of its length; nothing
/// where the adapter's kernels leave no choice. `tried` hears of each: its seconds for forward and
/// backward, the other of which is as the session's tuning has it, or why it is out.
///
/// # Errors
/// Sizes that do not fit the device, or no candidate that works.
pub fn tune_attention(
    session: &mut Session,
    class: AttentionClass,
    sentences: u32,
    mut tried: impl FnMut(Division, &Result<f64>),
) -> Result<Option<Choice<Division>>> {
    let candidates = class.candidates(session.tuning.abilities);
    if candidates.is_empty() {
        return Ok(None);
    }
    let before = session.tuning.attention.clone();
    let best = fastest(candidates, |variant| {
        let choice = Choice { variant, gflops: 0.0 };
        session.tuning.attention.insert(class.to_string(), choice);
        let seconds = seconds(session, class, sentences, variant);
        session.tuning.attention.clone_from(&before);
        tried(variant, &seconds);
        seconds.ok()
    });
    let (seconds, variant) = best.ok_or_else(|| {
        Error::device(format!("{class}: no kernel for attention works on this adapter"))
    })?;
    Ok(Some(Choice { variant, gflops: class.operations(sentences) as f64 / seconds / 1e9 }))
}

/// Seconds of forward and backward by the session's tuning, once a division has been checked.
fn seconds(
    session: &mut Session,
    class: AttentionClass,
    sentences: u32,
    division: Division,
) -> Result<f64> {
    let error = attention_error(session, class, division)?;
    if error.is_nan() || error > TOLERANCE {
        return Err(Error::device(format!("{class}: {division}: an error of {error:.1e}")));
    }
    let rules = Policy::dense().for_layers(1)?;
    let mut bench = AttentionBench::new(session, &rules, class.heads, class.longest, sentences)?;
    let mut time = || -> Result<f64> {
        let started = Instant::now();
        bench.run(session)?.wait::<u32>(&session.device)?;
        Ok(started.elapsed().as_secs_f64())
    };
    time()?;
    (0..RUNS).try_fold(f64::INFINITY, |least, _| Ok(time()?.min(least)))
}
