//! Attention alone, forward and backward, on random queries, keys and values: what benchmarks run.

use super::{Executor, Graph, Pending, Plan, Session, Timing, gradients, ops};
use crate::error::{Error, Result};
use crate::kernels::attention::Heads;
use crate::kernels::{Scalars, Size, Sizes, Symbol, TensorId};
use crate::sparsity::{BlockMask, Policy};

/// Attention over the mask of a policy, ready to run.
pub struct AttentionBench {
    executor: Executor,
    mask: BlockMask,
    heads: Heads,
    sizes: Sizes,
    inputs: Vec<(TensorId, Vec<u32>)>,
    /// The lists, where each head has its own.
    by_head: Option<TensorId>,
}

impl AttentionBench {
    /// Attention over `batch` sentences of `length` tokens each.
    ///
    /// # Errors
    /// Sizes that do not fit the device, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        policy: &Policy,
        heads: Heads,
        length: u32,
        batch: u32,
    ) -> Result<Self> {
        // Known before anything is built: a mask has a word for each pair of blocks of a sentence.
        let blocks = u64::from(length.div_ceil(policy.block()));
        let pairs = blocks * blocks * u64::from(batch);
        let width = u64::from(heads.count) * u64::from(heads.dim);
        let words = (3 * u64::from(length) * u64::from(batch) * width).max(pairs + blocks);
        if words * 4 > session.device.max_binding_bytes {
            return Err(Error::device(format!(
                "{batch} sentences of {length} tokens need {} bytes in one piece, and {} binds {} at most",
                words * 4,
                session.device.adapter.name,
                session.device.max_binding_bytes
            )));
        }
        let tokens = length * batch;
        let offsets: Vec<u32> = (0..=batch).map(|sequence| sequence * length).collect();
        let mask = BlockMask::new(policy, &offsets);
        let sizes = Sizes {
            tokens,
            sequences: batch,
            distinct: 0,
            blocks: mask.block_count(),
            pairs: mask.pair_count(),
        };
        let width = heads.count * heads.dim;
        let mut graph = Graph::new();
        let mut input = |name: &str, symbol: Symbol, columns: u32| {
            graph.input(name, [Size::from(symbol), Size::from(columns)])
        };
        let qkv = input("qkv", Symbol::Tokens, 3 * width);
        let given_dout = input("half of d context", Symbol::Tokens, width);
        let blocks = input("blocks", Symbol::Blocks, 8);
        let lists = input("lists", Symbol::ListWords, 1);
        let transposed = input("transposed lists", Symbol::ListWords, 1);
        // A launch before the others: the times of a profile begin with the first one, and the copies that
        // attention needs before it are to be seen.
        let dout = ops::add(&mut graph, given_dout, given_dout)?;
        let given = ops::MaskInputs { blocks, lists, transposed };
        let chosen = ops::mask(&mut graph, policy, heads, qkv, given)?;
        let out = ops::attention(&mut graph, heads, None, chosen, qkv)?;
        let dqkv = gradients(&mut graph, out, Some(dout))?.get(&qkv).copied();
        let by_head = (chosen.lists != lists).then_some(chosen.lists);
        let outputs: Vec<TensorId> = [out].into_iter().chain(dqkv).chain(by_head).collect();
        let plan = Plan::new(&graph, session.tuning.clone(), sizes, &outputs)?;
        let executor = Executor::new(session, plan)?;
        // Spread over [-1, 1].
        let values = |columns: u32, start: u32| -> Vec<u32> {
            (start..start + tokens * columns)
                .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 23) as f32 - 1.0)
                .map(f32::to_bits)
                .collect()
        };
        let inputs = vec![
            (qkv, values(3 * width, 0)),
            (given_dout, values(width, 7)),
            (blocks, mask.blocks.clone()),
            (lists, mask.lists.clone()),
            (transposed, mask.transposed.clone()),
        ];
        Ok(Self { executor, mask, heads, sizes, inputs, by_head })
    }

    /// Submits mask, forward and backward once.
    ///
    /// # Errors
    /// An error of the device.
    pub fn run(&mut self, session: &Session) -> Result<Pending> {
        let outputs: Vec<_> =
            self.by_head.map(|lists| (lists, self.list_words())).into_iter().collect();
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

    fn list_words(&self) -> usize {
        (self.sizes.pairs + self.sizes.blocks) as usize * self.heads.count as usize
    }

    /// Pairs of query and key that count, over all heads.
    ///
    /// # Errors
    /// An error of the device, which knows what a policy by blocks has chosen.
    pub fn pairs(&mut self, session: &Session) -> Result<u64> {
        let heads = self.heads.count as usize;
        if self.by_head.is_none() {
            // Tokens of each block, and how many keys each keeps.
            let blocks = self.mask.blocks.chunks_exact(8);
            let kept = blocks.map(|block| u64::from(block[1]) * u64::from(block[7]));
            return Ok(kept.sum::<u64>() * heads as u64);
        }
        let lists: Vec<u32> = self.run(session)?.wait(session)?.swap_remove(0);
        let length = |block: usize| u64::from(self.mask.blocks[8 * block + 1]);
        let mut pairs = 0;
        for of_head in lists.chunks_exact(lists.len() / heads) {
            for block in 0..self.mask.blocks.len() / 8 {
                let list = self.mask.blocks[8 * block + 6] as usize + block;
                let count = of_head[list] as usize;
                let keys = of_head[list + 1..][..count].iter();
                let keys: u64 = keys.map(|key| length((key & !BlockMask::PARTIAL) as usize)).sum();
                pairs += length(block) * keys;
            }
        }
        Ok(pairs)
    }
}
