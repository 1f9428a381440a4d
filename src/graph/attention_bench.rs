//! Attention alone, forward and backward, on random queries, keys and values: what benchmarks run.

use super::{Executor, Graph, Pending, Plan, Session, Timing, gradients, ops};
use crate::data::SplitMix64;
use crate::error::{Error, Result};
use crate::kernels::attention::Heads;
use crate::kernels::{Scalars, Size, Sizes, Symbol, TensorId};
use crate::sparsity::{BlockMask, LayerRules};
use std::time::Instant;

/// Attention over the masks of the first of some rules, ready to run.
pub struct AttentionBench {
    executor: Executor,
    mask: BlockMask,
    heads: Heads,
    sizes: Sizes,
    inputs: Vec<(TensorId, Vec<u32>)>,
    /// The visits, where each head has its own.
    by_head: Option<TensorId>,
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
            graph.input(name, [Size::from(symbol), Size::from(columns)])
        };
        let qkv = input("qkv", Symbol::Tokens, 3 * width);
        let given_dout = input("half of d context", Symbol::Tokens, width);
        let given = ops::MaskInputs::new(&mut graph, rule, block);
        // A launch before the others: the times of a profile begin with the first one, and the copies that
        // attention needs before it are to be seen.
        let dout = ops::add(&mut graph, given_dout, given_dout)?;
        let chosen = ops::mask(&mut graph, (rule, block, 0), heads, qkv, given)?;
        let out = ops::attention(&mut graph, heads, None, chosen, qkv)?;
        let dqkv = gradients(&mut graph, out, Some(dout))?.get(&qkv).copied();
        let by_head = (chosen.visits != given.visits).then_some(chosen.visits);
        let outputs: Vec<TensorId> = [out].into_iter().chain(dqkv).chain(by_head).collect();
        let plan = Plan::new(&graph, session.tuning.clone(), sizes, &outputs)?;
        let executor = Executor::new(session, plan)?;
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
        Ok(Self { executor, mask, heads, sizes, inputs, by_head, host_seconds })
    }

    /// Submits mask, forward and backward once.
    ///
    /// # Errors
    /// An error of the device.
    pub fn run(&mut self, session: &Session) -> Result<Pending> {
        let outputs: Vec<_> =
            self.by_head.map(|visits| (visits, self.visit_words())).into_iter().collect();
        let words: Vec<_> = self.inputs.iter().map(|(id, words)| (*id, words.as_slice())).collect();
        self.executor.run(session, self.sizes, Scalars::default(), &words, &outputs)
    }

    /// Runs it once, timed launch by launch.
    ///
    /// # Errors
    /// An error of the device; an adapter that keeps no time.
    pub fn profile(&mut self, session: &Session) -> Result<Vec<Timing>> {
        let words: Vec<_> = self.inputs.iter().map(|(id, words)| (*id, words.as_slice())).collect();
        let (pending, timings) =
            self.executor.profile(session, self.sizes, Scalars::default(), &words, &[])?;
        pending.wait::<f32>(session)?;
        Ok(timings)
    }

    fn visit_words(&self) -> usize {
        self.mask.visits.len() * self.heads.count as usize
    }

    /// Pairs of query and key that count, over all heads.
    ///
    /// # Errors
    /// An error of the device, which knows what a rule by blocks has chosen.
    pub fn pairs(&mut self, session: &Session) -> Result<u64> {
        if let Some(pairs) = self.mask.known_pairs() {
            return Ok(pairs * u64::from(self.heads.count));
        }
        let visits: Vec<u32> = self.run(session)?.wait(session)?.swap_remove(0);
        let by_head = visits.chunks_exact(self.mask.visits.len().max(1));
        Ok(by_head.map(|visits| self.mask.pairs(visits, &[])).sum())
    }

    /// Bytes that it takes on the device.
    pub fn bytes(&self) -> u64 {
        self.executor.plan().own_bytes()
    }
}
